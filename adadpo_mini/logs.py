"""Reading the log of a run, ours or TRL's, for the doctor and whoever else compares runs."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.runs import RunFolder
from adadpo_mini.trainer import Event

CHECKPOINTS = "checkpoint-*/trainer_state.json"


@dataclass(frozen=True)
class Log:
    """A log as read.

    Attributes:
        path: where it was read from.
        events: the events by method, each list in the order of its steps; what was not a finite
            number is NaN. A log that names no method goes by the name of its folder or file.
        problem: how the race ended if it diverged, as its summary tells it; else None.
    """

    path: Path
    events: dict[str, list[Event]]
    problem: str | None = None


def read_log(path: str | Path) -> Log:
    """Read the log of a run.

    Args:
        path: a run folder that a race wrote (all its methods), one `metrics.jsonl` or the folder
            that holds it, a TRL `trainer_state.json` or its checkpoint's or output folder (there
            the last checkpoint), or JSON lines of a TRL trainer's logs. Training and evaluation
            rows of the same step become one event.

    Raises:
        InputError: there is no log, or it is damaged; the message names file and line.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        return Log(path, {_name(path): _read_events(path)})
    states = [path / "trainer_state.json", *sorted(path.glob(CHECKPOINTS), key=_global_step)]
    logs = [file for file in (path / "metrics.jsonl", *states) if file.is_file()]
    if logs:
        return Log(path, {_name(logs[0]): _read_events(logs[0])})
    if not (path / "config.json").is_file():
        raise InputError(
            f"{path}: holds no log; give a folder that a race wrote, a metrics.jsonl or a TRL "
            "trainer_state.json."
        )
    methods = RunFolder(path).config().get("methods", [])
    files = {method: path / method / "metrics.jsonl" for method in methods}
    events = {method: _read_events(file) for method, file in files.items() if file.is_file()}
    if not events:
        raise InputError(f"{path}: holds no metrics.jsonl of any method yet; let the race begin.")
    summary = path / "summary.json"
    problem = _parse(summary, _text(summary)).get("problem") if summary.is_file() else None
    return Log(path, events, problem)


def _global_step(state: Path) -> int:
    """Sorts the latest checkpoint first."""
    number = state.parent.name.rpartition("-")[2]
    return -int(number) if number.isdigit() else 0


def _name(file: Path) -> str:
    fixed = file.name in ("metrics.jsonl", "trainer_state.json")
    return file.resolve().parent.name if fixed else file.stem


def _text(file: Path) -> str:
    if not file.is_file():
        raise InputError(f"{file}: there is no such file or folder; give the log of a run.")
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text ({error.reason}); give a log.") from error


def _parse(file: Path, text: str, first_line: int = 1) -> dict:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise InputError(
            f"{file}, line {line}: not valid JSON ({error.msg} at column {error.colno}); the file "
            "is damaged or is no log."
        ) from error
    if not isinstance(value, dict):
        raise InputError(f"{file}, line {first_line}: expected an object, got {value!r:.60}.")
    return value


def _read_events(file: Path) -> list[Event]:
    """The events of one file, rows of the same step merged, in the order of the steps."""
    text = _text(file)
    if file.suffix == ".json":
        history = _parse(file, text).get("log_history")
        if not isinstance(history, list):
            raise InputError(f"{file}: has no log_history; give a TRL trainer_state.json.")
        rows = [(f"{file}, entry {i} of log_history", row) for i, row in enumerate(history, 1)]
    else:
        lines = [(i, line) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        rows = [(f"{file}, line {i}", _parse(file, line, i)) for i, line in lines]
    if not rows:
        raise InputError(f"{file}: holds no events; let the run begin.")
    merged: dict[int, Event] = {}
    for where, row in rows:
        step = row.get("step") if isinstance(row, dict) else None
        if not is_finite(step):
            raise InputError(f"{where}: has no step, so this is no log of a training run.")
        numbers = {key: _number(value) for key, value in row.items()}
        merged.setdefault(step, {}).update({k: v for k, v in numbers.items() if v is not None})
    return [merged[step] for step in sorted(merged)]


def _number(value: object) -> float | None:
    """A number as it is, NaN for JSON's null, None for anything else, which no rule reads."""
    if value is None:
        return math.nan
    return value if isinstance(value, (int, float)) else None


def is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
