"""What a model says: sampled answers to held-out prompts, and how often the judge prefers them."""

from collections.abc import Iterable, Mapping, Sequence

from adadpo_mini.measure.mass import LONGEST_ANSWER
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.pairs.rows import Pair
from adadpo_mini.toyworld.grammar import find_topic
from adadpo_mini.toyworld.judge import win_rate


def probe_prompts(held_out: Iterable[Pair], count: int) -> list[str]:
    """The first held-out prompts, `count` at most, each once."""
    return list(dict.fromkeys(pair["prompt"] for pair in held_out))[:count]


def probe_answers(model, tokenizer, prompts: Sequence[str], seed: int) -> list[str]:
    """A sampled answer to each prompt, at temperature 0.7."""
    return sample_answers(model, tokenizer, prompts, seed=seed, max_new_tokens=LONGEST_ANSWER)


def win_rates(
    models: Mapping[str, object], reference, tokenizer, prompts: Sequence[str], seed: int
) -> dict[str, float] | None:
    """Share of the prompts on which the judge prefers a model's answer to the reference's.

    Both are sampled with the same seed; ties count half.

    Returns:
        The share by model's name; None outside the toy world, where there is no judge.
    """
    if not all(find_topic(prompt) for prompt in prompts):
        return None
    rivals = probe_answers(reference, tokenizer, prompts, seed)
    return {
        name: win_rate(prompts, probe_answers(model, tokenizer, prompts, seed), rivals)
        for name, model in models.items()
    }
