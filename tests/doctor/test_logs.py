"""Reading logs: run folders, TRL's trainer states, and what is wrong with damaged ones."""

import json
import math

import pytest

from adadpo_mini import InputError
from adadpo_mini.doctor.diagnose import diagnose, diagnose_all
from adadpo_mini.doctor.logs import read_log
from adadpo_mini.store.writer import create_run
from tests.doctor.made_logs import FINE, changed

# Rows of a run of TRL 1.16 on this repository's near_duplicate set (β = 0.1, learning rate 2e-4).
TRL_HISTORY = [
    {"entropy": 0.3467, "epoch": 0.0794, "grad_norm": 0.8370, "learning_rate": 0.0002,
     "logits/chosen": -2.2655, "logits/rejected": -2.2196, "logps/chosen": -4.5549,
     "logps/rejected": -5.7501, "loss": 0.6470, "mean_token_accuracy": 0.8898,
     "num_tokens": 4696.0, "rewards/accuracies": 0.8, "rewards/chosen": 0.0210,
     "rewards/margins": 0.0958, "rewards/rejected": -0.0748, "step": 5},
    {"epoch": 0.1587, "grad_norm": 1.0807, "learning_rate": 0.0002, "logps/chosen": -4.2080,
     "logps/rejected": -8.9498, "loss": 0.4947, "rewards/accuracies": 1.0,
     "rewards/chosen": 0.0535, "rewards/margins": 0.4523, "rewards/rejected": -0.3988, "step": 10},
    {"epoch": 0.1587, "eval_logps/chosen": -4.2430, "eval_logps/rejected": -12.9110,
     "eval_loss": 0.3572, "eval_rewards/accuracies": 1.0, "eval_rewards/chosen": 0.0555,
     "eval_rewards/margins": 0.8470, "eval_rewards/rejected": -0.7915, "eval_runtime": 0.0946,
     "eval_samples_per_second": 338.1, "eval_steps_per_second": 21.1, "step": 10},
    {"epoch": 0.9524, "grad_norm": 0.0044, "learning_rate": 0.0002, "logps/chosen": -76.67,
     "logps/rejected": -183.8, "loss": 7.49e-05, "rewards/accuracies": 1.0,
     "rewards/chosen": -7.194, "rewards/margins": 10.69, "rewards/rejected": -17.88, "step": 60},
    {"epoch": 0.9524, "eval_logps/chosen": -72.32, "eval_logps/rejected": -183.7,
     "eval_loss": 3.811e-05, "eval_rewards/accuracies": 1.0, "eval_rewards/chosen": -6.753,
     "eval_rewards/margins": 11.12, "eval_rewards/rejected": -17.87, "eval_runtime": 0.1098,
     "step": 60},
    {"epoch": 0.9524, "step": 60, "total_flos": 294590840832.0, "train_loss": 0.1415,
     "train_runtime": 9.287, "train_samples_per_second": 103.4, "train_steps_per_second": 6.461},
]  # fmt: skip
TRL_STATE = {
    "best_global_step": None,
    "best_metric": None,
    "epoch": 0.9524,
    "eval_steps": 10,
    "global_step": 60,
    "is_world_process_zero": True,
    "log_history": TRL_HISTORY,
    "logging_steps": 5,
    "max_steps": 60,
    "stateful_callbacks": {"TrainerControl": {"args": {"should_log": False}, "attributes": {}}},
    "trial_name": None,
}


@pytest.fixture
def trl(tmp_path):
    """What a TRL trainer leaves: checkpoints, each with a model's config and a trainer_state."""
    for step in (9, 60):
        folder = tmp_path / "out" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "gpt2"}')
        history = [row for row in TRL_HISTORY if row["step"] <= step]
        state = {**TRL_STATE, "log_history": history, "global_step": step}
        text = json.dumps(state, indent=2, sort_keys=True)
        (folder / "trainer_state.json").write_text(text)
    return tmp_path / "out"


@pytest.mark.parametrize("part", ["", "checkpoint-60", "checkpoint-60/trainer_state.json"])
def test_a_trl_trainer_state_is_read_and_its_rows_of_a_step_are_merged(trl, part):
    log = read_log(trl / part)
    assert list(log.events) == ["checkpoint-60"] and log.problem is None
    events = log.events["checkpoint-60"]
    assert [event["step"] for event in events] == [5, 10, 60]
    assert events[1]["loss"] == 0.4947 and events[1]["eval_loss"] == 0.3572
    (found,) = diagnose_all(log.events).values()
    assert "both_sink" in [diagnosis.name for diagnosis in found]
    evidence = next(d.evidence for d in found if d.name == "both_sink")
    assert "Held-out rewards" in evidence, "β = 0.1 follows from rewards and log-probs"
    assert "at step 60: chosen −67.5, rejected −178.7 nats" in evidence


def test_json_lines_of_trl_logs_are_read_like_the_trainer_state(trl, tmp_path):
    file = tmp_path / "my_logs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in TRL_HISTORY) + "\n")
    assert read_log(file).events == {
        "my_logs": read_log(trl / "checkpoint-60").events["checkpoint-60"]
    }


@pytest.fixture
def run_folder(tmp_path):
    """A run folder of two methods of three, of which one diverged."""
    config = {"model": "toy", "methods": ["dpo", "adadpo", "fixed_ratio"]}
    with create_run(tmp_path / "run", config) as writer:
        for event in FINE:
            writer.append({"adadpo": event})
        for event in changed(FINE[:3], 10, grad_norm=math.inf):
            writer.append({"dpo": event})
        problem = "dpo: the loss is nan after 11 steps; training has diverged, lower its rate."
        writer.finish({"status": "diverged", "problem": problem, "methods": {}})
    return tmp_path / "run"


def test_a_run_folder_is_read_method_by_method_with_how_it_ended(run_folder):
    log = read_log(str(run_folder))
    assert log.events["adadpo"] == FINE
    assert math.isnan(log.events["dpo"][2]["grad_norm"])
    assert list(log.events) == ["dpo", "adadpo"]
    found = diagnose_all(log.events, log.problem)
    assert [diagnosis.name for diagnosis in found["dpo"]] == ["learning_rate_too_high"]
    assert "at step 11" in found["dpo"][0].evidence
    assert found["adadpo"] == []


@pytest.mark.parametrize("part", ["adadpo", "adadpo/metrics.jsonl"])
def test_the_log_of_one_method_is_read_alone(run_folder, part):
    assert read_log(run_folder / part).events == {"adadpo": FINE}


GOOD = b'{"step": 0, "loss": 0.69}\n'
BAD_LOGS = {
    "missing": ("none.jsonl", None, ("there is no such file or folder",)),
    "cut off": ("a.jsonl", GOOD + b'\n{"step": 1, "lo\n', ("line 3", "not valid JSON")),
    "cut off at once": ("a.jsonl", b'{"step": 1, "lo', ("line 1", "not valid JSON")),
    "zero bytes": ("a.jsonl", GOOD + b"\0\0\n" + GOOD, ("line 2", "not valid JSON")),
    "too deep": ("a.jsonl", GOOD + 9999 * b"[" + b"\n", ("line 2", "JSON that cannot be read")),
    "digits": ("a.jsonl", GOOD + b'{"step": %s}\n' % (5000 * b"9"), ("line 2", "4300 digits")),
    "step below 0": ("a.jsonl", b'{"step": -1}\n', ("line 1", "whole number from 0 up, not -1")),
    "half a step": ("a.jsonl", b'{"step": 1.5}\n', ("line 1", "from 0 up, not 1.5")),
    "step true": ("a.jsonl", b'{"step": true}\n', ("line 1", "from 0 up, not True")),
    "step in words": ("a.jsonl", b'{"step": "1"}\n', ("line 1", "from 0 up, not '1'")),
    "step infinite": ("a.jsonl", b'{"step": 1e999}\n', ("line 1", "from 0 up, not inf")),
    "step beyond": ("a.jsonl", b'{"step": 1e30}\n', ("line 1", "from 0 up, not 1e+30")),
    "step too large": ("a.jsonl", b'{"step": %s}\n' % (400 * b"9"), ("line 1", "not 999")),
    "a list": ("a.jsonl", GOOD + b"[1]\n", ("line 2", "expected an object")),
    "no step": ("a.jsonl", GOOD + b'{"prompt": "Why?"}\n', ("line 2", "no step")),
    "step null": ("a.jsonl", b'{"step": null}\n', ("line 1", "no step")),
    "empty": ("a.jsonl", b"\n", ("has no events",)),
    "not text": ("a.jsonl", b'{"step": "\xff"}', ("UTF-8",)),
    "cut-off state": ("s.json", b'{\n"log_history": [\n{"step": 1},\n', ("line 4", "not valid")),
    "another JSON": ("config.json", b'{"model_type": "gpt2"}', ("no log_history",)),
    "odd history": ("s.json", b'{"log_history": [{"step": 1}, 7]}', ("entry 2", "no step")),
    "empty history": ("s.json", b'{"log_history": []}', ("has no events",)),
}


@pytest.mark.parametrize(("name", "content", "words"), BAD_LOGS.values(), ids=BAD_LOGS)
def test_a_bad_log_is_refused_with_file_and_line(tmp_path, name, content, words):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_log(file)
    assert all(word in str(caught.value) for word in (str(file), *words))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_folder_without_a_log_is_refused(tmp_path, run_folder):
    with pytest.raises(InputError, match="has no log"):
        read_log(tmp_path)
    with create_run(tmp_path / "young", {"model": "toy", "methods": ["dpo"]}):
        pass
    with pytest.raises(InputError, match="has no metrics.jsonl"):
        read_log(tmp_path / "young")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="model.config.json does not name a model"):
        read_log(model)
    with (run_folder / "dpo" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "los\n')
    with pytest.raises(InputError, match=r"dpo.metrics.jsonl, line 4: not valid JSON"):
        read_log(run_folder)


@pytest.mark.parametrize(
    "end", [b'{"step": 3, "los', b'{"step": 3, "s\xc3', b"\0\0\0", b'{"step": 3\0\0', b"{"]
)
def test_an_incomplete_last_line_is_left_out_with_a_note(run_folder, end):
    whole = read_log(run_folder)
    file = run_folder / "dpo" / "metrics.jsonl"
    content = file.read_bytes()
    file.write_bytes(content + end)
    log = read_log(run_folder)
    assert repr(log.events) == repr(whole.events) and whole.note is None
    assert log.note == f"the last line of {file} is incomplete and was left out."
    file.write_bytes(content.rstrip())
    assert read_log(run_folder).note is None, "whole, but for its line end"
    file.write_bytes(content.rstrip() + b"\0\0")
    log = read_log(run_folder)
    assert repr(log.events) == repr(whole.events) and log.note, "zeros after what is whole"


def test_numbers_too_large_for_a_float_are_infinite_and_flags_are_left_out(tmp_path):
    file = tmp_path / "a.jsonl"
    row = f'{{"step": 1.0, "loss": {10**400}, "grad_norm": -{10**400}, "done": true, "x": [1]}}'
    file.write_text(row + "\n")
    [event] = read_log(file).events["a"]
    assert event == {"step": 1, "loss": math.inf, "grad_norm": -math.inf}
    assert [diagnosis.name for diagnosis in diagnose([event])] == ["not_finite"]


@pytest.mark.parametrize("content", ["[]", "{", 9999 * "[", '{"problem": ["dpo"]}'])
def test_a_damaged_summary_is_refused(run_folder, content):
    (run_folder / "summary.json").write_text(content)
    with pytest.raises(InputError, match="summary.json"):
        read_log(run_folder)
