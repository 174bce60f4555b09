"""The measurements of a batch, computed by hand for three pairs."""

import math

import pytest
import torch

from adadpo_mini.losses import adadpo_loss, dpo_loss
from adadpo_mini.measure.batch import BatchLoss, describe

SHIFTS = {"chosen": (2.0, -1.0, 0.5), "rejected": (1.0, -6.0, 1.5)}
LENGTHS = {"chosen": (4, 2, 1), "rejected": (2, 3, 1)}
CEILING = 2.0


@pytest.fixture(scope="module")
def event():
    """AdaDPO's event; under the reference every answer has -10 nats."""
    shifts, lengths = (
        {side: torch.tensor(values) for side, values in each.items()} for each in (SHIFTS, LENGTHS)
    )
    logps = {side: shift - 10 for side, shift in shifts.items()}
    reference = torch.full((3,), -10.0)
    counts = {f"{side}_lengths": length for side, length in lengths.items()}
    loss = adadpo_loss(
        logps["chosen"], logps["rejected"], reference, reference, **counts, beta=0.2,
        ceiling=CEILING,
    )  # fmt: skip
    return describe(BatchLoss(loss, *logps.values(), *shifts.values(), **counts), CEILING)


def pairs():
    """(ρ, β_w/β_l, x_w/x_l) of each pair: 0 → ρ = 1, then e^1.5 over the ceiling, then e^−1."""
    for u_w, u_l, n_w, n_l in zip(*SHIFTS.values(), *LENGTHS.values(), strict=True):
        rho = math.exp(u_w / n_w - u_l / n_l)
        yield rho, min(rho, CEILING), rho


def test_ratio_and_ceiling_share_are_means_over_the_pairs(event):
    ratios = [ratio for _, ratio, _ in pairs()]
    assert ratios == pytest.approx([1.0, CEILING, math.exp(-1)])
    assert event["ada/rho"] == pytest.approx(sum(ratios) / 3)
    assert event["ada/ceiling_share"] == pytest.approx(1 / 3)


def test_the_balance_is_the_geometric_mean_of_the_pairs_balances(event):
    each = [ratio / x for _, ratio, x in pairs()]
    assert event["balance/ratio"] == pytest.approx(math.prod(each) ** (1 / 3), rel=1e-5)
    assert event["balance/ratio"] != pytest.approx(sum(each) / 3, rel=0.02)


def test_log_probs_shifts_and_rewards_are_means_of_each_side(event):
    for side, shifts in SHIFTS.items():
        mean = sum(shifts) / 3
        assert event[f"shift/{side}"] == pytest.approx(mean)
        assert event[f"logps/{side}"] == pytest.approx(mean - 10)
        assert event[f"rewards/{side}"] == pytest.approx(0.2 * mean, rel=1e-5)
    margin = event["rewards/chosen"] - event["rewards/rejected"]
    assert event["rewards/margins"] == pytest.approx(margin)
    assert event["rewards/accuracies"] == pytest.approx(2 / 3), "of the last pair u_w < u_l"


def test_the_ranking_accuracy_compares_log_probs_without_the_reference():
    """Two of three pairs gain on the reference, but only one chosen answer is the likelier one."""
    chosen, rejected = torch.tensor([-5.0, -9.0, -8.0]), torch.tensor([-6.0, -7.0, -8.0])
    ref_chosen, ref_rejected = torch.tensor([-6.0, -12.0, -7.0]), torch.tensor([-6.0, -8.0, -9.0])
    loss = dpo_loss(chosen, rejected, ref_chosen, ref_rejected)
    lengths = torch.ones(3)
    shifts = (chosen - ref_chosen, rejected - ref_rejected)
    event = describe(BatchLoss(loss, chosen, rejected, *shifts, lengths, lengths))
    assert event["rewards/accuracies"] == pytest.approx(2 / 3)
    assert event["ranking_accuracy"] == pytest.approx(1 / 3)
