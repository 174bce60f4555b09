"""Displacement, CHES and the token view, against autograd, plain loops and real steps."""

import copy

import pytest
import torch

from adadpo_mini import completion_logps, load_model, load_pairs, race
from adadpo_mini.measure import LONGEST_ANSWER, ches, displacement, pair_forces, token_views
from adadpo_mini.measure.batch import BatchLoss
from adadpo_mini.measure.displacement import thresholds
from adadpo_mini.measure.slow import SlowMeasurements
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.pairs.load import Pairs
from adadpo_mini.tokens.batch import TokenizedPair, make_batch, tokenize_pairs
from adadpo_mini.trainer import Trainer


@pytest.fixture(scope="module")
def reference(toy):
    return copy.deepcopy(toy[0]).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def pairs(toy):
    return tokenize_pairs(load_pairs("near_duplicate", "test")[:6], toy[1], 256)


@pytest.fixture(scope="module")
def trained(toy):
    """A policy that DPO has pulled away from the reference, in double precision."""
    settings = {"steps": 16, "batch_size": 4, "learning_rate": 5e-4, "eval_pairs": 2}
    result = race("near_duplicate", methods=["dpo"], measure_every=0, **settings)
    return result.models["dpo"].double()


def moved(model, by=0.003):
    policy = copy.deepcopy(model).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += by * torch.randn(parameter.shape, generator=generator)
    return policy


def logps(model, pair):
    batch = make_batch([pair])
    return completion_logps(model, batch.input_ids, batch.completion_mask)


@pytest.mark.parametrize(
    "method", ["dpo", "adadpo", "fixed_ratio", "simpo", "ada_simpo", "cpo", "ada_orpo", "rpo"]
)
def test_the_meter_above_its_threshold_means_that_the_next_step_lowers_the_chosen(
    reference, trained, pairs, method
):
    """A real step of gradient descent on the one pair, small enough to be of first order."""
    meters = [displacement(trained, pair) for pair in pairs]
    between = sorted(meter.meter for meter in meters)[2:4]
    assert between[0] > 0, "the two gradients should be alike on some of these pairs"
    knobs = {"beta": 0.1, "ratio": sum(between) / 2, "nll_weight": 0.01, "simpo_beta": 1.0}
    loss = METHODS[method].bind(knobs)
    fell, limits = [], []
    for pair, meter in zip(pairs, meters, strict=True):
        assert meter.meter == pytest.approx(meter.cosine * meter.norm_ratio)
        policy = copy.deepcopy(trained)
        before, ref = logps(policy, pair), logps(reference, pair)
        lengths = [torch.tensor([len(ids)]) for ids in (pair.chosen, pair.rejected)]
        result = BatchLoss.of(
            loss, before[:1], before[1:], ref[:1], ref[1:],
            chosen_lengths=lengths[0], rejected_lengths=lengths[1],
        )  # fmt: skip
        gradients = torch.autograd.grad(result.loss.loss, list(policy.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(policy.parameters(), gradients, strict=True):
                parameter -= 1e-7 * gradient
            fell.append((logps(policy, pair) < before)[0].item())
        limits += thresholds(result)
        assert fell[-1] == (meter.meter > limits[-1])
    assert method != "fixed_ratio" or set(fell) == {True, False}
    expected = {"dpo": [1.0] * 6, "fixed_ratio": [knobs["ratio"]] * 6}
    expected["simpo"] = [len(pair.rejected) / len(pair.chosen) for pair in pairs]
    assert limits == pytest.approx(expected.get(method, limits))


def test_measuring_leaves_the_gradients_alone(reference, pairs):
    policy = moved(reference)
    displacement(policy, pairs[0])
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_ches_is_its_formula_in_a_loop_over_tokens(tiny, toy):
    model = load_model(tiny)[0].eval()
    pair = tokenize_pairs(load_pairs("length_bias")[:1], toy[1], 256)[0]
    sums = []
    for completion in (pair.chosen, pair.rejected):
        total = torch.zeros(model.config.n_embd)
        for t in range(len(completion)):
            ids = torch.tensor([pair.prompt + completion[:t]])
            with torch.no_grad():
                total += model.transformer(ids).last_hidden_state[0, -1]
        sums.append(total)
    h_w, h_l = sums
    n_w, n_l = len(pair.chosen), len(pair.rejected)
    found = ches(model, pair)
    assert found.ches == pytest.approx((h_w @ h_l - h_w @ h_w).item(), rel=1e-3)
    expected = ((h_w @ h_l) / (n_w * n_l) - (h_w @ h_w) / n_w**2).item()
    assert found.normalised == pytest.approx(expected, rel=1e-3)


def test_the_token_view_sums_to_the_change_and_its_weight_is_the_logits_gradient(
    reference, pairs, toy
):
    policy, pair = moved(reference, 0.01), pairs[4]
    loss = METHODS["adadpo"].bind({"beta": 0.3})
    views = token_views(policy, reference, toy[1], pair, loss)
    shift = (logps(policy, pair) - logps(reference, pair)).tolist()
    for view, u, completion in zip(views, shift, (pair.chosen, pair.rejected), strict=True):
        assert view.change.sum().item() == pytest.approx(u, abs=1e-6)
        assert len(view.tokens) == len(completion) == len(view.gradient_weight)
        assert view.tokens[-1] == "<|endoftext|>"
    # The chosen side's weight, by autograd on the logits themselves.
    batch = make_batch([pair])
    scores = policy(batch.input_ids).logits.detach().requires_grad_()
    per_token = scores[:, :-1].log_softmax(-1).gather(-1, batch.input_ids[:, 1:, None])[..., 0]
    sums = (per_token * batch.completion_mask[:, 1:]).sum(1)
    ref = logps(reference, pair)
    n_w, n_l = batch.lengths
    loss(
        sums[:1], sums[1:], ref[:1], ref[1:],
        chosen_lengths=n_w.view(1), rejected_lengths=n_l.view(1),
    ).loss.backward()  # fmt: skip
    start = len(pair.prompt) - 1
    for i, token in enumerate(pair.chosen):
        assert -scores.grad[0, start + i, token].item() == pytest.approx(
            views[0].gradient_weight[i].item(), abs=1e-9
        )


def test_the_forces_of_a_loss_with_imitation_hold_the_imitation():
    zero, one = torch.tensor(0.0), torch.tensor(1)
    arguments = (-zero - 1, -zero - 1, zero, zero, one, one)
    up, down = pair_forces(METHODS["cpo"].bind({"beta": 0.1, "nll_weight": 1.0}), *arguments)
    assert (up, down) == (pytest.approx(1.05), pytest.approx(0.05))


def test_meters_read_kl_length_displacement_and_a_ledger_that_sums_to_one(toy):
    reference, tokenizer = toy
    pairs = load_pairs("near_duplicate", "test")[:8]
    meters = SlowMeasurements(*toy, pairs, tokenize_pairs(pairs, tokenizer, 256), seed=0)
    policy = copy.deepcopy(reference).requires_grad_(True)
    trainer = Trainer(policy, "adadpo", learning_rate=1e-3, knobs={"beta": 0.1})
    event = meters.read(policy, trainer.loss)
    mass = {f"mass/{account}" for account in ("chosen", "rejected", "well_formed", "else")}
    assert set(event) == {
        "eval_kl", "eval_length", "displacement/meter", "displacement/threshold", "mass/prompts",
        *mass, *(f"{name}/low" for name in mass), *(f"{name}/high" for name in mass),
    }  # fmt: skip
    assert event["eval_kl"] == 0.0 and event["displacement/threshold"] == 1.0
    assert sum(event[name] for name in mass) == pytest.approx(1)
    assert all(parameter.grad is None for parameter in policy.parameters())

    scored = ScoredPairs(reference, tokenize_pairs(pairs, tokenizer, 256))
    for _ in range(3):
        trainer.step(scored.batch(range(8)))
    later = meters.read(policy, trainer.loss)
    assert later["eval_kl"] > 0 and later["displacement/threshold"] != 1.0


def test_a_step_on_a_pair_of_unequal_lengths_obeys_the_threshold_of_a_loss_per_token(trained, toy):
    """For SimPO the chosen's coefficient is β/|y_w|: here the threshold is far from 1."""
    loss = METHODS["simpo"].bind({"simpo_beta": 1.0})
    for pair in tokenize_pairs(load_pairs("length_bias", "test")[:3], toy[1], 256):
        n_w, n_l = len(pair.chosen), len(pair.rejected)
        lengths = {"chosen_lengths": torch.tensor([n_w]), "rejected_lengths": torch.tensor([n_l])}
        now = logps(trained, pair).detach()
        result = BatchLoss.of(loss, now[:1], now[1:], now[:1], now[1:], **lengths)
        assert thresholds(result) == [pytest.approx(n_l / n_w)]
        assert abs(n_l / n_w - 1) > 0.3


def test_watching_an_update_measures_what_it_does_to_held_out_pairs(toy):
    reference, tokenizer = toy
    pairs = load_pairs("tone", "test")[:8]
    tokens = tokenize_pairs(pairs, tokenizer, 256)
    meters = SlowMeasurements(*toy, pairs, tokens, seed=0)
    policy = copy.deepcopy(reference).requires_grad_(True)
    trainer = Trainer(policy, "dpo", learning_rate=1e-3, knobs={"beta": 0.1})
    before = torch.stack([logps(policy, pair) for pair in tokens[:2]]).mean(0)
    changes = meters.watch(policy, trainer.loss)
    trainer.step(ScoredPairs(reference, tokens).batch(range(4, 8)))
    change = torch.stack([logps(policy, pair) for pair in tokens[:2]]).mean(0) - before
    assert abs(change[1].item()) > 0.01
    assert changes() == {
        "update/chosen": pytest.approx(change[0].item(), abs=1e-3),
        "update/rejected": pytest.approx(change[1].item(), abs=1e-3),
    }


def test_a_model_that_does_not_live_in_the_toy_world_has_no_ledger(toy, tiny):
    from adadpo_mini import load_model

    pairs = load_pairs("tone", "test")[:4]
    stranger, tokenizer = load_model(tiny)
    tokenized = tokenize_pairs(pairs, tokenizer, 256)
    meters = SlowMeasurements(stranger, tokenizer, pairs, tokenized, seed=0)
    policy = copy.deepcopy(stranger).requires_grad_(True)
    event = meters.read(policy, METHODS["dpo"].bind({"beta": 0.1}))
    assert "mass/else" not in event and event["eval_kl"] == 0.0


def sampled_at_once(toy, prompts):
    """The prompts that are answered to estimate KL, batch by batch."""
    tokens = [TokenizedPair(list(prompt), [5, 0], [6, 0]) for prompt in prompts]
    pairs = Pairs(tuple({"prompt": "?", "chosen": "a", "rejected": "b"} for _ in tokens), ())
    meters, batches = SlowMeasurements(*toy, pairs, tokens, seed=0), []
    policy = copy.deepcopy(toy[0]).requires_grad_(True)

    def note(_, __, given, output):
        if given.get("use_cache") and given["past_key_values"] is None:
            batches.append(given["input_ids"].tolist())

    policy.register_forward_hook(note, with_kwargs=True)
    meters.read(policy, METHODS["dpo"].bind({"beta": 0.1}))
    return batches


def test_prompts_are_taken_of_one_length_where_there_are_enough(toy):
    alike = [[9, i] for i in range(10, 22)]
    (batch,) = sampled_at_once(toy, [[8], [9, 9, 9], *alike, [8]])
    assert batch == alike[: len(batch)] and len(batch) > 3
    uneven = [[9] * i for i in range(1, 20)]
    assert sampled_at_once(toy, [uneven[0], *uneven]) == [[ids] for ids in uneven[: len(batch)]]


def test_answers_as_long_as_the_longest_held_out_completion_are_not_cut_off(toy):
    """A policy whose answers never end is cut off there, or at the toy world's longest answer."""
    policy = copy.deepcopy(toy[0])
    with torch.no_grad():
        policy.transformer.wte.weight[0] = 0  # of the end token, whose score is then 0
        policy.transformer.ln_f.bias.copy_(5 * policy.transformer.wte.weight[7])
    for longest, length in ((3, LONGEST_ANSWER), (120, 120)):
        tokens = [TokenizedPair([9, 9, i], [5] * longest, [6, 0]) for i in range(10, 20)]
        pairs = Pairs(tuple({"prompt": "?", "chosen": "a", "rejected": "b"} for _ in tokens), ())
        meters = SlowMeasurements(*toy, pairs, tokens, seed=0)
        read = meters.read(
            copy.deepcopy(policy).requires_grad_(True), METHODS["dpo"].bind({"beta": 0.1})
        )
        assert read["eval_length"] == length


def test_outside_the_toy_world_there_is_no_ledger(toy):
    rows = ({"prompt": "Why?\n", "chosen": "Yes.", "rejected": "No."},)
    pairs = Pairs(rows, ("row 1",))
    meters = SlowMeasurements(*toy, pairs, tokenize_pairs(pairs, toy[1], 256), seed=0)
    policy = copy.deepcopy(toy[0]).requires_grad_(True)
    event = meters.read(policy, METHODS["dpo"].bind({"beta": 0.1}))
    assert not [name for name in event if name.startswith("mass/")] and "eval_kl" in event
