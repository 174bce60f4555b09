"""Tables of the races at the default settings: every toy set, several β, the first arcs."""

from collections import Counter
from collections.abc import Iterable, Sequence

from adadpo_mini.errors import InputError
from adadpo_mini.paper.experiments import ARCS
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.system.markdown import markdown_table

COLUMNS: dict[str, tuple[str, str]] = {
    "DPO": ("sets", "dpo"),
    "AdaDPO": ("sets", "adadpo"),
    "constant of AdaDPO's mean ρ": ("matched", "fixed_ratio"),
    "DPO + NLL (RPO)": ("sets", "rpo"),
}
"""The columns of the table of sets: title → (experiment, method)."""


def sets_table(rows: Sequence[Row], source: str) -> str:
    """Return two Markdown tables, set by method: Δchosen / Δrejected in nats, and win rates.

    Each cell is a mean over seeds with its 95 % interval.

    Args:
        source: the name of the results, for errors.

    Raises:
        InputError: the runs do not make one table, or a value is missing.
    """
    caption = _size(rows, ("sets", "matched"), source)
    return "\n\n".join([_shifts(rows, source), _win_rates(rows, source), caption])


def _shifts(rows: Sequence[Row], source: str) -> str:
    def cell(runs: Sequence[Row]) -> str:
        sides = ("shift_chosen", "shift_rejected")
        return " / ".join(_mean(runs, side, source).text() for side in sides)

    return _set_by_method(rows, "Δchosen / Δrejected", cell)


def _win_rates(rows: Sequence[Row], source: str) -> str:
    def cell(runs: Sequence[Row]) -> str:
        cold, warm = (_mean(runs, f"win_rate{end}", source).text(".2f") for end in ("", "_at_1"))
        return f"{cold}; T 1: {warm}"

    def perfect(name: str) -> str:
        runs = [row for row in closing_rows(rows, "sets") if row["data"] == name]
        return f"{_mean(runs, 'perfect_win_rate', source).mean:.2f}"

    def weight(name: str) -> str:
        runs = [row for row in closing_rows(rows, "sets", "adadpo") if row["data"] == name]
        return _mean(runs, "mean_rho", source).text(".2f")

    more = {"a perfect model": perfect, "AdaDPO's mean ρ": weight}
    return _set_by_method(rows, "win rate", cell, more)


def _set_by_method(rows: Sequence[Row], what: str, cell: object, more: dict | None = None) -> str:
    names = sorted({row["data"] for row in closing_rows(rows, "sets")})
    more = more or {}
    body = []
    for name in names:
        found = (
            [row for row in closing_rows(rows, experiment, method) if row["data"] == name]
            for experiment, method in COLUMNS.values()
        )
        body.append((f"`{name}`", *map(cell, found), *(extra(name) for extra in more.values())))
    return markdown_table((what, *COLUMNS, *more), body)


def _mean(runs: Iterable[Row], column: str, source: str) -> Estimate:
    values = [row[column] for row in runs]
    if None in values or not values:
        raise InputError(
            f"{source}: a run has no {column}; remove its rows, and `adadpo-mini sweep` runs it "
            "again."
        )
    return Estimate.of(values)


def _size(rows: Sequence[Row], experiments: Iterable[str], source: str) -> str:
    """Return what was run.

    Raises:
        InputError: a set or a method does not have runs of the same kind as the others.
    """
    closing = [row for name in experiments for row in closing_rows(rows, name)]
    same = ("steps", "batch_size", "beta", "learning_rate", "prompts")
    sets = {row["data"] for row in closing}
    seeds = _check_whole(
        closing, same, ("data", "experiment", "method"), len(sets) * len(COLUMNS), source
    )
    steps, batch_size, beta, learning_rate, prompts = (closing[0][name] for name in same)
    return (
        f"{steps:.0f} steps of {batch_size:.0f} pairs, β = {beta:g}, learning rate "
        f"{learning_rate:g}, {seeds} seeds (for the order of the pairs and the sampled answers). "
        f"{_measures(prompts)} *A perfect model* "
        "always writes a best answer, and ties where the reference does, too."
    )


def _check_whole(
    runs: Sequence[Row], same: Sequence[str], cell: Sequence[str], cells: int, source: str
) -> int:
    """Return how many runs each cell of a table has.

    Args:
        same: the columns in which all runs are equal.
        cell: the columns that tell the cells apart.
        cells: how many cells there should be.

    Raises:
        InputError: the runs differ, or a cell has fewer runs than another, or none.
    """
    counts = Counter(tuple(row[name] for name in cell) for row in runs)
    settings = {tuple(row[name] for name in same) for row in runs}
    if len(settings) != 1 or len(counts) != cells or len(set(counts.values())) != 1:
        raise InputError(
            f"{source}: its runs differ in settings, or some are missing; finish the sweep, or "
            "start it again in another file."
        )
    return min(counts.values())


def _measures(prompts: float) -> str:
    return (
        "Δ is the change in the mean log-prob of held-out completions against the reference, in "
        "nats per completion. A win rate is against the reference's answers to "
        f"{prompts:.0f} held-out prompts, both sampled at temperature 0.7, and at 1 where it says "
        "T 1; the exact judge decides, and a tie counts half. Each cell is the mean over seeds ± "
        "half of its 95 % t interval, which covers neither other prompts nor another base model."
    )


def beta_table(rows: Sequence[Row], source: str) -> str:
    """Return a Markdown table: β by method, with KL, win rates and both shifts.

    Raises:
        InputError: the runs do not make one table, or a value is missing.
    """
    closing = closing_rows(rows, "beta")
    methods = list(dict.fromkeys(row["method"] for row in closing))
    betas = sorted({row["beta"] for row in closing})
    same = ("data", "steps", "batch_size", "learning_rate", "prompts")
    _check_whole(closing, same, ("method", "beta"), len(methods) * len(betas), source)
    body = []
    for method in methods:
        for beta in betas:
            runs = [r for r in closing if (r["method"], r["beta"]) == (method, beta)]
            body.append((_name(method), f"{beta:g}", *_outcome(runs, source)))
    head = ("", "β", *OUTCOME)
    size = f"{_run_size(closing, with_beta=False)} {_measures(closing[0]['prompts'])}"
    return "\n\n".join([markdown_table(head, body), size])


OUTCOME = ("KL to the reference, nats", "win rate", "win rate, T 1", "Δchosen", "Δrejected")


def _outcome(runs: Sequence[Row], source: str) -> Iterable[str]:
    forms = {"kl": ".1f", "win_rate": ".2f", "win_rate_at_1": ".2f"}
    for column in ("kl", "win_rate", "win_rate_at_1", "shift_chosen", "shift_rejected"):
        yield _mean(runs, column, source).text(forms.get(column, "+.1f"))


def _name(method: str) -> str:
    from adadpo_mini.figures import LABELS

    return LABELS[method]


def _run_size(runs: Sequence[Row], *, with_beta: bool = True) -> str:
    first, seeds = runs[0], len({row["seed"] for row in runs})
    sets = ", ".join(sorted({f"`{row['data']}`" for row in runs}))
    beta = f", β = {first['beta']:g}" if with_beta else ""
    return (
        f"{sets}, {first['steps']:.0f} steps of {first['batch_size']:.0f} pairs, learning rate "
        f"{_several(runs, 'learning_rate')}{beta}, {seeds} seeds."
    )


def _several(runs: Sequence[Row], column: str) -> str:
    return " or ".join(f"{value:g}" for value in sorted({row[column] for row in runs}))


def arcs_table(rows: Sequence[Row], source: str) -> str:
    """Return a Markdown table: the races shown first, step by step, by method.

    Raises:
        InputError: the runs do not make one table, or a value is missing.
    """
    judged = [row for row in rows if row["experiment"] in ARCS and row["win_rate"] is not None]
    methods, steps = ({row[name] for row in judged} for name in ("method", "step"))
    cell, cells = ("experiment", "method", "step"), len(ARCS) * len(methods) * len(steps)
    _check_whole(judged, ("data", "steps", "batch_size", "prompts"), cell, cells, source)
    body = []
    for name in ARCS:
        own = [row for row in judged if row["experiment"] == name]
        for method in dict.fromkeys(row["method"] for row in own):
            for step in sorted({row["step"] for row in own}):
                runs = [r for r in own if (r["method"], r["step"]) == (method, step)]
                body.append((f"`{name}`", _name(method), f"{step:.0f}", *_outcome(runs, source)))
    head = ("settings", "", "step", *OUTCOME)
    sizes = [
        f"`{name}`: {_run_size([row for row in judged if row['experiment'] == name])}"
        for name in ARCS
    ]
    caption = [*sizes, _measures(judged[0]["prompts"])]
    return "\n\n".join([markdown_table(head, body), *caption])
