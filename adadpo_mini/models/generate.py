"""Sampling answers: streamed to a chat, from one model or several side by side, or in bulk."""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from adadpo_mini.errors import InputError
from adadpo_mini.models.load import context_length
from adadpo_mini.pairs.rows import shown
from adadpo_mini.tokens.templates import LINE, encode_prompts, typed_prompt

COLDEST = 1e-6  # below it the most likely token is taken: logits divided by less may overflow


def check_sampling(temperature: float, seed: int = 0) -> None:
    """Raise InputError unless these can be used for sampling."""
    warm = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not warm or not 0 <= temperature < math.inf:
        raise InputError(f"temperature must be 0 or more, not {shown(temperature)}.")
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise InputError(
            f"the sampling seed must be a whole number from 0 up, below 2^63, not {shown(seed)}."
        )


@torch.no_grad()
def sample_tokens(
    model, prompt_ids: Tensor, *, temperature: float, generator: torch.Generator
) -> Iterator[Tensor]:
    """Sample one token after another from softmax(logits / temperature).

    Args:
        prompt_ids: shape (rows, time), without padding.
        temperature: 0 takes the most likely token.
        generator: the only source of randomness. Models sampled with equal seeds see the same
            noise at every step, so where their predictions agree, so do their answers.

    Yields:
        The next token of every row, shape (rows,), until the context is full.

    Raises:
        InputError: the temperature is negative or not a number.
        FloatingPointError: the model's predictions are no numbers.
    """
    check_sampling(temperature)
    step_ids, cache = prompt_ids, None
    for _ in range(context_length(model) - prompt_ids.shape[1]):
        output = model(input_ids=step_ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        logits = output.logits[:, -1].float()
        if not logits.amax(-1).isfinite().all():
            raise FloatingPointError(
                "the model's predictions are no numbers: its training has diverged; lower the "
                "learning rate."
            )
        if temperature > COLDEST:
            probabilities = (logits / temperature).softmax(-1).cpu()  # one noise on all devices
            next_ids = torch.multinomial(probabilities, 1, generator=generator).to(logits.device)
        else:
            next_ids = logits.argmax(-1, keepdim=True)
        yield next_ids.squeeze(1)
        step_ids = next_ids


def stream_answers(
    models: Mapping[str, object],
    tokenizer,
    prompt: str,
    *,
    temperature: float = 0.7,
    seed: int = 0,
    max_new_tokens: int = 120,
    form: str = LINE,
) -> Iterator[dict[str, str]]:
    """Answer one typed prompt with several models at once, a token each in turn.

    All models sample with the same seed. A prompt too long for the context keeps its end.

    Args:
        form: what a typed prompt becomes for a model without a chat template, a format string;
            that of the prompts it was trained on, see `templates.prompt_form`.

    Returns:
        The answers so far, by model name, after every round.

    Raises:
        InputError: at once, if the prompt has no tokens or is no text, or another argument cannot
            be used.
    """
    check_sampling(temperature, seed)
    ids = encode_prompts([typed_prompt(prompt, form)], tokenizer)[0]
    if not ids:
        raise InputError(f"nothing is left of the prompt {shown(prompt)} as tokens; ask something.")
    streams = {}
    for name, model in models.items():
        room = max(1, context_length(model) - max_new_tokens)
        prompt_ids = torch.tensor([ids[-room:]], device=model.device)
        generator = torch.Generator().manual_seed(seed)
        streams[name] = sample_tokens(
            model, prompt_ids, temperature=temperature, generator=generator
        )
    return _side_by_side(streams, tokenizer, max_new_tokens)


def _side_by_side(
    streams: dict[str, Iterator[Tensor]], tokenizer, max_new_tokens: int
) -> Iterator[dict[str, str]]:
    """The texts so far, after each round of a token from each stream that has not ended."""
    tokens: dict[str, list[int]] = {name: [] for name in streams}
    for _ in range(max_new_tokens):
        for name in list(streams):
            token = next(streams[name], None)
            if token is None or token.item() == tokenizer.eos_token_id:
                del streams[name]
            else:
                tokens[name].append(token.item())
        # A character of several tokens shows as U+FFFD until its last token is there.
        yield {
            name: tokenizer.decode(so_far, skip_special_tokens=True).rstrip("\ufffd")
            for name, so_far in tokens.items()
        }
        if not streams:
            return


def sample_answers(
    model,
    tokenizer,
    prompts: Sequence[str],
    *,
    temperature: float = 0.7,
    seed: int = 0,
    max_new_tokens: int = 120,
) -> list[str]:
    """One sampled answer to each prompt; prompts of equal length are sampled as one batch.

    Prompts are read as the prompts of preference pairs are, see `templates.encode_prompts`.
    """
    encoded = encode_prompts(prompts, tokenizer)
    end = tokenizer.eos_token_id
    settings = {"temperature": temperature, "seed": seed, "max_new_tokens": max_new_tokens}
    answers = sample_ids(model, encoded, end, **settings)
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]


def sample_ids(
    model,
    prompts: Sequence[Sequence[int]],
    end: int,
    *,
    temperature: float,
    seed: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """One sampled answer to each prompt, all as token ids. An answer's last token is the end token,
    unless it was cut off after `max_new_tokens` or where the context is full."""
    by_length: dict[int, list[int]] = {}
    for i, ids in enumerate(prompts):
        by_length.setdefault(len(ids), []).append(i)
    answers: list[list[int]] = [[] for _ in prompts]
    for rows in by_length.values():
        generator = torch.Generator().manual_seed(seed)
        batch = torch.tensor([list(prompts[i]) for i in rows], device=model.device)
        stream = sample_tokens(model, batch, temperature=temperature, generator=generator)
        done = torch.zeros(len(rows), dtype=torch.bool, device=model.device)
        columns = []
        for tokens, _ in zip(stream, range(max_new_tokens), strict=False):
            columns.append(tokens.masked_fill(done, end))
            done |= tokens == end
            if done.all():
                break
        for row, ids in zip(rows, torch.stack(columns, dim=1).tolist(), strict=True):
            answers[row] = ids[: ids.index(end) + 1] if end in ids else ids
    return answers
