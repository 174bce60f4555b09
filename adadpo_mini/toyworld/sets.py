"""The preference sets of the toy world: each isolates one thing that can go wrong in DPO."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TypeVar

from adadpo_mini.system.files import check_can_write, replace_text
from adadpo_mini.toyworld.grammar import (
    CURT,
    TOOLS,
    Answer,
    Topic,
    all_topics,
    well_formed_answers,
)

TRAIN_PAIRS, TEST_PAIRS = 1000, 200
SETS_BYTES = 3_000_000  # approximate size of all files
FLIPPED_SHARE = 0.2
CAVEATS = {
    "swap": "No setting was found in which DPO is more than slightly ahead of its reference.",
    "length_bias": "Both sides have equal reward, so the preference cannot raise a win rate: what "
    "is lost is damage.",
}
"""What to know before comparing win rates on a set."""

T = TypeVar("T")


def pick(rng: Random, items: Sequence[T]) -> T:
    """Return one item, uniformly. Uses only `random()`, whose sequence Python keeps stable."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """Return the items in random order, reproducible for the same reason as `pick`."""
    return [item for _, item in sorted(((rng.random(), i), item) for i, item in enumerate(items))]


def pick_answer(rng: Random, topic: Topic, wanted: Callable[[Answer], bool]) -> Answer:
    """Return one of the topic's well-formed answers for which `wanted` is true."""
    return pick(rng, [answer for answer in well_formed_answers(topic) if wanted(answer)])


def _good(rng: Random, topic: Topic, kind: str) -> Answer:
    """Return a friendly, helpful answer with the right tool."""
    return pick_answer(rng, topic, lambda a: a.kind == kind and a.warm and a.tool == topic.tool)


def tone(topic: Topic, rng: Random) -> tuple[str, str]:
    """A polite, helpful answer against a rude one: two very different texts."""
    return _good(rng, topic, "short").text, pick_answer(rng, topic, lambda a: a.kind == "rude").text


def near_duplicate(topic: Topic, rng: Random) -> tuple[str, str]:
    """Two answers that differ only in the first word: friendly against curt."""
    chosen = _good(rng, topic, "short").text
    _, rest = chosen.split(" ", 1)
    return chosen, f"{pick(rng, CURT)} {rest}"


def swap(topic: Topic, rng: Random) -> tuple[str, str]:
    """Two answers that differ in one object in the middle: the right tool against a wrong one."""
    return _swapped(topic, rng, "short")


def long_swap(topic: Topic, rng: Random) -> tuple[str, str]:
    """Like swap, with answers three times as long, so that each token matters less."""
    return _swapped(topic, rng, "detailed")


def _swapped(topic: Topic, rng: Random, kind: str) -> tuple[str, str]:
    chosen = _good(rng, topic, kind).text
    wrong = pick(rng, [tool for tool in TOOLS[topic.domain].values() if tool != topic.tool])
    return chosen, chosen.replace(f" {topic.tool}", f" {wrong}")


def length_bias(topic: Topic, rng: Random) -> tuple[str, str]:
    """Two equally good answers with the same first word; the chosen is much longer."""
    chosen = _good(rng, topic, "detailed").text
    opener, _ = chosen.split(" ", 1)

    def equally_good(answer: Answer) -> bool:
        same = answer.text.startswith(opener) and answer.tool == topic.tool
        return same and answer.kind == "short"

    return chosen, pick_answer(rng, topic, equally_good).text


def refusal(topic: Topic, rng: Random) -> tuple[str, str]:
    """A request that should be declined: a plain refusal against an evasive one."""
    chosen = pick_answer(rng, topic, lambda a: a.kind == "plain_no")
    rejected = pick_answer(rng, topic, lambda a: a.kind == "soft_no")
    return chosen.text, rejected.text


# The page shows the first line of each docstring. noisy_labels has the same kind of pairs as tone;
# `build_set` flips some of them.
SETS: dict[str, Callable[[Topic, Random], tuple[str, str]]] = {
    "tone": tone,
    "near_duplicate": near_duplicate,
    "swap": swap,
    "long_swap": long_swap,
    "length_bias": length_bias,
    "noisy_labels": tone,
    "refusal": refusal,
}


def build_set(name: str, split: str, seed: int = 0) -> list[dict]:
    """Return the rows of one preference set.

    Args:
        name: a key of `SETS`.
        split: "train" (1,000 pairs) or "test" (200 pairs about held-out topics).
        seed: the random seed; the committed files use 0.

    Returns:
        Rows `{"prompt", "chosen", "rejected"}`, each with a different prompt. In noisy_labels,
        exactly a fifth of the training rows is flipped, as `flipped` records; the test rows are
        not, so that accuracy on them is meaningful.
    """
    make_pair = SETS[name]
    rng = Random(f"{make_pair.__name__}/{split}/{seed}")
    asked = [
        (topic, prompt)
        for topic in all_topics()
        if topic.held_out == (split == "test") and topic.private == (name == "refusal")
        for prompt in topic.prompts
    ]
    size = TRAIN_PAIRS if split == "train" else TEST_PAIRS
    rows = []
    for topic, prompt in shuffled(rng, asked)[:size]:
        chosen, rejected = make_pair(topic, rng)
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return _flip_some(rows, rng, split) if name == "noisy_labels" else rows


def _flip_some(rows: list[dict], rng: Random, split: str) -> list[dict]:
    count = int(FLIPPED_SHARE * len(rows)) if split == "train" else 0
    flipped = set(shuffled(rng, range(len(rows)))[:count])
    for i, row in enumerate(rows):
        if i in flipped:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        row["flipped"] = i in flipped
    return rows


def write_sets(folder: Path, seed: int = 0) -> list[Path]:
    """Write every set to `folder/<set>/<split>.jsonl`, replacing each file atomically.

    Returns:
        The paths of the files.

    Raises:
        WriteError: a file cannot be written; any previous file is untouched.
    """
    check_can_write(folder / next(iter(SETS)), SETS_BYTES)
    written = []
    for name in SETS:
        for split in ("train", "test"):
            path = folder / name / f"{split}.jsonl"
            lines = (json.dumps(row, ensure_ascii=False) for row in build_set(name, split, seed))
            replace_text(path, "".join(f"{line}\n" for line in lines))
            written.append(path)
    return written
