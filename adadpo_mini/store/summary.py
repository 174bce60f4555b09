"""The closing table of a race as a dict."""

from collections.abc import Mapping, Sequence

from adadpo_mini.config import RaceConfig
from adadpo_mini.event import Event


def summarize(
    config: RaceConfig,
    events: Mapping[str, Sequence[Event]],
    win_rates: Mapping[str, float] | None,
) -> dict:
    """The closing table of a race.

    Returns:
        data, seed, threads (CPU threads of each method), and methods: for each method, from its
        last held-out measurement, steps, delta_chosen and delta_rejected (nats per completion
        against the reference), accuracy, margin (β·(u_w − u_l)), win_rate against the reference
        (None if unknown), and seconds that this method has computed.
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
