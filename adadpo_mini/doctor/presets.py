"""Presets: the settings that reproduce what users ask about, and a healthy run to compare with.

`adadpo-mini race --preset NAME` runs one; there is one for each rule of `doctor.py`, by its name.
The settings were found by racing (seed 0) and are as small as keeps the diagnosis beyond doubt.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from adadpo_mini.errors import InputError


@dataclass(frozen=True)
class Preset:
    """A race that shows one thing.

    Attributes:
        name: a rule of the doctor, or "healthy".
        settings: keyword arguments of `race`, data and methods included.
        question: what a user who sees this asks.
        expect: for each method, what the doctor says. It may say more of a method that has a
            diagnosis, for one trouble brings others; of a method that has none it says nothing.
    """

    name: str
    settings: Mapping[str, object]
    question: str
    expect: Mapping[str, tuple[str, ...]]


def _preset(name: str, question: str, expect: dict[str, tuple[str, ...]], **settings) -> Preset:
    small = {"methods": tuple(expect), "batch_size": 8, "eval_pairs": 16, "seed": 0}
    return Preset(name, {**small, **settings}, question, expect)


_ALL = (
    _preset(
        "healthy",
        "What does it look like when all goes well?",
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
    """The preset of this name.

    Raises:
        InputError: there is none; the message lists them.
    """
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}; give one of {', '.join(PRESETS)}.")
    return PRESETS[name]
