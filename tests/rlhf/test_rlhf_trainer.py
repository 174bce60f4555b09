"""RLHF as a method of a race: events, seeds, counts, what is trained, and what is refused."""

import copy

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adadpo_mini import InputError, completion_logps, load_pairs
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.rlhf import (
    prompts_of,
    sample_completions,
)
from adadpo_mini.tokens.batch import tokenize_pairs
from adadpo_mini.trainer import Trainer
from tests.rlhf.trainers import generator, moved_copy, new_trainer

OWN_KEYS = {"rlhf/reward", "rlhf/kl", "rlhf/reward_accuracy", "rlhf/samples"}


def test_what_the_optimisers_of_both_stages_get_is_clipped(reference, scored, toy):
    got = []

    def look(optimizer, *_):
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        squares = [
            weight.grad.double().square().sum() for weight in weights if weight.requires_grad
        ]
        got.append(sum(squares).sqrt().item())

    batch = scored.batch(range(8))
    handle = register_optimizer_step_pre_hook(look)
    try:
        trainer = new_trainer(reference, toy[1], 0.02, [batch] * 2, max_grad_norm=0.01)
        grad_norm = trainer.step(batch)["grad_norm"]
    finally:
        handle.remove()
    assert grad_norm > 0.02 and got == 3 * [pytest.approx(0.01, rel=1e-3)]


def test_a_restored_trainer_has_the_rewards_of_the_first_and_does_not_fit_again(
    reference, scored, toy
):
    batch = scored.batch(range(8))
    first = new_trainer(reference, toy[1], fit_to=[batch] * 12, learning_rate=3e-3)
    first.step(batch)
    again = new_trainer(reference, toy[1], learning_rate=3e-3)
    again.restore(first.state())
    again.prepare(pytest.fail("the pairs are read again") for _ in range(1))
    rows = (batch.rows.input_ids, batch.rows.completion_mask)
    assert torch.equal(again.score(*rows), first.score(*rows))
    assert again.seconds == first.seconds
    assert again.step(batch) == first.step(batch)


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


def test_runs_of_neighbouring_seeds_never_sample_with_the_same_noise(reference, scored, toy):
    """With seed + step, run 1 would repeat run 0 one step later."""
    batch = scored.batch(range(4))
    prompts, sampled = prompts_of(batch.rows), []
    for seed in range(3):
        trainer = new_trainer(reference, toy[1], fit_to=[batch], seed=seed, max_new_tokens=12)
        for trainer.steps in range(4):
            sampled.append(tuple(trainer.compute_loss(prompts).rewards.flatten().tolist()))
            again = trainer.compute_loss(prompts).rewards.flatten().tolist()
            assert again == [*sampled[-1]], "the same step samples the same answers"
    assert len(set(sampled)) == 12


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


def test_fitting_training_and_measuring_all_take_time(reference, scored, toy):
    trainer, batch = new_trainer(reference, toy[1]), scored.batch(range(4))
    times = [trainer.seconds]
    for work in (lambda b: trainer.fit_reward_model([b]), trainer.step, trainer.evaluate):
        work(batch)
        times.append(trainer.seconds)
    assert times[0] == 0.0 and times == sorted(set(times))


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
    """The gradient uses the log-probs of the same rows that were sampled."""
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
