"""RLHF: each stage against its formula, the gradient against exact enumeration, and the event."""

import copy
import math

import pytest
import torch

from adadpo_mini import InputError, completion_logps, load_model, load_pairs
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.rlhf import (
    RlhfTrainer,
    leave_one_out,
    policy_gradient_loss,
    prompts_of,
    sample_completions,
)
from adadpo_mini.rlhf.reward_model import RewardModel, bradley_terry_loss
from adadpo_mini.tokens.batch import make_batch, tokenize_pairs
from adadpo_mini.trainer import Trainer

OWN_KEYS = {"rlhf/reward", "rlhf/kl", "rlhf/reward_accuracy", "rlhf/samples"}


@pytest.fixture(scope="module")
def reference(tiny):
    return load_model(tiny)[0].eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenized(toy):
    return tokenize_pairs(load_pairs("tone")[:24], toy[1], 256)


@pytest.fixture(scope="module")
def scored(reference, tokenized):
    return ScoredPairs(reference, tokenized)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def moved_copy(model, by=0.0, seed=0):
    """A trainable copy, a little way off."""
    copied, noise = copy.deepcopy(model).requires_grad_(True), generator(seed)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter += by * torch.randn(parameter.shape, generator=noise)
    return copied


def new_trainer(reference, tokenizer, moved=0.0, fit_to=(), **settings):
    settings = {"learning_rate": 1e-3, "beta": 0.1, "seed": 0, "max_new_tokens": 6, **settings}
    trainer = RlhfTrainer(moved_copy(reference, moved), reference, tokenizer, **settings)
    if fit_to:
        trainer.fit_reward_model(fit_to)
    return trainer


# Stage 1: the reward model


def test_the_bradley_terry_loss_is_minus_the_log_of_the_preferences_probability():
    chosen, rejected = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([0.5, 1.0, 0.0])
    odds = [
        math.exp(c) / (math.exp(c) + math.exp(r)) for c, r in zip(chosen, rejected, strict=True)
    ]
    expected = -sum(math.log(p) for p in odds) / 3
    assert bradley_terry_loss(chosen, rejected).item() == pytest.approx(expected, rel=1e-6)
    assert bradley_terry_loss(chosen + 7, rejected + 7).item() == pytest.approx(expected, rel=1e-5)


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=885, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, initializer_range=0.5,
            )
        ).eval()  # fmt: skip


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@torch.no_grad()
def test_a_score_is_read_at_the_last_token_whatever_is_padded_after_it(
    reference, tokenized, architecture
):
    model = reference if architecture == "gpt2" else llama()
    rewards = RewardModel(model)
    rows = make_batch(tokenized[:4])
    assert (rewards(rows.input_ids, rows.completion_mask) == 0).all(), "nothing is better yet"
    rewards.head += torch.randn(rewards.head.shape, generator=generator())
    together = rewards(rows.input_ids, rows.completion_mask)
    lasts = []
    for ids, mask in zip(rows.input_ids, rows.completion_mask, strict=True):
        end = int(mask.nonzero().max()) + 1
        hidden = model(ids[None, :end], output_hidden_states=True).hidden_states[-1]
        lasts.append(hidden[0, -1] @ rewards.head)
    assert len({round(score.item(), 3) for score in lasts}) == 8
    torch.testing.assert_close(together, torch.stack(lasts), rtol=1e-4, atol=1e-4)


def test_the_reward_model_learns_to_tell_pairs_apart_and_leaves_the_reference(
    reference, scored, toy
):
    before = copy.deepcopy(reference.state_dict())
    train, held_out = scored.batch(range(16)), scored.batch(range(16, 24))
    trainer = new_trainer(reference, toy[1])
    rows = train.rows
    first = trainer.reward_model(rows.input_ids, rows.completion_mask).view(2, -1)
    assert (first[0] > first[1]).float().mean() == 0
    trainer.fit_reward_model([train] * 12)
    assert trainer.evaluate(train)["eval_rlhf/reward_accuracy"] == 1.0
    assert trainer.evaluate(held_out)["eval_rlhf/reward_accuracy"] >= 0.75
    assert all(torch.equal(reference.state_dict()[n], weight) for n, weight in before.items())
    assert all(torch.equal(trainer.model.state_dict()[n], w) for n, w in before.items())


def test_a_typical_chosen_scores_plus_one_and_a_typical_rejected_minus_one(reference, scored, toy):
    batches = [scored.batch(range(i, i + 8)) for i in (0, 8, 16)]
    differences = []
    for repeats in (7, 14):  # the longer the fit, the larger r, but not a score in units
        trainer = new_trainer(reference, toy[1], fit_to=batches * repeats, learning_rate=3e-3)
        # The unit is that of the last eight batches, repeats counted.
        rows = [batch.rows for batch in (batches * repeats)[-8:]]
        scores = [trainer.score(r.input_ids, r.completion_mask).view(2, -1) for r in rows]
        chosen, rejected = torch.cat(scores, dim=1)
        assert (chosen + rejected).mean().item() == pytest.approx(0, abs=1e-4)
        half = (chosen - rejected) / 2
        assert half.square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)
        assert chosen.mean() > 0.7 and rejected.mean() < -0.7
        raw = trainer.reward_model(rows[0].input_ids, rows[0].completion_mask).view(2, -1)
        differences.append((raw[0] - raw[1]).mean().item())
    assert differences[1] > 1.3 * differences[0] > 2


def test_a_reward_model_that_has_learned_little_is_not_made_to_sound_sure(reference, scored, toy):
    rows = scored.batch(range(8)).rows
    trainer = new_trainer(reference, toy[1], fit_to=[scored.batch(range(8))])
    raw = trainer.reward_model(rows.input_ids, rows.completion_mask)
    scores = trainer.score(rows.input_ids, rows.completion_mask)
    torch.testing.assert_close(scores, raw - raw.mean())
    assert 0 < scores.view(2, -1)[0].mean() < 0.5


# Stage 2: the policy gradient


def test_advantages_are_against_the_other_answers_and_sum_to_zero_for_each_prompt():
    rewards = torch.randn(5, 4, generator=generator())
    advantages = leave_one_out(rewards)
    torch.testing.assert_close(advantages.sum(dim=1), torch.zeros(5), rtol=0, atol=1e-5)
    others = (rewards[2, 0] + rewards[2, 1] + rewards[2, 3]) / 3
    assert advantages[2, 2].item() == pytest.approx((rewards[2, 2] - others).item(), rel=1e-5)
    torch.testing.assert_close(leave_one_out(rewards + 9), advantages, rtol=1e-4, atol=1e-5)


def test_the_policy_gradient_is_the_advantage_times_the_score():
    logps = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    advantages = torch.tensor([[0.5, -0.5], [2.0, -2.0]], requires_grad=True)
    policy_gradient_loss(logps, advantages).backward()
    torch.testing.assert_close(logps.grad, -advantages.detach() / 4)
    assert advantages.grad is None, "the reward is a weight, not something to differentiate"


def exact_objective(trainer, prompt):
    """J and its KL for answers of one token: the sum over all of the vocabulary."""
    vocabulary = torch.arange(trainer.model.config.vocab_size)
    rows = torch.cat([torch.tensor([prompt]).expand(len(vocabulary), -1), vocabulary[:, None]], 1)
    mask = torch.zeros_like(rows)
    mask[:, -1] = 1
    logps = trainer.model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    with torch.no_grad():
        reference = trainer.reference(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    kl = (logps.exp() * (logps - reference)).sum()
    return (logps.exp() * trainer.score(rows, mask)).sum() - trainer.beta * kl, kl


@pytest.mark.parametrize("samples_per_prompt", [2, 4])
def test_the_estimated_gradient_is_the_exact_one_within_its_standard_error(
    reference, scored, tokenized, toy, samples_per_prompt
):
    """Answers of one token can all be enumerated; the policy is off the reference, so KL counts."""
    trainer = new_trainer(
        reference, toy[1], moved=0.03, fit_to=[scored.batch(range(8))] * 20, learning_rate=3e-3,
        max_new_tokens=1, samples_per_prompt=samples_per_prompt,
    )  # fmt: skip
    one = tokenized[0].prompt
    prompts = [one, next(pair.prompt for pair in tokenized if len(pair.prompt) < len(one))]
    weight = trainer.model.transformer.ln_f.bias

    def exact(beta):
        trainer.beta = beta
        objective = sum(exact_objective(trainer, prompt)[0] for prompt in prompts) / 2
        return torch.autograd.grad(-objective, weight)[0]

    of_the_reward_alone, of_both = exact(0.0), exact(0.7)
    estimates = []
    for trainer.steps in range(100):
        loss = trainer.compute_loss(32 * prompts).loss
        estimates.append(torch.autograd.grad(loss, weight)[0])
    estimates = torch.stack(estimates)
    error = estimates.std(dim=0) / len(estimates) ** 0.5

    def distance(gradient):
        """In standard errors, in the worst of the 32 directions."""
        return ((estimates.mean(dim=0) - gradient).abs() / error).max().item()

    assert distance(of_both) < 4
    assert distance(torch.zeros(32)) > 10, "the example should have a gradient to find"
    assert distance(of_the_reward_alone) > 10, "and the KL should have a part in it"
    assert distance(of_both - of_the_reward_alone) > 10, "and the reward too"


def test_the_estimated_kl_is_the_exact_one_within_its_standard_error(
    reference, scored, tokenized, toy
):
    batch = scored.batch(range(8))
    trainer = new_trainer(reference, toy[1], moved=0.03, fit_to=[batch], max_new_tokens=1)
    sampled = trainer.compute_loss(1000 * [tokenized[0].prompt])
    objective, kl = exact_objective(trainer, tokenized[0].prompt)
    for estimate, value in ((sampled.log_ratios, kl), (sampled.returns, objective)):
        error = estimate.std().item() / estimate.numel() ** 0.5
        assert estimate.mean().item() == pytest.approx(value.item(), abs=4 * error)
    assert kl > 0.05


def test_the_policy_climbs_its_objective_and_a_large_beta_keeps_it_near_the_reference(
    reference, scored, toy
):
    batch = scored.batch(range(4))
    prompts = prompts_of(batch.rows)
    kls = {}
    for beta in (0.05, 20.0):
        trainer = new_trainer(
            reference, toy[1], fit_to=[batch] * 20, beta=beta, max_new_tokens=1,
            samples_per_prompt=8, learning_rate=2e-3,
        )  # fmt: skip

        def objective(trainer=trainer):
            with torch.no_grad():
                both = [torch.stack(exact_objective(trainer, prompt)) for prompt in prompts]
            return torch.stack(both).mean(dim=0).tolist()

        before, _ = objective()
        for _ in range(15):
            trainer.step(batch)
        after, kls[beta] = objective()
        if beta == 0.05:
            assert after > before + 0.2
    assert kls[20.0] < kls[0.05] / 3


# Sampling


def test_prompts_are_what_stands_before_the_chosen(tokenized):
    assert len({len(pair.prompt) for pair in tokenized}) > 1
    assert prompts_of(make_batch(tokenized)) == [pair.prompt for pair in tokenized]


@torch.no_grad()
def test_prompts_of_several_lengths_sampled_together_are_continued_as_if_alone(
    reference, tokenized
):
    """With scores 1000 times as large, sampling is taking the likeliest token."""
    model = copy.deepcopy(reference)
    model.transformer.ln_f.weight *= 1000
    model.transformer.ln_f.bias *= 1000
    prompts = [[7], *(pair.prompt for pair in tokenized[:6])]
    ids, mask = sample_completions(
        model, prompts, end_token=0, max_new_tokens=9, generator=generator()
    )
    for prompt, row, on in zip(prompts, ids.tolist(), mask.bool(), strict=True):
        theirs = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)).long(),
            do_sample=False, max_new_tokens=9, eos_token_id=0, pad_token_id=0,
        )[0].tolist()  # fmt: skip
        assert row[: len(prompt)] == prompt
        assert torch.tensor(row)[on].tolist() == theirs[len(prompt) :]
        assert on.nonzero().flatten().tolist() == list(range(len(prompt), len(theirs)))


@torch.no_grad()
def test_sampled_tokens_follow_the_softmax_also_where_a_shorter_prompt_runs_ahead(
    reference, tokenized
):
    prompt = tokenized[0].prompt
    ids, _ = sample_completions(
        reference, [prompt[:3], *(3000 * [prompt])], end_token=0, max_new_tokens=1,
        generator=generator(),
    )  # fmt: skip
    probabilities = reference(torch.tensor([prompt])).logits[0, -1].softmax(-1)
    counts = ids[1:, len(prompt)].bincount(minlength=len(probabilities))
    common = probabilities > 0.01
    assert common.sum() > 3, "the example should have something to sample"
    spread = (3000 * probabilities * (1 - probabilities)).sqrt()
    assert ((counts - 3000 * probabilities).abs() / spread)[common].max() < 4


@torch.no_grad()
def test_an_answer_ends_with_its_end_token_and_nothing_follows(reference, tokenized):
    end = int(reference(torch.tensor([tokenized[0].prompt])).logits[0, -1].argmax())
    ids, mask = sample_completions(
        reference, 200 * [tokenized[0].prompt], end_token=end, max_new_tokens=5,
        generator=generator(),
    )  # fmt: skip
    start = len(tokenized[0].prompt)
    answers = [row[on].tolist() for row, on in zip(ids, mask.bool(), strict=True)]
    lengths = {len(answer) for answer in answers}
    assert {1, 5} <= lengths <= {1, 2, 3, 4, 5}
    for answer, row in zip(answers, ids[:, start:].tolist(), strict=True):
        assert end not in answer[:-1]
        assert len(answer) == 5 or answer[-1] == end
        assert set(row[len(answer) :]) <= {0}


# The trainer


def test_the_first_event_says_that_nothing_has_been_learned(reference, scored, toy):
    batch = scored.batch(range(4))
    trainer = new_trainer(reference, toy[1], fit_to=[batch])
    event = trainer.step(batch)
    dpo = Trainer(moved_copy(reference), "dpo", learning_rate=1e-3, knobs={"beta": 0.1})
    theirs = dpo.step(batch)
    assert set(event) == set(theirs) | OWN_KEYS
    same = set(theirs) - {"loss", "grad_norm"}
    assert {name: event[name] for name in same} == {name: theirs[name] for name in same}
    assert event["shift/chosen"] == event["shift/rejected"] == event["rlhf/kl"] == 0.0
    assert event["loss"] == pytest.approx(-event["rlhf/reward"], rel=1e-6)
    assert (event["rlhf/samples"], event["num_tokens"]) == (8, 0)
    assert all(isinstance(value, (int, float)) for value in event.values())


def test_held_out_pairs_are_measured_as_for_dpo_and_leave_no_trace(reference, scored, toy):
    batch = scored.batch(range(4))
    plain, watched = (new_trainer(reference, toy[1], 0.01, [batch]) for _ in range(2))
    dpo = Trainer(moved_copy(reference, 0.01), "dpo", learning_rate=1e-3, knobs={"beta": 0.1})
    measured = watched.evaluate(scored.batch(range(4, 8)))
    theirs = dpo.evaluate(scored.batch(range(4, 8)))
    assert measured.pop("eval_rlhf/reward_accuracy") in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert measured == theirs and measured["eval_shift/chosen"] != 0.0
    for _ in range(2):
        assert plain.step(batch) == watched.step(batch)
        watched.evaluate(batch)


def test_the_events_loss_is_minus_reward_plus_beta_kl_of_the_samples(reference, scored, toy):
    batch = scored.batch(range(4))
    trainer = new_trainer(reference, toy[1], 0.02, [batch], beta=0.3)
    event = trainer.step(batch)
    assert event["rlhf/kl"] != 0.0
    expected = -event["rlhf/reward"] + 0.3 * event["rlhf/kl"]
    assert event["loss"] == pytest.approx(expected, rel=1e-5)


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(reference, scored, toy):
    batches = [scored.batch(range(i, i + 4)) for i in (0, 4, 8)]

    def run(seed):
        trainer = new_trainer(reference, toy[1], fit_to=batches, seed=seed)
        return [trainer.step(batch) for batch in batches]

    torch.rand(3)  # the global generator plays no part
    first, again, other = run(0), run(0), run(1)
    assert first == again
    assert [event["step"] for event in first] == [0, 1, 2]
    assert [event["loss"] for event in first] != [event["loss"] for event in other]


def test_without_an_update_the_policy_and_the_counts_stay(reference, scored, toy):
    batch = scored.batch(range(4))
    trainer = new_trainer(reference, toy[1], 0.01, [batch])
    before = copy.deepcopy(trainer.model.state_dict())
    once, again = trainer.step(batch, update=False), trainer.step(batch, update=False)
    assert once == again and once["grad_norm"] > 0
    assert (trainer.steps, trainer.tokens) == (0, 0)
    after = trainer.model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())


def test_tokens_counts_prompts_and_sampled_answers(reference, scored, toy):
    batch = scored.batch(range(4))
    trainer = new_trainer(reference, toy[1], fit_to=[batch], max_new_tokens=1)
    trainer.step(batch)
    assert trainer.tokens == sum(2 * (len(prompt) + 1) for prompt in prompts_of(batch.rows))
    assert trainer.step(batch)["num_tokens"] == trainer.tokens / 2


def test_answers_are_by_default_as_long_as_the_longest_completion(reference, scored, toy):
    batches = [scored.batch(range(4)), scored.batch(range(4, 8))]
    trainer = new_trainer(reference, toy[1], fit_to=batches, max_new_tokens=None)
    assert trainer.max_new_tokens == max(int(batch.rows.lengths.max()) for batch in batches)


def test_fitting_and_training_both_take_time(reference, scored, toy):
    trainer, batch = new_trainer(reference, toy[1]), scored.batch(range(4))
    trainer.fit_reward_model([batch])
    fitted = trainer.seconds
    trainer.step(batch)
    assert 0 < fitted < trainer.seconds


def test_the_toys_own_answers_are_rewarded_more_after_a_few_steps(toy):
    model, tokenizer = copy.deepcopy(toy[0]).eval().requires_grad_(False), toy[1]
    pairs = ScoredPairs(model, tokenize_pairs(load_pairs("tone")[:64], tokenizer, 256))
    batches = [pairs.batch(range(i, i + 8)) for i in range(0, 64, 8)]
    trainer = new_trainer(model, tokenizer, fit_to=batches, learning_rate=5e-4, max_new_tokens=None)
    events = [trainer.step(batch) for batch in 2 * batches]
    first, last = (sum(e["rlhf/reward"] for e in part) / 4 for part in (events[:4], events[-4:]))
    assert last > first + 0.3
    assert events[-1]["shift/chosen"] > events[-1]["shift/rejected"]


def test_a_step_before_the_reward_model_is_fitted_is_refused(reference, scored, toy):
    trainer = new_trainer(reference, toy[1])
    with pytest.raises(InputError, match="fit_reward_model first"):
        trainer.step(scored.batch(range(2)))
    with pytest.raises(InputError, match="at least one batch"):
        trainer.fit_reward_model([])
    with pytest.raises(InputError, match="samples_per_prompt must be at least 2, not 1"):
        new_trainer(reference, toy[1], samples_per_prompt=1)


def test_divergence_is_an_error_that_names_the_learning_rate(reference, scored, toy):
    batch = scored.batch(range(4))
    trainer = new_trainer(reference, toy[1], fit_to=[batch])
    with torch.no_grad():
        trainer.model.transformer.wte.weight[5:] = torch.nan
    with pytest.raises(FloatingPointError, match="rlhf: .* nan after 0 steps; .* lower"):
        trainer.step(batch)
    with pytest.raises(FloatingPointError, match="rlhf: .* lower the learning rate"):
        trainer.compute_loss(prompts_of(batch.rows))
    with torch.no_grad():
        trainer.reward_model.head.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="reward model's loss is nan"):
        trainer.fit_reward_model([batch])


def test_the_samples_log_probs_are_those_of_the_policy(reference, scored, toy):
    """The gradient is taken of the log-prob of the very rows that were sampled."""
    batch = scored.batch(range(4))
    trainer = new_trainer(reference, toy[1], 0.02, [batch])
    sampled = trainer.compute_loss(prompts_of(batch.rows))
    prompts = [prompt for prompt in prompts_of(batch.rows) for _ in range(2)]
    rows = sample_completions(
        trainer.model, prompts, end_token=0, max_new_tokens=6, generator=generator()
    )
    with torch.no_grad():
        difference = completion_logps(trainer.model, *rows) - completion_logps(reference, *rows)
    torch.testing.assert_close(sampled.log_ratios.flatten(), difference)
    torch.testing.assert_close(sampled.rewards.flatten(), trainer.score(*rows))
