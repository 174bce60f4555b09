"""Sampled answers to held-out prompts, and how often the judge prefers them.

Every win rate belongs to a temperature T. At T = 0.7, as in chat, a model's rare mistakes are rarer
still; at T = 1 it samples from π itself, the distribution that log-probs, KL and the mass ledger
describe. The same run can look good at one and bad at the other, so both are measured.
"""

from collections.abc import Iterable, Mapping, Sequence

from adadpo_mini.measure.mass import LONGEST_ANSWER
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.pairs.rows import Pair
from adadpo_mini.toyworld.grammar import find_topic
from adadpo_mini.toyworld.judge import win_rate
from adadpo_mini.types import Model, Tokenizer

CHAT_TEMPERATURE = 0.7
TEMPERATURES = (CHAT_TEMPERATURE, 1.0)


def probe_prompts(held_out: Iterable[Pair], count: int) -> list[str]:
    """Return the first held-out prompts, at most `count`, without duplicates."""
    return list(dict.fromkeys(pair["prompt"] for pair in held_out))[:count]


def probe_answers(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    seed: int,
    temperature: float = CHAT_TEMPERATURE,
) -> list[str]:
    """Return one answer to each prompt, sampled at a temperature."""
    sampling = {"temperature": temperature, "seed": seed, "max_new_tokens": LONGEST_ANSWER}
    return sample_answers(model, tokenizer, prompts, **sampling)


def win_rates(
    models: Mapping[str, Model],
    reference: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    seed: int,
    temperature: float = CHAT_TEMPERATURE,
) -> dict[str, float] | None:
    """Return how often the judge prefers each model's answer to the reference's.

    Both answers are sampled with the same seed, at the same temperature. A tie counts half.

    Returns:
        The share of prompts by model name; None outside the toy world, where there is no judge.
    """
    if not all(find_topic(prompt) for prompt in prompts):
        return None
    rivals = probe_answers(reference, tokenizer, prompts, seed, temperature)
    return {
        name: win_rate(prompts, probe_answers(model, tokenizer, prompts, seed, temperature), rivals)
        for name, model in models.items()
    }


def all_win_rates(
    models: Mapping[str, Model],
    reference: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    seed: int,
) -> dict[float, dict[str, float] | None]:
    """Return `win_rates` by temperature, at all `TEMPERATURES`."""
    asked = (models, reference, tokenizer, prompts, seed)
    return {temperature: win_rates(*asked, temperature) for temperature in TEMPERATURES}
