"""The summary of a race: the numbers of its closing table."""

import math
from collections.abc import Mapping, Sequence

from adadpo_mini.config import RaceConfig
from adadpo_mini.event import Event
from adadpo_mini.measure.answers import TEMPERATURES

WIN_RATES = dict(zip(("win_rate", "win_rate_at_1"), TEMPERATURES, strict=True))
"""The temperature of each win rate in a summary."""
MEASURED = {
    "delta_chosen": "eval_shift/chosen",
    "delta_rejected": "eval_shift/rejected",
    "accuracy": "eval_rewards/accuracies",
    "ranking_accuracy": "eval_ranking_accuracy",
    "margin": "eval_rewards/margins",
}
"""The event's key of each number that is measured on held-out pairs."""
FORMATS = {
    "delta_chosen": "+.1f", "delta_rejected": "+.1f", "accuracy": ".2f", "ranking_accuracy": ".2f",
    "margin": ".2f", "win_rate": ".2f", "win_rate_at_1": ".2f",
}  # fmt: skip
TITLES = (
    "Δchosen", "Δrejected", "accuracy", "ranking", "margin",
    *(f"win\nrate\nT {temperature:g}" for temperature in TEMPERATURES),
)  # fmt: skip
CAPTION = (
    "Δ: change of the held-out completions' log-prob against the reference, in nats. Accuracy: "
    "share of held-out pairs with u_w > u_l, so that the chosen has gained more; ranking: share "
    "with log π_w > log π_l, so that the chosen is likelier. Margin: of the raw rewards. Win rate: "
    "against the reference's answers, by the judge of the toy world. Both models sample at "
    "temperature T: 0.7 as in chat, or 1, which is π itself, as in the curves and the mass ledger."
)
"""What the columns mean; a dash is an unknown value."""
REWARD_ACCURACY = "eval_rlhf/reward_accuracy"
RELIABLE = 0.8  # below it, the reward model is wrong about at least every fifth pair
CHANCE = 0.6


def summarize(
    config: RaceConfig,
    events: Mapping[str, Sequence[Event]],
    win_rates: Mapping[float, Mapping[str, float] | None],
) -> dict:
    """Return the summary of a race.

    Args:
        win_rates: by temperature, each method's win rate; None or no entry if there is none.

    Returns:
        data, seed, threads (CPU threads per method), and methods. For each method, at its last
        held-out measurement: steps, delta_chosen and delta_rejected (change against the reference,
        nats per completion), accuracy (u_w > u_l), ranking_accuracy (log π_w > log π_l), margin
        (β·(u_w − u_l)), win_rate (at temperature 0.7) and win_rate_at_1 against the reference (None
        if unknown), and seconds of computation. For rlhf also reward_accuracy: the share of
        held-out pairs whose chosen the reward model scores higher.
    """

    def row(method: str) -> dict:
        measured = [event for event in events[method] if "eval_loss" in event]
        if not measured:
            return {"steps": 0}
        last = measured[-1]
        rlhf = {"reward_accuracy": last[REWARD_ACCURACY]} if REWARD_ACCURACY in last else {}
        return {
            "steps": last["step"],
            **{name: last.get(key) for name, key in MEASURED.items()},
            **{name: (win_rates.get(at) or {}).get(method) for name, at in WIN_RATES.items()},
            "seconds": last["own_time"],
            **rlhf,
        }

    methods = {method: row(method) for method in config.methods}
    about = {"data": config.data, "seed": config.seed, "threads": config.threads}
    return {**about, "methods": methods}


def closing_cells(row: Mapping[str, float | None]) -> list[str]:
    """Return a method's cells of the closing table: the steps, then one for each of `TITLES`.

    An unknown value, or NaN, is a dash.

    >>> closing_cells({"steps": 9, "delta_chosen": -1.25, "accuracy": 0.75, "margin": None})
    ['9', '-1.2', '–', '0.75', '–', '–', '–', '–']
    """
    values = [(row.get(name), form) for name, form in FORMATS.items()]
    cells = ["–" if v is None or math.isnan(v) else f"{v:{form}}" for v, form in values]
    return [str(row.get("steps", 0)), *cells]


def reward_notes(rows: Mapping[str, Mapping[str, float | None]]) -> list[str]:
    """Return a sentence on each reward model's held-out accuracy, with a warning if it is low.

    Args:
        rows: the methods' rows of a summary.

    >>> print(*reward_notes({"rlhf": {"reward_accuracy": 0.95}, "dpo": {}}))
    rlhf: its reward model tells 95 % of the held-out pairs apart.
    """
    known = {method: row.get("reward_accuracy") for method, row in rows.items()}
    return [_reward_note(method, value) for method, value in known.items() if value is not None]


def _reward_note(method: str, accuracy: float) -> str:
    found = f"{method}: its reward model tells {100 * accuracy:.0f} % of the held-out pairs apart"
    if accuracy >= RELIABLE:
        return f"{found}."
    if accuracy >= CHANCE:
        return (
            f"{found}, fewer than {100 * RELIABLE:.0f} %. The policy also learns its mistakes: "
            "judge it by the win rate, not by the reward."
        )
    return (
        f"{found}, which is about chance (50 %). It has not learned what is preferred, so the "
        "policy follows a reward that means nothing on new prompts. Its result says nothing about "
        "RLHF with a good reward model."
    )
