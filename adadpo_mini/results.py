"""The tidy file of a sweep: one row a measurement of one run. Written race by race, read by all."""

import csv
import io
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from adadpo_mini.errors import InputError

NAMES = ("experiment", "data", "method")
KNOBS = ("ceiling", "k", "floor", "ratio")
RUN = (*NAMES, "seed", "steps", "batch_size", "beta", "learning_rate", *KNOBS)
MEASURED = (
    "shift_chosen", "shift_rejected", "accuracy", "margin", "kl", "rho", "ceiling_share",
    "win_rate", "lc_win_rate", "length", "reference_length",
)  # fmt: skip
COLUMNS = (*RUN, "step", *MEASURED)
"""RUN says which run it was (its settings), `step` when, the rest what was measured:

shift_chosen, shift_rejected (nats per completion), accuracy, margin, rho, ceiling_share on held-out
pairs; and, at the last step only, kl (nats per completion) and, by the judge against the
reference's answers, win_rate and lc_win_rate, with the mean lengths of both sides' answers in
tokens. An empty cell was not measured.
"""

Row = Mapping[str, str | float | None]


def read_measurements(path: Path) -> list[Row]:
    """The rows of a sweep's file; empty cells are None.

    Raises:
        InputError: there is no such file, or it is not a sweep's, with the line that is wrong.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; make it with `adadpo-mini sweep`.")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{path}: not a sweep's results; make it with `adadpo-mini sweep`.")
        rows = [_parse(row, f"{path}, line {reader.line_num}") for row in reader]
    if not rows:
        raise InputError(f"{path}: holds no results; make some with `adadpo-mini sweep`.")
    if len({tuple(row[name] for name in (*RUN, "step")) for row in rows}) < len(rows):
        raise InputError(f"{path}: holds a measurement twice; take one of the two out.")
    return rows


def _parse(texts: Mapping[str, str], where: str) -> Row:
    row: dict[str, str | float | None] = {}
    for name in COLUMNS:
        text = texts[name]
        try:
            row[name] = text if name in NAMES else float(text) if text else None
        except (TypeError, ValueError):
            raise InputError(f"{where}: {name} must be a number, not {text!r}.") from None
    needed = (row[name] for name in ("beta", "learning_rate", "seed", "steps", "step"))
    if None in texts or None in texts.values() or None in needed:
        raise InputError(f"{where}: a cell is missing or one too many; make the row again.")
    return row


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows in one write, so that a kill leaves all of them, or next to nothing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    if not path.exists():
        writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as stream:
        stream.write(text.getvalue().encode())
        os.fsync(stream.fileno())


def drop_torn_end(path: Path) -> None:
    """Cut off a last line that was not written to its end."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def closing_rows(rows: Iterable[Row], experiment: str, *methods: str) -> list[Row]:
    """The last measurement of each run of an experiment, of these methods or of all."""
    return [
        row
        for row in rows
        if row["experiment"] == experiment
        and row["step"] == row["steps"]
        and (not methods or row["method"] in methods)
    ]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % interval, mean ± half_width."""

    mean: float
    half_width: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Student's t interval: mean ± t(0.975, n − 1)·s/√n.

        Raises:
            InputError: scipy is not installed. It is no dependency, because transformers imports
                it wherever it is, and every start would be the slower for it.

        >>> Estimate.of([1.0, 2.0, 3.0])
        Estimate(mean=2.0, half_width=2.484..., count=3)
        """
        try:
            from scipy.stats import t
        except ImportError as error:
            raise InputError("statistics need scipy: pip install scipy statsmodels.") from error
        count = len(values)
        if count < 2:
            return cls(fmean(values), float("nan"), count)
        half_width = float(t.ppf(0.975, count - 1)) * stdev(values) / count**0.5
        return cls(fmean(values), half_width, count)

    def text(self, form: str = "+.1f") -> str:
        return f"{self.mean:{form}} ± {self.half_width:{form.lstrip('+')}}".replace("-", "−")
