"""The JSON files of a run folder: events, settings, summaries and pairs."""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.pairs.load import Pairs


def to_json(value: object, **options: Any) -> str:
    """Return JSON, with null in place of infinity and NaN, which JSON does not have."""
    return json.dumps(_finite(value), ensure_ascii=False, **options)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def reading(file: Path) -> Iterator[BinaryIO]:
    """Open a file for reading bytes.

    Raises:
        InputError: the file cannot be read.
    """
    try:
        with file.open("rb") as stream:
            yield stream
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from error


def parse_event(line: bytes, file: Path) -> Event:
    """Return the event in one line of a file.

    Raises:
        InputError: the line is not an event.
    """
    try:
        event = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged ({error}); delete it and race again.") from error
    if not isinstance(event, dict) or not isinstance(event.get("step"), int):
        raise InputError(f"{file} is damaged (an event has no step); delete it and race again.")
    return event


def read_object(file: Path) -> dict:
    """Return the JSON object in a file.

    Raises:
        InputError: the file is damaged.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged ({error}); race again.") from error
    if not isinstance(value, dict):
        raise InputError(f"{file} is damaged (not a JSON object); race again.")
    return value


def read_splits(train: Path, test: Path) -> tuple[Pairs, Pairs]:
    """Return the training and held-out pairs that a race kept in its folder.

    Without a file of held-out pairs, the training pairs serve as both.

    Raises:
        InputError: a file is damaged.
    """
    sides = [_read_pairs(file) for file in (train, test) if file.is_file()]
    return sides[0], sides[-1]


def _read_pairs(file: Path) -> Pairs:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")[:-1]
        rows = tuple(json.loads(line) for line in lines)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is damaged ({error}); race again.") from error
    return Pairs(rows, tuple(f"{file}, line {i}" for i in range(1, len(rows) + 1)))
