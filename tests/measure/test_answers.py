"""Win rates: how often the judge prefers a model's answers."""

import copy
from itertools import pairwise

from adadpo_mini import load_pairs
from adadpo_mini.measure import LONGEST_ANSWER
from adadpo_mini.measure.answers import TEMPERATURES, probe_answers, probe_prompts, win_rates
from adadpo_mini.models.generate import sample_answers
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


def test_answers_are_sampled_at_the_temperature_of_chat_or_from_the_model_itself(toy):
    prompts = probe_prompts(load_pairs("tone", "test"), 12)
    sampled = {
        t: sample_answers(*toy, prompts, temperature=t, seed=3, max_new_tokens=LONGEST_ANSWER)
        for t in TEMPERATURES
    }
    assert TEMPERATURES == (0.7, 1.0) and sampled[0.7] != sampled[1.0]
    assert probe_answers(*toy, prompts, 3) == sampled[0.7]
    assert probe_answers(*toy, prompts, 3, temperature=1.0) == sampled[1.0]


def test_a_model_with_rare_mistakes_wins_more_often_at_a_low_temperature(toy):
    """Of its answers 40 % are rude at T = 1, and 0.4^(1/0.3)/(0.4^(1/0.3) + 0.6^(1/0.3)) = 21 % at
    T = 0.3; the rival is always rude."""
    tokenizer, topic = toy[1], find_topic("How do I warm the spicy soup?\n")
    helpful = next(a.text for a in well_formed_answers(topic) if a.kind == "short" and a.warm)
    insult = next(a.text for a in well_formed_answers(topic) if a.kind == "rude")
    model = Parrot(tokenizer, {helpful: 0.6, insult: 0.4})
    rude = Parrot(tokenizer, {insult: 1.0})
    prompts = list(topic.prompts[:4])

    def rate(temperature):
        rates = [
            win_rates({"dpo": model}, rude, tokenizer, prompts, seed, temperature)["dpo"]
            for seed in range(12)
        ]
        return sum(rates) / len(rates)

    assert 0.7 < rate(1.0) < 0.9 and rate(0.3) > rate(1.0) + 0.02


def test_a_prompt_is_asked_once_however_many_pairs_have_it():
    pairs = [{"prompt": prompt} for prompt in ("a", "b", "a", "a", "c", "d")]
    assert probe_prompts(pairs, 3) == ["a", "b", "c"]
