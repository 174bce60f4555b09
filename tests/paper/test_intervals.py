"""95 % intervals and standard errors, against other people's."""

import math

import pytest
import torch
from scipy import stats

from adadpo_mini import load_model
from adadpo_mini.measure import sampled_kl
from adadpo_mini.models.generate import sample_ids
from adadpo_mini.paper.intervals import Estimate, wilson_interval

VALUES = ([1.0, 2.0, 3.0, 4.0], [0.3, 0.1], [-5.0, 0.0, 7.5, 1e3, 2.0, 2.0, 2.0])


@pytest.mark.parametrize("values", VALUES)
def test_the_estimate_is_students_t(values):
    estimate = Estimate.of(values)
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert estimate.count == len(values)
    assert estimate.mean == pytest.approx((low + high) / 2)
    assert estimate.half_width == pytest.approx((high - low) / 2)


def test_equal_values_have_an_interval_of_no_width_and_one_value_has_none():
    assert Estimate.of([0.5, 0.5, 0.5]) == Estimate(0.5, 0.0, 3)
    alone = Estimate.of([1.0])
    assert alone.mean == 1.0 and math.isnan(alone.half_width) and alone.count == 1


@pytest.mark.parametrize(("won", "count"), [(0, 5), (3, 16), (13, 16), (48, 48)])
def test_wilsons_interval_is_scipys(won, count):
    known = stats.binomtest(won, count).proportion_ci(method="wilson")
    assert wilson_interval(won / count, count) == pytest.approx((known.low, known.high))


def test_a_tie_counts_as_half_a_success():
    low, high = wilson_interval(2.5 / 5, 5)
    assert (low + high) / 2 == pytest.approx(0.5)
    assert wilson_interval(2 / 5, 5)[0] < low < wilson_interval(3 / 5, 5)[0]


def kl_of_answer(policy, reference, prompt, answer):
    """Σ_t KL(π_θ(·|y_<t)‖π_ref(·|y_<t)) of one answer, from one plain forward pass per model."""
    ids = torch.tensor([[*prompt, *answer]])
    steps = slice(len(prompt) - 1, len(prompt) + len(answer) - 1)
    with torch.no_grad():
        p, q = (model(ids).logits[0, steps].softmax(-1) for model in (policy, reference))
    return sum(stats.entropy(a, b) for a, b in zip(p.numpy(), q.numpy(), strict=True))


def test_the_standard_error_of_a_sampled_kl_is_that_of_a_mean_over_answers():
    policy, tokenizer = load_model("toy")
    reference, _ = load_model("toy")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in policy.parameters():
            weights += 0.01 * torch.randn(weights.shape, generator=generator)
    texts = ("How do I warm the spicy soup?\n", "How do I paint the old fence?\n", "Why?\n") * 3
    prompts = tokenizer(list(texts))["input_ids"]
    end, settings = tokenizer.eos_token_id, {"seed": 1, "max_new_tokens": 30}
    found = sampled_kl(policy, reference, prompts, end, **settings)
    answers = sample_ids(policy, prompts, end, temperature=1.0, **settings)
    alone = [kl_of_answer(policy, reference, *row) for row in zip(prompts, answers, strict=True)]
    assert found.kl == pytest.approx(sum(alone) / 9, rel=1e-3) and found.kl > 0.1
    assert found.standard_error == pytest.approx(stats.sem(alone), rel=1e-3)
    assert found.length == sum(map(len, answers)) / 9
