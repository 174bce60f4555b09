"""The settings of a race, checked when made."""

from dataclasses import asdict, dataclass

from adadpo_mini.errors import InputError
from adadpo_mini.memory import DEVICES, DTYPES
from adadpo_mini.methods import ALL_METHODS, RLHF

SPACES = ("ratio", "policy")
KNOBS = (
    "beta", "ceiling", "space", "length_normalize", "k", "floor", "ratio",
    "gamma", "alpha", "nll_weight", "penalty", "per_token",
)  # fmt: skip


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
        object.__setattr__(self, "methods", tuple(self.methods))
        unknown = [method for method in self.methods if method not in ALL_METHODS]
        if unknown or not self.methods or len(set(self.methods)) < len(self.methods):
            raise InputError(
                f"methods must be different ones of {', '.join(ALL_METHODS)}, not "
                f"{', '.join(self.methods) or 'none'}."
            )
        for name in ("steps", "batch_size", "eval_every", "eval_pairs"):
            value = getattr(self, name)
            _require(_is_whole(value) and value >= 1, name, "a whole number from 1 up", value)
        for name in ("measure_every", "lora_rank", "snapshot_every"):
            value = getattr(self, name)
            _require(_is_whole(value) and value >= 0, name, "a whole number from 0 up", value)
        for name in ("pairs_at_once", "threads"):
            value = getattr(self, name)
            fits = value is None or (_is_whole(value) and value >= 1)
            _require(fits, name, "a whole number from 1 up", value)
        for name, known in (("device", DEVICES), ("dtype", DTYPES), ("space", SPACES)):
            value = getattr(self, name)
            _require(value in known, name, f"one of {', '.join(known)}", value)
        seed_fits = _is_whole(self.seed) and 0 <= self.seed < 1 << 63
        _require(seed_fits, "seed", "a whole number from 0 up, below 2^63", self.seed)
        for name in ("beta", "learning_rate", "ceiling", "k", "ratio"):
            value = getattr(self, name)
            _require(_is_number(value) and value > 0, name, "positive, up to a million", value)
        for name in ("gamma", "alpha", "nll_weight", "penalty", "snapshot_gb"):
            value = getattr(self, name)
            _require(_is_number(value) and value >= 0, name, "from 0 to a million", value)
        _require(self.eval_every <= 5, "eval_every", "at most 5", self.eval_every)
        floor_fits = self.floor is None or (
            _is_number(self.floor) and 0 < self.floor <= self.ceiling
        )
        _require(floor_fits, "floor", "positive and at most the ceiling", self.floor)

        plain = self.dtype == "float32" and not (self.lora_rank or self.checkpointing)
        _require(
            plain or RLHF not in self.methods,
            "methods",
            "without rlhf where dtype, lora_rank or checkpointing are set",
            ", ".join(self.methods),
        )

    def as_dict(self) -> dict:
        return {**asdict(self), "methods": list(self.methods)}


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """A finite number with which no step overflows fp32."""
    return isinstance(value, (int, float)) and abs(value) <= 1e6


def _require(true: bool, name: str, wanted: str, got: object) -> None:
    if not true:
        raise InputError(f"{name} must be {wanted}, not {got!r}.")
