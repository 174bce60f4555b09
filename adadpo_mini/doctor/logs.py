"""Reading the log of a run, ours or TRL's."""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adadpo_mini.errors import InputError, shown
from adadpo_mini.event import Event
from adadpo_mini.pairs.readers import check_is_file, not_read
from adadpo_mini.store.folder import RunFolder
from adadpo_mini.system.files import user_path

CHECKPOINTS = "checkpoint-*/trainer_state.json"
LAST = 1 << 63  # no log has larger whole numbers


@dataclass(frozen=True)
class Log:
    """A log as read.

    Attributes:
        path: where it was read from.
        events: the events by method, in the order of the steps; JSON's null is NaN. If a log does
            not name its method, the name of its folder or file is used.
        problem: the summary's sentence on a race that diverged; else None.
        note: a sentence on an incomplete last line that was left out; else None.
    """

    path: Path
    events: dict[str, list[Event]]
    problem: str | None = None
    note: str | None = None


def read_log(path: str | Path) -> Log:
    """Read the log of a run.

    Args:
        path: one of
            - a run folder (all its methods), a `metrics.jsonl`, or the folder of one;
            - a TRL `trainer_state.json`, its checkpoint folder, or its output folder (of which
              the last checkpoint is read);
            - a file of JSON lines with the logs of a TRL trainer.

    Training and evaluation rows of the same step become one event. An incomplete last line, as
    after a kill or a power cut, is left out.

    Raises:
        InputError: the log does not exist or is damaged; the message names file and line.
    """
    path = user_path(path)
    try:
        return _read_folder(path) if path.is_dir() else _log_of(path, {_name(path): path})
    except OSError as error:
        raise not_read(str(path), error) from error


def _read_folder(path: Path) -> Log:
    states = [path / "trainer_state.json", *sorted(path.glob(CHECKPOINTS), key=_global_step)]
    logs = [file for file in (path / "metrics.jsonl", *states) if file.exists()]
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
    return _log_of(path, files, problem)


def _log_of(path: Path, files: Mapping[str, Path], problem: str | None = None) -> Log:
    notes: list[str] = []
    events = {method: _read_events(file, notes) for method, file in files.items()}
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


def _parse(file: Path, text: str, first_line: int = 1) -> dict:
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
    if not isinstance(value, dict):
        raise InputError(
            f"{file}, line {first_line}: expected an object, got {shown(value)}; give a log."
        )
    return value


def _read_events(file: Path, notes: list[str]) -> list[Event]:
    """Return the events of one file in the order of the steps; merge rows of the same step.

    Args:
        notes: gets a sentence if an incomplete last line is left out.
    """
    check_is_file(file, "the log of a run", "file or folder")
    content = file.read_bytes()
    if file.suffix == ".json":
        history = _parse(file, _text(file, content)).get("log_history")
        if not isinstance(history, list):
            raise InputError(f"{file} has no log_history; give a TRL trainer_state.json.")
        rows = [(f"{file}, entry {i} of log_history", row) for i, row in enumerate(history, 1)]
    else:
        whole = _without_torn_end(content)
        if len(whole) < len(content):
            notes.append(f"the last line of {file} is incomplete and was left out.")
        lines = enumerate(_text(file, whole).split("\n"), 1)
        rows = [(f"{file}, line {i}", _parse(file, line, i)) for i, line in lines if line.strip()]
    if not rows:
        raise InputError(f"{file} has no events; try again once the run has begun.")
    return _merged(rows)


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


def _merged(rows: Iterable[tuple[str, object]]) -> list[Event]:
    merged: dict[int, Event] = {}
    for where, row in rows:
        step = row.get("step") if isinstance(row, dict) else None
        if step is None:
            raise InputError(f"{where} has no step, so this is not the log of a training run.")
        if not is_finite(step) or step != int(step) or not 0 <= step < LAST:
            raise InputError(
                f"{where}: its step must be a whole number from 0 up, not {shown(step)}; fix it."
            )
        numbers = {key: _number(value) for key, value in row.items()}
        event = merged.setdefault(int(step), {})
        event.update({k: v for k, v in numbers.items() if v is not None} | {"step": int(step)})
    return [merged[step] for step in sorted(merged)]


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


def is_finite(value: object) -> bool:
    """Return whether this is a finite number that fits into a float."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return math.isfinite(value) if isinstance(value, float) else abs(value) < LAST
