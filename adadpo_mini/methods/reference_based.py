"""DPO's relatives that compare with a reference: IPO, R-DPO, DPOP, RPO.

The controls of AdaDPO are in `controls.py`.

Notation and `PreferenceLoss` are those of `losses.py`. `*logps` are the four log-probs that
`dpo_loss` takes, in the same order. Each loss is followed by its Ada form, which applies AdaDPO's
principle: a stop-gradient coefficient on the chosen side makes both sides push equally hard on the
probability per token, for completions of equal length; otherwise a factor |y_w|/|y_l| remains. The
Ada forms were derived for this package.
"""

import torch  # noqa: F401 (the examples need it)
import torch.nn.functional as F
from torch import Tensor

from adadpo_mini.losses import (
    PreferenceLoss,
    adaptive_ratio,
    as_lengths,
    check,
    log_ratios,
    with_rewards,
)
from adadpo_mini.methods.method import DERIVED, RHO_X, Method


def ipo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    per_token: bool = False,
) -> PreferenceLoss:
    """Identity preference optimisation: a target for the gap, which DPO widens without end.

        L = (u_w − u_l − 1/(2β))²

    Args:
        beta: the paper's τ; a smaller β sets a wider target gap.
        per_token: use u/|y| in place of u, as TRL does.

    Source: Azar et al. 2023, arXiv:2310.12036, equation 17.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> ipo_loss(one, zero, zero, zero, **lengths, beta=0.1).loss.item()  # (1 − 0 − 5)²
    16.0
    """
    u_w, u_l = log_ratios(*logps)
    s_w, s_l = _per_token(u_w, u_l, chosen_lengths, rejected_lengths) if per_token else (u_w, u_l)
    check(beta > 0, f"beta must be positive, not {beta}")
    per_pair = (s_w - s_l - 1 / (2 * beta)) ** 2
    return with_rewards(per_pair, u_w, u_l, beta)


def ada_ipo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    ceiling: float = 2.0,
    k: float = 1.0,
    floor: float | None = None,
) -> PreferenceLoss:
    """IPO with both sides pushing equally hard on x = exp(u/|y|), for completions of equal length.

        ρ = exp(u_w/|y_w| − u_l/|y_l|)
        L = (r·u_w − u_l − 1/(2β))²,   r = sg[min(k·ρ, C)]

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> ada_ipo_loss(one, zero, zero, zero, **lengths).loss.item()  # (2·1 − 0 − 5)²
    9.0
    """
    u_w, u_l = log_ratios(*logps)
    a_w, a_l = _per_token(u_w, u_l, chosen_lengths, rejected_lengths)
    ratio, rho = adaptive_ratio(a_w - a_l, ceiling=ceiling, k=k, floor=floor)
    check(beta > 0, f"beta must be positive, not {beta}")
    per_pair = (ratio * u_w - u_l - 1 / (2 * beta)) ** 2
    return with_rewards(per_pair, u_w, u_l, beta, ratio, rho)


def rdpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    alpha: float = 0.01,
) -> PreferenceLoss:
    """Length-regularised DPO: a preference that length alone explains pushes less.

        L = −log σ(β·u_w − β·u_l + α·(|y_w| − |y_l|))

    Args:
        alpha: α ≥ 0, the price of a token.

    Source: Park et al. 2024, arXiv:2403.19159. The sign follows from the paper's objective, which
    subtracts α·|y| from the reward.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": 30 * one, "rejected_lengths": 10 * one}
    >>> round(rdpo_loss(zero, zero, zero, zero, **lengths).loss.item(), 4)  # −log σ(0.2)
    0.5981
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    check(alpha >= 0, f"alpha must not be negative, but is {alpha}")
    u_w, u_l = log_ratios(*logps)
    lengths_w, lengths_l = as_lengths(u_w, chosen_lengths, rejected_lengths)
    per_pair = -F.logsigmoid(beta * u_w - beta * u_l + alpha * (lengths_w - lengths_l))
    return with_rewards(per_pair, u_w, u_l, beta)


def ada_rdpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    alpha: float = 0.01,
    ceiling: float = 2.0,
    k: float = 1.0,
    floor: float | None = None,
) -> PreferenceLoss:
    """R-DPO with AdaDPO's coefficient on the chosen side; the length term is unchanged.

        L = −log σ(β_w·u_w − β·u_l + α·(|y_w| − |y_l|)),   β_w as in `adadpo_loss`

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> round(ada_rdpo_loss(one, zero, zero, zero, **lengths).loss.item(), 4)  # −log σ(0.2)
    0.5981
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    check(alpha >= 0, f"alpha must not be negative, but is {alpha}")
    u_w, u_l = log_ratios(*logps)
    lengths_w, lengths_l = as_lengths(u_w, chosen_lengths, rejected_lengths)
    log_rho = u_w / lengths_w - u_l / lengths_l
    ratio, rho = adaptive_ratio(log_rho, ceiling=ceiling, k=k, floor=floor)
    per_pair = -F.logsigmoid(beta * ratio * u_w - beta * u_l + alpha * (lengths_w - lengths_l))
    return with_rewards(per_pair, u_w, u_l, beta, ratio, rho)


def dpop_loss(*logps: Tensor, beta: float = 0.1, penalty: float = 50.0) -> PreferenceLoss:
    """DPO-Positive: a penalty once the chosen falls below the reference.

        L = −log σ(β·(u_w − u_l − λ·max(0, −u_w)))

    Below the reference it weights the chosen side by 1 + λ; above, it is DPO.

    Args:
        penalty: λ ≥ 0; public code uses 50.

    Source: Pal et al. 2024, arXiv:2402.13228, equation 3.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> dpop_loss(-one, -one, zero, zero, penalty=5.0).per_pair  # −log σ(0.1·(0 − 5))
    tensor([0.9741])
    """
    check(penalty >= 0, f"penalty must not be negative, but is {penalty}")
    check(beta > 0, f"beta must be positive, not {beta}")
    u_w, u_l = log_ratios(*logps)
    per_pair = -F.logsigmoid(beta * (u_w - u_l - penalty * F.relu(-u_w)))
    ratio = 1 + penalty * (u_w < 0).to(u_w)
    return with_rewards(per_pair, u_w, u_l, beta, ratio)


def rpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    nll_weight: float = 1.0,
) -> PreferenceLoss:
    """DPO plus imitation of the chosen, which holds its log-prob up directly.

        L = −log σ(β·u_w − β·u_l) − α·log π_w/|y_w|

    Args:
        nll_weight: α ≥ 0, the weight of imitation; the paper uses 1.

    Source: Pang et al. 2024, arXiv:2404.19733, equation 2. Its α-term is averaged over tokens, of
    each completion alone, as here; TRL averages over all tokens of a batch.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": 2 * one, "rejected_lengths": one}
    >>> round(rpo_loss(-one, zero, -one, zero, **lengths).loss.item(), 4)  # log 2 + 1/2
    1.1931
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    check(nll_weight >= 0, f"nll_weight must not be negative, but is {nll_weight}")
    u_w, u_l = log_ratios(*logps)
    lengths_w, _ = as_lengths(u_w, chosen_lengths, rejected_lengths)
    imitation = -logps[0].to(u_w) / lengths_w
    per_pair = -F.logsigmoid(beta * u_w - beta * u_l) + nll_weight * imitation
    return with_rewards(per_pair, u_w, u_l, beta)


def _per_token(u_w: Tensor, u_l: Tensor, chosen: Tensor, rejected: Tensor) -> tuple[Tensor, Tensor]:
    lengths_w, lengths_l = as_lengths(u_w, chosen, rejected)
    return u_w / lengths_w, u_l / lengths_l


METHODS = {
    "ipo": Method("IPO", ipo_loss, "(u_w − u_l − 1/(2β))²", "arXiv:2310.12036", colour="#B8860B"),
    "ada_ipo": Method(
        "Ada-IPO",
        ada_ipo_loss,
        f"(r·u_w − u_l − 1/(2β))², {RHO_X}",
        DERIVED,
        "x = exp(u/|y|)",
        colour="#4C9F9F",
    ),
    "rdpo": Method(
        "R-DPO",
        rdpo_loss,
        "−log σ(β·u_w − β·u_l + α·(|y_w| − |y_l|))",
        "arXiv:2403.19159",
        colour="#E0703A",
    ),
    "ada_rdpo": Method(
        "Ada-R-DPO",
        ada_rdpo_loss,
        f"−log σ(β·r·u_w − β·u_l + α·(|y_w| − |y_l|)), {RHO_X}",
        DERIVED,
        "x = exp(u/|y|)",
        colour="#5B8DEF",
    ),
    "dpop": Method(
        "DPOP",
        dpop_loss,
        "−log σ(β·(u_w − u_l − λ·max(0, −u_w)))",
        "arXiv:2402.13228",
        colour="#A0522D",
    ),
    "rpo": Method(
        "RPO (DPO + NLL)",
        rpo_loss,
        "−log σ(β·u_w − β·u_l) − α·log p_w",
        "arXiv:2404.19733",
        colour="#6B8E23",
    ),
}
