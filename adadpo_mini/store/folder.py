"""The run folder, for everything that reads it: command line, page, doctor and lessons.

    config.json                       the settings, and everything else that `resume` needs
    <method>/metrics.jsonl            the events, one line per step
    <method>/snapshots/step_<N>/      the model after N updates, if snapshots are on
    <method>/model/                   the model at the end of training
    summary.json                      how the race ended; written last
    state.safetensors                 the state to resume from; removed when the race finishes
    pairs/                            the pairs, if they came from Python objects

`writer.py` writes it. If summary.json is missing, the race is running or its process was killed.
"""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.config import TOY, RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.store.records import parse_event, read_object, read_splits, reading
from adadpo_mini.system.files import is_locked, user_path
from adadpo_mini.toyworld.sets import SETS

if TYPE_CHECKING:  # reading a folder needs no torch
    from adadpo_mini.pairs.load import Pairs
    from adadpo_mini.types import Model, Tokenizer

METRICS, SNAPSHOTS, LOCK = "metrics.jsonl", "snapshots", ".lock"
ENDINGS = ("finished", "interrupted", "diverged", "failed")
TAIL = 1 << 16  # bytes, about eighty events
STEP = re.compile(r"step_(\d+)")
Cursor = Mapping[str, int]
"""For each method, how many bytes of its events have been read."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk: finished, interrupted, or still being written."""

    path: Path

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Return the run in a folder.

        Raises:
            InputError: the folder does not exist or does not contain a run.
        """
        path = user_path(path)
        try:
            found = (path / "config.json").is_file()
        except OSError as error:
            raise InputError(f"{path} cannot be read ({error.strerror}).") from error
        if not found:
            raise _not_a_run(path)
        return cls(path)

    def config(self) -> dict:
        """Return the contents of config.json: the settings of the run, and how it was started.

        Raises:
            InputError: the folder does not contain a run, or config.json is damaged.
        """
        file = self.path / "config.json"
        if not file.is_file():
            raise _not_a_run(self.path)
        config = read_object(file)
        methods = config.get("methods")
        if not isinstance(config.get("model"), str):
            raise InputError(f"{file} does not name a model; use a folder that a race wrote.")
        if not isinstance(methods, list) or not all(map(_is_name, methods)):
            raise InputError(f"{file}: methods must be a list of names; race again.")
        return config

    def settings(self) -> RaceConfig:
        """Return the settings, without fields that this version does not have.

        Raises:
            InputError: as in `config`, or a setting is out of range.
        """
        known = {field.name for field in fields(RaceConfig)}
        return RaceConfig(**{name: v for name, v in self.config().items() if name in known})

    def load(self, folder: str | Path | None = None) -> "tuple[Model, Tokenizer]":
        """Return (model, tokenizer) with the device and dtype of the race.

        Args:
            folder: a model folder of this run, such as `model` returns. None loads the model that
                the race started from.

        Raises:
            InputError: the model cannot be loaded.
        """
        from adadpo_mini.models.load import load_model

        config = self.config()
        how = {name: config[name] for name in ("device", "dtype") if name in config}
        return load_model(self.source(config["model"]) if folder is None else folder, **how)

    def summary(self) -> dict | None:
        """Return the contents of summary.json, or None while there is none.

        Raises:
            InputError: summary.json is damaged.
        """
        file = self.path / "summary.json"
        return read_object(file) if file.is_file() else None

    @property
    def status(self) -> str:
        """The status: finished, interrupted, diverged or failed, as in the summary.

        Without a summary: running if a process is writing to the folder, else interrupted.

        Raises:
            InputError: summary.json is damaged.
        """
        summary = self.summary()
        if summary is not None:
            status = summary.get("status")
            return status if status in ENDINGS else "interrupted"
        return "running" if self.is_being_written() else "interrupted"

    def is_being_written(self) -> bool:
        """Return whether a process holds the folder's lock."""
        return is_locked(self.path / LOCK)

    def events(self) -> dict[str, list[Event]]:
        """Return all events by method, in order, without an incomplete last line."""
        methods = [m for m in self.config()["methods"] if self.metrics(m).is_file()]
        return {method: self._read_on(method, 0)[0] for method in methods}

    def events_since(self, cursor: Cursor) -> tuple[list[tuple[str, Event]], Cursor]:
        """Return the events written since an earlier call. Works during a race and after it.

        Args:
            cursor: the cursor that an earlier call returned; {} reads from the start.

        Returns:
            (method, event) in the order of the race, and the cursor for the next call.
        """
        found, ends = [], {}
        if self.is_stale(cursor):
            cursor = {}
        # The method that is written last is read first: then no event is read before those of the
        # same step that precede it.
        for place, method in reversed([*enumerate(self.config()["methods"])]):
            events, ends[method] = self._read_on(method, cursor.get(method, 0))
            found += [(event["step"], place, method, event) for event in events]
        found.sort(key=lambda item: item[:2])
        return [(method, event) for _, _, method, event in found], ends

    def is_stale(self, cursor: Cursor) -> bool:
        """Return whether events before this cursor were cut off since it was made.

        This happens when a race is resumed from an earlier step. `events_since` then reads from the
        start again.
        """
        return any(not self._ends_line(method, end) for method, end in cursor.items() if end)

    def _ends_line(self, method: str, end: int) -> bool:
        with reading(self.metrics(method)) as stream:
            stream.seek(end - 1)
            return stream.read(1) == b"\n"

    def is_there(self) -> bool:
        """Return whether the folder (still) contains a run."""
        return (self.path / "config.json").is_file()

    def recent(self, method: str) -> list[Event]:
        """Return the last few events of a method, without reading the whole file."""
        file = self.metrics(method)
        if not file.is_file():
            return []
        with reading(file) as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL))
            lines = stream.read().split(b"\n")
        whole = lines[1:-1] if size > TAIL else lines[:-1]  # the first and last may be incomplete
        return [parse_event(line, file) for line in whole]

    def _read_on(self, method: str, start: int) -> tuple[list[Event], int]:
        file = self.metrics(method)
        if not file.is_file():
            return [], 0
        with reading(file) as stream:
            stream.seek(start)
            text = stream.read()
        whole = text[: text.rfind(b"\n") + 1]
        lines = whole.split(b"\n")[:-1]
        return [parse_event(line, file) for line in lines], start + len(whole)

    def snapshots(self, method: str) -> list[int]:
        """Return the steps at which snapshots were taken, ascending."""
        folder = self.path / method / SNAPSHOTS
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        return sorted(int(found[1]) for name in names if (found := STEP.fullmatch(name)))

    def metrics(self, method: str) -> Path:
        """Return the path of a method's events."""
        return self.path / method / METRICS

    def model(self, method: str, step: int | None = None) -> Path:
        """Return the folder of a method's model: after `step` updates, or at the end of training.

        Load it with `load_model` or transformers' `from_pretrained`.
        """
        folder = self.path / method
        return folder / "model" if step is None else folder / SNAPSHOTS / f"step_{step}"

    def check_model(self, method: str, step: int | None = None) -> Path:
        """Return `model(method, step)` after checking that it exists.

        Raises:
            InputError: it does not exist. The message says what to do in this run.
        """
        folder = self.model(method, step)
        if folder.is_dir():
            return folder
        kept = self.snapshots(method)
        if step is None:
            missing = f"{method} has no saved model"
        elif kept:
            missing = f"{method} has no snapshot at step {step}"
        else:
            missing = "this race saved no snapshots"
        raise InputError(f"{self.path}: {missing}; {self._instead(method, step, kept)}.")

    def _instead(self, method: str, step: int | None, kept: Sequence[int]) -> str:
        """Return what the user can do about a missing model: only what helps in this run."""
        ways = []
        if kept:
            ways.append(f"use a snapshot (--step {', '.join(map(str, kept))})")
        if step is not None and self.model(method).is_dir():
            ways.append("leave out --step")
        if self.status not in ("finished", "diverged") and (kept or step is None):
            ways.append(f"finish an interrupted race: `adadpo-mini resume {self.path}`")
        if step is not None and not kept:
            ways.append("race again with --snapshot-every")
        return ", or ".join(ways or ["race again"])

    def source(self, name: str) -> str:
        """Return a data set or model name from config.json, usable from any working directory.

        Relative paths are resolved against the directory in which the race was started.
        """
        began = Path(str(self.config().get("started_in", ".")))
        folder = name.rpartition(":")[0] or name  # without the split, as in "folder:test"
        if name in (*SETS, TOY) or not any((began / one).exists() for one in (name, folder)):
            return name
        return str(began / name)

    @property
    def pairs(self) -> tuple[Path, Path]:
        """The paths of the training and held-out pairs, for data that came from Python objects."""
        return self.path / "pairs" / "train.jsonl", self.path / "pairs" / "test.jsonl"

    def kept_splits(self) -> "tuple[Pairs, Pairs] | None":
        """Return the training and held-out pairs, if the run keeps its own.

        Raises:
            InputError: a file is damaged.
        """
        train, test = self.pairs
        kept = self.settings().data == "rows" and train.is_file()
        return read_splits(train, test) if kept else None


def list_runs(root: Path) -> list[RunFolder]:
    """Return the runs in a folder, newest first. A run is a subfolder with a config.json."""
    dated = []
    for config in root.glob("*/config.json") if root.is_dir() else ():
        with suppress(OSError):  # it was deleted just now
            dated.append((config.stat().st_mtime, config.parent))
    return [RunFolder(path) for _, path in sorted(dated, reverse=True)]


def _not_a_run(path: Path) -> InputError:
    return InputError(f"{path} does not contain a run; use a folder that a race wrote.")


def _is_name(name: object) -> bool:
    return isinstance(name, str) and re.fullmatch(r"\w+", name) is not None
