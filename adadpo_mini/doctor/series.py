"""What a log says: its series of numbers, and how far chosen and rejected have moved."""

from collections.abc import Sequence
from dataclasses import dataclass

from adadpo_mini.doctor.logs import is_finite
from adadpo_mini.event import Event

Series = list[tuple[int, float]]
"""(step, value), in the order of the steps; finite values only."""

SIDES = ("chosen", "rejected")
SHARE = 0.01  # of the chosen's log-prob at the start: 3 nats of a 300-nat answer are no news
BATCH_NOISE = 0.1  # of the same: other pairs are 3 % off even in the toy, where all are alike


def series(events: Sequence[Event], *names: str, least: int = 1) -> Series:
    """The first of these names of which the log has so many finite numbers; else nothing."""
    for name in names:
        rows = [(event["step"], event[name]) for event in events if is_finite(event.get(name))]
        if len(rows) >= least:
            return rows
    return []


def last_quarter(rows: Series) -> Series:
    """The last quarter of the rows, two at least."""
    return rows[-max(2, len(rows) // 4) :]


def mean(rows: Series) -> float:
    return sum(value for _, value in rows) / len(rows)


def signed(nats: float) -> str:
    return f"{nats:+.1f}".replace("-", "−")


@dataclass(frozen=True)
class Shifts:
    """How far chosen and rejected have moved, in nats per completion, at the same steps.

    Attributes:
        what: which log-probs, and since when, in words.
        steps, chosen, rejected: of equal length.
        scale: |log π(chosen)| at the first step, nats; 0 if not logged.
        noise: nats by which they may differ without anything having moved.
    """

    what: str
    steps: tuple[int, ...]
    chosen: tuple[float, ...]
    rejected: tuple[float, ...]
    scale: float
    noise: float

    def threshold(self, nats: float) -> float:
        """What counts as a move: so many nats, but not less than noise or a trifle."""
        return max(nats, SHARE * self.scale, self.noise)

    @property
    def evidence(self) -> str:
        chosen, rejected = signed(self.chosen[-1]), signed(self.rejected[-1])
        return f"{self.what}, at step {self.steps[-1]}: chosen {chosen}, rejected {rejected} nats."


def find_shifts(events: Sequence[Event]) -> Shifts | None:
    """The best account that a log gives of how far chosen and rejected have moved.

    In this order: held-out pairs against the reference, held-out pairs since they were first
    measured, training pairs against the reference, training pairs since the first row. The last
    compares different pairs; there a change counts as none if the raw reward, which knows the
    reference, has the other sign.

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
        moves = [_not_denied(events, side, steps, m) for side, m in zip(SIDES, moves, strict=True)]
        noise = BATCH_NOISE * scale
    return Shifts(f"{pairs} log-probs since step {steps[0]}", steps, *moves, scale, noise)


def _not_denied(events, side: str, steps: Sequence[int], moves: Sequence[float]) -> tuple:
    rewards = dict(series(events, f"rewards/{side}"))
    rows = zip(steps, moves, strict=True)
    return tuple(0.0 if rewards.get(step, 0.0) * move < 0 else move for step, move in rows)
