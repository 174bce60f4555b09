"""Special tokens: which begin and end a text, and which a text may not contain."""

import re
from collections.abc import Sequence
from functools import lru_cache

from adadpo_mini.types import Tokenizer

UNKNOWN = {"", "<unk>", "[UNK]"}
KNOWN_ENDS = {
    "<|endoftext|>", "<|end_of_text|>", "<|im_end|>", "<|eot_id|>", "<|end|>", "</s>", "<eos>",
    "<end_of_turn>",
}  # fmt: skip


def special_texts(tokenizer: Tokenizer) -> list[str]:
    """Return the texts that the tokenizer reads as one special token, the longest first.

    Those for unknown words are not among them: many corpora contain them as text.
    """
    # `all_special_tokens` lacks added special tokens without a role, such as "<|im_start|>".
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    texts = {str(token) for token in added if token.special}
    texts |= {*getattr(tokenizer, "all_special_tokens", ())}
    return sorted(texts - UNKNOWN, key=len, reverse=True)


def special_pattern(tokenizer: Tokenizer) -> re.Pattern | None:
    """Return the pattern that finds special tokens in a text, or None if there are none."""
    return _any_of(tuple(special_texts(tokenizer)))


@lru_cache(8)
def _any_of(texts: tuple[str, ...]) -> re.Pattern | None:
    return re.compile("|".join(map(re.escape, texts))) if texts else None


def end_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the texts that may end an answer in data that was prepared for a model.

    They are the token that ends an answer, the end-of-sequence token that the tokenizer had before
    `load_model` replaced it, and the pad token. A chat template writes the end of an answer anew,
    so for one they are also the well-known end tokens that the tokenizer has.
    """
    before = getattr(tokenizer, "init_kwargs", {}).get("eos_token")
    names = (getattr(tokenizer, name, None) for name in ("eos_token", "pad_token"))
    known = KNOWN_ENDS & {*special_texts(tokenizer)} if tokenizer.chat_template else ()
    return tuple(dict.fromkeys(str(text) for text in (*names, before, *known) if text))


def without_end(answer: str, ends: tuple[str, ...]) -> str:
    r"""Return the answer without end tokens at its end; without any, it is unchanged.

    >>> without_end("Yes.<|end|>\n", ("<|end|>",)), without_end("Yes. ", ("<|end|>",))
    ('Yes.', 'Yes. ')
    """
    while (bare := answer.rstrip()).endswith(ends):
        answer = bare.removesuffix(next(end for end in ends if bare.endswith(end)))
    return answer


def beginning(tokenizer: Tokenizer) -> list[int]:
    """Return the special tokens that the tokenizer puts before a text.

    Some tokenizers also put one after it, which would end the prompt before the answer.
    """
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer("a")["input_ids"]
    starts = range(len(whole) - len(bare) + 1)
    return whole[: next((n for n in starts if whole[n : n + len(bare)] == bare), 0)]


def begin(ids: Sequence[list[int]], first: list[int]) -> list[list[int]]:
    """Return token ids that begin with these special tokens, once if the text had them already."""
    if not first:
        return list(ids)
    return [row if row[: len(first)] == first else first + row for row in ids]
