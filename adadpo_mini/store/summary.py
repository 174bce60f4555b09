"""The summary of a race: the numbers of its closing table."""

import math
from collections.abc import Mapping, Sequence

from adadpo_mini.config import RaceConfig
from adadpo_mini.event import Event

FORMATS = {
    "delta_chosen": "+.1f", "delta_rejected": "+.1f", "accuracy": ".2f", "margin": ".2f",
    "win_rate": ".2f",
}  # fmt: skip
TITLES = ("Δchosen", "Δrejected", "accuracy", "margin", "win rate")


def summarize(
    config: RaceConfig,
    events: Mapping[str, Sequence[Event]],
    win_rates: Mapping[str, float] | None,
) -> dict:
    """Return the summary of a race.

    Returns:
        data, seed, threads (CPU threads per method), and methods. For each method, at its last
        held-out measurement: steps, delta_chosen and delta_rejected (change against the reference,
        nats per completion), accuracy, margin (β·(u_w − u_l)), win_rate against the reference (None
        if unknown), and seconds of computation.
    """

    def row(method: str) -> dict:
        measured = [event for event in events[method] if "eval_loss" in event]
        if not measured:
            return {"steps": 0}
        last = measured[-1]
        return {
            "steps": last["step"],
            "delta_chosen": last["eval_shift/chosen"],
            "delta_rejected": last["eval_shift/rejected"],
            "accuracy": last["eval_rewards/accuracies"],
            "margin": last["eval_rewards/margins"],
            "win_rate": None if win_rates is None else win_rates[method],
            "seconds": last["own_time"],
        }

    methods = {method: row(method) for method in config.methods}
    about = {"data": config.data, "seed": config.seed, "threads": config.threads}
    return {**about, "methods": methods}


def closing_cells(row: Mapping[str, float | None]) -> list[str]:
    """Return a method's cells of the closing table: the steps, then one for each of `TITLES`.

    An unknown value, or NaN, is a dash.

    >>> closing_cells({"steps": 9, "delta_chosen": -1.25, "accuracy": 0.75, "margin": None})
    ['9', '-1.2', '–', '0.75', '–', '–']
    """
    values = [(row.get(name), form) for name, form in FORMATS.items()]
    cells = ["–" if v is None or math.isnan(v) else f"{v:{form}}" for v, form in values]
    return [str(row.get("steps", 0)), *cells]
