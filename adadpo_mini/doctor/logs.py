"""Reading the log of a run: ours, TRL's, LLaMA-Factory's, or an export of a tracker."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adadpo_mini.doctor.names import step_name, trl_name
from adadpo_mini.doctor.series import LAST, is_finite
from adadpo_mini.doctor.tables import Rows, read_csv, read_printed, without_padding
from adadpo_mini.errors import InputError, shown
from adadpo_mini.event import Event
from adadpo_mini.pairs.readers import check_is_file, not_read
from adadpo_mini.store.folder import RunFolder
from adadpo_mini.system.files import user_path

CHECKPOINTS = "checkpoint-*/trainer_state.json"
TABLES, PRINTED = (".csv", ".tsv"), (".log", ".txt", ".out")
REPEATED = ("loss", "rewards/", "logps/", "shift/")  # what two evaluations of a step must agree on
SAME, SAME_NATS = 1e-3, 1e-4  # relative and absolute; sums in another order differ by less


@dataclass(frozen=True)
class Log:
    """A log as read.

    Attributes:
        path: where it was read from.
        events: the events by method, in the order of the steps; JSON's null is NaN. If a log does
            not name its method, the name of its folder or file is used.
        problem: the summary's sentence on a race that diverged; else None.
        note: a sentence on an incomplete last line that was left out; else None.
        beta: β, if a run folder says so; else None.
    """

    path: Path
    events: dict[str, list[Event]]
    problem: str | None = None
    note: str | None = None
    beta: float | None = None


def read_log(path: str | Path) -> Log:
    """Read the log of a run.

    Args:
        path: one of
            - a run folder (all its methods), a `metrics.jsonl`, or the folder of one;
            - a TRL `trainer_state.json`, its checkpoint folder, or its output folder (of which
              the latest state is read);
            - JSON lines with the logs of a TRL trainer, or LLaMA-Factory's `trainer_log.jsonl`;
            - a CSV file: a data frame, an export of W&B (a history, or a panel with several runs)
              or of TensorBoard;
            - a text file (.log, .txt, .out) with the dicts that a trainer prints.

    Training and evaluation rows of the same step become one event; the second of two evaluations
    that differ is kept under `again/…`. An incomplete last line, as after a kill or a power cut, is
    left out.

    Raises:
        InputError: the log does not exist or is damaged; the message names file and line.
    """
    path = user_path(path)
    try:
        return _read_folder(path) if path.is_dir() else _log_of(path, {_name(path): path})
    except OSError as error:
        raise not_read(str(path), error) from error


def _read_folder(path: Path) -> Log:
    own = path / "metrics.jsonl"
    states = [path / "trainer_state.json", *sorted(path.glob(CHECKPOINTS), key=_global_step)]
    logs = [
        file for file in (own, *_latest_first(states), path / "trainer_log.jsonl") if file.exists()
    ]
    if logs:
        return _log_of(path, {_name(logs[0]): logs[0]})
    if not (path / "config.json").exists():
        raise InputError(
            f"{path} has no log; give a run folder, a metrics.jsonl or a TRL trainer_state.json."
        )
    run = RunFolder(path)
    files = {method: run.metrics(method) for method in run.config()["methods"]}
    files = {method: file for method, file in files.items() if file.exists()}
    if not files:
        raise InputError(f"{path} has no metrics.jsonl yet; try again once the race has begun.")
    problem = (run.summary() or {}).get("problem")
    if not isinstance(problem, str | None):
        raise InputError(f"{path / 'summary.json'}: its problem is not text; delete the file.")
    beta = run.config().get("beta")
    log = _log_of(path, files, problem)
    return replace(log, beta=float(beta)) if is_finite(beta) and beta > 0 else log


def _latest_first(states: list[Path]) -> list[Path]:
    """Return the states with the folder's own first, unless a checkpoint is of a later step.

    A folder that is used again still has the state of the earlier run.
    """
    last, *checkpoints = states
    if not last.exists() or not checkpoints or not last.is_file():
        return states
    step = _parse(last, _text(last, last.read_bytes())).get("global_step")
    stale = is_finite(step) and -_global_step(checkpoints[0]) > step
    return [*checkpoints, last] if stale else states


def _log_of(path: Path, files: Mapping[str, Path], problem: str | None = None) -> Log:
    notes: list[str] = []
    events: dict[str, list[Event]] = {}
    for name, file in files.items():
        for run, found in _read_events(file, notes).items():
            events[run or name] = found
    return Log(path, events, problem, " ".join(notes) or None)


def _global_step(state: Path) -> int:
    """Return a sort key that puts the latest checkpoint first."""
    number = state.parent.name.rpartition("-")[2]
    return -int(number) if number.isdecimal() else 0


def _name(file: Path) -> str:
    fixed = file.name in ("metrics.jsonl", "trainer_state.json")
    return file.resolve().parent.name if fixed else file.stem


def _text(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}); give a log.") from error


def _parse(file: Path, text: str, first_line: int = 1, allowed: tuple[type, ...] = (dict,)) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise InputError(
            f"{file}, line {line}: not valid JSON ({error.msg} at column {error.colno}); the file "
            "is damaged or is not a log."
        ) from error
    except (ValueError, RecursionError) as error:  # an integer of too many digits; too deep
        raise InputError(
            f"{file}, line {first_line}: JSON that cannot be read ({error}); give a log."
        ) from error
    if not isinstance(value, allowed):
        raise InputError(
            f"{file}, line {first_line}: expected an object, got {shown(value)}; give a log."
        )
    return value


def _read_events(file: Path, notes: list[str]) -> dict[str, list[Event]]:
    """Return the events of one file by run ("" if it has one run without a name).

    They are in the order of the steps; rows of the same step are merged.

    Args:
        notes: gets a sentence if an incomplete last line is left out.
    """
    check_is_file(file, "the log of a run", "file or folder")
    content = file.read_bytes()
    if file.suffix in TABLES:
        runs = read_csv(file, _text(file, content))
    elif file.suffix == ".json":
        runs = {"": _history(file, _text(file, content))}
    else:
        runs = {"": _lines(file, content, notes)}
    if not any(runs.values()):
        raise InputError(f"{file} has no events; try again once the run has begun.")
    return {run: _merged(rows) for run, rows in runs.items() if rows}


def _history(file: Path, text: str) -> Rows:
    """Return the rows of a trainer's state, or of its log_history alone."""
    state = _parse(file, text, allowed=(dict, list))
    history = state if isinstance(state, list) else state.get("log_history")
    if not isinstance(history, list):
        raise InputError(f"{file} has no log_history; give a TRL trainer_state.json.")
    return [(f"{file}, entry {i} of log_history", row) for i, row in enumerate(history, 1)]


def _lines(file: Path, content: bytes, notes: list[str]) -> Rows:
    """Return the rows of JSON lines, or of printed dicts."""
    whole = _without_torn_end(content)
    if file.suffix in PRINTED or whole.lstrip().startswith(b"{'"):
        text = _text(file, content)
        printed = read_printed(file, text)
        if printed or not text.lstrip().startswith('{"'):
            return _some_printed(file, printed, notes)
    if len(whole) < len(content):
        notes.append(f"the last line of {file} is incomplete and was left out.")
    lines = enumerate(_text(file, whole).split("\n"), 1)
    return [(f"{file}, line {i}", _parse(file, line, i)) for i, line in lines if line.strip()]


def _some_printed(file: Path, printed: Rows, notes: list[str]) -> Rows:
    if not printed:
        raise InputError(
            f"{file} has no line that a trainer prints, such as {{'loss': 0.69, ...}}; give a "
            "trainer_state.json."
        )
    notes.append(f"the lines of {file} have no steps; each counts as 10 updates, TRL's default.")
    return printed


def _without_torn_end(content: bytes) -> bytes:
    """Return a log without the zero bytes that a power cut leaves at its end, and without an
    incomplete last line; a log that consists of such a line alone is unchanged."""
    whole = content.rstrip(b"\0")
    before, _, last = whole.rpartition(b"\n")
    if before.strip() and last.strip():
        try:
            json.loads(last)
        except (ValueError, RecursionError):
            return before + b"\n"
    return whole


def _merged(rows: Rows) -> list[Event]:
    name = step_name(key for _, row in rows if isinstance(row, dict) for key in row)
    merged: dict[int, Event] = {}
    latest = -1
    for where, row in rows:
        step = _step_of(where, row, name)
        event = merged.setdefault(step, {})
        numbers = _numbers(row)
        again = _repeated(event, numbers) if step == latest else {}
        event.update({k: v for k, v in numbers.items() if f"again/{k}" not in again})
        event.update({**again, "step": step})
        latest = step
    return [merged[step] for step in sorted(merged)]


def _step_of(where: str, row: object, name: str | None) -> int:
    step = row.get(name) if isinstance(row, dict) and name else None
    if step is None:
        raise InputError(f"{where} has no step, so this is not the log of a training run.")
    if not is_finite(step) or step != int(step) or not 0 <= step < LAST:
        raise InputError(
            f"{where}: its step must be a whole number from 0 up, not {shown(step)}; fix it."
        )
    return int(step)


def _numbers(row: dict) -> Event:
    """Return the numbers of a row under TRL's names."""
    named = {trl_name(key): _number(value) for key, value in without_padding(row).items()}
    return {key: value for key, value in named.items() if value is not None}


def _repeated(event: Event, numbers: Event) -> Event:
    """Return the values of a second evaluation of the same step that differ, as `again/…`."""
    return {
        f"again/{key}": value
        for key, value in numbers.items()
        if key.startswith("eval_") and any(part in key for part in REPEATED)
        if is_finite(event.get(key)) and is_finite(value)
        if abs(value - event[key]) > SAME_NATS + SAME * abs(event[key])
    }


def _number(value: object) -> float | None:
    """Return a number unchanged, NaN for JSON's null, and None for anything else.

    No rule reads None."""
    if value is None:
        return math.nan
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    if isinstance(value, float) or abs(value) < LAST:
        return value
    return math.inf if value > 0 else -math.inf
