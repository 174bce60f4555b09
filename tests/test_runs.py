"""The run folder of the contract, and that it gives back what was put in."""

import copy
import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from adadpo_mini import InputError, completion_logps, load_pairs, race
from adadpo_mini.models import context_length
from adadpo_mini.runs import RunFolder, to_json
from adadpo_mini.tokens import make_batch, tokenize_pairs


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
    assert stored.config() == {**result.config.as_dict(), "prompt_form": "{}\n"}
    assert json.loads((folder / "summary.json").read_text()) == result.summary


def test_a_folder_that_holds_a_run_is_left_alone(finished):
    _, folder = finished
    before = copy.copy((folder / "summary.json").read_text())
    with pytest.raises(InputError, match="already holds a run"):
        race("tone", steps=1, out=folder)
    assert (folder / "summary.json").read_text() == before


@pytest.mark.parametrize("path", ["file", "file/run"])
def test_a_folder_that_cannot_be_made_is_told(tmp_path, path):
    (tmp_path / "file").write_text("in the way")
    RunFolder.check_free(tmp_path / path)
    with pytest.raises(InputError, match="cannot make this folder"):
        RunFolder.create(tmp_path / path, {})


def test_a_log_with_infinities_reads_back_with_nulls(tmp_path):
    stored = RunFolder.create(tmp_path / "new" / "run", {"methods": ["dpo", "adadpo"]})
    stored.append("dpo", {"step": 0, "loss": float("nan"), "grad_norm": float("-inf")})
    stored.append("dpo", {"step": 1, "loss": 0.5})
    assert stored.events() == {
        "dpo": [{"step": 0, "loss": None, "grad_norm": None}, {"step": 1, "loss": 0.5}]
    }
    assert "NaN" not in (stored.path / "dpo" / "metrics.jsonl").read_text()


def test_a_folder_without_a_run_is_told(tmp_path):
    with pytest.raises(InputError, match="holds no run"):
        RunFolder(tmp_path).config()


def test_what_json_cannot_say_becomes_null():
    text = to_json({"a": float("nan"), "b": [float("inf"), 1.5], "c": "β"})
    assert json.loads(text) == {"a": None, "b": [None, 1.5], "c": "β"}
