"""The progress line, the first sign of life, and what a log gets in their place."""

import os
import re
import select
import signal
import sys
import time

import pytest

from adadpo_mini.cli import progress as progress_module
from adadpo_mini.cli.progress import Line, details_of, progress, race_progress
from adadpo_mini.methods import ALL_METHODS


def raced(methods, done=60, total=120, seconds=0.5):
    line = Line("steps", total)
    for step in range(1, done + 1):
        line.update(step, details_of({name: -1.25 * step for name in methods}), total)
    line.seconds.clear()
    line.seconds.extend([seconds] * 5)
    return line


@pytest.mark.parametrize("count", range(1, len(ALL_METHODS) + 1))
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_line_fits_and_no_method_is_cut(count, width):
    methods = ALL_METHODS[:count]
    text = raced(methods).fitted(width)
    assert len(text) <= width and "\n" not in text
    shown = re.findall(r"(\w+) [+-]\d+\.\d", text)
    assert shown == list(methods[: len(shown)])
    hidden = re.search(r"  \+(\d+)$", text)
    if len(shown) < count and width >= 40:
        assert int(hidden[1]) == count - len(shown)
    else:
        assert hidden is None


def test_the_bar_and_the_time_left_come_first_then_steps_then_methods():
    text = raced(("dpo", "adadpo")).fitted(80)
    assert text == "━━━━━───── 0:30 left  60/120 steps  Δchosen: dpo -75.0  adadpo -75.0"


def test_at_80_columns_as_many_methods_as_fit_are_shown_and_the_rest_is_counted():
    text = raced(("dpo", "adadpo", "ipo", "simpo", "orpo")).fitted(80)
    assert text.endswith("Δchosen: dpo -75.0  adadpo -75.0  +3") and len(text) <= 80
    assert len(text + "  ipo -75.0") > 80, "one more would have fitted"


def test_the_time_left_is_of_the_steps_that_were_computed_not_repeated():
    line = Line("steps", 100)
    line.changed_at = time.monotonic()
    for step in range(1, 51):  # a resumed race repeats its events
        line.update(step, (), 100)
    assert "-:-- left" in line.fitted(80)
    line.changed_at -= 2
    line.update(51, (), 100)
    assert "1:38 left" in line.fitted(80)  # 49 steps of two seconds


def test_a_log_gets_a_line_now_and_then_and_a_short_race_none(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    with race_progress(1000, ("dpo", "adadpo")) as on_event:
        for step in range(1001):
            clock[0] = step * 0.6
            on_event("dpo", {"step": step, "eval_shift/chosen": -0.01 * step})
            on_event("adadpo", {"step": step, "eval_shift/chosen": 0.5})
    lines = capsys.readouterr().err.splitlines()
    assert 30 < len(lines) < 80, "600 seconds"
    assert lines[0] == ("adadpo-mini: 9/1000 steps, 9:55 left, Δchosen: dpo -0.1, adadpo +0.5")
    with progress("races", 3) as show:
        show(1)
        show(3)
    assert capsys.readouterr().err == ""


def test_a_line_is_about_one_step_of_all_methods(capsys, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: clock[0])
    with race_progress(2, ("dpo", "adadpo")) as on_event:
        for step in range(3):
            clock[0] += 60
            for method in ("dpo", "adadpo"):
                on_event(method, {"step": step, "eval_shift/chosen": float(step)})
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("Δ")[2] for line in lines] == [
        f"chosen: dpo +{step}.0, adadpo +{step}.0" for step in range(3)
    ]


# On a terminal

pty = pytest.importorskip("pty", reason="Windows has no such terminals")
COMMANDS = {
    "race": ("race", "loading toy"),
    "resume": ("resume {run}", "loading {run}"),
    "chat": ("chat {run} --prompt Hello", "loading the models of {run}"),
    "inspect": ("inspect {run}", "loading the models of {run}"),
    "sweep": ("sweep sets --out {run}/x.csv", "starting the races"),
    "pretrain": ("pretrain --out {run}/x", "loading torch"),
    "doctor": ("doctor {run}", "reading {run}"),
    "report": ("report {run}", "drawing {run}"),
    "losses": ("losses", "loading the losses"),
    "app": ("app --port 0 --runs {run}", "loading the dashboard"),
}


def on_a_terminal(words, environment, *, until=None, limit=60):
    """What a command shows on a terminal of 80 columns, and its exit code (None: still running)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(environment, COLUMNS="80", TERM="xterm")
        os.execv(sys.executable, [sys.executable, "-m", "adadpo_mini", *words])
    shown, deadline = b"", time.monotonic() + limit
    try:
        while time.monotonic() < deadline:
            if until is not None and until.encode() in shown:
                return shown.decode(), None
            if select.select([terminal], [], [], 0.1)[0]:
                try:
                    part = os.read(terminal, 65536)
                except OSError:  # Linux says so when the process has gone
                    part = b""
                if not part:
                    break
                shown += part
        os.kill(pid, signal.SIGKILL) if time.monotonic() >= deadline else None
        return shown.decode(), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        os.close(terminal)
        if until is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.mark.parametrize(("command", "words"), COMMANDS.values(), ids=COMMANDS)
def test_the_first_sign_of_life_does_not_wait_for_torch(command, words, tmp_path):
    """Here torch takes a minute to import."""
    (tmp_path / "torch.py").write_text("import time\ntime.sleep(60)\n")
    (tmp_path / "gradio.py").write_text("import time\ntime.sleep(60)\n")
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text('{"model": "toy", "methods": ["dpo"]}')
    words = words.format(run=run)[:60]
    shown, _ = on_a_terminal(
        command.format(run=run).split(), {"PYTHONPATH": str(tmp_path)}, until=words, limit=30
    )
    assert words in shown


def test_on_a_terminal_a_refusal_is_all_that_stays(tmp_path):
    shown, code = on_a_terminal(["doctor", str(tmp_path)], {})
    assert code == 2
    *erased, last = shown.replace("\r\n", "\n").rstrip("\n").split("\r")
    assert "reading" in "".join(erased) and last.startswith("adadpo-mini: ")
    assert set(erased[-1]) == {" "} and len(erased[-1]) >= len(erased[0])


def test_a_race_on_a_terminal_of_80_columns_never_wraps():
    words = ["race", "--steps", "3", "--batch-size", "2", "--threads", "1"]
    words += ["--measure-every", "0", "--methods", "dpo,adadpo,ipo,simpo,orpo,cpo,dpop"]
    shown, code = on_a_terminal(words, {})
    assert code == 0
    progress_lines = [line for line in re.split(r"[\r\n]|\x1b\[2K", shown) if "steps" in line]
    plain = [re.sub(r"\x1b\[[\d;?]*\w", "", line) for line in progress_lines if "left" in line]
    assert plain and max(map(len, plain)) <= 80, [line for line in plain if len(line) > 80]
    assert any("3/3 steps" in line for line in plain)
    assert any(re.search(r"Δchosen: dpo [+-]\d\.\d  adadpo [+-]\d\.\d .* \+\d$", p) for p in plain)
