"""A case: the events of one method's run with what else is known about it, and a diagnosis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from adadpo_mini.doctor.series import SIDES, median, series
from adadpo_mini.event import Event

TRL_BETA = 0.1  # TRL's default
TINY_RATE = 1e-6  # full fine-tuning of large models uses 5e-7; nobody should go lower for safety
HIGH_BETA = 1.0  # at ten times TRL's default there is little left to raise
SAME = 0.02  # relative; logged rewards are rounded


@dataclass(frozen=True)
class Diagnosis:
    """One finding about a run.

    Attributes:
        name: the rule that found it, a key of `RULES`, or "nothing_to_judge".
        what: the finding, in one sentence.
        evidence: the numbers behind it, in words, with their steps.
        advice: what to do.
    """

    name: str
    what: str
    evidence: str
    advice: str


@dataclass(frozen=True)
class Case:
    """The events of one method's run, and what else is known about it.

    Attributes:
        events: in the order of the steps.
        method: the method's name in a race; for other logs any name.
        given_beta: β if the user or the run folder says so, else None.
        diverged: whether the run ended at a loss that was not finite.
    """

    events: Sequence[Event]
    method: str = ""
    given_beta: float | None = None
    diverged: bool = False

    def series(self, *names: str, least: int = 1) -> list[tuple[int, float]]:
        """Return the rows of the first name with at least so many finite numbers; else none."""
        return series(self.events, *names, least=least)

    @cached_property
    def keys(self) -> frozenset[str]:
        """The names of all numbers."""
        return frozenset(key for event in self.events for key in event)

    @property
    def is_own(self) -> bool:
        """Whether a race of this package wrote the log: it follows a fixed set of pairs."""
        return any(key.startswith("eval_shift/") for key in self.keys)

    @cached_property
    def beta(self) -> float | None:
        """β as given, or as it follows from an evaluation set; None if unknown.

        On fixed pairs the reference's log-probs do not change, so β = Δreward / Δlog-prob.
        """
        if self.given_beta is not None:
            return self.given_beta
        found = []
        for key in sorted(self.keys):
            start, _, side = key.rpartition("rewards/")
            if not start.startswith("eval_") or side not in SIDES:
                continue
            rewards, logps = dict(self.series(key)), dict(self.series(f"{start}logps/{side}"))
            steps = [step for step in rewards if step in logps]
            moved = logps[steps[-1]] - logps[steps[0]] if steps else 0.0
            if abs(moved) >= 1:  # nat; less drowns in rounding
                found.append((rewards[steps[-1]] - rewards[steps[0]]) / moved)
        agree = bool(found) and min(found) > 0 and max(found) <= min(found) * (1 + SAME)
        return float(f"{median(found):.2g}") if agree else None

    @cached_property
    def has_reference(self) -> bool:
        """Whether rewards compare with a reference.

        CPO, SimPO and ORPO report β·log π itself, which is the same multiple of the log-prob in
        every row.
        """
        rewards, logps = dict(self.series("rewards/chosen")), dict(self.series("logps/chosen"))
        ratios = [rewards[step] / logps[step] for step in rewards if logps.get(step)]
        if len(ratios) < 3 or min(ratios) <= 1e-4 or len(set(logps.values())) < 3:
            return True
        return max(ratios) > min(ratios) * (1 + SAME)

    @cached_property
    def weights_chosen(self) -> bool:
        """Whether the run already gives the chosen side another weight, as AdaDPO does."""
        rho = [value for _, value in self.series("ada/rho", "eval_ada/rho")]
        named = self.method.startswith(("adadpo", "ada_", "fixed_ratio"))
        return named or any(abs(value - 1) > 1e-3 for value in rho)

    @property
    def imitates(self) -> bool:
        """Whether the loss already has a likelihood term on the chosen, as RPO has."""
        logged = any(key.endswith(("nll_loss", "sft_loss")) for key in self.keys)
        return logged or self.method in ("rpo", "cpo", "ada_cpo", "orpo", "ada_orpo")

    @property
    def top_rate(self) -> float | None:
        """The largest learning rate; None if it is not logged."""
        rates = [rate for _, rate in self.series("learning_rate")]
        return max(rates) if rates else None

    def less_push(self) -> list[str]:
        """Return what makes the updates smaller and is not in use yet."""
        options = []
        if self.beta is None or self.beta < HIGH_BETA:
            options.append("raise β, which ties the policy closer to the reference")
        if self.top_rate is None or self.top_rate > TINY_RATE:
            options.append("lower the learning rate")
        return [*options, "stop earlier"]

    def more_chosen(self) -> list[str]:
        """Return what gives the chosen side more weight and is not in use yet."""
        options = []
        if not self.weights_chosen:
            options.append("give the chosen side more weight (adadpo, or fixed_ratio, its control)")
        if not self.imitates:
            options.append("add an NLL term on the chosen (rpo)")
        return options


Rule = Callable[[Case], Diagnosis | None]


def either(options: Sequence[str]) -> str:
    """Return "A, b or c." for the options a, b and c."""
    *most, last = options
    text = f"{', '.join(most)} or {last}" if most else last
    return text[0].upper() + text[1:]
