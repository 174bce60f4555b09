"""`Method`: a loss on pairs, with what a race and the tables need to know about it."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from adadpo_mini.losses import PreferenceLoss

BoundLoss = Callable[..., PreferenceLoss]
"""(four log-probs, chosen_lengths, rejected_lengths) → `PreferenceLoss`; all knobs are set."""

ADA, DERIVED = "arXiv:2605.28440", "derived from arXiv:2605.28440"
RHO_X, RHO_P = "ρ = exp(u_w/|y_w| − u_l/|y_l|)", "ρ = p_w/p_l"


@dataclass(frozen=True)
class Method:
    """A loss on pairs, with its description.

    Attributes:
        title: the usual name.
        loss: a function of the four log-probs and keyword knobs.
        formula: L for one pair; r = sg[min(k·ρ, C)], with the ρ that the formula defines.
        source: the paper that defines it, or a short description.
        balanced: the quantity on which both sides push equally hard, below the ceiling; "" if
            there is none. For those that are per token and have sums in the loss, this is exact
            only for completions of equal length.
        fixed: knobs that define this method and override the race's settings.
        needs_reference: whether the gradient depends on the reference's log-probs. If not, the loss
            uses them only for the rewards that it reports.
        trained_by: what trains it, a key of `lockstep.TRAINERS`.
        couples_pairs: whether the loss of a pair depends on the other pairs of its batch; then the
            batch must be computed in one pass.
        renamed: for a knob that has a setting of its own, the name of that setting.
        only_plain: whether it needs whole fp32 weights on the CPU.
        colour: the same in every figure. DPO, AdaDPO and the fixed ratio have colours of Okabe and
            Ito's palette, which suits all common kinds of colour vision, the blue a little lighter
            for dark pages; the others have hues of medium lightness.
    """

    title: str
    loss: Callable[..., PreferenceLoss]
    formula: str
    source: str
    balanced: str = ""
    fixed: Mapping[str, object] = field(default_factory=dict)
    needs_reference: bool = True
    trained_by: str = "pairs"
    only_plain: bool = False
    couples_pairs: bool = False
    renamed: Mapping[str, str] = field(default_factory=dict)
    colour: str = "#8C8C8C"

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the arguments of the loss: its knobs, and the lengths if it takes them."""
        return frozenset(inspect.signature(self.loss).parameters)

    @property
    def needs_lengths(self) -> bool:
        """Whether the loss takes the completion lengths."""
        return "chosen_lengths" in self.parameters

    def knobs(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Return the settings that the loss takes, overridden by `fixed`."""
        known = {name: self.renamed.get(name, name) for name in self.parameters}
        given = {name: settings[source] for name, source in known.items() if source in settings}
        return {**given, **self.fixed}

    def bind(self, settings: Mapping[str, object]) -> BoundLoss:
        """Return the loss with its knobs set.

        The result takes the same arguments for every method: the four log-probs, chosen_lengths and
        rejected_lengths.
        """
        knobs = self.knobs(settings)

        def bound(*logps: Tensor, **lengths: Tensor) -> PreferenceLoss:
            return self.loss(*logps, **(lengths if self.needs_lengths else {}), **knobs)

        return bound
