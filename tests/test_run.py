"""A race from start to end: its listeners, how it ends, and what it leaves."""

import json

import pytest
import torch

from adadpo_mini import (
    InputError,
    Race,
    RaceConfig,
    completion_logps,
    load_model,
    load_pairs,
    race,
)
from adadpo_mini.pairs.load import split_pairs
from adadpo_mini.run import conduct
from adadpo_mini.tokens.batch import make_batch, tokenize_pairs

SMALL = {"steps": 3, "batch_size": 4, "eval_pairs": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def rows():
    return list(load_pairs("swap")[:12])


@pytest.fixture(scope="module")
def run(rows, tiny):
    """A small race of the tiny model, by its settings."""
    return lambda **settings: race(rows, model=str(tiny), **{**SMALL, **settings})


def test_on_event_hears_every_event_in_order(run):
    heard = []
    result = run(on_event=lambda method, event: heard.append((method, event)))
    assert [(m, e["step"]) for m, e in heard] == [
        (method, step) for step in range(4) for method in ("dpo", "adadpo")
    ]
    for method, log in result.events.items():
        assert [event for m, event in heard if m == method] == log


def test_the_summary_is_the_last_measurement(run):
    result = run(steps=4)
    assert (result.summary["status"], result.summary["problem"]) == ("finished", None)
    for method, row in result.summary["methods"].items():
        last = result.events[method][-1]
        assert row["steps"] == last["step"] == 4
        assert row["delta_chosen"] == last["eval_shift/chosen"]
        assert row["delta_rejected"] == last["eval_shift/rejected"]
        assert row["accuracy"] == last["eval_rewards/accuracies"]
        assert row["margin"] == last["eval_rewards/margins"]
        assert row["seconds"] == last["own_time"] > 0
        assert 0 <= row["win_rate"] <= 1


def test_the_models_of_the_result_are_those_of_the_last_event(run, rows):
    result = run(steps=2)
    held_out = split_pairs(load_pairs(rows))[1][:2]
    batch = make_batch(tokenize_pairs(held_out, result.tokenizer, 256))
    for method, model in result.models.items():
        with torch.no_grad():
            chosen, rejected = completion_logps(
                model, batch.input_ids, batch.completion_mask
            ).chunk(2)
        last = result.events[method][-1]
        assert last["eval_logps/chosen"] == pytest.approx(chosen.mean().item(), abs=1e-3)
        assert last["eval_logps/rejected"] == pytest.approx(rejected.mean().item(), abs=1e-3)


def test_outside_the_toy_world_there_is_no_win_rate(rows, tiny):
    pairs = [{"prompt": f"Why {i}?", "chosen": "So.", "rejected": "No."} for i in range(4)]
    result = race(pairs, model=str(tiny), **SMALL)
    assert [row["win_rate"] for row in result.summary["methods"].values()] == [None, None]
    assert (result.summary["data"], result.summary["seed"]) == ("rows", 0)


def whole(folder, methods=("dpo", "adadpo")):
    """Check that a run folder is complete, and return its events."""
    from transformers import AutoModelForCausalLM

    events = {}
    assert json.loads((folder / "config.json").read_text())["methods"] == list(methods)
    assert json.loads((folder / "summary.json").read_text())["methods"].keys() == set(methods)
    for method in methods:
        AutoModelForCausalLM.from_pretrained(folder / method / "model")
        lines = (folder / method / "metrics.jsonl").read_text().splitlines()
        events[method] = [json.loads(line) for line in lines]
    return events


def test_a_divergent_race_says_so_and_keeps_what_was_done(run, tmp_path):
    result = run(learning_rate=1e6, steps=10, out=tmp_path / "run")
    assert result.summary["status"] == "diverged"
    problem = result.summary["problem"]
    assert "diverged" in problem and "learning rate" in problem
    assert problem.endswith(".") and "\n" not in problem and problem.count(". ") == 0
    assert 1 <= len(result.events["dpo"]) < 11
    assert result.events["dpo"][0]["eval_shift/chosen"] == 0.0
    stored = whole(tmp_path / "run")
    assert {method: len(log) for method, log in stored.items()} == {
        method: len(log) for method, log in result.events.items()
    }


def survive(run, **settings):
    """The result of an interrupted race; an uncaught interruption would end all tests."""
    try:
        return run(**settings)
    except KeyboardInterrupt:
        pytest.fail("the interruption got through, and the run folder is not whole")


def test_an_interrupted_race_leaves_a_whole_folder(run, tmp_path):
    def interrupt(method, event):
        if (method, event["step"]) == ("adadpo", 2):
            raise KeyboardInterrupt

    result = survive(run, on_event=interrupt, steps=8, eval_every=1, out=tmp_path / "run")
    assert (result.summary["status"], result.summary["problem"]) == ("interrupted", None)
    stored = whole(tmp_path / "run")
    for method, log in result.events.items():
        assert [event["step"] for event in log] == [0, 1, 2]
        assert stored[method] == log
        assert result.summary["methods"][method]["steps"] == 2
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "interrupted"


def test_an_interruption_while_the_answers_are_judged_leaves_a_whole_folder_too(
    run, tmp_path, monkeypatch
):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "multinomial", interrupt)  # only an answer that is sampled needs it
    result = survive(run, out=tmp_path / "run", measure_every=0)
    assert {len(log) for log in whole(tmp_path / "run").values()} == {4}
    assert [row["win_rate"] for row in result.summary["methods"].values()] == [None, None]


def test_an_interruption_at_the_first_event_leaves_a_readable_folder(run, tmp_path):
    from adadpo_mini.store.folder import RunFolder

    def interrupt(method, event):
        raise KeyboardInterrupt

    result = survive(run, on_event=interrupt, out=tmp_path / "run")
    assert result.summary["status"] == "interrupted"
    events = RunFolder(tmp_path / "run").events()
    assert {method: len(log) for method, log in events.items()} == {"dpo": 1, "adadpo": 1}
    assert (tmp_path / "run" / "adadpo" / "model" / "model.safetensors").is_file()


def test_any_other_fault_of_a_listener_is_not_swallowed(run):
    def fail(method, event):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run(on_event=fail)


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory."), MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_where_memory_runs_out_the_run_is_kept_and_says_what_to_do(error, run, tmp_path):
    def fail(method, event):
        if event["step"] == 2:
            raise error

    result = run(on_event=fail, out=tmp_path / "run")
    assert result.summary["status"] == "failed"
    problem = result.summary["problem"]
    assert problem.startswith("cpu has run out of memory") and "--lora-rank" in problem
    assert {len(log) for log in whole(tmp_path / "run").values()} == {3}


def test_a_race_can_be_asked_to_stop_between_two_steps(rows, tiny):
    heard = []
    contest = Race(RaceConfig(**SMALL), data=rows, start=load_model(tiny))
    result = conduct(
        contest, out=None, on_event=lambda method, event: heard.append(event["step"]),
        stop=lambda: len(heard) >= 3,
    )  # fmt: skip
    assert result.summary["status"] == "interrupted" and heard == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"methods": ()}, "methods"),
        ({"methods": ("dpo", "dpo")}, "methods"),
        ({"methods": ("dpo", "ppo")}, "ppo"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"eval_every": 0}, "eval_every"),
        ({"eval_every": 6}, "eval_every"),
        ({"eval_pairs": 0}, "eval_pairs"),
        ({"threads": 0}, "threads"),
        ({"beta": 0.0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"learning_rate": -1e-4}, "learning_rate"),
        ({"ceiling": 0.0}, "ceiling"),
        ({"k": 0.0}, "k must"),
        ({"ratio": -1.0}, "ratio"),
        ({"space": "log"}, "space"),
        ({"floor": 0.0}, "floor"),
        ({"floor": 2.5}, "floor"),
        ({"steps": 2.5}, "steps"),
        ({"steps": "many"}, "steps"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, word):
    with pytest.raises(InputError, match=word) as caught:
        RaceConfig(**settings)
    assert "\n" not in str(caught.value)


def test_a_config_is_plain_data_and_gives_itself_back():
    config = RaceConfig(methods=["adadpo"], floor=0.5)
    assert config.methods == ("adadpo",)
    assert RaceConfig(**json.loads(json.dumps(config.as_dict()))) == config


def test_no_pairs_at_all_are_refused(tiny):
    with pytest.raises(InputError, match="pairs"):
        race([], model=str(tiny), **SMALL)


def test_bad_input_leaves_no_run_folder(tmp_path, tiny):
    with pytest.raises(InputError):
        race(tmp_path / "none.jsonl", model=str(tiny), out=tmp_path / "run", **SMALL)
    with pytest.raises(InputError):
        race("tone", model=str(tmp_path / "none"), out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()
