"""The series of numbers in a log, and how far chosen and rejected have moved."""

from collections.abc import Sequence
from dataclasses import dataclass

from adadpo_mini.doctor.logs import is_finite
from adadpo_mini.event import Event

Series = list[tuple[int, float]]
"""(step, value), in the order of the steps; finite values only."""

SIDES = ("chosen", "rejected")
SHARE = 0.01  # of the chosen's log-prob at the start: 3 nats of a 300-nat answer are nothing
BATCH_NOISE = 0.1  # of the same: other pairs differ by 3 % even in the toy, where all are alike


def series(events: Sequence[Event], *names: str, least: int = 1) -> Series:
    """Return the rows of the first name that has at least so many finite numbers; else none.

    >>> log = [{"step": 0, "loss": 0.7}, {"step": 1, "loss": None}, {"step": 2, "loss": 0.6}]
    >>> series(log, "eval_loss", "loss"), series(log, "loss", least=3)
    ([(0, 0.7), (2, 0.6)], [])
    """
    for name in names:
        rows = [(event["step"], event[name]) for event in events if is_finite(event.get(name))]
        if len(rows) >= least:
            return rows
    return []


def last_quarter(rows: Series) -> Series:
    """Return the last quarter of the rows, at least two."""
    return rows[-max(2, len(rows) // 4) :]


def mean(rows: Series) -> float:
    """Return the mean of the values."""
    return sum(value for _, value in rows) / len(rows)


def signed(nats: float) -> str:
    """Return a number with one decimal and a sign, for a sentence."""
    return f"{nats:+.1f}".replace("-", "−")


@dataclass(frozen=True)
class Shifts:
    """How far chosen and rejected have moved, in nats per completion, at the same steps.

    Attributes:
        what: which log-probs, and since when, in words.
        steps, chosen, rejected: of equal length.
        scale: |log π(chosen)| at the first step, nats; 0 if not logged.
        noise: nats by which they may differ although nothing has moved.
    """

    what: str
    steps: tuple[int, ...]
    chosen: tuple[float, ...]
    rejected: tuple[float, ...]
    scale: float
    noise: float

    def threshold(self, nats: float) -> float:
        """Return the smallest change that counts, in nats.

        It is `nats`, or more where noise or scale is larger.
        """
        return max(nats, SHARE * self.scale, self.noise)

    @property
    def sentence(self) -> str:
        """Where both are at the last step, in words."""
        chosen, rejected = signed(self.chosen[-1]), signed(self.rejected[-1])
        return f"{self.what}, at step {self.steps[-1]}: chosen {chosen}, rejected {rejected} nats."


def find_shifts(events: Sequence[Event]) -> Shifts | None:
    """Return how far chosen and rejected have moved, from the best numbers in the log, or None.

    Best first: held-out pairs against the reference, held-out pairs since they were first measured,
    training pairs against the reference, training pairs since the first row. The last compares
    different pairs, so a change counts as 0 if the raw reward, which includes the reference, has
    the opposite sign.

    >>> log = [{"step": 0, "eval_logps/chosen": -5.0, "eval_logps/rejected": -4.0},
    ...        {"step": 9, "eval_logps/chosen": -7.5, "eval_logps/rejected": -9.0}]
    >>> find_shifts(log).chosen
    (0.0, -2.5)
    """
    for name in ("eval_shift", "eval_logps", "shift", "logps"):
        chosen, rejected = (dict(series(events, f"{name}/{side}")) for side in SIDES)
        steps = tuple(step for step in chosen if step in rejected)
        if len(steps) >= 2:
            break
    else:
        return None
    held_out = name.startswith("eval_")
    logps = series(events, "eval_logps/chosen" if held_out else "logps/chosen")
    scale = abs(logps[0][1]) if logps else 0.0
    pairs = "Held-out" if held_out else "Training"
    moves = [tuple(side[step] for step in steps) for side in (chosen, rejected)]
    if name.endswith("shift"):
        return Shifts(f"{pairs} log-probs against the reference", steps, *moves, scale, 0.0)
    moves = [tuple(value - move[0] for value in move) for move in moves]
    noise = 0.0
    if not held_out:
        moves = [
            _confirmed_moves(events, side, steps, move)
            for side, move in zip(SIDES, moves, strict=True)
        ]
        noise = BATCH_NOISE * scale
    return Shifts(f"{pairs} log-probs since step {steps[0]}", steps, *moves, scale, noise)


def _confirmed_moves(
    events: Sequence[Event], side: str, steps: Sequence[int], moves: Sequence[float]
) -> tuple[float, ...]:
    """Return the moves, with 0 where the raw reward has the opposite sign."""
    rewards = dict(series(events, f"rewards/{side}"))
    rows = zip(steps, moves, strict=True)
    return tuple(0.0 if rewards.get(step, 0.0) * move < 0 else move for step, move in rows)
