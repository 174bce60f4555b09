"""AdaDPO's controls: one thing is changed, and the rest is equal to AdaDPO or to DPO."""

import pytest
import torch

from adadpo_mini import InputError, RaceConfig
from adadpo_mini.losses import adadpo_loss, dpo_loss, fixed_ratio_loss
from adadpo_mini.methods.controls import adadpo_batch_loss, weighted_dpo_loss
from adadpo_mini.methods.reference_based import rpo_loss
from adadpo_mini.methods.registry import METHODS
from tests.test_losses import gradients, random_lengths, random_logps

SPACES = ("ratio", "policy")
KNOBS = {"beta": 0.3, "ceiling": 1.05}


def ratio_of(result):
    return result.beta_chosen / result.beta_rejected


def equal(mine, theirs, logps):
    """Whether two losses are equal, pair by pair, and push the log-probs in the same way."""
    torch.testing.assert_close(mine.per_pair, theirs.per_pair)
    for one, other in zip(gradients(mine, logps), gradients(theirs, logps), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("space", SPACES)
def test_one_ratio_for_a_batch_is_the_mean_of_adadpos_as_used(space):
    logps, lengths = random_logps(), random_lengths()
    batch = adadpo_batch_loss(*logps, **lengths, space=space, **KNOBS)
    own = adadpo_loss(*logps, **lengths, space=space, **KNOBS)
    used = ratio_of(own)
    assert (used == 1.05).any() and (used < 1.05).any(), "some pairs meet the ceiling"
    torch.testing.assert_close(ratio_of(batch), used.mean().expand(len(used)))
    torch.testing.assert_close(batch.rho, own.rho)
    assert not torch.allclose(batch.per_pair, own.per_pair)


@pytest.mark.parametrize("space", SPACES)
def test_apart_from_its_ratio_it_is_dpo_with_a_constant(space):
    """The gradient is that of a constant, so none goes through the ratio."""
    logps, lengths = random_logps(), random_lengths()
    batch = adadpo_batch_loss(*logps, **lengths, space=space, **KNOBS)
    constant = ratio_of(batch)[0].item()
    equal(batch, fixed_ratio_loss(*logps, beta=0.3, ratio=constant), logps)


@pytest.mark.parametrize("space", SPACES)
def test_for_one_pair_and_for_pairs_that_are_alike_it_is_adadpo(space):
    one = tuple(t[:1].detach().requires_grad_() for t in random_logps())
    length = {side: lengths[:1] for side, lengths in random_lengths().items()}
    for logps, lengths in (
        (one, length),
        (
            tuple(t.detach().repeat(3).requires_grad_() for t in one),
            {side: n.repeat(3) for side, n in length.items()},
        ),
    ):
        own = adadpo_loss(*logps, **lengths, space=space, **KNOBS)
        equal(adadpo_batch_loss(*logps, **lengths, space=space, **KNOBS), own, logps)


def test_the_other_knobs_of_adadpo_reach_it():
    logps, lengths = random_logps(), random_lengths()
    for knobs in ({"k": 0.5}, {"floor": 1.0, "ceiling": 1.2}, {"length_normalize": False}):
        own = adadpo_loss(*logps, **lengths, **knobs)
        batch = adadpo_batch_loss(*logps, **lengths, **knobs)
        torch.testing.assert_close(ratio_of(batch)[0], ratio_of(own).mean())
        default = adadpo_batch_loss(*logps, **lengths)
        assert not torch.allclose(ratio_of(batch), ratio_of(default))


def test_only_it_couples_the_pairs_of_a_batch_which_then_must_be_whole():
    assert [name for name, method in METHODS.items() if method.couples_pairs] == ["adadpo_batch"]
    settings = {"methods": ("dpo", "adadpo_batch"), "batch_size": 8}
    for whole in (8, 9, None):
        RaceConfig(**settings, pairs_at_once=whole)
    RaceConfig(batch_size=8, pairs_at_once=4, methods=("dpo", "adadpo"))
    with pytest.raises(InputError, match="adadpo_batch needs its whole batch in one pass"):
        RaceConfig(**settings, pairs_at_once=4)


def test_every_other_loss_is_the_mean_of_what_its_pairs_have_alone():
    logps, lengths = random_logps(), random_lengths()
    for name, method in METHODS.items():
        loss = method.bind({"beta": 0.3, "simpo_beta": 0.3, "ceiling": 1.05})
        whole = loss(*logps, **lengths)
        alone = [
            loss(*(t[i : i + 1] for t in logps), **{s: n[i : i + 1] for s, n in lengths.items()})
            for i in range(6)
        ]
        together = torch.stack([one.loss for one in alone])
        assert torch.allclose(whole.per_pair, together) != method.couples_pairs, name


def test_the_weight_of_a_whole_loss_is_capped_and_carries_no_gradient():
    logps, lengths = random_logps(), random_lengths()
    result = weighted_dpo_loss(*logps, **lengths, ceiling=1.05)
    assert (result.rho > 1.05).any() and (result.rho < 1.05).any()
    weight = result.rho.clamp(max=1.05)
    expected = (weight * dpo_loss(*logps).per_pair).mean()
    torch.testing.assert_close(result.loss, expected)
    theirs = torch.autograd.grad(expected, logps[:2])
    for mine, other in zip(gradients(result, logps), theirs, strict=True):
        torch.testing.assert_close(mine, other)


def test_rpo_adds_imitation_of_the_chosen_per_token_to_dpo():
    logps, lengths = random_logps(), random_lengths()
    alpha = 0.7
    mine = gradients(rpo_loss(*logps, **lengths, beta=0.3, nll_weight=alpha), logps)
    dpo = gradients(dpo_loss(*logps, beta=0.3), logps)
    imitation = alpha / lengths["chosen_lengths"] / 6  # of a mean over six pairs
    torch.testing.assert_close(mine[0], dpo[0] - imitation)
    torch.testing.assert_close(mine[1], dpo[1])
    equal(rpo_loss(*logps, **lengths, beta=0.3, nll_weight=0.0), dpo_loss(*logps, beta=0.3), logps)
    with pytest.raises(ValueError, match="nll_weight must not be negative"):
        rpo_loss(*logps, **lengths, nll_weight=-0.1)


def test_a_race_sets_simpos_beta_apart_from_the_others():
    logps, lengths = random_logps(), random_lengths()
    for name in ("simpo", "ada_simpo"):
        knobs = RaceConfig(beta=0.3, simpo_beta=3.0, gamma=0.4).knobs()
        bound = METHODS[name].bind(knobs)(*logps, **lengths)
        direct = METHODS[name].loss(*logps, **lengths, beta=3.0, gamma=0.4)
        torch.testing.assert_close(bound.per_pair, direct.per_pair)
        other_beta = METHODS[name].bind({**knobs, "beta": 9.0})(*logps, **lengths)
        torch.testing.assert_close(other_beta.per_pair, direct.per_pair)
        torch.testing.assert_close(bound.beta_rejected, torch.full((6,), 3.0, dtype=torch.float64))
    dpo = METHODS["dpo"].bind({"beta": 0.3, "simpo_beta": 3.0})(*logps, **lengths)
    torch.testing.assert_close(dpo.per_pair, dpo_loss(*logps, beta=0.3).per_pair)
    assert RaceConfig.gamma == RaceConfig.simpo_beta / 2, "the paper's advice"
