"""A race that was interrupted or killed continues, and ends as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing

import pytest
import torch
from transformers import AutoModelForCausalLM

from adadpo_mini import InputError, Race, RaceConfig, load_pairs, race, resume
from adadpo_mini.cli.entry import main
from adadpo_mini.models.state import TrainingState
from adadpo_mini.store.folder import RunFolder

CLOCK = ("time", "own_time")
STEPS = 8
PATHS = {
    "plain": {"methods": ("dpo", "adadpo")},
    "rlhf": {"methods": ("rlhf", "adadpo")},
    "lora": {"methods": ("dpo", "adadpo"), "lora_rank": 2},
    "bf16": {"methods": ("adadpo",), "dtype": "bfloat16"},
    "in parts": {"methods": ("fixed_ratio",), "pairs_at_once": 2, "checkpointing": True},
    "bf16 and lora": {"methods": ("dpo",), "dtype": "bfloat16", "lora_rank": 2},
}


class Crash(Exception):
    """Simulates a kill: nothing can be cleaned up."""


def stop_at(step, error):
    """A listener that raises the error when it hears of that step."""

    def listen(method, event):
        if event["step"] == step:
            raise error

    return listen


@pytest.fixture(scope="module")
def begin(tiny):
    """A function that starts a small race of the tiny model: three epochs of twelve pairs."""
    rows = list(load_pairs("swap")[:14])
    same = {"model": str(tiny), "steps": STEPS, "batch_size": 4, "eval_pairs": 2, "seed": 5}
    same |= {"learning_rate": 1e-3, "measure_every": 3, "snapshot_every": 3}
    return lambda **settings: race(rows, **{**same, **settings})


def interrupted_while_judging(folder, monkeypatch):
    """The result of a resumed race that is interrupted after its last step."""

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("adadpo_mini.run.all_win_rates", interrupt)
        return resume(folder)


def contents(folder):
    """The content of a run folder without the times, and the bytes of its weights."""
    run = RunFolder(folder)
    events = {
        method: [{k: v for k, v in event.items() if k not in CLOCK} for event in log]
        for method, log in run.events().items()
    }
    weights = {
        str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.safetensors")
    }
    summary = run.summary()
    for row in summary["methods"].values():
        row.pop("seconds")
    return events, weights, summary


def assert_same(folder, unbroken):
    for mine, theirs in zip(contents(folder), contents(unbroken), strict=True):
        assert mine.keys() == theirs.keys()
        for name in mine:
            assert mine[name] == theirs[name], name


@pytest.mark.parametrize("settings", PATHS.values(), ids=PATHS.keys())
def test_an_interrupted_and_then_killed_race_ends_bit_equal(settings, begin, tmp_path):
    if settings.get("lora_rank"):
        pytest.importorskip("peft")
    begin(out=tmp_path / "unbroken", **settings)
    out = tmp_path / "run"
    stopped = begin(out=out, on_event=stop_at(2, KeyboardInterrupt()), **settings)
    assert stopped.summary["status"] == "interrupted"
    with pytest.raises(Crash):  # its events of steps 3 to 5 are on the disk, its state is of step 3
        resume(out, on_event=stop_at(5, Crash()))
    assert [event["step"] for event in next(iter(RunFolder(out).events().values()))] == [*range(6)]
    result = resume(out)
    assert result.summary["status"] == "finished"
    assert_same(out, tmp_path / "unbroken")
    assert not (out / "state.safetensors").exists()


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("step", [1, 4, STEPS - 1])
def test_under_trl_it_does_not_matter_where_a_race_was_interrupted(step, begin, tmp_path):
    pytest.importorskip("trl")

    more = {"methods": ("adadpo",), "engine": "trl", "eval_every": 5}
    begin(out=tmp_path / "unbroken", **more)
    begin(out=tmp_path / "run", on_event=stop_at(step, KeyboardInterrupt()), **more)
    resume(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "unbroken")


@pytest.mark.parametrize("more", [{}, {"lora_rank": 2}], ids=["whole", "lora"])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_race_under_trls_trainer_is_resumed_bit_equal_too(more, begin, tmp_path, monkeypatch):
    pytest.importorskip("trl")
    if more:
        pytest.importorskip("peft")

    more = {**more, "methods": ("adadpo",), "engine": "trl"}
    begin(out=tmp_path / "unbroken", **more)
    out = tmp_path / "run"
    begin(out=out, on_event=stop_at(3, KeyboardInterrupt()), **more)
    with pytest.raises(Crash):
        resume(out, on_event=stop_at(6, Crash()))
    for _ in range(2):
        assert interrupted_while_judging(out, monkeypatch).summary["status"] == "interrupted"
    assert resume(out).summary["status"] == "finished"
    assert_same(out, tmp_path / "unbroken")


def test_a_restored_race_takes_the_scores_of_the_reference_from_its_state(tiny):
    """Scored again in other batches, they might differ in the last bit."""
    config = RaceConfig(model=str(tiny), steps=6, batch_size=4, eval_pairs=2, methods=("dpo",))
    rows = list(load_pairs("swap")[:14])
    race = Race(config, data=rows)
    with closing(race.run_steps()) as steps:
        for _ in range(3):  # one epoch, so that every pair has its score
            next(steps)
    state = race.state()
    scores = {"race/scores": state.tensors["race/scores"] + 1}
    shifts = []
    for tensors in (state.tensors, {**state.tensors, **scores}):
        other = Race(config, data=rows)
        other.restore(TrainingState(tensors, state.numbers))
        with closing(other.run_steps()) as steps:
            shifts.append(next(steps)["dpo"]["shift/chosen"])
    assert shifts[1] == pytest.approx(shifts[0] - 1, abs=1e-4)


def test_a_race_killed_before_any_state_was_kept_starts_again(begin, tmp_path):
    begin(out=tmp_path / "unbroken")
    with pytest.raises(Crash):
        begin(out=tmp_path / "run", on_event=stop_at(1, Crash()))
    said = []
    resume(tmp_path / "run", note=said.append)
    assert "continuing at step 0 of 8" in said[-1]
    assert_same(tmp_path / "run", tmp_path / "unbroken")


def test_an_interruption_after_the_last_step_needs_no_more_training(begin, tmp_path, monkeypatch):
    begin(out=tmp_path / "unbroken")
    begin(out=tmp_path / "run", on_event=stop_at(STEPS, KeyboardInterrupt()))
    interrupted_while_judging(tmp_path / "run", monkeypatch)
    said = []
    assert resume(tmp_path / "run", note=said.append).summary["status"] == "finished"
    assert "all steps are done" in said[-1]
    assert_same(tmp_path / "run", tmp_path / "unbroken")


def test_a_listener_hears_the_events_of_before_and_the_new_ones_once_each(begin, tmp_path):
    begin(out=tmp_path / "run", on_event=stop_at(2, KeyboardInterrupt()))
    heard = []
    resume(tmp_path / "run", on_event=lambda method, event: heard.append((event["step"], method)))
    assert heard == [(step, method) for step in range(STEPS + 1) for method in ("dpo", "adadpo")]


def test_times_go_on_from_where_they_were(begin, tmp_path):
    begin(out=tmp_path / "run", on_event=stop_at(4, KeyboardInterrupt()))
    for log in resume(tmp_path / "run").events.values():
        for name in CLOCK:
            values = [event[name] for event in log]
            assert values == sorted(values), name


def test_snapshots_are_of_the_planned_steps_and_load_with_plain_transformers(begin, tmp_path):
    result = begin(out=tmp_path / "run", steps=7, snapshot_every=3)
    folder = RunFolder(tmp_path / "run")
    assert folder.snapshots("dpo") == folder.snapshots("adadpo") == [0, 3, 6, 7]
    start = AutoModelForCausalLM.from_pretrained(folder.model("dpo", 0)).state_dict()
    end = AutoModelForCausalLM.from_pretrained(folder.model("dpo", 7)).state_dict()
    for name, weight in result.reference.state_dict().items():
        assert torch.equal(start[name], weight)
        assert torch.equal(end[name], result.models["dpo"].state_dict()[name])
    middle = AutoModelForCausalLM.from_pretrained(folder.model("dpo", 3)).state_dict()
    short = begin(steps=3, snapshot_every=0)
    assert all(torch.equal(w, middle[n]) for n, w in short.models["dpo"].state_dict().items())


def test_snapshots_change_no_number(begin, tmp_path):
    begin(out=tmp_path / "with", snapshot_every=1)
    begin(out=tmp_path / "without", snapshot_every=0)
    kept, plain = contents(tmp_path / "with"), contents(tmp_path / "without")
    assert kept[0] == plain[0] and kept[2] == plain[2]
    assert all(kept[1][name] == plain[1][name] for name in plain[1])


def test_fewer_snapshots_are_taken_where_the_budget_is_small_and_it_is_said(begin, tmp_path):
    said = []
    begin(out=tmp_path / "some", note=said.append, snapshot_every=1, snapshot_gb=2e-3)
    taken = RunFolder(tmp_path / "some").snapshots("dpo")
    assert 2 <= len(taken) < STEPS + 1 and taken[0] == 0 and taken[-1] == STEPS
    [fewer] = [text for text in said if "instead of every 1" in text]
    assert "--snapshot-gb" in fewer
    begin(out=tmp_path / "none", note=said.append, snapshot_gb=1e-6)
    assert RunFolder(tmp_path / "none").snapshots("dpo") == [] and "No snapshots" in said[-1]


def test_snapshots_without_a_run_folder_are_refused(begin):
    with pytest.raises(InputError, match="run folder"):
        begin()


def test_a_run_that_cannot_be_resumed_is_refused_with_the_reason(begin, tmp_path, tiny):
    with pytest.raises(InputError, match="does not contain a run"):
        resume(tmp_path)
    diverged = tmp_path / "diverged"
    assert begin(out=diverged, learning_rate=1e6).summary["status"] == "diverged"
    with pytest.raises(InputError, match="diverge again"):
        resume(diverged)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_two_interruptions_at_once_count_as_one(begin, tmp_path, ctrl_c):
    def hurry(method, event):
        if event["step"] == 3:
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)

    result = begin(out=tmp_path / "run", on_event=hurry)
    assert result.summary["status"] == "interrupted"
    assert (tmp_path / "run" / "state.safetensors").exists()


def test_a_resumed_race_has_no_summary_while_it_runs(begin, tmp_path):
    out = tmp_path / "run"
    begin(out=out, on_event=stop_at(2, KeyboardInterrupt()))
    assert RunFolder(out).status == "interrupted"
    seen = []

    def look(method, event):
        if event["step"] == 5:
            seen.append((RunFolder(out).status, RunFolder(out).summary()))
            raise Crash

    with pytest.raises(Crash):
        resume(out, on_event=look)
    assert seen == [("running", None)] and RunFolder(out).summary() is None


def test_a_reader_begins_again_where_a_resume_cut_events_off(begin, tmp_path):
    out = tmp_path / "run"
    begin(out=out, on_event=stop_at(2, KeyboardInterrupt()))
    with pytest.raises(Crash):
        resume(out, on_event=stop_at(6, Crash()))
    folder = RunFolder(out)
    _, cursor = folder.events_since({})
    assert not folder.is_stale(cursor)
    with pytest.raises(Crash):
        resume(out, on_event=stop_at(4, Crash()))
    assert folder.is_stale(cursor)
    events, _ = folder.events_since(cursor)
    assert [event["step"] for method, event in events if method == "dpo"] == [0, 1, 2, 3, 4]


def test_the_report_on_the_rows_survives_a_resume(tiny, tmp_path):
    rows = [*load_pairs("swap")[:14], *load_pairs("swap")[:3]]
    settings = {"model": str(tiny), "steps": 2, "batch_size": 4, "eval_pairs": 2}
    whole = race(rows, **settings)
    race(rows, out=tmp_path / "run", on_event=stop_at(1, KeyboardInterrupt()), **settings)
    assert "14 of 17" in resume(tmp_path / "run").summary["report"] == whole.summary["report"]


def test_other_held_out_pairs_are_found_out(tiny, tmp_path):
    out = tmp_path / "run"
    settings = {"model": str(tiny), "steps": 2, "batch_size": 4, "eval_pairs": 1}
    rows = list(load_pairs("swap")[:40])
    race(rows, out=out, on_event=stop_at(1, KeyboardInterrupt()), **settings)
    test = RunFolder(out).pairs[1]
    lines = test.read_text().splitlines()
    test.write_text("\n".join([*lines[:-1], lines[0]]) + "\n")
    with pytest.raises(InputError, match="have changed since"):
        resume(out)


def test_a_finished_race_is_loaded_as_it_is(begin, tmp_path):
    first = begin(out=tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.name != ".lock"}
    again = resume(tmp_path / "run")
    assert again.events == first.events and again.summary == first.summary
    for name, weight in first.models["dpo"].state_dict().items():
        assert torch.equal(weight, again.models["dpo"].state_dict()[name])
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_other_data_is_found_out(tiny, tmp_path):
    data = tmp_path / "pairs.jsonl"
    rows = [json.dumps(dict(pair)) for pair in load_pairs("swap")[:20]]
    data.write_text("\n".join(rows) + "\n")
    settings = {"model": str(tiny), "steps": 4, "batch_size": 2, "eval_pairs": 2}
    race(data, out=tmp_path / "run", on_event=stop_at(2, KeyboardInterrupt()), **settings)
    data.write_text("\n".join(reversed(rows)) + "\n")
    with pytest.raises(InputError, match="have changed since"):
        resume(tmp_path / "run")
    data.write_text("\n".join(rows) + "\n")
    assert resume(tmp_path / "run").summary["status"] == "finished"


def test_a_relative_path_is_seen_from_where_the_race_began(tiny, tmp_path, monkeypatch):
    there, elsewhere = tmp_path / "there", tmp_path / "elsewhere"
    there.mkdir(), elsewhere.mkdir()
    rows = [json.dumps(dict(pair)) for pair in load_pairs("swap")[:20]]
    (there / "pairs.jsonl").write_text("\n".join(rows) + "\n")
    monkeypatch.chdir(there)
    settings = {"model": str(tiny), "steps": 2, "batch_size": 2, "eval_pairs": 2}
    race("pairs.jsonl", out="run", on_event=stop_at(1, KeyboardInterrupt()), **settings)
    monkeypatch.chdir(elsewhere)
    result = resume(there / "run")
    assert (result.summary["status"], result.summary["data"]) == ("finished", "pairs.jsonl")


def test_a_folder_that_is_being_written_refuses_a_second_writer(begin, tmp_path, capsys):
    out, answers = tmp_path / "run", []

    def listen(method, event):
        if event["step"] == 1 and not answers:
            answers.append(main(["resume", str(out)]))
            assert RunFolder(out).status == "running"

    begin(out=out, on_event=listen)
    assert answers == [2] and RunFolder(out).status == "finished"
    said = capsys.readouterr().err
    assert "another process is writing this run" in said and "Traceback" not in said


def test_a_damaged_state_is_reported_and_without_it_the_race_starts_again(begin, tmp_path, capsys):
    begin(out=tmp_path / "unbroken")
    out = tmp_path / "run"
    begin(out=out, on_event=stop_at(3, KeyboardInterrupt()))
    state = out / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    assert main(["resume", str(out)]) == 2
    assert "state.safetensors" in capsys.readouterr().err
    state.unlink()
    assert main(["resume", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["status"] == "finished"
    assert_same(out, tmp_path / "unbroken")


def test_a_torn_last_line_is_cut_off_and_computed_again(begin, tmp_path):
    begin(out=tmp_path / "unbroken")
    out = tmp_path / "run"
    begin(out=out, on_event=stop_at(3, KeyboardInterrupt()))
    with (out / "dpo" / "metrics.jsonl").open("ab") as stream:
        stream.write(b'{"step": 4, "loss": 0.6')
    assert len(RunFolder(out).events()["dpo"]) == 4
    resume(out)
    assert_same(out, tmp_path / "unbroken")


COMMAND = [sys.executable, "-m", "adadpo_mini"]
KILLS = int(os.environ.get("ADADPO_KILLS", "2"))  # more take long, and were tried by hand


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL to send")
def test_kills_at_random_moments_lose_no_run(tmp_path, tiny):
    arguments = ["--data", "swap", "--model", str(tiny), "--steps", "400", "--batch-size", "4"]
    arguments += ["--measure-every", "50", "--snapshot-every", "100"]
    race_to = [*COMMAND, "race", *arguments, "--out"]
    subprocess.run([*race_to, tmp_path / "unbroken"], check=True, capture_output=True)
    out, moments = tmp_path / "run", random.Random(time.time_ns())
    command = [*race_to, out]
    for _ in range(KILLS):
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while command[3] == "race" and not (out / "adadpo" / "metrics.jsonl").exists():
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 6))
        running.send_signal(signal.SIGKILL)
        assert b"Traceback" not in running.communicate()[1]
        command = [*COMMAND, "resume", out]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_same(out, tmp_path / "unbroken")
    assert [path.name for path in out.rglob("*.partial")] == []
