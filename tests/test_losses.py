"""The losses, against autograd, against each other, and against TRL's code."""

import math

import pytest
import torch
import torch.nn.functional as F

from adadpo_mini.losses import adadpo_loss, dpo_loss, fixed_ratio_loss
from adadpo_mini.methods.registry import METHODS


def random_logps(batch=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    policy_w, policy_l, ref_w, ref_l = (
        -20 * torch.rand(batch, generator=generator, dtype=dtype) for _ in range(4)
    )
    return policy_w.requires_grad_(), policy_l.requires_grad_(), ref_w, ref_l


def random_lengths(batch=6, seed=1):
    generator = torch.Generator().manual_seed(seed)
    low_high = (5, 30)
    return {
        "chosen_lengths": torch.randint(*low_high, (batch,), generator=generator),
        "rejected_lengths": torch.randint(*low_high, (batch,), generator=generator),
    }


def gradients(loss, logps):
    return torch.autograd.grad(loss.loss, logps[:2])


def test_dpo_is_its_formula():
    logps = random_logps()
    policy_w, policy_l, ref_w, ref_l = logps
    expected = -torch.log(torch.sigmoid(0.3 * ((policy_w - ref_w) - (policy_l - ref_l)))).mean()
    torch.testing.assert_close(dpo_loss(*logps, beta=0.3).loss, expected)


def test_adadpo_is_its_formula_computed_pair_by_pair():
    logps, lengths = random_logps(), random_lengths()
    result = adadpo_loss(*logps, **lengths, beta=0.3)
    for i in range(6):
        policy_w, policy_l, ref_w, ref_l = (t[i].item() for t in logps)
        n_w, n_l = (lengths[name][i].item() for name in lengths)
        u_w, u_l = policy_w - ref_w, policy_l - ref_l
        rho = math.exp(u_w / n_w - u_l / n_l)
        delta = 0.3 * min(rho, 2.0) * u_w - 0.3 * u_l
        assert result.per_pair[i].item() == pytest.approx(math.log1p(math.exp(-delta)))
        assert result.rho[i].item() == pytest.approx(rho)


def test_adadpo_equals_dpo_where_policy_is_reference():
    policy_w, policy_l, _, _ = random_logps()
    logps = (policy_w, policy_l, policy_w.detach(), policy_l.detach())
    ada, dpo = adadpo_loss(*logps, **random_lengths()), dpo_loss(*logps)
    assert torch.equal(ada.rho, torch.ones_like(ada.rho))
    assert torch.equal(ada.loss, dpo.loss)
    for mine, theirs in zip(gradients(ada, logps), gradients(dpo, logps), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize("space", ["ratio", "policy"])
@pytest.mark.parametrize("k", [1.0, 0.5, 3.0])
def test_unclipped_adadpo_balances_the_two_forces_in_probability_space(space, k):
    """|∂L/∂x_w| = k·|∂L/∂x_l| for x = exp(a), by autograd, at one token a completion."""
    logs = [t.detach() / 10 for t in random_logps()]
    offset = logs[2:] if space == "ratio" else [torch.zeros_like(t) for t in logs[2:]]
    x_w = (logs[0] - offset[0]).exp().requires_grad_()
    x_l = (logs[1] - offset[1]).exp().requires_grad_()
    ones = torch.ones(6)
    loss = adadpo_loss(
        x_w.log() + offset[0], x_l.log() + offset[1], *logs[2:],
        chosen_lengths=ones, rejected_lengths=ones, ceiling=1e9, space=space, k=k,
    )  # fmt: skip
    force_w, force_l = torch.autograd.grad(loss.loss, (x_w, x_l))
    assert (force_w < 0).all() and (force_l > 0).all()
    torch.testing.assert_close(force_w.abs(), k * force_l.abs())


def test_dpo_pushes_the_rejected_harder_by_the_ratio_of_the_probabilities():
    x_w = torch.tensor([5.0], dtype=torch.float64, requires_grad=True)
    x_l = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(1, dtype=torch.float64)
    loss = dpo_loss(x_w.log(), x_l.log(), zero, zero).loss
    force_w, force_l = torch.autograd.grad(loss, (x_w, x_l))
    assert (force_l.abs() / force_w.abs()).item() == pytest.approx(5.0)


@pytest.mark.parametrize("knobs", [{}, {"k": 4.0}, {"length_normalize": False}, {"floor": 0.5}])
def test_chosen_coefficient_stays_under_the_ceiling_and_over_the_floor(knobs):
    result = adadpo_loss(*random_logps(), **random_lengths(), beta=0.3, ceiling=1.5, **knobs)
    assert (result.beta_chosen <= 1.5 * 0.3 * (1 + 1e-12)).all()
    assert (result.beta_chosen >= 0.3 * knobs.get("floor", 0) * (1 - 1e-12)).all()
    assert (result.beta_chosen < 1.5 * 0.3 * 0.999).any(), "some pair should be below the ceiling"


def test_the_coefficient_carries_no_gradient():
    """With β_w held as a constant, the gradient is the same."""
    logps = random_logps()
    result = adadpo_loss(*logps, **random_lengths())
    assert not result.beta_chosen.requires_grad
    policy_w, policy_l, ref_w, ref_l = logps
    delta = result.beta_chosen * (policy_w - ref_w) - result.beta_rejected * (policy_l - ref_l)
    by_hand = torch.autograd.grad(-F.logsigmoid(delta).mean(), logps[:2])
    for mine, theirs in zip(gradients(result, logps), by_hand, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("space", ["ratio", "policy"])
def test_ceiling_and_floor_of_one_give_dpo_to_the_last_bit(space):
    logps = random_logps(dtype=torch.float32)
    ada = adadpo_loss(*logps, **random_lengths(), ceiling=1.0, floor=1.0, space=space)
    dpo = dpo_loss(*logps)
    assert torch.equal(ada.per_pair, dpo.per_pair)
    for mine, theirs in zip(gradients(ada, logps), gradients(dpo, logps), strict=True):
        assert torch.equal(mine, theirs)


def test_a_fixed_ratio_is_dpo_shift():
    """DPO-Shift: −log σ(β'·(u_w − f·u_l)) with f = 1/c and β' = c·β."""
    logps = random_logps()
    policy_w, policy_l, ref_w, ref_l = logps
    c, beta = 1.7, 0.2
    shift = -F.logsigmoid(c * beta * ((policy_w - ref_w) - (policy_l - ref_l) / c)).mean()
    mine = fixed_ratio_loss(*logps, beta=beta, ratio=c)
    torch.testing.assert_close(mine.loss, shift)
    for ours, theirs in zip(
        gradients(mine, logps), torch.autograd.grad(shift, logps[:2]), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("knobs", [{"k": 4.0}, {"k": 0.3}, {"ceiling": 1.1}, {"floor": 0.9}])
def test_the_reported_rho_is_the_quotient_itself_whatever_is_made_of_it(knobs):
    logps, lengths = random_logps(), random_lengths()
    plain, other = adadpo_loss(*logps, **lengths), adadpo_loss(*logps, **lengths, **knobs)
    assert torch.equal(other.rho, plain.rho)
    assert not torch.equal(other.beta_chosen, plain.beta_chosen)


def test_a_fixed_ratio_is_what_is_reported_and_must_be_positive():
    result = fixed_ratio_loss(*random_logps(), beta=0.3, ratio=1.7)
    assert (result.rho == 1.7).all() and (result.beta_rejected == 0.3).all()
    torch.testing.assert_close(result.beta_chosen, torch.full_like(result.rho, 0.3 * 1.7))
    for ratio in (0.0, -2.0):
        with pytest.raises(ValueError, match="ratio must be positive"):
            fixed_ratio_loss(*random_logps(), ratio=ratio)


def test_repeating_every_token_leaves_rho_unchanged():
    logps, lengths = random_logps(), random_lengths()
    once = adadpo_loss(*logps, **lengths)
    thrice = adadpo_loss(*(3 * t for t in logps), **{n: 3 * t for n, t in lengths.items()})
    torch.testing.assert_close(once.rho, thrice.rho)
    raw = {"length_normalize": False}
    assert not torch.allclose(
        adadpo_loss(*logps, **lengths, **raw).rho,
        adadpo_loss(*(3 * t for t in logps), **lengths, **raw).rho,
    )


def test_huge_log_ratios_neither_overflow_nor_give_nan():
    big = torch.tensor([2000.0, -2000.0], requires_grad=True)
    zero = torch.zeros(2)
    lengths = {"chosen_lengths": torch.ones(2), "rejected_lengths": torch.ones(2)}
    result = adadpo_loss(big, -big, zero, zero, **lengths, length_normalize=False)
    result.loss.backward()
    for value in (result.per_pair, result.rho, result.beta_chosen, big.grad):
        assert torch.isfinite(value).all()


def test_half_precision_log_probs_are_raised_to_fp32():
    logps = [t.detach().bfloat16() for t in random_logps()]
    assert adadpo_loss(*logps, **random_lengths()).loss.dtype == torch.float32


def test_the_raw_ratio_of_two_bf16_log_probs_is_not_rounded_to_bf16():
    """Between 2 and 4, bf16 has only multiples of 1/64; this difference is not one of them."""
    chosen, rejected = torch.tensor([-0.0297]).bfloat16(), torch.tensor([-3.5]).bfloat16()
    one = torch.ones(1)
    result = adadpo_loss(
        chosen, rejected, torch.zeros(1), torch.zeros(1), chosen_lengths=one, rejected_lengths=one,
        space="policy", length_normalize=False,
    )  # fmt: skip
    assert result.rho.item() == pytest.approx(math.exp(chosen.item() - rejected.item()), rel=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_rewards_are_raw_and_detached(name):
    logps = random_logps()
    lengths = random_lengths() if METHODS[name].needs_lengths else {}
    result = METHODS[name].loss(*logps, **lengths, beta=0.3)
    torch.testing.assert_close(result.chosen_rewards, 0.3 * (logps[0] - logps[2]).detach())
    torch.testing.assert_close(result.rejected_rewards, 0.3 * (logps[1] - logps[3]).detach())
    assert not result.chosen_rewards.requires_grad and not result.rejected_rewards.requires_grad
    assert result.per_pair.shape == result.rho.shape == result.beta_rejected.shape == (6,)
    assert result.loss.shape == ()


@pytest.mark.parametrize(
    ("knobs", "word"),
    [
        ({"space": "log"}, "space"),
        ({"ceiling": 0.0}, "ceiling"),
        ({"k": -1.0}, "k must"),
        ({"floor": 3.0}, "floor"),
        ({"beta": 0.0}, "beta"),
        ({"chosen_lengths": torch.zeros(6)}, "lengths"),
    ],
)
def test_a_knob_out_of_range_is_named(knobs, word):
    with pytest.raises(ValueError, match=word):
        adadpo_loss(*random_logps(), **{**random_lengths(), **knobs})


@pytest.mark.parametrize("wrong", [
    lambda logps: (logps[0], logps[1][:3], *logps[2:]),
    lambda logps: [t.view(2, 3) for t in logps],
    lambda logps: [t[:0] for t in logps],
], ids=["different", "two-dimensional", "empty"])  # fmt: skip
def test_log_probs_must_share_one_shape_with_a_pair_in_it(wrong):
    with pytest.raises(ValueError, match="shape"):
        dpo_loss(*wrong(random_logps()))


@pytest.mark.parametrize("name", METHODS)
def test_no_gradient_reaches_the_reference(name):
    logps = [t.detach().requires_grad_() for t in random_logps()]
    lengths = random_lengths() if METHODS[name].needs_lengths else {}
    loss = METHODS[name].loss(*logps, **lengths).loss
    *policy, ref_w, ref_l = torch.autograd.grad(loss, logps, allow_unused=True)
    assert ref_w is None and ref_l is None
    assert all(gradient.abs().sum() > 0 for gradient in policy)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_needs_the_reference_if_and_only_if_it_decides_the_gradient(name):
    """Compare two references, one on each side of the policy: some losses have two branches."""
    logps = random_logps()
    moved = (*logps[:2], logps[2] - 15, logps[3] + 7)
    lengths = random_lengths() if METHODS[name].needs_lengths else {}
    here, there = (
        torch.cat(gradients(METHODS[name].loss(*each, **lengths), logps)) for each in (logps, moved)
    )
    assert torch.equal(here, there) != METHODS[name].needs_reference


def test_dpo_loss_rewards_and_metrics_equal_trls(tmp_path, toy):
    """One batch through TRL's own DPOTrainer and through ours."""
    pytest.importorskip("trl")
    import copy

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    from adadpo_mini import load_pairs
    from adadpo_mini.models.load import context_length
    from adadpo_mini.models.reference import ScoredPairs
    from adadpo_mini.tokens.batch import tokenize_pairs
    from adadpo_mini.trainer import Trainer

    reference, tokenizer = toy
    policy = copy.deepcopy(reference).requires_grad_(True)
    with torch.no_grad():  # a policy that differs from the reference
        generator = torch.Generator().manual_seed(0)
        for parameter in policy.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    pairs = load_pairs("tone")[:8]
    scored = ScoredPairs(reference, tokenize_pairs(pairs, tokenizer, context_length(reference)))
    trainer = Trainer(copy.deepcopy(policy), "dpo", learning_rate=1e-4, knobs={"beta": 0.3})
    ours = trainer.step(scored.batch(range(8)))

    config = DPOConfig(
        output_dir=str(tmp_path), beta=0.3, per_device_train_batch_size=8, max_steps=1,
        logging_steps=1, report_to=[], use_cpu=True, bf16=False, learning_rate=1e-4,
        gradient_checkpointing=False, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    theirs = DPOTrainer(
        model=policy, ref_model=copy.deepcopy(reference), args=config, processing_class=tokenizer,
        train_dataset=Dataset.from_list(list(pairs)),
    )  # fmt: skip
    theirs.train()
    logged = next(entry for entry in theirs.state.log_history if "rewards/chosen" in entry)
    names = [
        "loss", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected",
        "rewards/accuracies", "rewards/margins", "grad_norm",
    ]  # fmt: skip
    for name in names:
        assert ours[name] == pytest.approx(logged[name], rel=1e-3, abs=2e-4), name
    # After one update both policies are the same model. TRL's scheduler ends at 0 after one
    # step but begins at the full rate, so its one update uses the rate we gave.
    mine = dict(trainer.model.named_parameters())
    for name, parameter in theirs.model.named_parameters():
        torch.testing.assert_close(mine[name].data, parameter.data.cpu(), rtol=0, atol=3e-5)
