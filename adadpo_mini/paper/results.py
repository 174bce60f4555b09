"""The tidy file of a sweep: one row a measurement of one run. Written race by race, read by all.

A last line that was not written to its end counts for nothing; `mend` takes it away.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from adadpo_mini.errors import InputError
from adadpo_mini.methods.registry import ALL_METHODS
from adadpo_mini.system.files import append_text, drop_torn_end, replace_text, to_disk, writing
from adadpo_mini.toyworld.sets import SETS

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
HEADER = ",".join(COLUMNS)
WHOLE = {"seed": 0, "steps": 1, "batch_size": 1, "step": 0}  # whole numbers, from this up
POSITIVE = ("beta", "learning_rate", *KNOBS)
NEEDED = ("beta", "learning_rate", *WHOLE)
LARGEST = 1e100  # so that no sum, and no square, is infinite

Row = Mapping[str, str | float | None]


def read_measurements(path: Path) -> list[Row]:
    """The rows of a sweep's file; empty cells are None.

    Raises:
        InputError: there is no such file, or it is not a sweep's, with the line that is wrong.
    """
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path}: holds no results; make some with `adadpo-mini sweep`.")
    return rows


def finished_runs(path: Path) -> set[tuple]:
    """The runs whose last step is in the file, by what they have in the columns RUN.

    Raises:
        InputError: the file is not a sweep's.
    """
    return {run_of(row) for row in _rows(path) if row["step"] == row["steps"]}


def run_of(row: Row) -> tuple:
    """Which run this is: what it has in the columns RUN."""
    return tuple(row[name] for name in RUN)


def _rows(path: Path) -> list[Row]:
    lines: dict[tuple, int] = {}
    rows = []
    for line, _, row in _numbered_rows(path):
        key = (run_of(row), row["step"])
        if key in lines:
            raise InputError(
                f"{path}, line {line}: holds the measurement of line {lines[key]} a second time; "
                "take one of the two out."
            )
        lines[key] = line
        rows.append(row)
    return rows


def _numbered_rows(path: Path) -> Iterator[tuple[int, list[str], Row]]:
    """(line, cells as they are written, cells as they are read) of each row."""
    content = _whole_lines(path)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: is not UTF-8; mend it, or take it out.") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    line = 1
    try:
        next(reader, None)
        for cells in reader:
            line = reader.line_num
            if cells:
                yield line, cells, _parse(cells, f"{path}, line {line}")
    except csv.Error as error:
        raise InputError(f"{path}, line {line + 1}: cannot be read ({error}).") from error


def _whole_lines(path: Path) -> bytes:
    """The content of a sweep's file up to the last line end, so nothing if its header was cut.

    Raises:
        InputError: it cannot be read, or is not a sweep's.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder; give a sweep's CSV file.")
        if not path.exists():
            raise InputError(f"{path}: there is no such file; make it with `adadpo-mini sweep`.")
        if not path.is_file():
            raise InputError(f"{path}: is no ordinary file; give a sweep's CSV file.")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error
    if content.startswith(b"\xef\xbb\xbf" + HEADER.encode()):
        raise InputError(f"{path}, line 1: begins with a byte order mark; save it without one.")
    first, whole, _ = content.partition(b"\n")
    is_ours = first.rstrip(b"\r") == HEADER.encode() if whole else HEADER.encode().startswith(first)
    if not is_ours:
        raise InputError(
            f"{path}: not a sweep's results; make them with `adadpo-mini sweep`, in a file of "
            "their own."
        )
    return content[: content.rfind(b"\n") + 1]


def _parse(cells: Sequence[str], where: str) -> Row:
    row: dict[str, str | float | None] = {
        name: _name(text, name, where) if name in NAMES else _number(text, name, where)
        for name, text in zip(COLUMNS, cells, strict=False)
    }
    if len(cells) != len(COLUMNS) or None in (row[name] for name in NEEDED):
        raise InputError(f"{where}: a cell is missing or one too many; make the row again.")
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


def check_is_results(path: Path) -> None:
    """Raise InputError if there is a file, and it is not a sweep's."""
    with writing(path):
        if path.exists():
            _whole_lines(path)


def mend(path: Path) -> None:
    """Make a sweep's file ready for more rows: cut off what was not written to its end.

    Raises:
        InputError: the file is not a sweep's; it is as it was. WriteError: it cannot be written.
    """
    check_is_results(path)
    with writing(path):
        if path.exists():
            with path.open("ab"):
                drop_torn_end(path)


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows, all of them or none, below a header.

    Raises:
        WriteError: they cannot be written; the file is as it was.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists() or not path.stat().st_size
    cells = [["" if row.get(name) is None else row[name] for name in COLUMNS] for row in rows]
    append_text(path, _as_csv([COLUMNS, *cells] if is_new else cells))
    to_disk(path)


def drop_runs(path: Path, runs: Collection[tuple]) -> None:
    """Take out the rows of runs of which not all rows are there; they will be run again.

    Args:
        runs: see `run_of`.

    Raises:
        WriteError: the file cannot be replaced; it is as it was.
    """
    kept, dropped = [], 0
    for _, cells, row in _numbered_rows(path):
        if run_of(row) in runs:
            dropped += 1
        else:
            kept.append(cells)
    if dropped:
        replace_text(path, _as_csv([COLUMNS, *kept]))


def _as_csv(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


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
        spread = f" ± {self.half_width:{form.lstrip('+')}}" if self.count > 1 else " (one seed)"
        return f"{self.mean:{form}}{spread}".replace("-", "−")
