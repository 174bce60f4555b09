"""Sampling answers: streamed to a chat, from one model or several side by side, or in bulk."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from adadpo_mini.errors import InputError, shown
from adadpo_mini.models.load import context_length
from adadpo_mini.tokens.templates import LINE, encode_prompts
from adadpo_mini.tokens.typed import typed_ids
from adadpo_mini.types import Model, Tokenizer

COLDEST = 1e-6  # below it the most likely token is taken: logits divided by less may overflow


def check_sampling(temperature: float, seed: int = 0) -> None:
    """Raise InputError if a setting of the sampling is out of range."""
    warm = isinstance(temperature, (int, float)) and not isinstance(temperature, bool)
    if not warm or not 0 <= temperature < math.inf:
        raise InputError(f"temperature must be 0 or more, not {shown(temperature)}.")
    if not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise InputError(
            f"the sampling seed must be a whole number from 0 up, below 2^63, not {shown(seed)}."
        )


Choose = Callable[[Tensor], Tensor]
"""Takes the scores of the next token, (rows, vocabulary), and returns a token for each row."""


@torch.no_grad()
def decode(
    model: Model, prompts: Sequence[Sequence[int]], choose: Choose
) -> Iterator[tuple[Tensor, Tensor]]:
    """Continue prompts token by token, all rows in step. This is the only sampling loop.

    It starts at the end of the shortest prompt. A row with a longer prompt keeps reading until its
    prompt ends, so prompts of different lengths form one batch without padding on the left.

    Yields:
        (tokens, written), each of shape (rows,), until the context is full: the next token of each
        row, and whether the row wrote it or read it from its prompt.

    Raises:
        FloatingPointError: the model's predictions are not finite.
    """
    starts = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    ids = torch.zeros(len(prompts), int(starts.max()), dtype=torch.long, device=model.device)
    for row, prompt in enumerate(prompts):
        ids[row, : len(prompt)] = torch.tensor(prompt)
    first, cache = int(starts.min()), None
    unread = ids[:, :first]
    for position in range(first, context_length(model)):
        output = model(input_ids=unread, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        scores = output.logits[:, -1].float()
        if not scores.amax(-1).isfinite().all():
            raise FloatingPointError(
                "the model's predictions are not finite: its training has diverged; lower the "
                "learning rate."
            )
        tokens, written = choose(scores), position >= starts
        if position < ids.shape[1]:
            tokens = torch.where(written, tokens, ids[:, position])
        yield tokens, written
        unread = tokens[:, None]


def sampler(temperature: float, generator: torch.Generator) -> Choose:
    """Return a function that samples from softmax(scores / temperature); 0 takes the likeliest.

    Raises:
        InputError: the temperature is negative or not a number.
    """
    check_sampling(temperature)

    def choose(scores: Tensor) -> Tensor:
        if temperature <= COLDEST:
            return scores.argmax(-1)
        probabilities = (scores / temperature).softmax(-1).cpu()  # the same noise on every device
        drawn = torch.multinomial(probabilities, 1, generator=generator)
        return drawn.squeeze(1).to(scores.device)

    return choose


def sample_tokens(
    model: Model, prompt_ids: Tensor, *, temperature: float, generator: torch.Generator
) -> Iterator[Tensor]:
    """Sample one token after another from softmax(logits / temperature).

    Args:
        prompt_ids: shape (rows, time), without padding.
        temperature: 0 takes the most likely token.
        generator: the only source of randomness. Models that are sampled with equal seeds see the
            same noise at every step, so where their predictions agree, so do their answers.

    Yields:
        The next token of every row, shape (rows,), until the context is full.

    Raises:
        InputError: the temperature is negative or not a number.
        FloatingPointError: the model's predictions are not finite.
    """
    choose = sampler(temperature, generator)
    return (tokens for tokens, _ in decode(model, prompt_ids.tolist(), choose))


def stream_answers(
    models: Mapping[str, Model],
    tokenizer: Tokenizer,
    prompt: str,
    *,
    temperature: float = 0.7,
    seed: int = 0,
    max_new_tokens: int = 120,
    form: str = LINE,
) -> Iterator[dict[str, str]]:
    """Answer one typed prompt with several models at once, a token each in turn.

    All models sample with the same seed. A prompt that is too long for the context is shortened,
    see `typed_ids`.

    Args:
        form: the format string that makes a typed prompt into one like those of the training, for
            a model without a chat template; see `templates.prompt_form`.

    Returns:
        The answers so far, by model name, after every round.

    Raises:
        InputError: the prompt has no tokens or is not text, or another argument is out of range.
            Raised at once, not with the first answer.
    """
    check_sampling(temperature, seed)
    streams = {}
    for name, model in models.items():
        context = context_length(model)  # at least half of it is for the prompt
        room = max(1, context // 2, context - max_new_tokens)
        ids = typed_ids(prompt, form, tokenizer, room)
        if not ids:
            raise InputError(f"the prompt {shown(prompt)} has no tokens; ask something.")
        prompt_ids = torch.tensor([ids], device=model.device)
        generator = torch.Generator().manual_seed(seed)
        streams[name] = sample_tokens(
            model, prompt_ids, temperature=temperature, generator=generator
        )
    return _side_by_side(streams, tokenizer, max_new_tokens)


def _side_by_side(
    streams: dict[str, Iterator[Tensor]], tokenizer: Tokenizer, max_new_tokens: int
) -> Iterator[dict[str, str]]:
    """The texts so far, after each round in which every stream that goes on adds a token."""
    tokens: dict[str, list[int]] = {name: [] for name in streams}
    for _ in range(max_new_tokens):
        for name in list(streams):
            token = next(streams[name], None)
            if token is None or token.item() == tokenizer.eos_token_id:
                del streams[name]
            else:
                tokens[name].append(token.item())
        # A character of several tokens shows as U+FFFD until its last token has come.
        yield {
            name: tokenizer.decode(so_far, skip_special_tokens=True).rstrip("\ufffd")
            for name, so_far in tokens.items()
        }
        if not streams:
            return


def sample_answers(
    model: Model,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    temperature: float = 0.7,
    seed: int = 0,
    max_new_tokens: int = 120,
) -> list[str]:
    """Sample one answer to each prompt; prompts of equal length form one batch.

    Prompts are tokenized like those of preference pairs, see `templates.encode_prompts`.
    """
    encoded = encode_prompts(prompts, tokenizer)
    end = tokenizer.eos_token_id
    settings = {"temperature": temperature, "seed": seed, "max_new_tokens": max_new_tokens}
    answers = sample_ids(model, encoded, end, **settings)
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]


def sample_ids(
    model: Model,
    prompts: Sequence[Sequence[int]],
    end: int,
    *,
    temperature: float,
    seed: int,
    max_new_tokens: int,
) -> list[list[int]]:
    """Sample one answer to each prompt, all as token ids. An answer's last token is the end token,
    unless the answer was cut off after `max_new_tokens` or at the end of the context."""
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
