"""One training step and its event, against autograd."""

import copy
import math

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adadpo_mini import completion_logps, load_model, load_pairs
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.tokens.batch import TokenizedPair, tokenize_pairs
from adadpo_mini.trainer import Trainer

KNOBS = {
    "beta": 0.3, "ceiling": 2.0, "space": "ratio", "length_normalize": True, "k": 1.0,
    "floor": None, "ratio": 2.0,
}  # fmt: skip
TRAIN_KEYS = {
    "step", "loss", "learning_rate", "grad_norm", "num_tokens", "logps/chosen", "logps/rejected",
    "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins",
    "shift/chosen", "shift/rejected", "ada/rho", "ada/ceiling_share", "balance/ratio",
    "ranking_accuracy",
}  # fmt: skip


@pytest.fixture(scope="module")
def reference(tiny):
    return load_model(tiny)[0].eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenized(toy):
    return tokenize_pairs(load_pairs("length_bias")[:8], toy[1], 256)


def new_trainer(reference, method="adadpo", moved=0.0, learning_rate=1e-3, **knobs):
    """A trainer of a policy that is the reference, or a little way off it."""
    policy = copy.deepcopy(reference).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += moved * torch.randn(parameter.shape, generator=generator)
    return Trainer(policy, method, learning_rate=learning_rate, knobs={**KNOBS, **knobs})


def test_the_first_event_says_that_nothing_has_been_learned(reference, tokenized):
    for method, rho in (("dpo", 1.0), ("adadpo", 1.0), ("fixed_ratio", 2.0)):
        batch = ScoredPairs(reference, tokenized).batch([0, 1])
        event = new_trainer(reference, method).step(batch)
        assert set(event) == TRAIN_KEYS
        assert (event["step"], event["num_tokens"], event["learning_rate"]) == (0, 0, 1e-3)
        assert event["loss"] == pytest.approx(math.log(2))
        assert event["shift/chosen"] == event["shift/rejected"] == event["rewards/margins"] == 0.0
        assert event["rewards/accuracies"] == event["ada/ceiling_share"] == 0.0
        n_w, n_l = batch.rows.lengths.double().log().chunk(2)
        longer = (n_w - n_l).mean().exp().item()  # |y_w|/|y_l|, geometric mean
        assert event["ada/rho"] == rho
        assert event["balance/ratio"] == pytest.approx(rho * longer, rel=1e-5)


def test_step_zero_of_dpo_and_adadpo_is_bit_identical(reference, tokenized):
    batch = ScoredPairs(reference, tokenized).batch(range(8))
    dpo, adadpo = (new_trainer(reference, method) for method in ("dpo", "adadpo"))
    assert dpo.step(batch) == adadpo.step(batch)
    pairs = zip(dpo.model.parameters(), adadpo.model.parameters(), strict=True)
    assert all(torch.equal(mine, theirs) for mine, theirs in pairs)


def test_an_event_describes_the_model_before_its_update(reference, tokenized):
    scored = ScoredPairs(reference, tokenized)
    batch = scored.batch([0, 1, 2])
    trainer = new_trainer(reference, "dpo")
    trainer.step(batch)
    rows = batch.rows
    with torch.no_grad():
        logps = completion_logps(trainer.model, rows.input_ids, rows.completion_mask)
    chosen, rejected = logps.chunk(2)
    measured = trainer.evaluate(batch)
    event = trainer.step(batch)
    u_w, u_l = chosen - batch.ref_chosen_logps, rejected - batch.ref_rejected_logps
    expected = {
        "step": 1,
        "num_tokens": rows.num_tokens,
        "logps/chosen": chosen.mean().item(),
        "logps/rejected": rejected.mean().item(),
        "shift/chosen": u_w.mean().item(),
        "shift/rejected": u_l.mean().item(),
        "rewards/chosen": 0.3 * u_w.mean().item(),
        "rewards/rejected": 0.3 * u_l.mean().item(),
        "rewards/margins": 0.3 * (u_w - u_l).mean().item(),
        "rewards/accuracies": (u_w > u_l).float().mean().item(),
        "loss": -torch.nn.functional.logsigmoid(0.3 * (u_w - u_l)).mean().item(),
    }
    for name, value in expected.items():
        assert event[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
        if name not in ("step", "num_tokens"):
            assert measured[f"eval_{name}"] == event[name], name
    assert event["shift/chosen"] != 0.0


def test_training_on_one_batch_lowers_its_loss_and_parts_its_two_sides(reference, tokenized):
    for method in ("dpo", "adadpo", "fixed_ratio"):
        trainer = new_trainer(reference, method)
        batch = ScoredPairs(reference, tokenized).batch(range(4))
        events = [trainer.step(batch) for _ in range(6)]
        assert events[-1]["loss"] < events[0]["loss"]
        assert events[-1]["shift/chosen"] > events[-1]["shift/rejected"]
        assert events[-1]["rewards/accuracies"] == 1.0
        assert [event["step"] for event in events] == [0, 1, 2, 3, 4, 5]
        assert [e["num_tokens"] for e in events] == [n * batch.rows.num_tokens for n in range(6)]


def test_without_an_update_the_model_and_the_counts_stay(reference, tokenized):
    trainer = new_trainer(reference, moved=0.01)
    before = copy.deepcopy(trainer.model.state_dict())
    batch = ScoredPairs(reference, tokenized).batch([0, 1])
    once, again = trainer.step(batch, update=False), trainer.step(batch, update=False)
    assert once == again and once["step"] == 0 and once["grad_norm"] > 0
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_measuring_held_out_pairs_leaves_no_trace(reference, tokenized):
    scored = ScoredPairs(reference, tokenized)
    plain, watched = (new_trainer(reference, moved=0.01) for _ in range(2))
    for _ in range(2):
        watched.evaluate(scored.batch([4, 5]))
        assert watched.step(scored.batch([0, 1])) == plain.step(scored.batch([0, 1]))


def forces(trainer, batch):
    """(|∂L/∂x_w|, |∂L/∂x_l|) of a one-pair batch for x = exp(u/|y|), by autograd."""
    result = trainer.compute_loss(batch)
    n_w, n_l = result.chosen_lengths, result.rejected_lengths
    x_w = (result.chosen_shift / n_w).double().exp().requires_grad_()
    x_l = (result.rejected_shift / n_l).double().exp().requires_grad_()
    zero = torch.zeros(1, dtype=torch.float64)
    loss = trainer.loss(
        n_w * x_w.log(), n_l * x_l.log(), zero, zero, chosen_lengths=n_w, rejected_lengths=n_l
    )
    force_w, force_l = torch.autograd.grad(loss.loss, (x_w, x_l))
    assert force_w < 0 < force_l
    return -force_w.item(), force_l.item()


@pytest.mark.parametrize("method", ["dpo", "adadpo", "fixed_ratio"])
@pytest.mark.parametrize("knobs", [{}, {"length_normalize": False}, {"k": 0.5, "ceiling": 1.2}])
def test_the_balance_ratio_of_completions_of_one_length_is_the_quotient_of_the_forces(
    reference, tokenized, method, knobs
):
    pair = tokenized[3]
    equal = TokenizedPair(pair.prompt, pair.chosen[-15:], pair.rejected[-15:])
    assert len(equal.chosen) == len(equal.rejected) == 15
    trainer = new_trainer(reference, method, moved=0.01, **knobs)
    batch = ScoredPairs(reference, [equal]).batch([0])
    force_w, force_l = forces(trainer, batch)
    ratio = trainer.step(batch, update=False)["balance/ratio"]
    assert ratio == pytest.approx(force_w / force_l, rel=1e-4)
    assert abs(ratio - 1) > 1e-3 or method == "adadpo"


@pytest.mark.parametrize("method", ["dpo", "adadpo"])
def test_the_balance_ratio_of_a_long_and_a_short_completion_has_their_lengths_in_it(
    reference, tokenized, method
):
    """Each force is |y| times what it is on one token, so AdaDPO is even only at equal lengths."""
    trainer = new_trainer(reference, method, moved=0.01)
    batch = ScoredPairs(reference, tokenized).batch([3])
    n_w, n_l = batch.rows.lengths
    assert n_w > 2 * n_l
    force_w, force_l = forces(trainer, batch)
    ratio = trainer.step(batch, update=False)["balance/ratio"]
    assert ratio == pytest.approx(force_w / force_l, rel=1e-4)
    if method == "adadpo":
        assert ratio == pytest.approx((n_w / n_l).item(), rel=1e-4) and ratio > 2


def test_the_ceiling_share_is_the_share_of_pairs_at_the_ceiling(reference, tokenized):
    batch = ScoredPairs(reference, tokenized).batch(range(8))
    free = new_trainer(reference, moved=0.01, ceiling=1e9)
    rho = free.compute_loss(batch).loss.rho
    middle = rho.sort().values[3:5].mean().item()
    event = new_trainer(reference, moved=0.01, ceiling=middle).step(batch)
    assert event["ada/ceiling_share"] == 0.5
    assert event["ada/rho"] == pytest.approx(rho.clamp(max=middle).mean().item(), rel=1e-5)
    assert free.step(batch)["ada/ceiling_share"] == 0.0
    assert new_trainer(reference, "dpo", moved=0.01).step(batch)["ada/ceiling_share"] == 0.0


@pytest.mark.parametrize("size", [None, 2, 3])
def test_held_out_pairs_are_measured_in_parts_by_the_given_path_and_without_gradients(
    reference, tokenized, size
):
    calls = []

    def noting(model, ids, mask):
        calls.append((len(ids) // 2, torch.is_grad_enabled()))
        return completion_logps(model, ids, mask)

    policy = copy.deepcopy(reference).requires_grad_(True)
    how = {"logps": noting, "pairs_at_once": size}
    trainer = Trainer(policy, "dpo", learning_rate=1e-3, knobs=KNOBS, **how)
    trainer.evaluate(ScoredPairs(reference, tokenized).batch(range(5)))
    assert calls == [(pairs, False) for pairs in {None: [5], 2: [2, 2, 1], 3: [3, 2]}[size]]


def test_a_batch_in_parts_gives_the_event_and_the_gradient_of_the_whole(reference, tokenized):
    batch = ScoredPairs(reference, tokenized).batch(range(5))
    whole = new_trainer(reference, moved=0.01)
    middle = whole.compute_loss(batch).loss.rho.median().item()
    events = []
    for size in (None, 2):
        trainer = Trainer(
            copy.deepcopy(whole.model), "adadpo", learning_rate=1e-3,
            knobs={**KNOBS, "ceiling": middle}, pairs_at_once=size,
        )  # fmt: skip
        events.append(trainer.step(batch) | trainer.evaluate(batch))
    assert events[0]["ada/ceiling_share"] == pytest.approx(0.6)
    assert events[1] == pytest.approx(events[0], rel=1e-3, abs=1e-4)


def test_held_out_pairs_are_counted_against_the_ceiling_too(reference, tokenized):
    batch = ScoredPairs(reference, tokenized).batch(range(8))
    trainer = new_trainer(reference, moved=0.01, ceiling=1.0 + 1e-6)
    held_out = trainer.evaluate(batch)
    assert held_out["eval_ada/ceiling_share"] == trainer.step(batch)["ada/ceiling_share"] > 0


def test_steps_and_evaluations_take_time(reference, tokenized):
    trainer, batch = new_trainer(reference), ScoredPairs(reference, tokenized).batch([0, 1])
    times = [trainer.seconds]
    for work in (trainer.step, trainer.evaluate, trainer.evaluate, trainer.step):
        work(batch)
        times.append(trainer.seconds)
    assert times[0] == 0.0 and times == sorted(set(times))


def test_grad_norm_is_that_of_the_whole_gradient_before_clipping(reference, tokenized):
    batch = ScoredPairs(reference, tokenized).batch([0, 1])
    trainer = new_trainer(reference, "dpo", moved=0.01)
    loss = trainer.compute_loss(batch).loss.loss
    gradient = torch.autograd.grad(loss, list(trainer.model.parameters()))
    norm = sum((g.double() ** 2).sum() for g in gradient).sqrt().item()
    assert norm > 1.0, "the example should be clipped"
    got = []

    def look(optimizer, *_):
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        got.append(sum(weight.grad.double().square().sum() for weight in weights).sqrt().item())

    handle = register_optimizer_step_pre_hook(look)
    try:
        assert trainer.step(batch)["grad_norm"] == pytest.approx(norm, rel=1e-4)
    finally:
        handle.remove()
    assert got == [pytest.approx(1.0, rel=1e-3)], "what the optimiser gets is clipped"


def test_a_gradient_that_overflows_is_an_error_too(reference, tokenized, monkeypatch):
    trainer = new_trainer(reference, "dpo")
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(math.inf))
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(FloatingPointError, match="norm of the gradient is inf"):
        trainer.step(ScoredPairs(reference, tokenized).batch([0, 1]))
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_a_loss_that_is_not_a_number_is_an_error_and_leaves_the_model(reference, tokenized):
    trainer = new_trainer(reference, "dpo")
    with torch.no_grad():
        trainer.model.transformer.wte.weight[5:] = torch.nan
    before = copy.deepcopy(trainer.model.state_dict())
    with pytest.raises(FloatingPointError, match="dpo: the loss is nan after 0 steps; .* lower"):
        trainer.step(ScoredPairs(reference, tokenized).batch([0, 1]))
    after = trainer.model.state_dict()
    assert all(torch.equal(after[n].nan_to_num(), w.nan_to_num()) for n, w in before.items())


def test_the_reference_scores_a_pair_once(reference, tokenized):
    calls = []
    counted = copy.deepcopy(reference)
    counted.register_forward_hook(lambda *_: calls.append(1))
    scored = ScoredPairs(counted, tokenized)
    assert not calls, "nothing is scored before it is asked for"
    first, other = scored.batch([0, 1, 2]), scored.batch([5, 3])
    assert len(calls) == 2
    again = scored.batch([3, 0, 2, 5])
    assert len(calls) == 2
    expected = [other.ref_chosen_logps[1], *first.ref_chosen_logps[[0, 2]]]
    assert torch.equal(again.ref_chosen_logps[:3], torch.stack(expected))
    assert torch.equal(again.ref_rejected_logps[3], other.ref_rejected_logps[0])


def test_a_pair_keeps_its_first_score_when_a_new_pair_joins_it(reference, tokenized):
    """Otherwise u of the same policy would change in the middle of training."""
    noisy = copy.deepcopy(reference)
    scored = ScoredPairs(noisy, tokenized)
    first = scored.batch([0, 1])
    with torch.no_grad():  # stands for the last bits that differ between batch shapes
        noisy.transformer.wte.weight += 0.01
    joined = scored.batch([1, 2])
    assert torch.equal(joined.ref_chosen_logps[0], first.ref_chosen_logps[1])
    assert torch.equal(joined.ref_rejected_logps[0], first.ref_rejected_logps[1])
