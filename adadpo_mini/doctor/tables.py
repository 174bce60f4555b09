"""Logs that are tables or text: CSV exports, and the dicts that a trainer prints."""

import ast
import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path

from adadpo_mini.doctor.names import curve, step_name, trl_name
from adadpo_mini.errors import InputError
from adadpo_mini.system.cells import long_cells

Rows = list[tuple[str, dict]]
"""(file and line, row)."""

TENSORBOARD = ["Wall time", "Step", "Value"]
KNOWN = ("loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected",
         "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")  # fmt: skip
PRINTED = re.compile(r"\{'[^{}]*\}")
EVERY = 10  # updates between two printed lines: TRL's default


def read_csv(file: Path, text: str) -> dict[str, Rows]:
    """Return the rows of a CSV or TSV file by run; a W&B panel has several runs, others have "".

    An empty cell is not a number that was logged.

    Raises:
        InputError: it has no column with steps.
    """
    head, _, _ = text.partition("\n")
    separator = "\t" if "\t" in head and "," not in head else ";" if "," not in head else ","
    with long_cells():
        lines = list(csv.reader(text.splitlines(), delimiter=separator))
    columns = [name.strip() for name in lines[0]] if lines else []
    step = step_name(columns)
    if step is None:
        runs = [curve(name) for name in columns]
        step = next((columns[i] for i, run in enumerate(runs) if run and "step" in run[1]), None)
    if step is None:
        raise InputError(
            f"{file}, line 1 has no step column, so this is not the log of a training run; export "
            "the history with its steps."
        )
    at, found = columns.index(step), {}
    for number, cells in enumerate(lines[1:], 2):
        for run, name, cell in _cells(file, columns, cells):
            row = found.setdefault(run, {}).setdefault(number, {})
            row[name] = cell
        if len(cells) > at and cells[at].strip():
            for rows in found.values():
                if number in rows:
                    rows[number]["step"] = _as_number(cells[at])
    return {
        run: [(f"{file}, line {n}", row) for n, row in rows.items() if "step" in row]
        for run, rows in found.items()
    }


def _cells(file: Path, columns: list[str], cells: list[str]) -> Iterator[tuple[str, str, float]]:
    """Yield (run, TRL's name, value) of the cells of a line that are numbers."""
    for name, cell in zip(columns, cells, strict=False):
        value = _as_number(cell) if cell.strip() else None
        if value is None or name == step_name(columns) or not name or name.startswith("Unnamed"):
            continue
        run, number = curve(name) or ("", name)
        if columns == TENSORBOARD:
            number = _curve_of_file(file) if name == "Value" else name
        if name.endswith(("__MIN", "__MAX")):
            continue
        yield run, trl_name(number), value


def _curve_of_file(file: Path) -> str:
    """Return which curve TensorBoard's file is: its name ends with it, with _ in place of /."""
    stem = file.stem.lower()
    for name in sorted(KNOWN, key=len, reverse=True):
        if stem.endswith(name.replace("/", "_")):
            held_out = stem.removesuffix(name.replace("/", "_")).endswith(("eval_", "eval-"))
            return f"eval_{name}" if held_out else name
    return "Value"


def _as_number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def read_printed(file: Path, text: str) -> Rows:
    """Return the dicts that a trainer printed, one a line, amid other output.

    They have no step; every training line counts as ten updates, TRL's default.
    """
    rows, step = [], 0
    for number, line in enumerate(text.split("\n"), 1):
        for printed in PRINTED.findall(line):
            row = _literal(printed)
            if row is None or not ("loss" in row or "eval_loss" in row):
                continue
            numbers = {key: _printed_number(value) for key, value in row.items()}
            step += EVERY if "loss" in row else 0
            rows.append((f"{file}, line {number}", {"step": step, **numbers}))
    return rows


def _literal(printed: str) -> dict | None:
    """Return a printed dict; bare nan and inf, as Python prints them, become text."""
    quoted = re.sub(r"(?<=: )(-?(?:nan|inf))\b", r"'\1'", printed)
    try:
        value = ast.literal_eval(quoted)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _printed_number(value: object) -> object:
    """Return a number that was printed as text, as transformers 5 does, as a number."""
    number = _as_number(value) if isinstance(value, str) else value
    return value if number is None else number


def without_padding(row: dict) -> dict:
    """Return a row without the NaN that a data frame has where nothing was logged.

    A data frame of TRL's logs has all columns in all rows. Where everything of training is NaN and
    something of evaluation is a number, or the other way round, the NaN is padding.
    """
    shared = ("step", "epoch")
    sides: tuple[dict, dict] = ({}, {})
    for key, value in row.items():
        if key not in shared:
            sides[key.startswith("eval_")][key] = value
    empty = [bool(side) and all(_is_nan(value) for value in side.values()) for side in sides]
    if sum(empty) != 1:
        return row
    kept = sides[not empty.index(True)]
    return {key: value for key, value in row.items() if key in shared or key in kept}


def _is_nan(value: object) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
