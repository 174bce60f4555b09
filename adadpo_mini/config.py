"""The settings of a race: what they mean, their defaults, and the values they can have.

Importing this loads nothing but `errors.py`, so the command line prints its help without torch.
"""

import os
from collections.abc import Iterable
from dataclasses import Field, asdict, dataclass, field, fields
from typing import Any

from adadpo_mini.errors import InputError, did_you_mean, shown

TOY = "toy"
DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16")
SPACES = ("ratio", "policy")
OWN, TRL = ENGINES = ("own", "trl")
MILLION = 1_000_000
LOSS_KNOBS = "knobs of the losses"


def setting(default: object, help: str, **about: object) -> Any:
    """Return a dataclass field that also describes its flag on the command line.

    Args:
        default: the default value.
        help: what the setting is, without the default.
        **about: `least` and `most`, the range of a number (`above` excludes its end); `choices`,
            the values of a text; `flag`, if it is not the name with dashes; `flag_help`, if the
            flag says the opposite of the field; `group`, a heading in the help; `unset`, the
            default in words, if the value itself does not explain it.
    """
    return field(default=default, metadata={"help": help, **about})


@dataclass(frozen=True)
class RaceConfig:
    """The settings of a race, checked when made.

    Each field carries its help text, which `adadpo-mini race --help` shows. β and the knobs have
    the names that the losses give them; a method uses the knobs that its loss has.

    Raises:
        InputError: a value is out of range.
    """

    data: str = setting(
        "tone",
        "a toy set, a file (JSON lines, JSON, CSV, Parquet), a folder written by `datasets`, or a "
        "hub name; DATA:SPLIT names a split",
    )
    model: str = setting(TOY, "toy, a folder, or a hub name")
    methods: tuple[str, ...] = setting(
        ("dpo", "adadpo"), "names from `adadpo-mini losses`, or rlhf, separated by commas"
    )
    steps: int = setting(120, "training steps", least=1, most=MILLION)
    batch_size: int = setting(16, "pairs per step", least=1, most=MILLION)
    beta: float = setting(1.0, "β of the loss; on large models, 0.1 is usual", above=0)
    learning_rate: float = setting(
        1e-4, "learning rate; on large models, 1e-6 is usual", above=0, flag="--lr"
    )
    seed: int = setting(0, "seed of the batches, the sampling and the adapters")
    eval_every: int = setting(5, "steps between evaluations, at most 5", least=1, most=5)
    eval_pairs: int = setting(32, "held-out pairs to evaluate on", least=1, most=MILLION)
    measure_every: int = setting(
        60, "steps between slow measurements (KL, mass, displacement), 0 for never",
        least=0, most=MILLION,
    )  # fmt: skip
    threads: int | None = setting(
        None, "CPU threads per method; all methods train at the same time", least=1, most=1024,
        unset="chosen by model size",
    )  # fmt: skip
    snapshot_every: int = setting(
        0, "steps between saved models, 0 for none", least=0, most=MILLION
    )
    snapshot_gb: float = setting(
        5.0, "disk space for all snapshots, in GB; if they need more, fewer are saved", least=0
    )
    device: str = setting(
        "auto", "where to train; auto uses a GPU for a large model", choices=DEVICES
    )
    dtype: str = setting("float32", "number type of the weights", choices=DTYPES)
    pairs_at_once: int | None = setting(
        None, "pairs per forward pass; gradients of the passes add up", least=1, most=MILLION,
        unset="the whole batch",
    )  # fmt: skip
    checkpointing: bool = setting(False, "recompute activations: less memory, more time")
    lora_rank: int = setting(
        0, "train a LoRA adapter of this rank, 0 for the full model", least=0, most=MILLION
    )
    ceiling: float = setting(2.0, "C of AdaDPO and the Ada forms", above=0, group=LOSS_KNOBS)
    space: str = setting("ratio", "space of adadpo's ρ", choices=SPACES, group=LOSS_KNOBS)
    length_normalize: bool = setting(
        True,
        "divide u by |y| in adadpo's ρ",
        flag="--raw",
        flag_help="adadpo without dividing by |y|",
        group=LOSS_KNOBS,
    )
    k: float = setting(1.0, "k of AdaDPO and the Ada forms", above=0, group=LOSS_KNOBS)
    floor: float | None = setting(
        None, "smallest β_w/β_l, which the paper does not have", unset="none", group=LOSS_KNOBS
    )
    ratio: float = setting(2.0, "c of fixed_ratio", above=0, group=LOSS_KNOBS)
    match_ratio: bool = setting(
        False, "train adadpo first, and set the ratio of fixed_ratio to its mean ρ"
    )
    simpo_beta: float = setting(
        2.0, "β of SimPO, which multiplies log-probs per token", above=0, group=LOSS_KNOBS
    )
    gamma: float = setting(1.0, "γ of SimPO", least=0, group=LOSS_KNOBS)
    alpha: float = setting(0.01, "α of R-DPO", least=0, group=LOSS_KNOBS)
    nll_weight: float = setting(
        1.0, "weight of imitation in RPO, CPO and ORPO", least=0, group=LOSS_KNOBS
    )
    penalty: float = setting(50.0, "λ of DPOP", least=0, group=LOSS_KNOBS)
    per_token: bool = setting(False, "IPO with u/|y|, as in TRL", group=LOSS_KNOBS)

    def __post_init__(self) -> None:
        for name in ("data", "model"):
            value = getattr(self, name)
            fits = isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))
            _require(fits, name, "a name or a path", value)
            object.__setattr__(self, name, str(value))
        for one in fields(self):
            _check(one, getattr(self, one.name))
        seed_fits = _is_whole(self.seed) and 0 <= self.seed < 1 << 63
        _require(seed_fits, "seed", "a whole number from 0 up, below 2^63", self.seed)
        floor_fits = _is_number(self.floor) and 0 < self.floor <= self.ceiling
        wanted = "positive and at most the ceiling"
        _require(self.floor is None or floor_fits, "floor", wanted, self.floor)
        object.__setattr__(self, "methods", _as_methods(self.methods))  # last: it loads torch
        if not self._is_plain:
            _check_need_no_plain_weights(self.methods)
        if self.match_ratio and "fixed_ratio" not in self.methods:
            raise InputError(
                "match_ratio sets the ratio of fixed_ratio; add fixed_ratio to the methods, or "
                "leave match_ratio out."
            )
        if self.pairs_at_once and self.pairs_at_once < self.batch_size:
            _check_couple_no_pairs(self.methods)

    @property
    def _is_plain(self) -> bool:
        return self.dtype == "float32" and not (self.lora_rank or self.checkpointing)

    def knobs(self) -> dict[str, object]:
        """Return β and the other arguments of the losses, by name."""
        return {name: getattr(self, name) for name in KNOBS}

    def as_dict(self) -> dict:
        """Return the settings as JSON has them, the methods as a list."""
        return {**asdict(self), "methods": list(self.methods)}


KNOBS = ("beta", *(one.name for one in fields(RaceConfig) if one.metadata.get("group")))
"""The settings that are arguments of a loss."""


def _check(one: Field, value: object) -> None:
    """Raise InputError unless a value fits what its field says about it."""
    about, name = one.metadata, one.name
    if choices := about.get("choices"):
        if not (isinstance(value, str) and value in choices):
            guess = did_you_mean(value, choices)
            raise InputError(
                f"{name} must be one of {', '.join(choices)}, not {shown(value)}{guess}"
            )
    elif one.type is bool:
        _require(isinstance(value, bool), name, "True or False", value)
    elif value is None and one.default is None:
        return
    elif "most" in about:
        least, most = about["least"], about["most"]
        wanted = f"a whole number from {least} to {most:,}"
        _require(_is_whole(value) and least <= value <= most, name, wanted, value)
    elif "above" in about:
        fits = _is_number(value) and value > about["above"]
        _require(fits, name, "positive, up to a million", value)
    elif "least" in about:
        fits = _is_number(value) and value >= about["least"]
        _require(fits, name, "from 0 to a million", value)


def _as_methods(given: object) -> tuple[str, ...]:
    """Return the methods, from a list of names or a text with commas."""
    from adadpo_mini.methods import ALL_METHODS

    if isinstance(given, str):
        given = [name.strip() for name in given.split(",") if name.strip()]
    methods = tuple(given) if isinstance(given, Iterable) else (given,)
    known = ", ".join(ALL_METHODS)
    if not methods:
        raise InputError(f"methods must be one or more of {known}.")
    for place, name in enumerate(methods):
        _require(isinstance(name, str), "methods", f"names of methods ({known})", name)
        if name not in ALL_METHODS:
            guess = did_you_mean(name, ALL_METHODS)
            raise InputError(f"there is no method {shown(name)}{guess} The methods are {known}.")
        if name in methods[:place]:
            raise InputError(f"methods: {name!r} is listed twice; list it once.")
    return methods


def _check_need_no_plain_weights(methods: Iterable[str]) -> None:
    from adadpo_mini.methods import EVERY_METHOD

    for name in methods:
        if EVERY_METHOD[name].only_plain:
            raise InputError(
                f"methods must not include {name} if dtype, lora_rank or checkpointing are set; "
                "leave one of them out."
            )


def _check_couple_no_pairs(methods: Iterable[str]) -> None:
    from adadpo_mini.methods import EVERY_METHOD

    for name in methods:
        if EVERY_METHOD[name].couples_pairs:
            raise InputError(
                f"{name} needs its whole batch in one pass, so pairs_at_once must not be smaller "
                "than batch_size; leave one of them out."
            )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    """Return whether this is a finite number, too small to make a step overflow fp32."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= MILLION


def _require(true: bool, name: str, wanted: str, got: object) -> None:
    if not true:
        raise InputError(f"{name} must be {wanted}, not {shown(got)}.")
