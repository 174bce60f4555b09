"""A race of one method in TRL's trainer equals ours, event by event."""

import json
import math
import sys
import time
import tomllib

import pytest
import torch

pytest.importorskip("trl")
from adadpo_mini import RaceConfig, load_pairs, race  # noqa: E402
from adadpo_mini.cli.entry import main  # noqa: E402
from adadpo_mini.errors import InputError  # noqa: E402
from adadpo_mini.models.load import load_model  # noqa: E402
from adadpo_mini.models.policies import whole_model  # noqa: E402
from adadpo_mini.run import conduct, race_class  # noqa: E402
from adadpo_mini.store.folder import RunFolder  # noqa: E402
from adadpo_mini.toyworld import data_dir  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CLOCK = {"time", "own_time", "seconds"}
SMALL = {
    "data": "swap", "steps": 7, "batch_size": 8, "eval_every": 3, "eval_pairs": 6, "beta": 0.5,
    "measure_every": 4,
}  # fmt: skip


def assert_same_run(ours, theirs, method):
    """Check that TRL's engine reports what ours reports, and that the models are the same."""
    assert [event["step"] for event in theirs.events[method]] == list(range(8))
    for mine, other in zip(ours.events[method], theirs.events[method], strict=True):
        for name in mine.keys() - CLOCK:
            assert other[name] == pytest.approx(mine[name], rel=2e-3, abs=2e-3), (
                mine["step"],
                name,
            )
        assert ("eval_loss" in other) == ("eval_loss" in mine)
    mine, other = (result.summary["methods"][method] for result in (ours, theirs))
    for name in mine.keys() - CLOCK:
        assert other[name] == pytest.approx(mine[name], rel=2e-3, abs=2e-3), name
    assert distance(ours, theirs, method) < 0.01


def distance(ours, theirs, method):
    """How far apart the two models are, as a part of how far ours has come. It is not nothing:
    where a gradient is rounding noise, AdamW makes full steps of it."""
    models = [whole_model(r.models[method]).state_dict() for r in (ours, theirs)]
    start = ours.reference.state_dict()
    apart = sum((models[0][name] - models[1][name]).square().sum() for name in start)
    come = sum((models[0][name] - start[name]).square().sum() for name in start)
    return (apart / come).sqrt().item()


@pytest.mark.parametrize("method", ["dpo", "adadpo"])
def test_every_event_is_that_of_our_own_engine(method):
    settings = {**SMALL, "methods": (method,), "ceiling": 1.1}
    ours, theirs = race(**settings), race(engine="trl", **settings)
    assert_same_run(ours, theirs, method)
    steps = [event["step"] for event in theirs.events[method] if "eval_loss" in event]
    slow = [event["step"] for event in theirs.events[method] if "eval_kl" in event]
    assert (steps, slow) == ([0, 3, 6, 7], [0, 4, 7])
    assert abs(theirs.events[method][-1]["shift/chosen"]) > 0.1, "else nothing has been compared"


def test_an_adapter_is_trained_as_by_our_own_engine_and_checkpointing_changes_nothing():
    pytest.importorskip("peft")
    settings = {**SMALL, "methods": ("adadpo",), "lora_rank": 4, "learning_rate": 5e-3}
    results = []
    for engine, more in (("own", {}), ("trl", {"checkpointing": True})):
        torch.manual_seed(0)  # of the adapter's first weights
        results.append(race(engine=engine, **settings, **more))
    assert_same_run(*results, "adadpo")


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "swap"
    assert main(["train", "--engine", "trl", "--steps", "7", "--out", str(folder)]) == 0
    return folder


def test_the_run_folder_is_that_of_any_race(run_folder, capsys):
    folder = RunFolder(run_folder)
    config = folder.config()
    assert config["engine"] == "trl" and config["methods"] == ["adadpo"] and config["steps"] == 7
    events = folder.events()["adadpo"]
    assert [event["step"] for event in events] == list(range(8))
    assert events[0]["loss"] == pytest.approx(math.log(2)) and events[0]["num_tokens"] == 0
    assert [event["step"] for event in events if "eval_shift/chosen" in event] == [0, 5, 7]
    summary = json.loads((run_folder / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished" and summary["methods"]["adadpo"]["steps"] == 7
    model, _ = load_model(run_folder / "adadpo" / "model")
    assert not torch.equal(next(model.parameters()), next(load_model()[0].parameters()))


def test_the_doctor_and_the_chat_read_it(run_folder, capsys):
    assert main(["doctor", str(run_folder), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["adadpo"]
    assert main(["chat", str(run_folder), "--prompt", "How do I make soup?\n", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == ["reference", "adadpo"]


def test_with_json_the_summary_is_all_that_is_printed(capsys):
    assert main(["train", "--engine", "trl", "--steps", "1", "--batch-size", "2", "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["methods"]["adadpo"]["steps"] == 1


@pytest.mark.parametrize(("arguments", "words"), [
    (["--method", "simpo"], "method must be one of dpo"),
    (["--method", "rlhf"], "method must be one of dpo"),
    (["--dtype", "bfloat16"], "dtype='bfloat16' works only without --engine trl"),
    (["--pairs-at-once", "2"], "pairs_at_once=2 works only without --engine trl"),
    (["--ceiling", "0"], "ceiling must be positive"),
    (["--data", "nowhere.jsonl"], "no such file"),
])  # fmt: skip
def test_a_setting_it_does_not_support_is_reported_in_one_line_and_leaves_no_folder(
    arguments, words, tmp_path, capsys
):  # fmt: skip
    out = tmp_path / "run"
    assert main(["train", "--engine", "trl", "--steps", "1", *arguments, "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert words in said[-1] and not out.exists()


def test_several_methods_or_processes_are_refused(monkeypatch):
    with pytest.raises(InputError, match="one method at a time, not dpo, adadpo"):
        race(engine="trl", methods=("dpo", "adadpo"), steps=1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="one process"):
        race(engine="trl", steps=1)


def test_without_trl_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "trl", None)
    assert main(["train", "--engine", "trl", "--steps", "1"]) == 2
    project = tomllib.loads((data_dir().parent / "pyproject.toml").read_text(encoding="utf-8"))
    [release] = project["project"]["optional-dependencies"]["trl"]
    assert capsys.readouterr().err.endswith(f"pip install '{release}'.\n")


def test_an_unknown_engine_is_refused():
    with pytest.raises(SystemExit) as end:
        main(["train", "--engine", "other"])
    assert end.value.code == 2


def test_a_gradient_that_is_not_a_number_ends_the_race_before_the_update(tmp_path):
    contest = race_class("trl")(RaceConfig(steps=5, methods=("adadpo",), measure_every=0))
    passes = []

    def breaks_the_third(gradient):
        passes.append(len(passes))
        return gradient * torch.nan if len(passes) == 3 else gradient

    contest.models["adadpo"].transformer.ln_f.bias.register_hook(breaks_the_third)
    result = conduct(contest, out=tmp_path / "run", engine="trl")
    assert result.summary["status"] == "diverged"
    said = "adadpo: the norm of the gradient is nan after 2 steps"
    assert said in result.summary["problem"]
    folder = RunFolder(tmp_path / "run")
    assert [event["step"] for event in folder.events()["adadpo"]] == [0, 1]
    model, _ = load_model(folder.model("adadpo"))
    assert all(weight.isfinite().all() for weight in model.parameters())


def test_slow_measurements_cost_time_but_not_the_methods_own(monkeypatch):
    ahead, real = [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + ahead[0])
    contest = race_class("trl")(
        RaceConfig(steps=2, batch_size=2, eval_pairs=2, measure_every=1, methods=("adadpo",))
    )

    def slow(_, __, given, output):
        ahead[0] += 1000 if given.get("use_cache") else 0  # an answer is being sampled

    contest.models["adadpo"].register_forward_hook(slow, with_kwargs=True)
    log = conduct(contest, out=None).events["adadpo"]
    assert log[0]["time"] > 1000 and log[-1]["time"] > 3000
    own = [event["own_time"] for event in log]
    assert own == sorted(own) and own[0] > 0 and own[-1] < 1000


def test_trl_takes_every_seed_that_a_race_takes():
    result = race(
        engine="trl", steps=1, batch_size=2, eval_pairs=2, measure_every=0, seed=2**63 - 1
    )
    assert result.summary["status"] == "finished"


def test_the_model_answers_in_evaluation_mode_afterwards():
    settings = {"steps": 1, "batch_size": 2, "eval_pairs": 2, "measure_every": 0}
    for how in ({}, {"checkpointing": True}):
        assert not race(engine="trl", **settings, **how).models["adadpo"].training


def test_an_epoch_of_fewer_pairs_than_a_batch_is_one_step():
    rows = [dict(pair) for pair in load_pairs("swap")[:6]]
    one_prompt = [{**row, "prompt": rows[0]["prompt"]} for row in rows]
    settings = {"steps": 2, "batch_size": 10, "eval_pairs": 2, "measure_every": 0}
    events = race(one_prompt, engine="trl", **settings).events["adadpo"]
    assert [event["epoch"] for event in events] == [0, 1, 2]


def test_ctrl_c_leaves_a_whole_run_folder(tmp_path):
    def stop(method, event):
        if event["step"] == 2:
            raise KeyboardInterrupt

    result = race(engine="trl", steps=5, out=tmp_path / "run", on_event=stop)
    assert result.summary["status"] == "interrupted"
    assert [event["step"] for event in RunFolder(tmp_path / "run").events()["adadpo"]] == [0, 1, 2]
    load_model(tmp_path / "run" / "adadpo" / "model")
