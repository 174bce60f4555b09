"""What the AdaDPO paper claims, tested on a sweep's results: verdict, effect and interval of each.

Statistics and nothing else: `report.py` draws, `sweep.py` measures.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from statistics import NormalDist, fmean

from adadpo_mini.paper.comparisons import (
    FAILS,
    HOLDS,
    LC,
    TOLERANCE,
    UNDECIDED,
    Verdict,
    ablation_rows,
    by_data_set,
    decide,
    lc_gap_of,
    lc_of,
    over_settings,
    paired_differences,
    place_of,
    seeds_note,
    verdict_from,
)
from adadpo_mini.paper.results import Row, closing_rows


def adapting_helps(rows: Sequence[Row]) -> Verdict:
    """Control: does AdaDPO beat the fixed ratio, which weighs the chosen more without adapting?"""
    claim = "Control: AdaDPO beats the fixed ratio, so adapting does something"
    return over_settings(rows, claim, "fixed_ratio", lc_of, LC)


def beats_dpo_at_its_best(rows: Sequence[Row]) -> Verdict:
    """Control: does AdaDPO beat DPO when each has its own best learning rate and β?

    For each data set and seed the best setting is chosen on the *other* seeds, for either method,
    so that neither is flattered by a lucky run. The unit is the pair of data set and seed; the t
    interval is over these, widened as `_widening` says.
    """
    options = {method: _options(rows, method) for method in ("adadpo", "dpo")}
    picked = {method: _picked_on_other_seeds(table) for method, table in options.items()}
    places = [place for place in picked["adadpo"] if place in picked["dpo"]]
    units = [
        (data, picked["adadpo"][data, seed] - picked["dpo"][data, seed]) for data, seed in places
    ]
    runs = sum(len(table[place]) for table in options.values() for place in places)
    claim = "Control: AdaDPO beats DPO, each at its own best learning rate and β"
    note = f"{len(units)} pairs of data set and seed, best setting chosen on the other seeds"
    return verdict_from(claim, units, LC, runs, note, widen=_widening(places))


Options = dict[tuple, dict[object, float]]
"""LC win rate by place (…, seed), and there by what may be chosen."""


def _options(rows: Sequence[Row], method: str) -> Options:
    options: Options = {}
    for row in closing_rows(rows, "grid", method):
        if row["lc_win_rate"] is not None:
            choices = options.setdefault((row["data"], row["seed"]), {})
            choices[row["learning_rate"], row["beta"]] = row["lc_win_rate"]
    return options


def _picked_on_other_seeds(options: Options) -> dict[tuple, float]:
    """At each place, the value of the option whose mean over the other seeds is highest."""
    picked = {}
    for place, choices in options.items():
        others = [
            other for key, other in options.items() if key[:-1] == place[:-1] and key != place
        ]
        means = {
            option: fmean(values)
            for option in choices
            if (values := [other[option] for other in others if option in other])
        }
        if means:
            picked[place] = choices[max(means, key=means.__getitem__)]
    return picked


def _widening(places: Iterable[tuple]) -> float:
    """√(1 + n/(n − 1)) for n seeds: what choosing on the other seeds adds to the uncertainty.

    The choices for two seeds share n − 2 seeds and so are mostly the same; a plain t interval over
    the seeds does not see that. In a simulation with two equal methods, 16 settings, 3 sets and 5
    seeds it covered the truth in 83 % of cases, widened by this in 95 %.

    Source: Nadeau & Bengio 2003, "Inference for the generalization error", equation for (1/J +
    n2/n1)·σ², here with J = n folds and n2/n1 = 1/(n − 1).
    """
    seeds: dict[tuple, int] = {}
    for place in places:
        seeds[place[:-1]] = seeds.get(place[:-1], 0) + 1
    fewest = min(seeds.values(), default=2)
    return (1 + fewest / (fewest - 1)) ** 0.5 if fewest > 1 else float("nan")


def higher_lc_in_most_settings(rows: Sequence[Row]) -> Verdict:
    """The paper's count: in which share of the settings is AdaDPO's mean LC above DPO's?

    A tie counts half. Wilson's 95 % interval of a share, against one half; it takes the settings
    for independent, which neighbouring ones are not quite.
    """
    grid = [closing_rows(rows, "grid", method) for method in ("adadpo", "dpo")]
    differences = paired_differences(*grid, lc_of)
    points = [
        (setting[0], 0.5 if (mean := fmean(seeds.values())) == 0 else float(mean > 0))
        for setting, seeds in differences.items()
    ]
    claim, unit = "Higher LC win rate than DPO in most settings", "share of settings"
    if not points:
        return verdict_from(claim, [], unit, 0, "")
    share, count = fmean(point for _, point in points), len(points)
    interval = wilson_interval(share, count)
    runs = 2 * sum(len(seeds) for seeds in differences.values())
    note = f"{count} settings; {by_data_set(points, unit)}; the paper: 13 of 16"
    return Verdict(claim, decide(interval, 1, 0.5, None), share, interval, unit, runs, note)


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of `count`.

    >>> tuple(round(end, 3) for end in wilson_interval(0.5, 10))
    (0.237, 0.763)
    """
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    spread = z / (1 + z**2 / count)
    spread *= (share * (1 - share) / count + z**2 / (4 * count**2)) ** 0.5
    return max(0.0, middle - spread), min(1.0, middle + spread)


def higher_lc_on_average(rows: Sequence[Row]) -> Verdict:
    """The same comparison as a mean paired difference over the settings."""
    return over_settings(rows, "Higher LC win rate than DPO on average", "dpo", lc_of, LC)


def larger_lc_gap(rows: Sequence[Row]) -> Verdict:
    """Is LC win rate − win rate larger: does AdaDPO win with length less than DPO does?"""
    return over_settings(rows, "Larger LC − WR gap than DPO", "dpo", lc_gap_of, "in LC − WR")


def better_accuracy(rows: Sequence[Row]) -> Verdict:
    """Is the share of held-out pairs with u_w > u_l larger, at the last step?"""
    claim = "Better held-out accuracy than DPO"
    return over_settings(rows, claim, "dpo", lambda row: row["accuracy"], "in accuracy")


def larger_margin(rows: Sequence[Row]) -> Verdict:
    """Is the held-out margin of the raw rewards, β·(u_w − u_l), larger, at the last step?

    The abstract names the curve, not its direction; larger is our reading.
    """
    claim, unit = "Larger reward margin than DPO", "in β·nats"
    return over_settings(rows, claim, "dpo", lambda row: row["margin"], unit)


def lower_kl(rows: Sequence[Row]) -> Verdict:
    """Is KL(π_θ‖π_ref) lower after as many steps with the same learning rate and β?

    The abstract names the curve, not its direction; nearer to the reference is our reading.
    """
    claim, unit = (
        "Closer to the reference than DPO: lower KL at equal settings and steps",
        "nats of KL",
    )
    return over_settings(rows, claim, "dpo", lambda row: row["kl"], unit, side=-1)


def _ceilings(rows: Sequence[Row], experiment: str) -> Options:
    """LC win rate by (data, learning rate, β, seed), and there by ceiling; C = 2 is among them."""
    options: Options = {}
    for row in ablation_rows(rows, experiment):
        if row["method"] == "adadpo" and None not in (row["lc_win_rate"], row["ceiling"]):
            options.setdefault(place_of(row), {})[row["ceiling"]] = row["lc_win_rate"]
    return {place: choices for place, choices in options.items() if 2.0 in choices}


def ceiling_two_is_best(rows: Sequence[Row], experiment: str = "ceiling") -> Verdict:
    """LC win rate at C = 2 against the best other ceiling of the data set.

    The rival is chosen on the other seeds, and the interval widened for it. The unit is the pair of
    data set and seed: an ablation has one setting for each data set, so there is nothing to pool.
    The t interval takes seeds for independent, which they are but for the model they start from.
    """
    options = _ceilings(rows, experiment)
    rivals = _picked_on_other_seeds(
        {place: {c: lc for c, lc in found.items() if c != 2.0} for place, found in options.items()}
    )
    units = [(place[0], options[place][2.0] - rival) for place, rival in rivals.items()]
    by_ceiling: dict[object, list[float]] = {}
    for choices in options.values():
        for ceiling, lc in choices.items():
            by_ceiling.setdefault(ceiling, []).append(lc)
    means = ", ".join(f"{c:g}: {fmean(by_ceiling[c]):.2f}" for c in sorted(by_ceiling))
    note = f"{len(units)} pairs of data set and seed; mean by ceiling {means}"
    note += _binding_note(rows, experiment) + seeds_note(rows, experiment)
    runs = sum(len(options[place]) for place in rivals)
    claim = f"C = 2 is the best ceiling: better than the best other one{_where(experiment)}"
    return verdict_from(claim, units, LC, runs, note, widen=_widening(rivals))


def _where(experiment: str) -> str:
    at_defaults = experiment == "ceiling_at_defaults"
    return ", at the default learning rate and β" if at_defaults else ", at AdaDPO's best setting"


def _binding_note(rows: Sequence[Row], experiment: str) -> str:
    """How many pairs the ceiling of 2 touches: where it touches none, a higher one is the same."""
    shares = [
        (row["data"], row["ceiling_share"])
        for row in ablation_rows(rows, experiment)
        if row["ceiling"] == 2.0 and row["ceiling_share"] is not None
    ]
    by_data = by_data_set(shares, "share")
    return f"; share of pairs that end at the ceiling of 2: {by_data}" if shares else ""


def high_ceiling_is_worse(rows: Sequence[Row], experiment: str = "ceiling") -> Verdict:
    """Mean LC win rate over the ceilings from 5 up, minus that at C = 2; units as above."""
    units, runs = [], 0
    for place, choices in _ceilings(rows, experiment).items():
        high = [lc for ceiling, lc in choices.items() if ceiling >= 5]
        if high:
            units.append((place[0], fmean(high) - choices[2.0]))
            runs += len(high) + 1
    note = f"{len(units)} pairs of data set and seed"
    note += _binding_note(rows, experiment) + seeds_note(rows, experiment)
    claim = f"C ≥ 5 is worse than C = 2{_where(experiment)}"
    return verdict_from(claim, units, LC, runs, note, side=-1)


def stable_beats_raw(rows: Sequence[Row]) -> Verdict:
    """LC win rate with ρ per token minus that with ρ from sums; the unit is the pair of runs."""
    form = ablation_rows(rows, "form")
    stable, raw = ([r for r in form if r["method"] == m] for m in ("adadpo", "adadpo_raw"))
    differences = paired_differences(stable, raw, lc_of)
    units = [(place[0], value) for place, seeds in differences.items() for value in seeds.values()]
    claim = "The stable form (per token) is better than the raw one"
    note = f"{len(units)} pairs of data set and seed{seeds_note(rows, 'form')}"
    return verdict_from(claim, units, LC, 2 * len(units), note)


def spaces_are_alike(rows: Sequence[Row]) -> Verdict:
    """Ratio space minus policy space over the grid: is it within ±`TOLERANCE`?"""
    claim = f"Ratio and policy space are nearly alike (within ±{TOLERANCE:g})"
    return over_settings(rows, claim, "adadpo_policy", lc_of, LC, tolerance=TOLERANCE)


CONTROLS = (adapting_helps, beats_dpo_at_its_best)
CLAIMS = (
    *CONTROLS,
    higher_lc_in_most_settings,
    higher_lc_on_average,
    larger_lc_gap,
    better_accuracy,
    larger_margin,
    lower_kl,
    ceiling_two_is_best,
    high_ceiling_is_worse,
    partial(ceiling_two_is_best, experiment="ceiling_at_defaults"),
    partial(high_ceiling_is_worse, experiment="ceiling_at_defaults"),
    stable_beats_raw,
    spaces_are_alike,
)


def verdicts(rows: Sequence[Row]) -> list[Verdict]:
    """The verdict on every claim, the controls first."""
    return [claim(rows) for claim in CLAIMS]


def headline(rows: Sequence[Row]) -> str:
    """What a reader must know before the table: which control AdaDPO does not pass."""
    sentences = []
    rivals = ("the fixed ratio", "DPO with a learning rate and β of its own")
    for control, rival in zip(CONTROLS, rivals, strict=True):
        verdict = control(rows)
        if not verdict.runs:
            sentences.append(f"AdaDPO was not compared with {rival}.")
            continue
        said = {
            HOLDS: f"AdaDPO is better than {rival} here",
            FAILS: f"AdaDPO is worse than {rival} here",
            UNDECIDED: f"AdaDPO is not shown to be better than {rival} here",
        }[verdict.verdict]
        sentences.append(f"{said}: {verdict.effect_text}, 95 % interval {verdict.interval_text}.")
    return " ".join(sentences)


FOOTNOTE = (
    "A claim holds if the 95 % interval lies wholly on the claimed side, fails if wholly on the "
    "other; the intervals are not corrected for how many there are. Win rates are against the "
    "reference model's answers. LC: length-controlled. Grid comparisons pair runs of equal data, "
    "seed, learning rate and β, average the seeds of a setting, and take settings as the unit."
)


def verdict_table(rows: Sequence[Row]) -> str:
    """The headline and a Markdown table with a row for each claim."""
    head = ("claim", "verdict", "effect", "95 % interval", "runs", "note")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for v in verdicts(rows):
        cells = (v.claim, f"**{v.verdict}**", v.effect_text, v.interval_text, str(v.runs), v.note)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([f"**{headline(rows)}**", "", *lines, "", FOOTNOTE])
