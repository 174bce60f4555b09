"""The measurements of a batch, computed by hand for three pairs."""

import math

import pytest
import torch

from adadpo_mini.measure.batch import BatchLoss, describe
from adadpo_mini.measure.forces import balance, forces
from adadpo_mini.methods.registry import METHODS

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
    loss = METHODS["adadpo"].bind({"beta": 0.2, "ceiling": CEILING})
    return describe(BatchLoss.of(loss, *logps.values(), reference, reference, **counts), CEILING)


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
    lengths = zip(LENGTHS["chosen"], LENGTHS["rejected"], strict=True)
    each = [
        n_w / n_l * ratio / x for (_, ratio, x), (n_w, n_l) in zip(pairs(), lengths, strict=True)
    ]
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
    loss = METHODS["dpo"].bind({"beta": 0.1})
    lengths = {"chosen_lengths": torch.ones(3), "rejected_lengths": torch.ones(3)}
    logps = (chosen, rejected, ref_chosen, ref_rejected)
    event = describe(BatchLoss.of(loss, *logps, **lengths))
    assert event["rewards/accuracies"] == pytest.approx(2 / 3)
    assert event["ranking_accuracy"] == pytest.approx(1 / 3)


# The forces and the balance, of every method


def example():
    """Four pairs of unlike lengths, whose chosen gains per token, in fp64."""
    lengths = {
        "chosen_lengths": torch.tensor([4, 2, 9, 5]), "rejected_lengths": torch.tensor([2, 3, 9, 7])
    }  # fmt: skip
    x_w, x_l = torch.tensor([[1.1, 1.3, 1.02, 1.2], [0.7, 0.9, 0.8, 1.1]]).double()
    reference = -1.5 * lengths["chosen_lengths"].double(), -2 * lengths["rejected_lengths"].double()
    return x_w, x_l, reference, lengths


def losses_of(loss, x_w, x_l, reference, lengths):
    """The loss of each pair as a function of x = exp(u/|y|)."""
    counts = lengths["chosen_lengths"], lengths["rejected_lengths"]
    logps = (r + n * x.log() for r, n, x in zip(reference, counts, (x_w, x_l), strict=True))
    return loss(*logps, *reference, **lengths).per_pair


@pytest.mark.parametrize("method", METHODS)
def test_the_balance_of_every_method_is_the_ratio_of_its_finite_differences(method):
    """Floor and ceiling pin the coefficients under a stop-gradient, so that they are constants."""
    loss = METHODS[method].bind({"beta": 0.3, "simpo_beta": 0.3, "ceiling": 0.8, "floor": 0.8})
    x_w, x_l, reference, lengths = example()
    step, slopes = 1e-5, []
    for side in ((step, 0), (0, step)):
        above, below = (
            losses_of(loss, x_w + sign * side[0], x_l + sign * side[1], reference, lengths)
            for sign in (1, -1)
        )
        slopes.append((above - below) / (2 * step))
    expected = (slopes[0].abs() / slopes[1].abs()).log().mean().exp().item()
    counts = lengths["chosen_lengths"], lengths["rejected_lengths"]
    logps = [r + n * x.log() for r, n, x in zip(reference, counts, (x_w, x_l), strict=True)]
    result = BatchLoss.of(loss, *logps, *reference, **lengths)
    assert describe(result)["balance/ratio"] == pytest.approx(expected, rel=1e-6)
    assert abs(expected - 1) > 0.01, "an example in which nothing is balanced by chance"


@pytest.mark.parametrize("method", ["adadpo", "ada_rdpo", "ada_ipo"])
def test_below_the_ceiling_the_ada_forms_are_balanced_only_for_answers_of_equal_length(method):
    loss = METHODS[method].bind({"beta": 0.3, "ceiling": 50.0})
    x_w, x_l, reference, lengths = example()
    equal = {side: torch.full((4,), 3) for side in lengths}
    for counts in (lengths, equal):
        n_w, n_l = counts.values()
        logps = [r + n * x.log() for r, n, x in zip(reference, (n_w, n_l), (x_w, x_l), strict=True)]
        event = describe(BatchLoss.of(loss, *logps, *reference, **counts))
        left = (n_w / n_l).log().mean().exp().item()
        assert event["balance/ratio"] == pytest.approx(left, rel=1e-6)
    assert left == 1.0


def test_measuring_the_forces_leaves_the_gradient_of_the_loss_alone():
    x_w, x_l, reference, lengths = example()
    logps = [torch.zeros(4, requires_grad=True) for _ in range(2)]
    loss = METHODS["adadpo"].bind({"beta": 0.1})
    with torch.no_grad():
        measured = forces(loss, *logps, *map(torch.zeros_like, logps), **lengths)
    assert all(logp.grad is None for logp in logps)
    assert [force.tolist() for force in measured] == [[pytest.approx(0.05)] * 4] * 2


def test_a_pair_with_a_margin_that_fp32_cannot_resolve_has_a_balance():
    """At Δ = 200, σ(−Δ) is 0 in fp32."""
    zeros, lengths = torch.zeros(1), {f"{s}_lengths": torch.tensor([9]) for s in SHIFTS}
    logps = (torch.tensor([100.0]), torch.tensor([-100.0]), zeros, zeros)
    event = describe(BatchLoss.of(METHODS["dpo"].bind({"beta": 1.0}), *logps, **lengths))
    assert event["balance/ratio"] == pytest.approx(math.exp(-200 / 9))


def test_a_pair_that_is_not_pushed_at_all_does_not_count_and_nothing_becomes_nan():
    one, zero = torch.ones(2), torch.zeros(2)
    pushed_once = torch.tensor([0.0, 3.0])
    assert balance((pushed_once, pushed_once / 3), (one, one), (zero, zero)) == pytest.approx(3)
    assert balance((zero, zero), (one, one), (zero, zero)) == 1.0
    assert 0 < balance((zero, one), (one, one), (zero, zero)) < 1e-5
    assert 1e5 < balance((one, zero), (one, one), (zero, zero)) < 1e7
