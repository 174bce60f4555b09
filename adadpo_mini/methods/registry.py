"""Every method a race can run, by name.

The entries of DPO, AdaDPO and the fixed ratio are here; every other entry is next to its loss.
"""

from adadpo_mini.losses import adadpo_loss, dpo_loss, fixed_ratio_loss
from adadpo_mini.methods import controls, reference_based, reference_free
from adadpo_mini.methods.method import ADA, RHO_P, RHO_X, Method
from adadpo_mini.system.markdown import markdown_table

ADA_FORM = "−log σ(β·r·u_w − β·u_l)"

METHODS: dict[str, Method] = {
    "dpo": Method("DPO", dpo_loss, "−log σ(β·u_w − β·u_l)", "arXiv:2305.18290", colour="#D55E00"),
    "adadpo": Method(
        "AdaDPO", adadpo_loss, f"{ADA_FORM}, {RHO_X}", ADA, "x = exp(u/|y|)", colour="#2A86CC"
    ),
    "adadpo_policy": Method(
        "AdaDPO, policy space",
        adadpo_loss,
        f"{ADA_FORM}, {RHO_P}",
        ADA,
        "p",
        {"space": "policy"},
        colour="#CC79A7",
    ),
    "adadpo_raw": Method(
        "AdaDPO, raw",
        adadpo_loss,
        f"{ADA_FORM}, ρ = exp(u_w − u_l)",
        ADA,
        "x = exp(u)",
        {"length_normalize": False},
        colour="#8A6FDF",
    ),
    "fixed_ratio": Method(
        "fixed ratio",
        fixed_ratio_loss,
        "−log σ(c·β·u_w − β·u_l)",
        "AdaDPO's control: a constant; DPO-Shift, arXiv:2502.07599, with f = 1/c",
        colour="#009E73",
    ),
    **controls.METHODS,
    **reference_based.METHODS,
    **reference_free.METHODS,
}
"""The losses on pairs."""

RLHF = "rlhf"
EVERY_METHOD: dict[str, Method] = {
    **METHODS,
    # It has no loss on pairs to minimise. DPO's, with the same optimum, measures it on them.
    RLHF: Method(
        "RLHF",
        dpo_loss,
        "−E[r(x, y) − β·(log π_θ(y|x) − log π_ref(y|x))], y sampled from π_θ",
        "arXiv:2203.02155",
        trained_by="rlhf",
        only_plain=True,
        colour="#9A8F5A",
    ),
}
ALL_METHODS = tuple(EVERY_METHOD)


LOSS_COLUMNS = ("name", "loss of a pair", "balanced in", "source")


def loss_rows() -> list[tuple[str, str, str, str]]:
    """Return the rows under `LOSS_COLUMNS`. Notation as in `losses.py`; p = π^(1/|y|)."""
    return [
        (name, method.formula, method.balanced or "–", method.source)
        for name, method in METHODS.items()
    ]


def methods_table() -> str:
    """Return `loss_rows` as Markdown."""
    return markdown_table(LOSS_COLUMNS, ((f"`{name}`", *rest) for name, *rest in loss_rows()))
