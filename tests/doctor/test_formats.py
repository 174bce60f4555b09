"""Logs of other programs: LLaMA-Factory, W&B, TensorBoard, data frames, printed lines."""

import csv
import json
import math

import pandas as pd
import pytest

from adadpo_mini import InputError
from adadpo_mini.doctor import diagnose_all
from adadpo_mini.doctor.logs import read_log
from tests.doctor.made_logs import rows, trl

SINKING = trl(-15, -40)


def names(log):
    return {run: [one.name for one in found] for run, found in diagnose_all(log.events).items()}


def write_csv(path, table, **how):
    with path.open("w", newline="") as stream:
        csv.writer(stream, **how).writerows(table)


def as_table(events, rename=lambda key: key):
    keys = list(events[0])
    return [[rename(key) for key in keys], *([event[key] for key in keys] for event in events)]


def test_the_log_of_llama_factory_is_read_and_what_it_lacks_is_said(tmp_path):
    lines = [
        {"current_steps": 10 * i, "total_steps": 400, "loss": 0.69 - 0.005 * i, "accuracy": 0.6,
         "lr": 5e-6, "epoch": 0.1 * i, "percentage": 2.5 * i, "elapsed_time": "0:00:09"}
        for i in range(1, 31)
    ]  # fmt: skip
    (tmp_path / "trainer_log.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    log = read_log(tmp_path)
    (events,) = log.events.values()
    assert events[-1]["step"] == 300 and events[0]["learning_rate"] == 5e-6
    assert events[0]["rewards/accuracies"] == 0.6 and "elapsed_time" not in events[0]
    ((nothing,),) = diagnose_all(log.events).values()
    assert nothing.name == "nothing_to_judge" and "rewards/chosen" in nothing.evidence
    assert "trainer_state.json" in nothing.advice
    state = {"global_step": 500, "log_history": SINKING}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    assert list(names(read_log(tmp_path)).values()) == [["both_sink"]], "it has the rewards"


def test_the_log_of_llama_factory_is_judged_by_what_it_has(tmp_path):
    file = tmp_path / "trainer_log.jsonl"
    lines = [{"current_steps": i, "loss": 1e-4, "accuracy": 1.0} for i in range(100, 900, 50)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert names(read_log(file)) == {"trainer_log": ["saturated"]}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_history_of_wandb_is_read_by_its_global_step(tmp_path, separator):
    def rename(key):
        return {"step": "train/global_step"}.get(key, f"train/{key}")

    file = tmp_path / "history.csv"
    table = [[*row, i] for i, row in enumerate(as_table(SINKING, rename))]
    table[0][-1] = "_step"
    write_csv(file, table, delimiter=separator)
    (events,) = read_log(file).events.values()
    assert [e["step"] for e in events] == [e["step"] for e in SINKING]
    assert events[3]["rewards/chosen"] == SINKING[3]["rewards/chosen"]
    assert names(read_log(file)) == {"history": ["both_sink"]}


def test_a_panel_of_wandb_has_several_runs_and_their_bands_are_ignored(tmp_path):
    runs = {"lucky-sun - 3": trl(-15, -40), "my run": trl(2, -9)}
    head, body = ["Step"], [[10 * (i + 1)] for i in range(50)]
    for run, events in runs.items():
        for side in ("chosen", "rejected"):
            for end in ("", "__MIN", "__MAX"):
                head.append(f"{run} - train/rewards/{side}{end}")
                for line, event in zip(body, events, strict=True):
                    line.append(event[f"rewards/{side}"] if not end else 9e9)
    write_csv(tmp_path / "panel.csv", [head, *body], quoting=csv.QUOTE_ALL)
    found = names(read_log(tmp_path / "panel.csv"))
    assert found == {"lucky-sun - 3": ["both_sink"], "my run": []}


def test_one_curve_of_a_panel_is_not_enough_and_the_answer_says_what_is(tmp_path):
    table = [["Step", "a - train/loss"], *([i, 0.6 - i / 1e4] for i in range(50))]
    write_csv(tmp_path / "panel.csv", table)
    ((nothing,),) = diagnose_all(read_log(tmp_path / "panel.csv").events).values()
    assert nothing.name == "nothing_to_judge" and "with loss" in nothing.evidence


@pytest.mark.parametrize(
    ("name", "number"),
    [("run-tag-train_rewards_chosen.csv", "rewards/chosen"), ("eval_loss.csv", "eval_loss"),
     ("scalars.csv", "Value")],
)  # fmt: skip
def test_a_curve_of_tensorboard_is_read_by_its_file_name(tmp_path, name, number):
    write_csv(tmp_path / name, [["Wall time", "Step", "Value"], [1.7e9, 10, 0.5]])
    (events,) = read_log(tmp_path / name).events.values()
    assert events == [{"Wall time": 1.7e9, "step": 10, number: 0.5}]
    assert list(names(read_log(tmp_path / name)).values()) == [["nothing_to_judge"]]


@pytest.mark.parametrize("how", ["csv", "padded csv", "jsonl"])
def test_the_padding_of_a_data_frame_is_not_a_nan_of_the_run(tmp_path, how):
    history = []
    for event in trl(2, -9):
        history.append(event)
        history.append({"step": event["step"], "eval_loss": 0.5})
    frame = pd.DataFrame(history)
    file = tmp_path / f"log.{how.split()[-1]}"
    if how == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, na_rep="NaN" if "padded" in how else "")
    (events,) = read_log(file).events.values()
    assert len(events) == 50 and events[0]["eval_loss"] == 0.5
    assert events[0]["loss"] == pytest.approx(history[0]["loss"])
    assert names(read_log(file)) == {"log": []}


def test_a_nan_in_a_table_is_one(tmp_path):
    events = [{**e, "rewards/chosen": math.nan} if e["step"] > 200 else e for e in trl(2, -9)]
    write_csv(tmp_path / "log.csv", as_table(events))
    (found,) = diagnose_all(read_log(tmp_path / "log.csv").events).values()
    assert found[0].name == "not_finite" and "since step 210" in found[0].what


@pytest.mark.parametrize("as_text", [False, True])
def test_the_lines_that_a_trainer_prints_are_read_amid_other_output(tmp_path, as_text):
    lines = ["Loading checkpoint shards: 100%|###| 2/2", ""]
    for event in SINKING:
        row = {k: str(v) if as_text else v for k, v in event.items() if k != "step"}
        lines.append(f" 12%|#2   | 3/50 [00:01<00:09]  {row}")
    lines.append("{'loss': nan, 'grad_norm': inf")
    lines.append("{'train_runtime': 9.3, 'train_loss': 0.5, 'epoch': 1.0}")
    file = tmp_path / "train.log"
    file.write_text("\n".join(lines))
    log = read_log(file)
    assert len(log.events["train"]) == 50 and log.events["train"][-1]["step"] == 500
    assert names(log) == {"train": ["both_sink"]}
    assert "no steps" in log.note and log.note.endswith(".")


def test_printed_nan_is_read(tmp_path):
    file = tmp_path / "out.txt"
    file.write_text("{'loss': 0.0, 'rewards/chosen': nan, 'rewards/rejected': nan}\n" * 5)
    assert names(read_log(file)) == {"out": ["not_finite"]}


def test_a_dumped_log_history_alone_is_read(tmp_path):
    (tmp_path / "history.json").write_text(json.dumps(SINKING))
    assert names(read_log(tmp_path / "history.json")) == {"history": ["both_sink"]}


def test_every_evaluation_set_is_judged(tmp_path):
    events = rows(
        (100, 200, 300),
        eval_good_rewards__chosen=(0.1, 0.2), eval_good_rewards__rejected=(-1, -2),
        eval_bad_rewards__chosen=(-1, -3), eval_bad_rewards__rejected=(-1, -5),
    )  # fmt: skip
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": events}))
    ((sink,),) = diagnose_all(read_log(tmp_path).events).values()
    assert sink.name == "both_sink" and "of bad" in sink.evidence and "good" not in sink.evidence


def test_of_a_folder_that_was_used_again_the_later_state_is_read(tmp_path):
    def write(folder, steps):
        folder.mkdir(exist_ok=True)
        history = [{"step": step, "loss": 0.6} for step in range(1, steps + 1)]
        text = json.dumps({"global_step": steps, "log_history": history})
        (folder / "trainer_state.json").write_text(text)

    write(tmp_path, 5)
    write(tmp_path / "checkpoint-3", 3)
    assert len(next(iter(read_log(tmp_path).events.values()))) == 5
    write(tmp_path / "checkpoint-9", 9)
    write(tmp_path / "checkpoint-10", 10)
    assert len(next(iter(read_log(tmp_path).events.values()))) == 10


def test_two_evaluations_of_a_step_that_differ_are_kept_and_told(tmp_path):
    first, second = {"step": 9, "eval_loss": 0.5}, {"step": 9, "eval_loss": 0.8}
    file = tmp_path / "log.jsonl"

    def found(*events):
        file.write_text("".join(json.dumps(event) + "\n" for event in events))
        return names(read_log(file))["log"]

    assert found(first, second) == ["evaluation_not_repeatable"]
    assert found(first, {**first, "eval_runtime": 3.0}) == ["nothing_to_judge"]
    assert found(first, {"step": 10, "eval_loss": 0.4}, second) == ["nothing_to_judge"], "resumed"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "epoch,loss\n1,0.6\n", "no step column"),
        ("a.csv", "", "no step"),
        ("a.csv", "step,loss\n", "no events"),
        ("a.csv", "step,loss\n-1,0.6\n", "line 2: its step must be a whole number"),
        ("a.log", "Hello\n", "no line that a trainer prints"),
        ("a.txt", "", "no line that a trainer prints"),
        ("a.json", "[1]", "entry 1 of log_history has no step"),
    ],
)
def test_what_is_not_a_log_is_refused_with_its_place(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        read_log(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)
