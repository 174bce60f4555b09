"""KL to the reference, against known distributions and Markov chains solved exactly."""

import pytest
import torch

from adadpo_mini import completion_logps, load_pairs
from adadpo_mini.measure import enumerated_kl, sampled_kl
from adadpo_mini.models.generate import sample_answers, sample_ids
from adadpo_mini.tokens.batch import stack_rows, tokenize_completions
from tests.known_models import Bigram
from tests.measure.test_mass import moved

START, END = 1, 0


def chain(vocabulary, seed, kinds=None):
    """A bigram model of random scores, whose answers end after five tokens or so."""
    generator = torch.Generator().manual_seed(seed)
    scores = 1.5 * torch.randn(kinds or vocabulary, vocabulary, generator=generator)
    scores[:, END] = scores.logsumexp(1) - 1.4
    return Bigram(scores).requires_grad_(False)


def solved(policy, reference):
    """(KL of a whole answer, its expected length), from the equations of the chain."""
    log_p, log_q = (model.scores.double().log_softmax(-1) for model in (policy, reference))
    each_step = (log_p.exp() * (log_p - log_q)).sum(-1)
    goes_on = log_p.exp().clone()
    goes_on[:, END] = 0  # after the end token there is nothing
    a_step_each = torch.stack([each_step, torch.ones_like(each_step)], dim=1)
    sums = torch.linalg.solve(torch.eye(len(goes_on)).double() - goes_on, a_step_each)
    return sums[START].tolist()


@pytest.fixture(scope="module")
def policy():
    return chain(12, seed=0)


@pytest.fixture(scope="module")
def base():
    return chain(12, seed=1)


def test_enumerated_kl_is_that_of_the_categorical_distributions():
    generator = torch.Generator().manual_seed(0)
    p, q = (torch.rand(7, generator=generator).double() for _ in range(2))
    p, q = p / p.sum(), q / q.sum()
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(p), torch.distributions.Categorical(q)
    ).item()
    assert enumerated_kl(p.log(), q.log()) == pytest.approx(expected)
    # With six of the seven listed, the rest is the seventh: the same distributions, the same KL.
    assert enumerated_kl(p[:6].log(), q[:6].log()) == pytest.approx(expected)
    # With three of them listed, it is never more than the whole.
    assert 0 < enumerated_kl(p[:3].log(), q[:3].log()) < expected


def test_sampled_kl_and_the_length_are_those_of_the_solved_chain(policy, base):
    found = sampled_kl(policy, base, 4000 * [[START]], END)
    expected, length = solved(policy, base)
    assert abs(found.kl - expected) < 4 * found.standard_error < 0.1 * expected
    assert found.length == pytest.approx(length, rel=0.05) and length > 3
    backwards, _ = solved(base, policy)
    assert abs(found.kl - backwards) > 10 * found.standard_error, "KL has a direction"


def test_the_standard_error_is_how_much_the_estimate_varies_from_seed_to_seed(policy, base):
    for count in (16, 64):
        runs = [sampled_kl(policy, base, count * [[START]], END, seed=s) for s in range(120)]
        spread = torch.tensor([run.kl for run in runs]).std().item()
        claimed = sum(run.standard_error for run in runs) / len(runs)
        assert claimed == pytest.approx(spread, rel=0.3), count


def test_one_answer_has_an_estimate_but_no_standard_error(policy, base):
    found = sampled_kl(policy, base, [[START]], END)
    assert found.kl > 0 and found.standard_error != found.standard_error


def test_answers_of_a_large_vocabulary_are_compared_in_parts_to_the_same_end():
    policy, base = (chain(1 << 15, seed, kinds=8) for seed in (0, 1))
    prompts, rows_at_once = 2 * [[START] * 560], []
    base.register_forward_pre_hook(
        lambda *given: rows_at_once.append(len(given[2]["input_ids"])), with_kwargs=True
    )
    found = sampled_kl(policy, base, prompts, END, max_new_tokens=20)
    assert rows_at_once == [1, 1]
    answers = sample_ids(policy, prompts, END, temperature=1.0, seed=0, max_new_tokens=20)
    log_p, log_q = (model.scores.log_softmax(-1) for model in (policy, base))
    each_step = (log_p.exp() * (log_p - log_q)).sum(-1)
    before = [torch.tensor([START, *answer[:-1]]) for answer in answers]
    expected = sum(each_step[ids % 8].sum().item() for ids in before) / 2
    assert found.kl == pytest.approx(expected, rel=1e-4) and found.length > 1


def test_on_the_toy_it_agrees_with_the_plain_estimate_and_is_zero_for_the_reference(toy):
    reference, tokenizer = toy
    prompts = [pair["prompt"] for pair in load_pairs("tone", "test")[:48]]
    ids, end = tokenizer(prompts)["input_ids"], tokenizer.eos_token_id
    assert sampled_kl(reference, reference, ids[:4], end).kl == 0.0
    policy = moved(reference, 0.02)
    estimate = sampled_kl(policy, reference, ids, end)
    answers = sample_answers(policy, tokenizer, prompts, temperature=1.0, seed=9, max_new_tokens=80)
    rows = stack_rows(tokenize_completions(prompts, answers, tokenizer))
    with torch.no_grad():
        plain = completion_logps(policy, *rows) - completion_logps(reference, *rows)
    spread = (plain.std().item() ** 2 / len(plain) + estimate.standard_error**2) ** 0.5
    assert estimate.kl > 4 * estimate.standard_error
    assert abs(plain.mean().item() - estimate.kl) < 4 * spread
    assert estimate.standard_error < plain.std().item() / len(plain) ** 0.5
    assert 5 < estimate.length < 80


def test_a_prompt_that_nearly_fills_the_context_leaves_room_for_what_there_is(toy):
    reference, tokenizer = toy
    prompt = tokenizer("How do I warm the soup? " * 60)["input_ids"][:250]
    found = sampled_kl(moved(reference, 0.02), reference, [prompt], tokenizer.eos_token_id)
    assert 1 <= found.length <= 6 and found.kl > 0
