"""The run folder, as everybody reads it: command line, page, doctor and lessons.

    config.json                       the settings, and what else is needed to go on
    <method>/metrics.jsonl            one event a line, one line a step
    <method>/snapshots/step_<N>/      the model after N updates, if snapshots were asked for
    <method>/model/                   the model as training left it
    summary.json                      how the race ended; written last
    state.safetensors                 what `resume` needs; gone once the race is finished
    pairs/                            the pairs, where they came from no file or data set

`run_writer.py` writes it. A run without summary.json is being written, or its process was killed.
"""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import BinaryIO

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.models.load import TOY
from adadpo_mini.pairs.load import Pairs
from adadpo_mini.system.files import is_locked, user_path
from adadpo_mini.toyworld.sets import SETS

METRICS, SNAPSHOTS, LOCK = "metrics.jsonl", "snapshots", ".lock"
ENDINGS = ("finished", "interrupted", "diverged", "failed")
TAIL = 1 << 16  # bytes, some eighty events
STEP = re.compile(r"step_(\d+)")
Cursor = Mapping[str, int]
"""How many bytes of each method's events were read already."""


@dataclass(frozen=True)
class RunFolder:
    """What a race leaves on disk, and what it has written so far while it runs."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """The run in a folder.

        Raises:
            InputError: there is no such folder, or it holds no run.
        """
        path = user_path(path)
        try:
            found = (path / "config.json").is_file()
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
        if not found:
            raise InputError(f"{path}: holds no run; give a folder that a race wrote.")
        return cls(path)

    def config(self) -> dict:
        """The settings of the run, its `model` and `methods` among them.

        Raises:
            InputError: there is no run in this folder, or its config.json is damaged.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise InputError(f"{self.path}: holds no run; give a folder that a race wrote.")
        config = _read_object(file)
        methods = config.get("methods")
        if not isinstance(config.get("model"), str):
            raise InputError(f"{file}: names no model; it was not written by a race.")
        if not isinstance(methods, list) or not all(map(_is_name, methods)):
            raise InputError(f"{file}: methods must be a list of names; the file is damaged.")
        return config

    def settings(self) -> RaceConfig:
        """The settings alone, checked; fields that this version does not know are left out.

        Raises:
            InputError: as `config`, or a setting is out of range.
        """
        known = {field.name for field in fields(RaceConfig)}
        return RaceConfig(**{name: v for name, v in self.config().items() if name in known})

    def load(self, folder: str | Path | None = None) -> tuple:
        """(model, tokenizer) from a folder of this run, such as `model` gives, on the device and in
        the type that the race had; or, without a folder, the model that the race started from.

        Raises:
            InputError: it cannot be loaded.
        """
        from adadpo_mini.models.load import load_model

        config = self.config()
        how = {name: config[name] for name in ("device", "dtype") if name in config}
        return load_model(self.source(config["model"]) if folder is None else folder, **how)

    def summary(self) -> dict | None:
        """How the race ended; None if it has not.

        Raises:
            InputError: summary.json is damaged.
        """
        file = self.path / "summary.json"
        return _read_object(file) if file.is_file() else None

    @property
    def status(self) -> str:
        """finished, interrupted, diverged or failed, as the summary says; without one, running if
        a process is writing to the folder, else interrupted.

        Raises:
            InputError: summary.json is damaged.
        """
        summary = self.summary()
        if summary is not None:
            status = summary.get("status")
            return status if status in ENDINGS else "interrupted"
        return "running" if self.is_being_written() else "interrupted"

    def is_being_written(self) -> bool:
        """Whether a process holds the folder's lock."""
        return is_locked(self.path / LOCK)

    def events(self) -> dict[str, list[Event]]:
        """All events, by method, in the order of the race; a torn last line is left out."""
        methods = [m for m in self.config()["methods"] if self.metrics(m).is_file()]
        return {method: self._read_on(method, 0)[0] for method in methods}

    def events_since(self, cursor: Cursor) -> tuple[list[tuple[str, Event]], Cursor]:
        """The events that a reader has not seen yet, while the race runs or after it.

        Args:
            cursor: what an earlier call returned; {} reads from the start.

        Returns:
            (method, event) in the order of the race, and the cursor for the next call.
        """
        found, ends = [], {}
        if self.is_stale(cursor):
            cursor = {}
        # Backwards: what is written last is read first, so that nothing is read before its turn.
        for place, method in reversed([*enumerate(self.config()["methods"])]):
            events, ends[method] = self._read_on(method, cursor.get(method, 0))
            found += [(event["step"], place, method, event) for event in events]
        found.sort(key=lambda item: item[:2])
        return [(method, event) for _, _, method, event in found], ends

    def is_stale(self, cursor: Cursor) -> bool:
        """Whether events that a reader has seen were cut off since, because the race was resumed
        from an earlier step; what is read next then begins at the start."""
        return any(not self._ends_line(method, end) for method, end in cursor.items() if end)

    def _ends_line(self, method: str, end: int) -> bool:
        with _reading(self.metrics(method)) as stream:
            stream.seek(end - 1)
            return stream.read(1) == b"\n"

    def is_there(self) -> bool:
        """Whether the folder holds a run, still."""
        return (self.path / "config.json").is_file()

    def recent(self, method: str) -> list[Event]:
        """The last few events of a method, read without the rest of its file."""
        file = self.metrics(method)
        if not file.is_file():
            return []
        with _reading(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL))
            lines = stream.read().split(b"\n")
        whole = lines[1:-1] if size > TAIL else lines[:-1]  # the first and the last may be torn
        return [_parse_event(line, file) for line in whole]

    def _read_on(self, method: str, start: int) -> tuple[list[Event], int]:
        file = self.metrics(method)
        if not file.is_file():
            return [], 0
        with _reading(file) as stream:
            stream.seek(start)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        return [_parse_event(line, file) for line in lines], start + len(whole)

    def snapshots(self, method: str) -> list[int]:
        """The steps at which the model was kept, ascending."""
        folder = self.path / method / SNAPSHOTS
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := STEP.fullmatch(name)))

    def metrics(self, method: str) -> Path:
        """Where a method's events are."""
        return self.path / method / METRICS

    def model(self, method: str, step: int | None = None) -> Path:
        """Where a method's model is: as it was after `step` updates, or as training left it. Both
        load with `models.load_model` or transformers' `from_pretrained`."""
        folder = self.path / method
        return folder / "model" if step is None else folder / SNAPSHOTS / f"step_{step}"

    def check_model(self, method: str, step: int | None = None) -> Path:
        """`model`, if it is there.

        Raises:
            InputError: there is none; the message says of which steps there are snapshots.
        """
        folder = self.model(method, step)
        if folder.is_dir():
            return folder
        kept = ", ".join(map(str, self.snapshots(method))) or "no step"
        missing = "no model" if step is None else f"no snapshot of step {step}"
        raise InputError(
            f"{self.path}: has {missing} of {method}; there are snapshots of {kept} (--step), and "
            f"`adadpo-mini resume {self.path}` ends a race that was interrupted."
        )

    def source(self, name: str) -> str:
        """A data set or model as config.json names it, relative paths seen from where the race
        began."""
        began = Path(str(self.config().get("started_in", ".")))
        if name in (*SETS, TOY) or not (began / name).exists():
            return name
        return str(began / name)

    @property
    def pairs(self) -> tuple[Path, Path]:
        """Where the training and the held-out pairs are, of a race whose data had no name."""
        return self.path / "pairs" / "train.jsonl", self.path / "pairs" / "test.jsonl"


def read_splits(train: Path, test: Path) -> tuple[Pairs, Pairs]:
    """The pairs that a race kept in its folder; without a file of held-out ones they are the same.

    Raises:
        InputError: a file is damaged.
    """
    sides = []
    for file in (train, test):
        if not file.is_file():
            break
        try:
            lines = file.read_text(encoding="utf-8").split("\n")[:-1]
            rows = tuple(json.loads(line) for line in lines)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{file}: is damaged ({error}); race again.") from error
        sides.append(Pairs(rows, tuple(f"{file}, line {i}" for i in range(1, len(rows) + 1))))
    return sides[0], sides[-1]


def list_runs(root: Path) -> list[RunFolder]:
    """The runs in a folder, the newest first: a run is a folder with a config.json in it."""
    dated = []
    for config in root.glob("*/config.json") if root.is_dir() else ():
        with suppress(OSError):  # it was deleted just now
            dated.append((config.stat().st_mtime, config.parent))
    return [RunFolder(path) for _, path in sorted(dated, reverse=True)]


def to_json(value: object, **options) -> str:
    """JSON with null for what JSON cannot say (infinity, not a number)."""
    return json.dumps(_finite(value), ensure_ascii=False, **options)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}).") from error


def _parse_event(line: bytes, file: Path) -> Event:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: is damaged ({error}); delete it and race again.") from error
    if not isinstance(event, dict) or not isinstance(event.get("step"), int):
        raise InputError(f"{file}: is damaged (an event has no step); delete it and race again.")
    return event


def _is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w+", name) is not None


def _read_object(file: Path) -> dict:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: is damaged ({error}); race again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: is damaged (no JSON object); race again.")
    return value
