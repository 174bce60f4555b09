"""Losses without a reference: SimPO, CPO, ORPO, each with its Ada form.

They use log π_θ(y|x) itself, so AdaDPO's principle applies in policy space. They still take the
reference's log-probs, but only to report the same raw rewards β·u as every other loss, which makes
methods comparable. `*logps` are the four log-probs that `dpo_loss` takes, in the same order. The
Ada forms were derived for this package.
"""

import torch
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
from adadpo_mini.methods.method import DERIVED, RHO_P, Method


def simpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 2.0,
    gamma: float = 1.0,
) -> PreferenceLoss:
    """Simple preference optimisation: per-token log-probs and a target margin γ.

        L = −log σ(β·log π_w/|y_w| − β·log π_l/|y_l| − γ)

    Args:
        beta: β multiplies log-probs per token, so it is much larger than DPO's: the paper uses 2 to
            10. A race sets it with `simpo_beta`.
        gamma: γ, the paper's advice is to start at β/2.

    Source: Meng et al. 2024, arXiv:2405.14734, equation 6. It equals TRL's CPOTrainer with
    loss_type="simpo" and cpo_alpha=0.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> round(simpo_loss(-one, -one, zero, zero, **lengths).loss.item(), 4)  # −log σ(−1)
    1.3133
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    a_w, a_l = _per_token_logps(logps, chosen_lengths, rejected_lengths)
    per_pair = -F.logsigmoid(beta * a_w - beta * a_l - gamma)
    return with_rewards(per_pair, *log_ratios(*logps), beta)


def ada_simpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 2.0,
    gamma: float = 1.0,
    ceiling: float = 2.0,
    k: float = 1.0,
    floor: float | None = None,
) -> PreferenceLoss:
    """SimPO with both sides pushing equally hard on the per-token probability p = π^(1/|y|).

        ρ = p_w/p_l
        L = −log σ(β_w·log p_w − β·log p_l − γ),   β_w = β·sg[min(k·ρ, C)]

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> ada_simpo_loss(-one, -2 * one, zero, zero, **lengths).beta_chosen  # 2·min(e, 2)
    tensor([4.])
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    a_w, a_l = _per_token_logps(logps, chosen_lengths, rejected_lengths)
    ratio, rho = adaptive_ratio(a_w - a_l, ceiling=ceiling, k=k, floor=floor)
    per_pair = -F.logsigmoid(beta * ratio * a_w - beta * a_l - gamma)
    return with_rewards(per_pair, *log_ratios(*logps), beta, ratio, rho)


def cpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    nll_weight: float = 1.0,
) -> PreferenceLoss:
    """Contrastive preference optimisation: DPO with a flat reference, plus imitation of the chosen.

        L = −log σ(β·log π_w − β·log π_l) − λ·log π_w/|y_w|

    Args:
        nll_weight: λ, TRL's `cpo_alpha`.

    Source: Xu et al. 2024, arXiv:2401.08417. The contrastive part equals TRL's, of log-probs summed
    over the completion. Imitation is averaged over the tokens of each completion, then over pairs;
    TRL averages over all chosen tokens of a batch, so there a long answer weighs more. The two are
    equal if all chosen are equally long.

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> round(cpo_loss(-one, -one, zero, zero, **lengths).loss.item(), 4)  # log 2 + 1
    1.6931
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    logp_w, logp_l = _policy(logps)
    a_w, _ = _per_token_logps(logps, chosen_lengths, rejected_lengths)
    per_pair = -F.logsigmoid(beta * logp_w - beta * logp_l) - nll_weight * a_w
    return with_rewards(per_pair, *log_ratios(*logps), beta)


def ada_cpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    nll_weight: float = 1.0,
    ceiling: float = 2.0,
    k: float = 1.0,
    floor: float | None = None,
) -> PreferenceLoss:
    """CPO whose contrast pushes equally hard on p_w and p_l, for completions of equal length.

    Imitation is added to it.

        ρ = exp(log π_w/|y_w| − log π_l/|y_l|)
        L = −log σ(β_w·log π_w − β·log π_l) − λ·log π_w/|y_w|,   β_w = β·sg[min(k·ρ, C)]

    >>> zero, one = torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> ada_cpo_loss(-one, -1.5 * one, zero, zero, **lengths).rho  # e^0.5
    tensor([1.6487])
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    logp_w, logp_l = _policy(logps)
    a_w, a_l = _per_token_logps(logps, chosen_lengths, rejected_lengths)
    ratio, rho = adaptive_ratio(a_w - a_l, ceiling=ceiling, k=k, floor=floor)
    per_pair = -F.logsigmoid(beta * ratio * logp_w - beta * logp_l) - nll_weight * a_w
    return with_rewards(per_pair, *log_ratios(*logps), beta, ratio, rho)


def orpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    nll_weight: float = 1.0,
) -> PreferenceLoss:
    """Odds-ratio preference optimisation: imitate the chosen and raise its odds over the rejected.

        odds(p) = p/(1 − p),   p = π^(1/|y|)
        L = −λ·log p_w − β·log σ(log odds(p_w) − log odds(p_l))

    Args:
        beta: the paper's λ, the weight of the odds-ratio term.
        nll_weight: the weight of imitation; the paper uses 1.

    Source: Hong et al. 2024, arXiv:2403.07691, equations 6 and 7. The odds-ratio term equals TRL's.
    Imitation differs: TRL imitates the prompt as well, and averages over all tokens of a batch.

    >>> half, zero, one = torch.tensor([0.5]).log(), torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> round(orpo_loss(half, half, zero, zero, **lengths).loss.item(), 4)  # 1.1·log 2
    0.7625
    """
    check(beta > 0, f"beta must be positive, not {beta}")
    a_w, a_l = _per_token_logps(logps, chosen_lengths, rejected_lengths)
    per_pair = -nll_weight * a_w - beta * F.logsigmoid(_log_odds(a_w) - _log_odds(a_l))
    return with_rewards(per_pair, *log_ratios(*logps), beta)


def ada_orpo_loss(
    *logps: Tensor,
    chosen_lengths: Tensor,
    rejected_lengths: Tensor,
    beta: float = 0.1,
    nll_weight: float = 1.0,
    ceiling: float = 2.0,
    k: float = 1.0,
    floor: float | None = None,
) -> PreferenceLoss:
    """ORPO whose odds-ratio part pushes equally hard on p_w and p_l; imitation is added.

        ρ = p_w·(1 − p_w) / (p_l·(1 − p_l))
        L = −λ·log p_w − β·log σ(r·log odds(p_w) − log odds(p_l)),   r = sg[min(k·ρ, C)]

    >>> half, zero, one = torch.tensor([0.5]).log(), torch.zeros(1), torch.ones(1)
    >>> lengths = {"chosen_lengths": one, "rejected_lengths": one}
    >>> ada_orpo_loss(half, torch.tensor([0.2]).log(), zero, zero, **lengths).rho  # 0.25/0.16
    tensor([1.5625])
    """
    a_w, a_l = _per_token_logps(logps, chosen_lengths, rejected_lengths)
    log_rho = (a_w + _log_one_minus_exp(a_w)) - (a_l + _log_one_minus_exp(a_l))
    ratio, rho = adaptive_ratio(log_rho, ceiling=ceiling, k=k, floor=floor)
    check(beta > 0, f"beta must be positive, not {beta}")
    per_pair = -nll_weight * a_w - beta * F.logsigmoid(ratio * _log_odds(a_w) - _log_odds(a_l))
    return with_rewards(per_pair, *log_ratios(*logps), beta, ratio, rho)


def _policy(logps: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return log π_w and log π_l, in fp32 or better."""
    zeros = [torch.zeros_like(logp) for logp in logps[2:]]
    return log_ratios(*logps[:2], *zeros)


def _per_token_logps(
    logps: tuple[Tensor, ...], chosen: Tensor, rejected: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log p_w and log p_l, the mean log-prob per token."""
    logp_w, logp_l = _policy(logps)
    lengths_w, lengths_l = as_lengths(logp_w, chosen, rejected)
    return logp_w / lengths_w, logp_l / lengths_l


def _log_odds(a: Tensor) -> Tensor:
    """Return log(p/(1 − p)) for p = e^a."""
    return a - _log_one_minus_exp(a)


def _log_one_minus_exp(a: Tensor) -> Tensor:
    """Return log(1 − e^a) for a ≤ 0, with a clamped to −1e-7 so that certainty stays finite."""
    return torch.log(-torch.expm1(a.clamp(max=-1e-7)))


OWN_BETA = {"beta": "simpo_beta"}

METHODS = {
    "simpo": Method(
        "SimPO",
        simpo_loss,
        "−log σ(β·log p_w − β·log p_l − γ)",
        "arXiv:2405.14734",
        renamed=OWN_BETA,
        needs_reference=False,
        colour="#C0508F",
    ),
    "ada_simpo": Method(
        "Ada-SimPO",
        ada_simpo_loss,
        f"−log σ(β·r·log p_w − β·log p_l − γ), {RHO_P}",
        DERIVED,
        "p",
        renamed=OWN_BETA,
        needs_reference=False,
        colour="#6FA84A",
    ),
    "cpo": Method(
        "CPO",
        cpo_loss,
        "−log σ(β·log π_w − β·log π_l) − λ·log p_w",
        "arXiv:2401.08417",
        needs_reference=False,
        colour="#D1495B",
    ),
    "ada_cpo": Method(
        "Ada-CPO",
        ada_cpo_loss,
        f"−log σ(β·r·log π_w − β·log π_l) − λ·log p_w, {RHO_P}",
        DERIVED,
        "p, imitation aside",
        needs_reference=False,
        colour="#3D9970",
    ),
    "orpo": Method(
        "ORPO",
        orpo_loss,
        "−log p_w − β·log σ(log odds(p_w) − log odds(p_l))",
        "arXiv:2403.07691",
        needs_reference=False,
        colour="#C98A2B",
    ),
    "ada_orpo": Method(
        "Ada-ORPO",
        ada_orpo_loss,
        "−log p_w − β·log σ(r·log odds(p_w) − log odds(p_l)), ρ = p_w(1 − p_w)/(p_l(1 − p_l))",
        DERIVED,
        "p, imitation aside",
        needs_reference=False,
        colour="#7A7FC9",
    ),
}
