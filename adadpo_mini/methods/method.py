"""What a race knows of a method whose loss is one on pairs."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from adadpo_mini.losses import PreferenceLoss

BoundLoss = Callable[..., PreferenceLoss]
"""(four log-probs, chosen_lengths, rejected_lengths) → `PreferenceLoss`, with all knobs set."""

ADA, DERIVED = "arXiv:2605.28440", "derived from arXiv:2605.28440"
RHO_X, RHO_P = "ρ = exp(u_w/|y_w| − u_l/|y_l|)", "ρ = p_w/p_l"


@dataclass(frozen=True)
class Method:
    """A loss with what a table says of it.

    Attributes:
        title: what people call it.
        loss: a function of the four log-probs and keyword knobs.
        formula: L for one pair. Where r stands, it is sg[min(k·ρ, C)] with the ρ given.
        source: where it is defined, or what it is.
        balanced: what both sides push equally hard on (below the ceiling); "" if nothing.
        fixed: knobs that make this method what it is, whatever the race's settings say.
        needs_reference: whether the reference's log-probs decide the gradient. If not, the loss
            uses them only for the rewards that it reports.
    """

    title: str
    loss: Callable[..., PreferenceLoss]
    formula: str
    source: str
    balanced: str = ""
    fixed: Mapping[str, object] = field(default_factory=dict)
    needs_reference: bool = True

    @property
    def parameters(self) -> frozenset[str]:
        """The knobs that the loss knows, and the lengths if it needs them."""
        return frozenset(inspect.signature(self.loss).parameters)

    @property
    def needs_lengths(self) -> bool:
        """Whether the loss takes the lengths of the completions."""
        return "chosen_lengths" in self.parameters

    def knobs(self, settings: Mapping[str, object]) -> dict[str, object]:
        """Of these settings, those that the loss knows, with what is fixed for this method."""
        known = {name: value for name, value in settings.items() if name in self.parameters}
        return {**known, **self.fixed}

    def bind(self, settings: Mapping[str, object]) -> BoundLoss:
        """The loss with its knobs set, for every method a function of the same arguments: the four
        log-probs, chosen_lengths and rejected_lengths."""
        knobs = self.knobs(settings)

        def bound(*logps: Tensor, **lengths: Tensor) -> PreferenceLoss:
            return self.loss(*logps, **(lengths if self.needs_lengths else {}), **knobs)

        return bound
