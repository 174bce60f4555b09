"""The paper's claims as Markdown: what was run, the verdicts by data set, the controls' results."""

from collections.abc import Iterable, Sequence

from adadpo_mini.errors import InputError
from adadpo_mini.figures import LABELS
from adadpo_mini.paper.ablation_claims import ABLATIONS
from adadpo_mini.paper.claims import CLAIMS, RATIO, SPACES, Claim, data_sets
from adadpo_mini.paper.comparisons import best_setting
from adadpo_mini.paper.control_claims import CONTROLS, control_rows, control_settings
from adadpo_mini.paper.intervals import Estimate
from adadpo_mini.paper.results import Row, closing_rows
from adadpo_mini.paper.verdict import Verdict
from adadpo_mini.system.markdown import markdown_table

FOOTNOTE = (
    "A claim holds if its 95 % interval lies entirely on the claimed side, and fails if it lies "
    "entirely on the other; *no difference* means that most of what is compared ties, *not "
    "applicable* that no pair reaches the ceiling in question. The unit is the seed (order of the "
    "pairs, sampled answers): a seed's value is the mean over the settings of its row. The "
    "intervals are not corrected for the number of claims, and cover neither other prompts nor "
    "another base model. Win rates are against the reference's answers, a tie counts half; T is "
    "the temperature at which both sides are sampled; LC means length-controlled."
)
CELL = (
    "A cell has the win rate at T 0.7 and at T 1, Δchosen / Δrejected in nats, and the mean weight "
    "ρ of the chosen side over the training."
)
CONTROL_METHODS: dict[str, tuple[str, str]] = {
    "DPO": ("controls", "dpo"),
    "AdaDPO": ("controls", "adadpo"),
    "… constant of its mean ρ": ("matched", "fixed_ratio"),
    "… one ρ per batch": ("controls", "adadpo_batch"),
    "… scaled by k = 2/ρ": ("scaled", "adadpo"),
    "… DPO, its gradient norm": ("controls", "dpo_matched_norm"),
    "AdaDPO, policy space": ("controls", "adadpo_policy"),
    "… constant of its mean ρ, policy": ("matched_policy", "fixed_ratio"),
    "… one ρ per batch, policy": ("controls_policy", "adadpo_batch"),
    "… scaled by k = 2/ρ, policy": ("scaled_policy", "adadpo_policy"),
    "… DPO, its gradient norm, policy": ("controls_policy", "dpo_matched_norm"),
    "constant 2": ("controls", "fixed_ratio"),
    "DPO + NLL (RPO)": ("controls", "rpo"),
}
"""What the table of controls lists: name → (experiment, method)."""


def claims_tables(rows: Sequence[Row], source: str) -> str:
    """Return all of `claims.md` that is computed; a part without runs says so.

    Args:
        source: the name of the results, for errors.

    Raises:
        InputError: the runs of the grid differ in size.
    """
    parts = ["### Over the grid", size_text(rows, source), _verdicts(CLAIMS, rows)]
    parts.append(best_settings_text(rows))
    for where, claims in CONTROLS.items():
        parts += [f"### The controls, {where}", settings_text(rows, where)]
        if data_sets(rows, "controls"):
            parts += [CELL, _control_results(rows, where), _verdicts(claims, rows)]
    return "\n\n".join([*parts, "### The ablations", _verdicts(ABLATIONS, rows), FOOTNOTE])


def _verdicts(claims: Iterable[Claim], rows: Sequence[Row]) -> str:
    names = data_sets(rows)
    body = [
        (claim_title(claim, method), claim.unit, *_cells(claim, rows, names, method))
        for claim in claims
        for method in claim.spaces
    ]
    return markdown_table(("claim", "effect in", *(f"`{name}`" for name in names)), body)


def claim_title(claim: Claim, method: str) -> str:
    """Return the title, with AdaDPO's space if the claim is tested in several."""
    return claim.title + (f" ({SPACES[method]} space)" if len(claim.spaces) > 1 else "")


def _cells(claim: Claim, rows: Sequence[Row], names: Iterable[str], method: str) -> Iterable[str]:
    for name in names:
        verdicts = claim.verdicts(rows, name, method)
        yield "<br>".join(f"{what}: {v.text}" if what else v.text for what, v in verdicts.items())


def size_text(rows: Sequence[Row], source: str) -> str:
    """Return how large the runs of the grid are, and the best that a perfect model could win.

    Raises:
        InputError: the runs of the grid differ in size.
    """
    grid = closing_rows(rows, "grid")
    sizes = {(row["steps"], row["batch_size"], row["prompts"]) for row in grid}
    if len(sizes) != 1:
        raise InputError(
            f"{source}: the runs of its grid differ in steps, pairs or prompts; start the sweep "
            "again in another file."
        )
    [(steps, batch, prompts)] = sizes
    rates, betas = (sorted({row[name] for row in grid}) for name in ("learning_rate", "beta"))
    perfect = ", ".join(
        f"`{name}` {_mean(r['perfect_win_rate'] for r in grid if r['data'] == name).mean:.2f}"
        for name in data_sets(rows)
    )
    return (
        f"{len(grid):,} runs: learning rates {_list(rates)} × β {_list(betas)}, "
        f"{len({r['seed'] for r in grid})} seeds. Each is {steps:g} steps of {batch:g} pairs "
        f"({steps * batch:g} pairs), judged on {prompts:g} held-out prompts. The best win rate "
        f"that a perfect model could have, at T 0.7: {perfect}; it ties where the reference's "
        "answer is already a best one."
    )


def _list(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _mean(values: Iterable[float | None]) -> Estimate:
    return Estimate.of([value for value in values if value is not None] or [float("nan")])


def best_settings_text(rows: Sequence[Row]) -> str:
    """Return each method's best setting on each set, and whether it is on the edge of the grid."""
    best = {
        f"{LABELS[method]} on `{name}`": setting
        for method in ("dpo", *SPACES)
        for name in data_sets(rows)
        if (setting := best_setting(rows, name, method))
    }
    found = "; ".join(f"{who} {rate:g}, β {beta:g}" for who, (rate, beta) in best.items())
    rates, betas = (_edge(rows, best, which) for which in (0, 1))
    return (
        f"Best learning rate and β by LC win rate at T 0.7: {found}. The best learning rate is "
        f"{rates}, the best β {betas}."
    )


def _edge(rows: Sequence[Row], best: dict[str, tuple[float, float]], which: int) -> str:
    """Return for whom the best learning rate (0) or β (1) is on the edge of the grid."""
    values = [row[("learning_rate", "beta")[which]] for row in closing_rows(rows, "grid")]
    ends = (min(values), max(values))
    at = [who for who, setting in best.items() if setting[which] in ends]
    if len(at) == len(best):
        return "on the edge of the grid for all"
    return f"on the edge of the grid for {', '.join(at)}" if at else "nowhere on the edge"


def settings_text(rows: Sequence[Row], where: str) -> str:
    """Return the settings of the controls and their seeds."""
    places = {name: control_settings(rows, name).get(where) for name in data_sets(rows)}
    texts = [f"`{name}` {place[0]:g}, β {place[1]:g}" for name, place in places.items() if place]
    if not texts:
        return "No runs yet."
    seeds = sorted({row["seed"] for row in closing_rows(rows, "controls")})
    return (
        f"Learning rate and β: {'; '.join(texts)}. Seeds {seeds[0]:g} to {seeds[-1]:g}, which the "
        "grid does not have."
    )


def _control_results(rows: Sequence[Row], where: str) -> str:
    names = data_sets(rows, "controls")
    body = []
    for title, (experiment, method) in CONTROL_METHODS.items():
        found = [control_rows(rows, name, where, experiment, method) for name in names]
        body.append((title, *(_outcome(part) if part else "–" for part in found)))
    return markdown_table(("", *(f"`{name}`" for name in names)), body)


def _outcome(runs: Sequence[Row]) -> str:
    def mean(column: str) -> Estimate:
        return _mean(row[column] for row in runs)

    shifts = " / ".join(
        mean(f"shift_{side}").text().split(" ")[0] for side in ("chosen", "rejected")
    )
    return (
        f"{mean('win_rate').text('.2f')}; T 1: {mean('win_rate_at_1').text('.2f')}; {shifts}; "
        f"ρ {mean('mean_rho').mean:.2f}"
    )


def sets_by_verdict(
    claim: Claim, rows: Sequence[Row], method: str = RATIO, measure: str = "T 0.7"
) -> dict[str, list[str]]:
    """Return the data sets by the verdict on a claim."""
    found: dict[str, list[str]] = {}
    for name in data_sets(rows):
        verdict: Verdict = claim.verdicts(rows, name, method)[measure]
        found.setdefault(verdict.verdict, []).append(name)
    return found
