"""Presets: settings that reproduce what users ask about, and runs to compare with.

`adadpo-mini race --preset NAME` runs one. A preset with the name of a rule in `rules.py` shows what
that rule finds; its settings were found by racing with seed 0, and are the smallest whose diagnosis
is clear. `arc` and `too_hard` are the default race at other settings; `adadpo-mini sweep arcs` runs
all three with five seeds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from adadpo_mini.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Preset:
    """A race that demonstrates one problem.

    Attributes:
        name: a rule of the doctor, or "healthy".
        settings: keyword arguments of `race`, including data and methods.
        question: the question of a user who sees the problem.
        expect: the doctor's diagnoses for each method. A method with a diagnosis may get more,
            because one problem causes others; a method with none gets none.
    """

    name: str
    settings: Mapping[str, object]
    question: str
    expect: Mapping[str, tuple[str, ...]]


def _preset(
    name: str, question: str, expect: dict[str, tuple[str, ...]], **settings: object
) -> Preset:
    small = {"methods": tuple(expect), "batch_size": 8, "eval_pairs": 16, "seed": 0}
    hard = {"beta": 0.1, "learning_rate": 2e-4}
    return Preset(name, {**small, **hard, **settings}, question, expect)


_ALL = (
    Preset(
        "arc",
        {"data": "tone", "methods": ("dpo", "adadpo"), "beta": 0.1, "learning_rate": 3e-5},
        "Why does DPO get better, and then worse?",
        {"dpo": ("both_sink",), "adadpo": ("all_at_ceiling",)},
    ),
    Preset(
        "too_hard",
        {"data": "tone", "methods": ("dpo", "adadpo"), "beta": 0.1, "learning_rate": 2e-4},
        "What does DPO look like when it is pushed too hard?",
        {"dpo": ("both_sink",), "adadpo": ("all_at_ceiling",)},
    ),
    _preset(
        "healthy",
        "What does a healthy run look like?",
        {"dpo": (), "adadpo": ()},
        data="tone",
        beta=1.0,
        learning_rate=3e-5,
        steps=30,
        measure_every=15,
    ),
    _preset(
        "nothing_moved",
        "Why does my loss stay at 0.6931?",
        {"dpo": ("nothing_moved",)},
        data="tone",
        learning_rate=1e-9,
        steps=12,
    ),
    _preset(
        "learning_rate_too_high",
        "Why did my model break within a few steps?",
        {"dpo": ("learning_rate_too_high",)},
        data="tone",
        learning_rate=1e-2,
        steps=10,
    ),
    _preset(
        "both_sink",
        "Why do my chosen log-probs fall?",
        {"dpo": ("both_sink",)},
        data="near_duplicate",
        steps=40,
    ),
    _preset(
        "mass_leaves",
        "Accuracy is 100 %, so why are the answers gibberish?",
        {"dpo": ("mass_leaves",)},
        data="refusal",
        steps=40,
    ),
    _preset(
        "chosen_rises",
        "My chosen rewards rise, so why do the rejected rise too?",
        {"adadpo": (), "fixed_ratio": ("chosen_rises",)},
        data="swap",
        learning_rate=1e-4,
        ratio=10.0,
        steps=12,
    ),
    _preset(
        "length_drift",
        "Why do my answers grow longer and longer?",
        {"fixed_ratio": ("length_drift",)},
        data="length_bias",
        learning_rate=1e-4,
        ratio=4.0,
        steps=40,
        measure_every=10,
    ),
    _preset(
        "saturated",
        "Why is my loss 0 while the margins keep growing?",
        {"dpo": ("saturated",)},
        data="tone",
        beta=1.0,
        learning_rate=1e-4,
        steps=30,
    ),
    _preset(
        "all_at_ceiling",
        "Is AdaDPO adapting anything in my run?",
        {"adadpo": ("all_at_ceiling",)},
        data="tone",
        steps=30,
    ),
)
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ALL}


def find_preset(name: str) -> Preset:
    """Return the preset with this name.

    Raises:
        InputError: the name is unknown; the message lists the presets.
    """
    if name not in PRESETS:
        known = ", ".join(PRESETS)
        raise InputError(
            f"there is no preset {name!r}; use one of {known}{did_you_mean(name, PRESETS)}"
        )
    return PRESETS[name]
