"""Many races, one process a core, their closing tables in one tidy file; and the table of that."""

import csv
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.race import Race, RaceConfig, summarize

COLUMNS = (
    "data", "seed", "method", "steps", "batch_size", "beta", "learning_rate",
    "delta_chosen", "delta_rejected", "accuracy", "margin", "win_rate",
)  # fmt: skip
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"


def run_race(config: RaceConfig) -> list[dict]:
    """Run one race and return one row of `COLUMNS` for each of its methods.

    Raises:
        InputError: the race has diverged.
    """
    contest = Race(config, workers=1)
    events: dict[str, list] = {method: [] for method in config.methods}
    try:
        for method, event in contest.events():
            events[method].append(event)
    except FloatingPointError as error:
        raise InputError(f"{config.data}, seed {config.seed}: {error}") from error
    summary = summarize(config, events, contest.win_rates())
    settings = config.as_dict()
    rows = []
    for method, result in summary["methods"].items():
        values = {**settings, **result, "method": method}
        rows.append({column: values[column] for column in COLUMNS})
    return rows


def sweep(configs: Sequence[RaceConfig], out: Path, processes: int | None = None) -> Iterator[int]:
    """Run the races that `out` does not hold yet, appending each one's rows as it ends.

    A race is known by its data and seed: give each combination of other settings a file of its
    own. A killed sweep goes on where it stopped when started again.

    Yields:
        The number of races done, after each.
    """
    before = read_results(out) if out.exists() else []
    done = {(row["data"], int(row["seed"])) for row in before}
    todo = [config for config in configs if (config.data, config.seed) not in done]
    out.parent.mkdir(parents=True, exist_ok=True)
    finished = len(configs) - len(todo)
    yield finished
    # Leaving the pool, by whatever way, ends its processes: none trains on unseen.
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        for rows in pool.imap_unordered(run_race, todo):
            new = not out.exists()
            with out.open("a", newline="", encoding="utf-8") as stream:
                writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
                if new:
                    writer.writeheader()
                writer.writerows(rows)
            finished += 1
            yield finished


def read_results(path: Path) -> list[dict]:
    """The rows that a sweep wrote, numbers still as text.

    Raises:
        InputError: there is no such file, or it is not a sweep's.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file; make it with `adadpo-mini sweep`.")
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise InputError(f"{path}: not a sweep's results; make it with `adadpo-mini sweep`.")
        rows = list(reader)
    if not rows:
        raise InputError(f"{path}: holds no results; make some with `adadpo-mini sweep`.")
    return rows


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
        from statistics import fmean, stdev

        try:
            from scipy.stats import t
        except ImportError as error:
            raise InputError("the table needs scipy: pip install scipy.") from error
        count = len(values)
        if count < 2:
            return cls(fmean(values), float("nan"), count)
        half_width = float(t.ppf(0.975, count - 1)) * stdev(values) / count**0.5
        return cls(fmean(values), half_width, count)

    def text(self, form: str = "+.1f") -> str:
        return f"{self.mean:{form}} ± {self.half_width:{form.lstrip('+')}}".replace("-", "−")


def results_table(path: Path) -> str:
    """Two Markdown tables, set by method, each cell a mean over seeds with its 95 % interval.

    The first is Δchosen / Δrejected in nats, the second the win rate against the reference.
    """
    rows = read_results(path)

    def estimate(name: str, method: str, column: str) -> Estimate:
        mine = [row for row in rows if row["data"] == name and row["method"] == method]
        return Estimate.of([float(row[column]) for row in mine])

    def shifts(name: str, method: str) -> str:
        sides = ("delta_chosen", "delta_rejected")
        return " / ".join(estimate(name, method, side).text() for side in sides)

    def win_rate(name: str, method: str) -> str:
        judged = all(row["win_rate"] for row in rows if row["data"] == name)
        return estimate(name, method, "win_rate").text(".2f") if judged else "–"

    first, seeds = rows[0], len({row["seed"] for row in rows})
    return "\n".join(
        [
            *_grid(rows, "Δchosen / Δrejected", shifts),
            "",
            *_grid(rows, "win rate", win_rate),
            "",
            f"{first['steps']} steps of {first['batch_size']} pairs, β = {first['beta']}, learning "
            f"rate {first['learning_rate']}, {seeds} seeds (which fix the order of the pairs). Δ: "
            "change of the held-out completions' mean log-prob against the reference, nats per "
            "completion. Win rate: against the reference's answers to held-out prompts, by the "
            "exact judge, ties count half. All: mean ± half of the 95 % t interval over seeds.",
        ]
    )


def _grid(rows: list[dict], what: str, cell: Callable[[str, str], str]) -> list[str]:
    methods = list(dict.fromkeys(row["method"] for row in rows))
    names = sorted({row["data"] for row in rows})
    return [
        f"| {what} | " + " | ".join(methods) + " |",
        "|---" * (len(methods) + 1) + "|",
        *(f"| `{name}` | " + " | ".join(cell(name, m) for m in methods) + " |" for name in names),
    ]


def write_table(results: Path, document: Path) -> None:
    """Replace what stands between the two markers in `document` by the table.

    Raises:
        InputError: there is no such document, or it lacks the markers.
    """
    if not document.is_file():
        raise InputError(f"{document}: there is no such document.")
    text = document.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise InputError(f"{document}: lacks the lines {BEGIN} and {END}; add them.")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    table = f"{BEGIN}\n{results_table(results)}\n{END}"
    document.write_text(before + table + after, encoding="utf-8", newline="\n")
