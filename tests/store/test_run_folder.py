"""The run folder: it has what the contract says and returns what was written."""

import copy
import json
import os
import threading

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adadpo_mini import InputError, completion_logps, load_pairs, race
from adadpo_mini.cli.entry import main
from adadpo_mini.errors import WriteError
from adadpo_mini.models.load import context_length
from adadpo_mini.store.folder import RunFolder, list_runs
from adadpo_mini.store.records import to_json
from adadpo_mini.store.writer import check_free, create_run, reopen_run
from adadpo_mini.tokens.batch import make_batch, tokenize_pairs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "swap"
    result = race("swap", steps=3, batch_size=4, eval_pairs=4, out=folder)
    return result, folder


def test_the_folder_holds_what_the_contract_says(finished):
    _, folder = finished
    assert (folder / "config.json").is_file() and (folder / "summary.json").is_file()
    for method in ("dpo", "adadpo"):
        lines = (folder / method / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == [0, 1, 2, 3]
        assert (folder / method / "model" / "model.safetensors").is_file()


def test_saved_models_load_with_transformers_and_give_the_same_log_probs(finished):
    result, folder = finished
    batches = {}
    for method, model in result.models.items():
        loaded = AutoModelForCausalLM.from_pretrained(folder / method / "model")
        tokenizer = AutoTokenizer.from_pretrained(folder / method / "model")
        pairs = tokenize_pairs(load_pairs("swap", "test")[:4], tokenizer, context_length(loaded))
        batch = make_batch(pairs)
        with torch.no_grad():
            mine, theirs = (
                completion_logps(m, batch.input_ids, batch.completion_mask) for m in (model, loaded)
            )
        assert torch.equal(mine, theirs)
        batches[method] = theirs
    assert not torch.equal(batches["dpo"], batches["adadpo"])


def test_events_and_config_come_back_as_they_were(finished):
    result, folder = finished
    stored = RunFolder(folder)
    assert stored.events() == result.events
    config = stored.config()
    about = {"fingerprint", "made_with", "started_in", "report", "trained_on_held_out"}
    assert {name: config[name] for name in config.keys() - about} == {
        **result.config.as_dict(), "prompt_form": "{}\n"
    }  # fmt: skip
    assert json.loads((folder / "summary.json").read_text()) == result.summary


def test_a_folder_that_holds_a_run_is_left_alone(finished):
    _, folder = finished
    before = copy.copy((folder / "summary.json").read_text())
    with pytest.raises(InputError, match="already contains a run"):
        race("tone", steps=1, out=folder)
    assert (folder / "summary.json").read_text() == before


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_reported_before_anything_is_loaded(tmp_path, path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WriteError, match="a file"):
        race("no such data", steps=1, out=tmp_path / path)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_check_leaves_nothing_behind(tmp_path):
    check_free(tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_log_with_infinities_reads_back_with_nulls(tmp_path):
    config = {"model": "toy", "methods": ["dpo", "adadpo"]}
    with create_run(tmp_path / "new" / "run", config) as writer:
        writer.append({"dpo": {"step": 0, "loss": float("nan"), "grad_norm": float("-inf")}})
        writer.append({"dpo": {"step": 1, "loss": 0.5}})
    assert writer.folder.events() == {
        "dpo": [{"step": 0, "loss": None, "grad_norm": None}, {"step": 1, "loss": 0.5}]
    }
    assert "NaN" not in writer.folder.metrics("dpo").read_text()


def test_events_are_read_on_from_where_a_reader_stopped(tmp_path):
    config = {"model": "toy", "methods": ["dpo", "adadpo"]}
    with create_run(tmp_path / "run", config) as writer:
        reader = RunFolder(tmp_path / "run")
        assert reader.events_since({}) == ([], {"dpo": 0, "adadpo": 0})
        writer.append({"dpo": {"step": 0}, "adadpo": {"step": 0}})
        writer.append({"dpo": {"step": 1}})
        first, cursor = reader.events_since({})
        assert [(m, e["step"]) for m, e in first] == [("dpo", 0), ("adadpo", 0), ("dpo", 1)]
        with reader.metrics("adadpo").open("a") as stream:
            stream.write('{"step": 1')
        assert reader.events_since(cursor) == ([], cursor)
        with reader.metrics("adadpo").open("a") as stream:
            stream.write("}\n")
        assert reader.events_since(cursor)[0] == [("adadpo", {"step": 1})]


def test_the_last_events_of_a_long_log_are_read_without_the_rest(tmp_path):
    with create_run(tmp_path / "run", {"model": "toy", "methods": ["dpo"]}) as writer:
        for step in range(900):
            writer.append({"dpo": {"step": step, "loss": 0.123456789, "name": "β" * 40}})
        recent = writer.folder.recent("dpo")
    assert recent[-1]["step"] == 899 and 100 < len(recent) < 900
    assert [event["step"] for event in recent] == list(range(900 - len(recent), 900))


def test_the_status_of_a_run_is_what_its_folder_says(finished, tmp_path):
    _, folder = finished
    assert RunFolder(folder).status == "finished"
    with create_run(tmp_path / "run", {"model": "toy", "methods": ["dpo"]}) as writer:
        assert writer.folder.status == "running"
    assert writer.folder.status == "interrupted", "nobody writes it, and nobody summed it up"


def test_asking_whether_a_run_is_written_keeps_no_writer_out(tmp_path):
    with create_run(tmp_path / "run", {"model": "toy", "methods": ["dpo"]}) as writer:
        pass
    stop = threading.Event()

    def ask():
        while not stop.is_set():
            writer.folder.is_being_written()

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        for _ in range(20):
            with reopen_run(tmp_path / "run"):
                pass
    finally:
        stop.set()
        asking.join()


def test_the_list_of_runs_is_the_list_of_folders(tmp_path):
    for number, name in enumerate(("first", "second", "third")):
        with create_run(tmp_path / name, {"model": "toy", "methods": ["dpo"]}):
            os.utime(tmp_path / name / "config.json", (number, number))
    (tmp_path / "something else").mkdir()
    assert [run.path.name for run in list_runs(tmp_path)] == ["third", "second", "first"]
    assert list_runs(tmp_path / "nowhere") == []


def test_weights_have_the_permissions_of_any_new_file(finished, tmp_path):
    _, folder = finished
    (tmp_path / "any").write_text("")
    usual = (tmp_path / "any").stat().st_mode
    for file in folder.rglob("*"):
        assert file.is_dir() or file.stat().st_mode == usual, file


def test_a_chat_takes_the_models_of_any_snapshot(tmp_path, capsys):
    out = tmp_path / "run"
    race("swap", steps=2, batch_size=4, eval_pairs=2, out=out, snapshot_every=1, learning_rate=1e-3)
    capsys.readouterr()
    ask = ["chat", str(out), "--prompt", "How do I stir the vegan pasta?", "--json"]
    ask += ["--temperature", "0"]
    answers = []
    for more in ([], ["--step", "0"], ["--step", "2"]):
        assert main([*ask, *more]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[1]["dpo"] == answers[1]["adadpo"] == answers[1]["reference"]
    assert answers[0] == answers[2] != answers[1]
    assert main([*ask, "--step", "5"]) == 2
    instead = "no snapshot at step 5; use a snapshot (--step 0, 1, 2), or leave out --step.\n"
    assert capsys.readouterr().err.endswith(instead)


MISSING = {  # status, whether there is a model, a snapshot, --step, what to do
    "finished": ("finished", True, [], 7, "leave out --step, or race again with --snapshot-every."),
    "stopped": (
        "interrupted", True, [5], 7,
        "use a snapshot (--step 5), or leave out --step, or finish an interrupted race: `adadpo",
    ),
    "killed": (None, False, [], None, "has no saved model; finish an interrupted race: `adadpo"),
    "killed, one step": (None, False, [], 7, "no snapshots; race again with --snapshot-every."),
    "diverged": ("diverged", False, [5], None, "no saved model; use a snapshot (--step 5)."),
    "deleted": ("finished", False, [], None, "dpo has no saved model; race again."),
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "model", "kept", "step", "words"), MISSING.values(), ids=MISSING
)
def test_a_missing_model_comes_with_what_helps_in_that_run(
    status, model, kept, step, words, tmp_path
):
    for folder in (*(["model"] if model else []), *(f"snapshots/step_{n}" for n in kept)):
        (tmp_path / "dpo" / folder).mkdir(parents=True)
    if status:
        (tmp_path / "summary.json").write_text(json.dumps({"status": status}))
    with pytest.raises(InputError) as caught:
        RunFolder(tmp_path).check_model("dpo", step)
    assert words in str(caught.value)


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(InputError, match="does not contain a run"):
        RunFolder(tmp_path).config()


def test_values_that_json_does_not_have_become_null():
    text = to_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "β"})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": "β"}
