"""Sampled answers to held-out prompts, and how often the judge prefers them."""

from collections.abc import Iterable, Mapping, Sequence

from adadpo_mini.measure.mass import LONGEST_ANSWER
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.pairs.rows import Pair
from adadpo_mini.toyworld.grammar import find_topic
from adadpo_mini.toyworld.judge import win_rate
from adadpo_mini.types import Model, Tokenizer


def probe_prompts(held_out: Iterable[Pair], count: int) -> list[str]:
    """Return the first held-out prompts, at most `count`, without duplicates."""
    return list(dict.fromkeys(pair["prompt"] for pair in held_out))[:count]


def probe_answers(
    model: Model, tokenizer: Tokenizer, prompts: Sequence[str], seed: int
) -> list[str]:
    """Return one sampled answer to each prompt, at temperature 0.7."""
    return sample_answers(model, tokenizer, prompts, seed=seed, max_new_tokens=LONGEST_ANSWER)


def win_rates(
    models: Mapping[str, Model],
    reference: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    seed: int,
) -> dict[str, float] | None:
    """Return how often the judge prefers each model's answer to the reference's.

    Both answers are sampled with the same seed. A tie counts half.

    Returns:
        The share of prompts by model name; None outside the toy world, where there is no judge.
    """
    if not all(find_topic(prompt) for prompt in prompts):
        return None
    rivals = probe_answers(reference, tokenizer, prompts, seed)
    return {
        name: win_rate(prompts, probe_answers(model, tokenizer, prompts, seed), rivals)
        for name, model in models.items()
    }
