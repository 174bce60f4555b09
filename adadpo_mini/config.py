"""The settings of a race, checked when made."""

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from adadpo_mini.errors import InputError
from adadpo_mini.methods.registry import ALL_METHODS, RLHF
from adadpo_mini.models.memory import DEVICES, DTYPES
from adadpo_mini.pairs.rows import shown

SPACES = ("ratio", "policy")
KNOBS = (
    "beta", "ceiling", "space", "length_normalize", "k", "floor", "ratio",
    "gamma", "alpha", "nll_weight", "penalty", "per_token",
)  # fmt: skip
MILLION = 1_000_000
WHOLE = {  # from, to; a race holds the numbers of all its batches in memory
    "steps": (1, MILLION),
    "batch_size": (1, MILLION),
    "eval_every": (1, 5),
    "eval_pairs": (1, MILLION),
    "measure_every": (0, MILLION),
    "threads": (1, 1024),
    "snapshot_every": (0, MILLION),
    "pairs_at_once": (1, MILLION),
    "lora_rank": (0, MILLION),
}
OPTIONAL = ("threads", "pairs_at_once")
POSITIVE = ("beta", "learning_rate", "ceiling", "k", "ratio")
FROM_ZERO = ("gamma", "alpha", "nll_weight", "penalty", "snapshot_gb")


@dataclass(frozen=True)
class RaceConfig:
    """The settings of a race, checked when made.

    `threads` is the number of CPU threads each method gets; all methods train at the same time.
    None leaves the choice to `threads.choose_threads`; the race's own config then has the number.
    `snapshot_every` says how often the models are kept in the run folder, in steps; 0 for never.
    All snapshots together take at most `snapshot_gb` gigabytes: if need be, fewer are taken.
    `measure_every` says how often the slow measurements are taken, see `meters.py`: every so many
    steps and at the end; 0 for never.
    `pairs_at_once` splits a batch into forward passes of so many pairs, whose gradients add up.
    `device`, `dtype`, `checkpointing` and `lora_rank` say how a large model is trained, see
    `memory.py` and `policies.py`.
    β and all from `ceiling` on are the losses' knobs, by the names they have there; a method takes
    those that its loss knows.

    Raises:
        InputError: a value is out of range.
    """

    data: str = "tone"
    model: str = "toy"
    methods: tuple[str, ...] = ("dpo", "adadpo")
    steps: int = 120
    batch_size: int = 16
    beta: float = 0.1
    learning_rate: float = 2e-4
    seed: int = 0
    eval_every: int = 5
    eval_pairs: int = 32
    measure_every: int = 60
    threads: int | None = None
    snapshot_every: int = 0
    snapshot_gb: float = 5.0
    device: str = "auto"
    dtype: str = "float32"
    pairs_at_once: int | None = None
    checkpointing: bool = False
    lora_rank: int = 0
    ceiling: float = 2.0
    space: str = "ratio"
    length_normalize: bool = True
    k: float = 1.0
    floor: float | None = None
    ratio: float = 2.0
    gamma: float = 0.5
    alpha: float = 0.01
    nll_weight: float = 1.0
    penalty: float = 50.0
    per_token: bool = False

    def __post_init__(self) -> None:
        for name in ("data", "model"):
            value = getattr(self, name)
            fits = isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))
            _require(fits, name, "a name or a path", value)
            object.__setattr__(self, name, str(value))
        object.__setattr__(self, "methods", _as_methods(self.methods))
        for name, (least, most) in WHOLE.items():
            value = getattr(self, name)
            fits = _is_whole(value) and least <= value <= most
            wanted = f"a whole number from {least} to {most:,}"
            _require(fits or (value is None and name in OPTIONAL), name, wanted, value)
        seed_fits = _is_whole(self.seed) and 0 <= self.seed < 1 << 63
        _require(seed_fits, "seed", "a whole number from 0 up, below 2^63", self.seed)
        for name, known in (("device", DEVICES), ("dtype", DTYPES), ("space", SPACES)):
            value = getattr(self, name)
            fits = isinstance(value, str) and value in known
            _require(fits, name, f"one of {', '.join(known)}", value)
        for name in ("checkpointing", "length_normalize", "per_token"):
            value = getattr(self, name)
            _require(isinstance(value, bool), name, "True or False", value)
        for name in POSITIVE:
            value = getattr(self, name)
            _require(_is_number(value) and value > 0, name, "positive, up to a million", value)
        for name in FROM_ZERO:
            value = getattr(self, name)
            _require(_is_number(value) and value >= 0, name, "from 0 to a million", value)
        floor_fits = _is_number(self.floor) and 0 < self.floor <= self.ceiling
        wanted = "positive and at most the ceiling"
        _require(self.floor is None or floor_fits, "floor", wanted, self.floor)
        if RLHF in self.methods and not self._is_plain:
            raise InputError(
                "methods must be without rlhf where dtype, lora_rank or checkpointing are set; "
                "leave one of them out."
            )

    @property
    def _is_plain(self) -> bool:
        return self.dtype == "float32" and not (self.lora_rank or self.checkpointing)

    def as_dict(self) -> dict:
        return {**asdict(self), "methods": list(self.methods)}


def _as_methods(given: object) -> tuple[str, ...]:
    """The methods that were given, as a list of names or as a text with commas."""
    if isinstance(given, str):
        given = [name.strip() for name in given.split(",")]
    methods = tuple(given) if isinstance(given, Iterable) else (given,)
    known = all(isinstance(name, str) and name in ALL_METHODS for name in methods)
    if not known or not methods or len(set(methods)) < len(methods):
        raise InputError(
            f"methods must be different ones of {', '.join(ALL_METHODS)}, not "
            f"{', '.join(map(shown, methods)) or 'none'}."
        )
    return methods


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """A finite number with which no step overflows fp32."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= MILLION


def _require(true: bool, name: str, wanted: str, got: object) -> None:
    if not true:
        raise InputError(f"{name} must be {wanted}, not {shown(got)}.")
