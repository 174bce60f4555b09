"""Preference pairs: load, validate, tokenise, batch.

A pair is TRL's explicit-prompt row: {"prompt": str, "chosen": str, "rejected": str}.
"""

import json
import os.path
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from adadpo_mini.errors import InputError
from adadpo_mini.toyworld import data_dir
from adadpo_mini.toyworld.sets import SETS


class Pair(TypedDict):
    """One preference: after `prompt`, `chosen` was preferred to `rejected`."""

    prompt: str
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Pairs(Sequence[Pair]):
    """A list of pairs that remembers where each came from, so that an error can name the line."""

    rows: tuple[Pair, ...]
    where: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Pairs(self.rows[index], self.where[index])
        return self.rows[index]

    def take(self, indices: Iterable[int]) -> "Pairs":
        indices = list(indices)
        return Pairs(tuple(self.rows[i] for i in indices), tuple(self.where[i] for i in indices))


def load_pairs(source: str | Path | Iterable[dict], split: str = "train") -> Pairs:
    """Load and check preference pairs.

    Args:
        source: the name of a toy set ("tone", "swap", ...), a JSON-lines file, or any iterable of
            rows such as a list of dicts or a `datasets.Dataset`. A row is in TRL's explicit-prompt
            form; its implicit-prompt form (no "prompt": the common beginning is the prompt) and
            its conversational form (lists of {"role", "content"}) are converted.
        split: "train" or "test"; only the toy sets have splits.

    Raises:
        InputError: the file is missing, empty or not JSON lines, or a row is no preference; the
            message names file and line.

    >>> pair = load_pairs("swap", split="test")[0]
    >>> sorted(pair)
    ['chosen', 'prompt', 'rejected']
    """
    if isinstance(source, str) and source in SETS:
        return _read_jsonl(data_dir() / source / f"{split}.jsonl")
    if isinstance(source, (str, Path)):
        return _read_jsonl(Path(source).expanduser())
    pairs = _collect((f"pair {i}", row) for i, row in enumerate(source, start=1))
    if not pairs:
        raise InputError("there are no pairs in what was given; give at least one row.")
    return pairs


def split_pairs(pairs: Pairs, every: int = 10) -> tuple[Pairs, Pairs]:
    """(train, held out): one prompt in `every`, at least one, is held out, chosen by its checksum.

    Equal prompts stay on one side. If there is one prompt only, both sides are all the pairs.
    """
    prompts = sorted({pair["prompt"] for pair in pairs}, key=lambda p: zlib.crc32(p.encode()))
    if len(prompts) < 2:
        return pairs, pairs
    held_out = set(prompts[: max(1, len(prompts) // every)])
    train = [i for i, pair in enumerate(pairs) if pair["prompt"] not in held_out]
    test = [i for i, pair in enumerate(pairs) if pair["prompt"] in held_out]
    return pairs.take(train), pairs.take(test)


def load_splits(source: str | Path | Iterable[dict]) -> tuple[Pairs, Pairs]:
    """(train, held out): a toy set's own splits; anything else is split by `split_pairs`."""
    if isinstance(source, str) and source in SETS:
        return load_pairs(source, "train"), load_pairs(source, "test")
    return split_pairs(load_pairs(source))


def _read_jsonl(path: Path) -> Pairs:
    if os.path.isdir(path):  # noqa: PTH112 (Path's own raises where a name is too long)
        raise InputError(f"{path}: is a folder; give a JSON-lines file of pairs.")
    if not os.path.isfile(path):  # noqa: PTH113
        raise InputError(
            f"{path}: there is no such file; give a JSON-lines file of pairs or one of the toy "
            f"sets: {', '.join(SETS)}."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text ({error.reason}); save it as UTF-8.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from error

    def rows() -> Iterator[tuple[str, object]]:
        # Split at line feeds only: a JSON string may hold other characters that end lines.
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{where}: not valid JSON ({error.msg} at column {error.colno}); each line "
                    'must be one object like {"prompt": ..., "chosen": ..., "rejected": ...}.'
                ) from error
            except (ValueError, RecursionError) as error:
                raise InputError(f"{where}: not JSON that can be read ({error}).") from error

    pairs = _collect(rows())
    if not pairs:
        raise InputError(f"{path}: the file holds no pairs; put one JSON object on each line.")
    return pairs


def _collect(rows: Iterable[tuple[str, object]]) -> Pairs:
    checked = [(_check_row(where, row), where) for where, row in rows]
    return Pairs(tuple(pair for pair, _ in checked), tuple(where for _, where in checked))


def _check_row(where: str, row: object) -> Pair:
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with chosen and rejected, got {row!r:.60}.")
    for field in ("chosen", "rejected"):
        if field not in row:
            raise InputError(f"{where}: the field {field!r} is missing; add it to the pair.")
    if "prompt" not in row and _is_conversation(row["chosen"], row["rejected"]):
        row = _split_off_messages(row["chosen"], row["rejected"])
    fields = {
        name: _as_text(where, name, row[name])
        for name in ("prompt", "chosen", "rejected")
        if name in row
    }
    if "prompt" not in fields:
        fields = _split_off_prompt(where, fields["chosen"], fields["rejected"])
    for name, text in fields.items():
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(
                f"{where}: {name} has half a character (a lone surrogate such as \\ud83d); mend it "
                "or drop the pair."
            )
        if not text.strip():
            raise InputError(f"{where}: {name} is empty; give it some text or drop the pair.")
    if fields["chosen"] == fields["rejected"]:
        raise InputError(
            f"{where}: chosen and rejected are equal, so there is no preference; drop the pair."
        )
    return Pair(**fields)


def _as_text(where: str, name: str, value: object) -> str:
    """A string as it is; a conversation as its messages' contents, each prompt message ended by
    a line break."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(_is_message(item) for item in value):
        text = "\n".join(message["content"] for message in value)
        return f"{text}\n" if name == "prompt" else text
    raise InputError(
        f"{where}: {name} is not text but {type(value).__name__}; "
        "make it a string (or a list of messages with role and content)."
    )


def _is_conversation(*sides: object) -> bool:
    return all(isinstance(side, list) and all(map(_is_message, side)) for side in sides)


def _split_off_messages(chosen: list, rejected: list) -> dict:
    """The implicit-prompt form of a conversation: the messages that both sides begin with."""
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    sides = {"chosen": chosen[common:], "rejected": rejected[common:]}
    return {**({"prompt": chosen[:common]} if common else {}), **sides}


def _is_message(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("content"), str) and "role" in item


def _split_off_prompt(where: str, chosen: str, rejected: str) -> dict[str, str]:
    """The implicit-prompt form: what both texts begin with is the prompt.

    In Anthropic's HH format it ends with the last shared "Assistant:"; elsewhere with the last
    shared line break or, failing that, space.
    """
    common = 0
    while common < min(len(chosen), len(rejected)) and chosen[common] == rejected[common]:
        common += 1
    shared = chosen[:common]
    for mark in ("\n\nAssistant:", "\n", " "):
        if mark in shared:
            cut = shared.rindex(mark) + len(mark)
            return {"prompt": shared[:cut], "chosen": chosen[cut:], "rejected": rejected[cut:]}
    raise InputError(
        f"{where}: the field 'prompt' is missing and chosen and rejected share no beginning that "
        "could be one; add the prompt."
    )


@dataclass(frozen=True)
class PairBatch:
    """B pairs as 2·B right-padded rows: all chosen first, then all rejected, in the same order.

    Attributes:
        input_ids: prompt, completion, padding, shape (2B, time).
        completion_mask: 1 on the completion's tokens, end token included, shape (2B, time).
        num_tokens: tokens in all rows, padding not counted.
    """

    input_ids: Tensor
    completion_mask: Tensor
    num_tokens: int

    @property
    def lengths(self) -> Tensor:
        """Completion lengths in tokens, shape (2B,)."""
        return self.completion_mask.sum(dim=1)


@dataclass(frozen=True)
class TokenizedPair:
    """The token ids of a pair; completions end with the tokenizer's end-of-sequence token."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def tokenize_completions(
    prompts: Sequence[str], completions: Sequence[str], tokenizer
) -> list[tuple[list[int], list[int]]]:
    """Token ids of each (prompt, completion), the end token included.

    Prompt and completion are encoded together, as TRL does, so that a tokenizer that treats the
    start of a text specially does not do so in the middle; where that would merge tokens across
    the border, the completion is encoded alone, which is how a model generates it.
    """
    quiet = {"verbose": False}  # what is too long is told by `tokenize_pairs`, with its line
    both = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    prompt_ids = tokenizer(list(prompts), **quiet)["input_ids"]
    together = tokenizer(both, **quiet)["input_ids"]
    alone = tokenizer(list(completions), add_special_tokens=False, **quiet)["input_ids"]
    end = [tokenizer.eos_token_id]
    return [
        (prompt, (ids[len(prompt) :] if ids[: len(prompt)] == prompt else rest) + end)
        for prompt, ids, rest in zip(prompt_ids, together, alone, strict=True)
    ]


def tokenize_pairs(pairs: Pairs, tokenizer, context: int) -> list[TokenizedPair]:
    """Token ids of every pair, see `tokenize_completions`.

    Raises:
        InputError: a prompt and completion exceed `context` tokens together.
    """
    prompts = [pair["prompt"] for pair in pairs]
    chosen, rejected = (
        tokenize_completions(prompts, [pair[side] for pair in pairs], tokenizer)
        for side in ("chosen", "rejected")
    )
    tokenized = [
        TokenizedPair(*row, other) for row, (_, other) in zip(chosen, rejected, strict=True)
    ]
    for ids, where in zip(tokenized, pairs.where, strict=True):
        longest = len(ids.prompt) + max(len(ids.chosen), len(ids.rejected))
        if longest > context:
            raise InputError(
                f"{where}: the pair is {longest} tokens long but the model reads at most "
                f"{context}; shorten it, drop it, or use a model with a longer context."
            )
    return tokenized


def make_batch(pairs: Sequence[TokenizedPair]) -> PairBatch:
    """Stack pairs into one batch, padded on the right to the longest row."""
    rows = [(p.prompt, p.chosen) for p in pairs] + [(p.prompt, p.rejected) for p in pairs]
    input_ids, mask = stack_rows(rows)
    return PairBatch(input_ids, mask, sum(len(prompt) + len(rest) for prompt, rest in rows))


def stack_rows(rows: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """(input_ids, completion_mask) of rows of (prompt, completion), padded on the right.

    Which token pads does not matter, since nothing ever looks at it; it is token 0.
    """
    width = max(len(prompt) + len(completion) for prompt, completion in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, (prompt, completion) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(completion)
        input_ids[i, :end] = torch.tensor(prompt + completion)
        mask[i, start:end] = 1
    return input_ids, mask
