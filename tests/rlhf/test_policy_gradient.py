"""Stage 2 of RLHF: the gradient against exact enumeration, and the sampled answers."""

import copy

import pytest
import torch

from adadpo_mini.rlhf import (
    leave_one_out,
    policy_gradient_loss,
    prompts_of,
    sample_completions,
)
from adadpo_mini.tokens.batch import make_batch
from tests.rlhf.trainers import generator, new_trainer


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
