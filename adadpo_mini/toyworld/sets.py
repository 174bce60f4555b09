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
SETS_BYTES = 3_000_000  # of all files, about
FLIPPED_SHARE = 0.2

T = TypeVar("T")


def pick(rng: Random, items: Sequence[T]) -> T:
    """One item, uniformly. Uses only `random()`, whose sequence Python promises never to change."""
    return items[int(rng.random() * len(items))]


def shuffled(rng: Random, items: Sequence[T]) -> list[T]:
    """The items in random order, reproducible for the same reason as `pick`."""
    return [item for _, item in sorted(((rng.random(), i), item) for i, item in enumerate(items))]


def pick_answer(rng: Random, topic: Topic, wanted: Callable[[Answer], bool]) -> Answer:
    """One of the topic's well-formed answers for which `wanted` is true."""
    return pick(rng, [answer for answer in well_formed_answers(topic) if wanted(answer)])


def _good(rng: Random, topic: Topic, kind: str) -> Answer:
    """Friendly, helpful, and with the right tool."""
    return pick_answer(rng, topic, lambda a: a.kind == kind and a.warm and a.tool == topic.tool)


def tone(topic: Topic, rng: Random) -> tuple[str, str]:
    """Polite and helpful against rude: two quite different texts."""
    return _good(rng, topic, "short").text, pick_answer(rng, topic, lambda a: a.kind == "rude").text


def near_duplicate(topic: Topic, rng: Random) -> tuple[str, str]:
    """The same answer but for its first word, friendly against curt."""
    chosen = _good(rng, topic, "short").text
    _, rest = chosen.split(" ", 1)
    return chosen, f"{pick(rng, CURT)} {rest}"


def swap(topic: Topic, rng: Random) -> tuple[str, str]:
    """The same answer but for one object in the middle: the right tool against a wrong one."""
    return _swapped(topic, rng, "short")


def long_swap(topic: Topic, rng: Random) -> tuple[str, str]:
    """As swap, in answers three times as long: a token's share of a change is small."""
    return _swapped(topic, rng, "detailed")


def _swapped(topic: Topic, rng: Random, kind: str) -> tuple[str, str]:
    chosen = _good(rng, topic, kind).text
    wrong = pick(rng, [tool for tool in TOOLS[topic.domain].values() if tool != topic.tool])
    return chosen, chosen.replace(f" {topic.tool}", f" {wrong}")


def length_bias(topic: Topic, rng: Random) -> tuple[str, str]:
    """Equally good answers with the same first word, the chosen one much longer."""
    chosen = _good(rng, topic, "detailed").text
    opener, _ = chosen.split(" ", 1)

    def equally_good(answer: Answer) -> bool:
        same = answer.text.startswith(opener) and answer.tool == topic.tool
        return same and answer.kind == "short"

    return chosen, pick_answer(rng, topic, equally_good).text


def refusal(topic: Topic, rng: Random) -> tuple[str, str]:
    """A request that should be declined: declining plainly against declining evasively."""
    chosen = pick_answer(rng, topic, lambda a: a.kind == "plain_no")
    rejected = pick_answer(rng, topic, lambda a: a.kind == "soft_no")
    return chosen.text, rejected.text


# noisy_labels asks for the same pairs as tone; `build_set` then flips some of them.
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
    """The rows of one preference set.

    Args:
        name: a key of `SETS`.
        split: "train" (1,000 pairs) or "test" (200 pairs about held-out topics).
        seed: fixes every draw; 0 is the seed of the committed files.

    Returns:
        Rows `{"prompt", "chosen", "rejected"}`, each about a different prompt. In the training
        rows of noisy_labels exactly a fifth is flipped, and `flipped` says which; its test rows
        are clean, so that accuracy there means what it says.
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
    """Write every set as `folder/<set>/<split>.jsonl`, each file as a whole.

    Returns:
        The paths written.

    Raises:
        WriteError: a file cannot be written; what stood there before is untouched.
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
