"""Every method a race can run: its loss, its formula in a line, its source."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from adadpo_mini import family, losses, reference_free
from adadpo_mini.losses import PreferenceLoss

BoundLoss = Callable[..., PreferenceLoss]


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
    """

    title: str
    loss: Callable[..., PreferenceLoss]
    formula: str
    source: str
    balanced: str = ""
    fixed: Mapping[str, object] = field(default_factory=dict)

    @property
    def parameters(self) -> frozenset[str]:
        """The knobs that the loss knows, and the lengths if it needs them."""
        return frozenset(inspect.signature(self.loss).parameters)

    @property
    def needs_lengths(self) -> bool:
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


ADA, DERIVED = "arXiv:2605.28440", "derived from arXiv:2605.28440"
DPO_FORM = "−log σ(β·u_w − β·u_l)"
ADA_FORM = "−log σ(β·r·u_w − β·u_l)"
RHO_X, RHO_P = "ρ = exp(u_w/|y_w| − u_l/|y_l|)", "ρ = p_w/p_l"

METHODS = {
    "dpo": Method("DPO", losses.dpo_loss, DPO_FORM, "arXiv:2305.18290"),
    "adadpo": Method("AdaDPO", losses.adadpo_loss, f"{ADA_FORM}, {RHO_X}", ADA, "x = exp(u/|y|)"),
    "adadpo_policy": Method(
        "AdaDPO, policy space",
        losses.adadpo_loss,
        f"{ADA_FORM}, {RHO_P}",
        ADA,
        "p",
        {"space": "policy"},
    ),
    "adadpo_raw": Method(
        "AdaDPO, raw",
        losses.adadpo_loss,
        f"{ADA_FORM}, ρ = exp(u_w − u_l)",
        ADA,
        "x = exp(u)",
        {"length_normalize": False},
    ),
    "fixed_ratio": Method(
        "fixed ratio",
        losses.fixed_ratio_loss,
        "−log σ(c·β·u_w − β·u_l)",
        "AdaDPO's control; DPO-Shift, arXiv:2502.07599, with f = 1/c",
    ),
    "weighted_dpo": Method(
        "weighted DPO (wrong)",
        family.weighted_dpo_loss,
        f"−r·log σ(β·u_w − β·u_l), {RHO_X}",
        "AdaDPO's negative control: a wrong reading",
    ),
    "ipo": Method("IPO", family.ipo_loss, "(u_w − u_l − 1/(2β))²", "arXiv:2310.12036"),
    "ada_ipo": Method(
        "Ada-IPO",
        family.ada_ipo_loss,
        f"(r·u_w − u_l − 1/(2β))², {RHO_X}",
        DERIVED,
        "x = exp(u/|y|)",
    ),
    "rdpo": Method(
        "R-DPO", family.rdpo_loss, "−log σ(β·u_w − β·u_l + α·(|y_w| − |y_l|))", "arXiv:2403.19159"
    ),
    "ada_rdpo": Method(
        "Ada-R-DPO",
        family.ada_rdpo_loss,
        f"−log σ(β·r·u_w − β·u_l + α·(|y_w| − |y_l|)), {RHO_X}",
        DERIVED,
        "x = exp(u/|y|)",
    ),
    "dpop": Method(
        "DPOP", family.dpop_loss, "−log σ(β·(u_w − u_l − λ·max(0, −u_w)))", "arXiv:2402.13228"
    ),
    "simpo": Method(
        "SimPO",
        reference_free.simpo_loss,
        "−log σ(β·log p_w − β·log p_l − γ)",
        "arXiv:2405.14734",
    ),
    "ada_simpo": Method(
        "Ada-SimPO",
        reference_free.ada_simpo_loss,
        f"−log σ(β·r·log p_w − β·log p_l − γ), {RHO_P}",
        DERIVED,
        "p",
    ),
    "cpo": Method(
        "CPO",
        reference_free.cpo_loss,
        "−log σ(β·log π_w − β·log π_l) − λ·log p_w",
        "arXiv:2401.08417",
    ),
    "ada_cpo": Method(
        "Ada-CPO",
        reference_free.ada_cpo_loss,
        f"−log σ(β·r·log π_w − β·log π_l) − λ·log p_w, {RHO_P}",
        DERIVED,
        "p, imitation aside",
    ),
    "orpo": Method(
        "ORPO",
        reference_free.orpo_loss,
        "−log p_w − β·log σ(log odds(p_w) − log odds(p_l))",
        "arXiv:2403.07691",
    ),
    "ada_orpo": Method(
        "Ada-ORPO",
        reference_free.ada_orpo_loss,
        "−log p_w − β·log σ(r·log odds(p_w) − log odds(p_l)), ρ = p_w(1 − p_w)/(p_l(1 − p_l))",
        DERIVED,
        "p, imitation aside",
    ),
}
RLHF = "rlhf"
"""Not a loss on pairs but what DPO replaced; see `rlhf.py`."""

ALL_METHODS = (*METHODS, RLHF)


def methods_table() -> str:
    """The table of all losses in Markdown, with p = π^(1/|y|) and u, σ, sg as everywhere."""
    head = ["name", "loss of a pair", "balanced in", "source"]
    rows = [
        [
            f"`{name}`",
            method.formula.replace("|", "\\|"),
            method.balanced.replace("|", "\\|") or "–",
        ]
        + [method.source]
        for name, method in METHODS.items()
    ]
    lines = [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]
    return "\n".join(lines)
