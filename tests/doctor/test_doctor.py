"""The doctor: what each rule hears and what leaves it silent, what it reads, and the presets."""

import json
import math

import pytest

from adadpo_mini import InputError, RaceConfig, race
from adadpo_mini.doctor.diagnose import as_dict, diagnose, diagnose_all, report
from adadpo_mini.doctor.logs import read_log
from adadpo_mini.doctor.presets import PRESETS, find_preset
from adadpo_mini.doctor.rules import RULES
from adadpo_mini.doctor.series import find_shifts
from adadpo_mini.store.writer import create_run

LN2 = math.log(2)
STEPS = tuple(range(0, 45, 5))


def rows(steps=STEPS, **columns):
    """Events in which each column goes in equal steps from a first to a last value.

    `__` stands for the `/` of a name.
    """
    events = []
    for i, step in enumerate(steps):
        part = i / (len(steps) - 1)
        values = {k.replace("__", "/"): a + (b - a) * part for k, (a, b) in columns.items()}
        events.append({"step": step, **values})
    return events


def shifts(chosen, rejected, start=-5.0, **more):
    """Held-out log-probs that move so far against the reference."""
    return rows(
        eval_shift__chosen=(0, chosen),
        eval_shift__rejected=(0, rejected),
        eval_logps__chosen=(start, start + chosen),
        **more,
    )


def learned(loss=0.009, grad=0.04, margin=6.0):
    """A loss that is large in the first three quarters of the log and this in the last one."""
    events = rows(rewards__margins=(0, margin))
    for i, event in enumerate(events):
        end = i >= 0.75 * len(events)
        event |= {"loss": loss if end else 0.4, "grad_norm": grad if end else 1.0}
    return events


def changed(events, step, **values):
    """The same events with other values at one step."""
    return [{**e, **values} if e["step"] == step else e for e in events]


STILL = rows(loss=(LN2, LN2), rewards__margins=(0, 0), grad_norm=(0.8, 0.8))
FINE = rows(loss=(LN2, 0.2), grad_norm=(1.0, 3.0))
CEILING = {"eval_ada__rho": (2, 2), "eval_ada__ceiling_share": (0.96, 0.96)}
# For each rule: logs in which it speaks, and logs just on the other side, or without its numbers.
CASES = {
    "nothing_moved": (
        [STILL, rows(loss=(LN2, LN2 - 9e-4), rewards__margins=(0, 1.9e-3))],
        [
            rows(loss=(LN2, LN2 - 1.1e-3), rewards__margins=(0, 0)),
            rows(loss=(LN2, LN2), rewards__margins=(0, 2.1e-3)),
            rows((0, 3, 6, 9), loss=(LN2, LN2), rewards__margins=(0, 0)),
            rows(loss=(LN2, LN2)),
        ],
    ),
    "both_sink": (
        [
            shifts(-1.1, -20),
            shifts(-3.1, -20, start=-300),
            rows(eval_logps__chosen=(-5, -6.1), eval_logps__rejected=(-5, -9)),
            rows(shift__chosen=(0, -1.1), shift__rejected=(0, -9)),
            rows(logps__chosen=(-90, -100), logps__rejected=(-90, -100)),
        ],
        [
            shifts(-0.9, -20),
            shifts(-2.9, -20, start=-300),
            shifts(-9, -0.9),
            rows(eval_logps__chosen=(-5, -5.9), eval_logps__rejected=(-5, -9)),
            rows(logps__chosen=(-90, -98), logps__rejected=(-90, -130)),
            rows(eval_shift__chosen=(0, -9)),
        ],
    ),
    "chosen_rises": (
        [shifts(0.5, 0.11), shifts(4, 3.1, start=-300)],
        [shifts(0.5, 0.09), shifts(4.5, -30), shifts(0.05, 0.5), shifts(4, 2.9, start=-300)],
    ),
    "saturated": (
        [learned()],
        [
            learned(loss=0.011),
            learned(grad=0.06),
            learned(margin=-1),
            [{"step": e["step"], "loss": e["loss"]} for e in learned()],
        ],
    ),
    "length_drift": (
        [
            changed(rows(eval_length=(20, 30.1)), 35, eval_length=30.1),
            changed(rows(eval_length=(30, 19.9)), 35, eval_length=19.9),
            rows(completions__mean_length=(200, 350)),
        ],
        [
            changed(rows(eval_length=(20, 29.9)), 35, eval_length=30.1),
            changed(rows(eval_length=(20, 30.1)), 35, eval_length=29.9),
            changed(rows(eval_length=(30, 20.1)), 35, eval_length=19.9),
            changed(rows(eval_length=(20, 10)), 35, eval_length=40),
            rows((0, 40), eval_length=(20, 60)),
            rows(loss=(1, 9)),
        ],
    ),
    "mass_leaves": (
        [rows(mass__else=(0.3, 0.41)), rows(mass__else=(0.0, 1.0))],
        [rows(mass__else=(0.3, 0.39)), rows(mass__else=(0.9, 0.1)), shifts(-90, -90)],
    ),
    "learning_rate_too_high": (
        [
            changed(FINE, 10, loss=1.4),
            changed(FINE, 10, grad_norm=20.1),
            changed(shifts(-0.1, -9, loss=(LN2, 0.2)), 10, loss=1.4),
            changed(FINE, 40, loss=math.nan),
            changed(FINE, 10, loss=None),
            changed(FINE, 40, grad_norm=math.inf),
            changed(changed(FINE, 5, grad_norm=None), 10, grad_norm=None),
            rows((0, 5, 10), eval_shift__chosen=(0, -5.1), eval_shift__rejected=(0, -9)),
            rows((5, 10, 15), eval_logps__chosen=(-5, -11), eval_logps__rejected=(-5, -99)),
        ],
        [
            changed(FINE, 10, loss=1.38),
            changed(FINE, 10, grad_norm=19.9),
            changed(FINE, 5, grad_norm=None),
            rows(loss=(0.01, 1.3)),
            changed(shifts(0.1, -9, loss=(LN2, 0.2), grad_norm=(1, 1)), 10, loss=9, grad_norm=99),
            rows((0, 5, 10), eval_shift__chosen=(0, -4.9), eval_shift__rejected=(0, -9)),
            rows((0, 6, 12), eval_shift__chosen=(0, -9.9), eval_shift__rejected=(0, -9)),
            rows((0, 5, 10), eval_logps__chosen=(-9, -17), eval_logps__rejected=(-5, -99)),
            shifts(-5.1, -90),
        ],
    ),
    "all_at_ceiling": (
        [rows(**CEILING), rows(ada__rho=(1, 2), ada__ceiling_share=(0.2, 1.1))],
        [
            changed(rows(**CEILING), 35, **{"eval_ada/ceiling_share": 0.94}),
            rows(ada__rho=(1, 1), ada__ceiling_share=(0, 0)),
            rows(ada__rho=(2, 2)),
        ],
    ),
}


@pytest.mark.parametrize(
    ("name", "events"), [(name, log) for name, (heard, _) in CASES.items() for log in heard]
)
def test_a_rule_speaks_when_its_trouble_is_there(name, events):
    diagnosis = RULES[name](events)
    assert diagnosis is not None
    assert diagnosis.name == name
    assert diagnosis in diagnose(events)
    assert any(character.isdigit() for character in diagnosis.evidence)
    for text in (diagnosis.what, diagnosis.evidence, diagnosis.advice):
        assert text.endswith(".") and "\n" not in text and "nan" not in text


@pytest.mark.parametrize(
    ("name", "events"), [(name, log) for name, (_, silent) in CASES.items() for log in silent]
)
def test_a_rule_is_silent_just_on_the_other_side_or_without_its_numbers(name, events):
    assert RULES[name](events) is None


def test_every_rule_has_its_cases():
    assert CASES.keys() == RULES.keys()


def test_the_evidence_names_numbers_and_steps():
    (sink,) = diagnose(shifts(-12.3, -110.6))
    assert "step 40" in sink.evidence and "−12.3" in sink.evidence and "−110.6" in sink.evidence
    (rate,) = diagnose(changed(FINE, 10, loss=2.5))
    assert "from 0.693 to 2.5 at step 10" in rate.evidence
    (mass,) = diagnose(rows(mass__else=(0.334, 0.999), mass__chosen=(0.24, 0.001)))
    assert all(word in mass.evidence for word in ("0.334", "0.999 at step 40", "chosen", "0.001"))


def test_a_gradient_of_zero_is_told_from_a_small_learning_rate():
    assert "zero" not in RULES["nothing_moved"](STILL).advice
    frozen = [{**event, "grad_norm": 0.0} for event in STILL]
    assert "trainable" in RULES["nothing_moved"](frozen).advice


def test_what_comes_first_is_the_gravest():
    events = shifts(-90, -180, mass__else=(0.1, 1.0), eval_length=(20, 60), loss=(LN2, 3.0))
    names = [diagnosis.name for diagnosis in diagnose(events)]
    assert names == ["learning_rate_too_high", "mass_leaves", "both_sink", "length_drift"]


def test_the_order_of_the_events_does_not_matter():
    events = shifts(-90, -180)
    assert diagnose(events[::-1]) == diagnose(events) != []


def test_no_events_and_events_without_numbers_get_no_diagnosis():
    assert diagnose([]) == []
    assert diagnose([{"step": 0}]) == []
    empty = {"eval_shift/chosen": None, "eval_shift/rejected": math.nan, "mass/else": None}
    assert diagnose([{"step": step, **empty} for step in STEPS]) == []


def test_held_out_pairs_are_preferred_to_training_pairs():
    training = rows(shift__chosen=(0, -15), shift__rejected=(0, -50))
    both = [{**a, **b} for a, b in zip(training, shifts(0.5, -9), strict=True)]
    assert find_shifts(both).chosen[-1] == 0.5
    assert diagnose(both) == []
    assert [diagnosis.name for diagnosis in diagnose(training)] == ["both_sink"]


def test_training_rows_of_other_pairs_do_not_outweigh_the_rewards():
    """The last batch has longer answers, so their log-probs are lower; the rewards know better."""
    events = rows(logps__chosen=(-90, -150), logps__rejected=(-90, -150))
    risen = [{**e, "rewards/chosen": 0.1, "rewards/rejected": -2.0} for e in events]
    fallen = [{**e, "rewards/chosen": -0.1, "rewards/rejected": -2.0} for e in events]
    assert diagnose(risen) == []
    assert [diagnosis.name for diagnosis in diagnose(fallen)] == ["both_sink"]


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
    assert "since step 10, at step 60: chosen −68.1, rejected −170.8 nats" in evidence


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
    "too deep": ("a.jsonl", GOOD + 9999 * b"[" + b"\n", ("line 2", "not JSON that can be read")),
    "digits": ("a.jsonl", GOOD + b'{"step": %s}\n' % (5000 * b"9"), ("line 2", "4300 digits")),
    "step below 0": ("a.jsonl", b'{"step": -1}\n', ("line 1", "whole number from 0 up, not -1")),
    "half a step": ("a.jsonl", b'{"step": 1.5}\n', ("line 1", "from 0 up, not 1.5")),
    "step true": ("a.jsonl", b'{"step": true}\n', ("line 1", "from 0 up, not True")),
    "step in words": ("a.jsonl", b'{"step": "1"}\n', ("line 1", "from 0 up, not '1'")),
    "step infinite": ("a.jsonl", b'{"step": 1e999}\n', ("line 1", "from 0 up, not inf")),
    "step too large": ("a.jsonl", b'{"step": %s}\n' % (400 * b"9"), ("line 1", "not 999")),
    "a list": ("a.jsonl", GOOD + b"[1]\n", ("line 2", "expected an object")),
    "no step": ("a.jsonl", GOOD + b'{"prompt": "Why?"}\n', ("line 2", "no step")),
    "step null": ("a.jsonl", b'{"step": null}\n', ("line 1", "no step")),
    "empty": ("a.jsonl", b"\n", ("holds no events",)),
    "not text": ("a.jsonl", b'{"step": "\xff"}', ("UTF-8",)),
    "cut-off state": ("s.json", b'{\n"log_history": [\n{"step": 1},\n', ("line 4", "not valid")),
    "another JSON": ("config.json", b'{"model_type": "gpt2"}', ("no log_history",)),
    "odd history": ("s.json", b'{"log_history": [{"step": 1}, 7]}', ("entry 2", "no step")),
    "empty history": ("s.json", b'{"log_history": []}', ("holds no events",)),
}


@pytest.mark.parametrize(("name", "content", "words"), BAD_LOGS.values(), ids=BAD_LOGS)
def test_a_bad_log_is_told_with_file_and_line(tmp_path, name, content, words):
    file = tmp_path / name
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_log(file)
    assert all(word in str(caught.value) for word in (str(file), *words))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_folder_without_a_log_is_told(tmp_path, run_folder):
    with pytest.raises(InputError, match="holds no log"):
        read_log(tmp_path)
    with create_run(tmp_path / "young", {"model": "toy", "methods": ["dpo"]}):
        pass
    with pytest.raises(InputError, match="holds no metrics.jsonl"):
        read_log(tmp_path / "young")
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(InputError, match="model.config.json: names no model"):
        read_log(model)
    with (run_folder / "dpo" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "los\n')
    with pytest.raises(InputError, match=r"dpo.metrics.jsonl, line 4: not valid JSON"):
        read_log(run_folder)


@pytest.mark.parametrize(
    "end", [b'{"step": 3, "los', b'{"step": 3, "s\xc3', b"\0\0\0", b'{"step": 3\0\0', b"{"]
)
def test_a_last_line_without_an_end_is_left_out_and_told(run_folder, end):
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


def test_numbers_that_no_float_holds_are_infinite_and_flags_are_no_numbers(tmp_path):
    file = tmp_path / "a.jsonl"
    row = f'{{"step": 1.0, "loss": {10**400}, "grad_norm": -{10**400}, "done": true, "x": [1]}}'
    file.write_text(row + "\n")
    [event] = read_log(file).events["a"]
    assert event == {"step": 1, "loss": math.inf, "grad_norm": -math.inf}
    assert [diagnosis.name for diagnosis in diagnose([event])] == ["learning_rate_too_high"]


@pytest.mark.parametrize("content", ["[]", "{", 9999 * "[", '{"problem": ["dpo"]}'])
def test_a_damaged_summary_is_told(run_folder, content):
    (run_folder / "summary.json").write_text(content)
    with pytest.raises(InputError, match="summary.json"):
        read_log(run_folder)


def test_the_report_says_everything_and_also_that_there_is_nothing():
    found = {"dpo": diagnose(shifts(-12.3, -110.6)), "adadpo": []}
    text = report(found)
    (sink,) = found["dpo"]
    flowing = " ".join(text.split())
    for part in (f"dpo: {sink.what} [both_sink]", sink.evidence, sink.advice):
        assert part in flowing
    assert "adadpo: no complaint" in text
    assert max(map(len, text.splitlines())) <= 98
    as_json = json.loads(json.dumps(as_dict(found)))
    assert as_json["adadpo"] == []
    assert as_json["dpo"][0].keys() == {"name", "what", "evidence", "advice"}
    assert as_json["dpo"][0]["evidence"] == sink.evidence


def test_there_is_a_preset_for_every_rule_and_a_healthy_one():
    assert PRESETS.keys() == {*RULES, "healthy"}
    for name, preset in PRESETS.items():
        config = RaceConfig(**preset.settings)
        assert config.steps <= 60 and config.batch_size <= 16
        assert preset.name == name and preset.question.endswith("?")
        assert tuple(preset.expect) == config.methods
        expected = {diagnosis for each in preset.expect.values() for diagnosis in each}
        assert expected == ({name} if name in RULES else set())


def test_an_unknown_preset_is_refused_with_the_names_of_all():
    assert find_preset("both_sink") is PRESETS["both_sink"]
    with pytest.raises(InputError, match=r"'sink'.*both_sink"):
        find_preset("sink")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_gets_the_diagnosis_it_is_for(preset):
    result = race(**preset.settings)
    found = diagnose_all(result.events, result.summary["problem"])
    for method, expected in preset.expect.items():
        names = [diagnosis.name for diagnosis in found[method]]
        assert set(expected) <= set(names)
        assert names == [] or expected, "what should be healthy is"
