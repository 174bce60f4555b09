"""The tidy file of a sweep: one row for each measurement of each run.

This module reads it, `results_writer.py` writes it, race by race. A last line without a line end
does not count.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.methods.registry import ALL_METHODS
from adadpo_mini.paper.intervals import Estimate  # noqa: F401 (so that old imports work)
from adadpo_mini.toyworld.sets import SETS

NAMES = ("experiment", "data", "method")
KNOBS = ("ceiling", "k", "floor", "ratio")
RUN = (*NAMES, "seed", "steps", "batch_size", "beta", "learning_rate", *KNOBS)
MEASURED = (
    "shift_chosen", "shift_rejected", "accuracy", "ranking_accuracy", "margin", "rho",
    "ceiling_share", "mean_rho", "kl", "prompts", "win_rate", "lc_win_rate", "ties",
    "win_rate_at_1", "lc_win_rate_at_1", "perfect_win_rate", "length", "reference_length",
)  # fmt: skip
COLUMNS = (*RUN, "step", *MEASURED)
"""RUN identifies the run (its settings), `step` is the training step, the rest was measured:

shift_chosen, shift_rejected (nats per completion), accuracy, ranking_accuracy, margin, rho and
ceiling_share on held-out pairs. mean_rho, at the last step: β_w/β_l as used, the mean over all
training steps. At the steps that are judged, always the last: kl (nats per completion); and from
answers to `prompts` held-out prompts the judge's win_rate and lc_win_rate against the reference's
answers at temperature 0.7, the share of ties in it, both win rates at temperature 1,
perfect_win_rate (what a model would win, at 0.7, that always writes a best answer), and the mean
lengths of both sides' answers in tokens, at 0.7. An empty cell was not measured.

In experiments whose names end in _policy, adadpo_batch works in policy space, dpo_matched_norm has
the gradient norm of AdaDPO in policy space, and the ratio of fixed_ratio and the k of adadpo_policy
were chosen from adadpo_policy's mean_rho.
"""
HEADER = ",".join(COLUMNS)
WHOLE = {"seed": 0, "steps": 1, "batch_size": 1, "step": 0}  # whole numbers, and the least of each
POSITIVE = ("beta", "learning_rate", *KNOBS)
NEEDED = ("beta", "learning_rate", *WHOLE)
LARGEST = 1e100  # keeps sums and squares finite

Row = Mapping[str, str | float | None]
"""A cell by column."""


def read_measurements(path: Path) -> list[Row]:
    """Return the rows of a sweep's file; empty cells are None.

    Raises:
        InputError: the file does not exist, or is not a sweep's; the message names the line.
    """
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path} has no results; make some with `adadpo-mini sweep`.")
    return rows


def finished_runs(path: Path) -> set[tuple]:
    """Return the runs (see `run_of`) whose last step is in the file.

    Raises:
        InputError: the file is not a sweep's.
    """
    return {run_of(row) for row in _rows(path) if row["step"] == row["steps"]}


def run_of(row: Row) -> tuple:
    """Return which run a row belongs to: its columns RUN."""
    return tuple(row[name] for name in RUN)


def closing_rows(rows: Iterable[Row], experiment: str, *methods: str) -> list[Row]:
    """Return the last measurement of each run of an experiment, of these methods or of all."""
    return [
        row
        for row in rows
        if row["experiment"] == experiment
        and row["step"] == row["steps"]
        and (not methods or row["method"] in methods)
    ]


def _rows(path: Path) -> list[Row]:
    lines: dict[tuple, int] = {}
    rows = []
    for line, _, row in numbered_rows(path):
        key = (run_of(row), row["step"])
        if key in lines:
            raise InputError(
                f"{path}, line {line} repeats the measurement of line {lines[key]}; remove one of "
                "the two."
            )
        lines[key] = line
        rows.append(row)
    return rows


def numbered_rows(path: Path) -> Iterator[tuple[int, list[str], Row]]:
    """Yield (line, cells as written, cells as values) of each row.

    Raises:
        InputError: see `read_measurements`.
    """
    content = whole_lines(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line} is not UTF-8; correct or remove it.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    line = 1
    try:
        next(reader, None)
        for cells in reader:
            line = reader.line_num
            if cells:
                yield line, cells, _parse(cells, f"{path}, line {line}")
    except csv.Error as error:
        raise InputError(f"{path}, line {line + 1} cannot be read ({error}).") from error


def whole_lines(path: Path) -> bytes:
    """Return the content of a sweep's file up to the last line end; b"" if the header is not whole.

    Raises:
        InputError: the file cannot be read, or is not a sweep's.
    """
    content = _content(path)
    if content.startswith(b"\xef\xbb\xbf" + HEADER.encode()):
        raise InputError(f"{path}, line 1 begins with a byte order mark; save it without one.")
    first, whole, _ = content.partition(b"\n")
    is_ours = first.rstrip(b"\r") == HEADER.encode() if whole else HEADER.encode().startswith(first)
    if not is_ours:
        raise InputError(
            f"{path} does not contain a sweep's results; make some with `adadpo-mini sweep`, in a "
            "new file."
        )
    return content[: content.rfind(b"\n") + 1]


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give a sweep's CSV file.")
        if not path.exists():
            raise InputError(f"{path}: no such file; make it with `adadpo-mini sweep`.")
        if not path.is_file():
            raise InputError(f"{path} is not a regular file; give a sweep's CSV file.")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from error


def _parse(cells: Sequence[str], where: str) -> Row:
    row: dict[str, str | float | None] = {
        name: _name(text, name, where) if name in NAMES else _number(text, name, where)
        for name, text in zip(COLUMNS, cells, strict=False)
    }
    if len(cells) != len(COLUMNS) or None in (row[name] for name in NEEDED):
        raise InputError(f"{where} has a cell too few or too many; remove it and run it again.")
    if row["step"] > row["steps"]:
        raise InputError(f"{where}: step {row['step']:g} is after the last, {row['steps']:g}.")
    return row


def _name(text: str, name: str, where: str) -> str:
    known = {"data": SETS, "method": ALL_METHODS}.get(name)
    if known and text not in known:
        raise InputError(f"{where}: {name} must be one of {', '.join(known)}, not {_short(text)}.")
    if not text or not text.isprintable():
        raise InputError(f"{where}: {name} must be a name, not {_short(text)}.")
    return text


def _number(text: str, name: str, where: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{where}: {name} must be a number, not {_short(text)}.") from None
    if not abs(value) <= LARGEST:
        wanted = f"a finite number, at most {LARGEST:g}"
    elif name in WHOLE and (value < WHOLE[name] or value != int(value)):
        wanted = f"a whole number from {WHOLE[name]} up"
    elif name in POSITIVE and value <= 0:
        wanted = "a positive number"
    else:
        return value
    raise InputError(f"{where}: {name} must be {wanted}, not {_short(text)}.")


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:39]}…")
