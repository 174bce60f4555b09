"""Win rates: how often the judge prefers a model's answers."""

import copy
from itertools import pairwise

from adadpo_mini import load_pairs
from adadpo_mini.measure.answers import probe_answers, probe_prompts, win_rates
from adadpo_mini.toyworld.grammar import find_topic, well_formed_answers
from adadpo_mini.toyworld.judge import win_rate
from tests.known_models import Parrot


def test_the_win_rate_is_that_of_the_methods_answers_over_the_references(toy):
    """Each model has one answer: the judge prefers dpo's, and adadpo's equals the reference's."""
    tokenizer, topic = toy[1], find_topic("How do I warm the spicy soup?\n")
    answers = {answer.kind: answer.text for answer in well_formed_answers(topic)}
    rude, helpful, other = (
        Parrot(tokenizer, {answers[k]: 1.0}) for k in ("rude", "short", "detailed")
    )
    models = {"dpo": helpful, "adadpo": copy.deepcopy(rude), "ipo": other}
    prompts = list(topic.prompts[:4])
    assert win_rates(models, rude, tokenizer, prompts, seed=0) == {
        "dpo": 1.0, "adadpo": 0.5, "ipo": 1.0
    }  # fmt: skip
    assert win_rates({"rude": rude}, helpful, tokenizer, prompts, seed=0) == {"rude": 0.0}
    assert win_rates({"dpo": helpful}, rude, tokenizer, [*prompts, "Why?\n"], seed=0) is None


def test_the_reference_itself_wins_half_since_both_sample_with_one_seed(toy):
    model, tokenizer = toy
    prompts = probe_prompts(load_pairs("tone", "test"), 12)
    answers = [probe_answers(model, tokenizer, prompts, seed) for seed in range(4)]
    between = {win_rate(prompts, *two) for two in pairwise(answers)}
    assert between != {0.5}, "answers of two seeds are not equally good"
    for seed in range(3):
        assert win_rates({"same": model}, model, tokenizer, prompts, seed) == {"same": 0.5}


def test_a_prompt_is_asked_once_however_many_pairs_have_it():
    pairs = [{"prompt": prompt} for prompt in ("a", "b", "a", "a", "c", "d")]
    assert probe_prompts(pairs, 3) == ["a", "b", "c"]
