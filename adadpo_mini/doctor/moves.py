"""Where chosen and rejected have gone, judged by the best numbers in a log.

Best first:

1. held-out pairs against the reference (`eval_shift/…`), which our races log;
2. `eval_rewards/…`: fixed pairs, so a difference between two evaluations is a movement;
3. `eval_logps/…` since the first evaluation: fixed pairs, too;
4. `rewards/…` (or our `shift/…`) of training batches: other pairs every time, so a test decides.

The log-probs of training batches are never used: the pairs differ by far more than training moves
them. A reward divided by β is in nats.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from adadpo_mini.doctor.case import TRL_BETA, Case
from adadpo_mini.doctor.series import SIDES, last_quarter, mean, median, signed
from adadpo_mini.doctor.trend import Trend, trend

SHARE = 0.01  # of the chosen's log-prob: 3 nats of a 300-nat answer are nothing
UNKNOWN_SCALE = 300.0  # nats; a typical answer, if no log-prob is in the log
SINK = 1.0  # nats per completion: e times less likely; the healthy preset gains 0.6
RISE = 0.1  # nats: a tenth more likely; a fixed probe has no noise of that size
MOST = 0.7  # of the movement
MANY = 5  # evaluations; from here on they must also show a trend


@dataclass(frozen=True)
class Movement:
    """Where chosen and rejected have gone on one set of pairs.

    Attributes:
        sentence: the numbers in words.
        down, up: whether both have become less likely, or both more likely.
        chosen: how far the chosen has moved, nats.
        scale: −log π(chosen), nats; 0 if not logged.
        path: (updates, nats by which the chosen has moved by then); of training batches only if
            the whole series sinks.
        alone: whether only the chosen is known to sink.
        fixed: whether the pairs are the same at every step.
        at_once: whether the first line of training already shows most of it.
    """

    sentence: str
    down: bool
    up: bool
    chosen: float
    scale: float
    path: Sequence[tuple[int, float]] = ()
    alone: bool = False
    fixed: bool = False
    at_once: bool = False


def find_movements(case: Case) -> list[Movement]:
    """Return the movement on each evaluation set; without one, that on the training batches.

    >>> log = [{"step": 0, "eval_logps/chosen": -5.0, "eval_logps/rejected": -4.0},
    ...        {"step": 9, "eval_logps/chosen": -7.5, "eval_logps/rejected": -9.0}]
    >>> find_movements(Case(log))[0].chosen
    -2.5
    """
    found = [_on_fixed_pairs(case, start) for start in evaluation_sets(case)]
    return [one for one in found if one] or [one for one in [_on_batches(case)] if one]


def evaluation_sets(case: Case) -> list[str]:
    """Return the beginnings of the names of the evaluation sets, such as `eval_`, the plain first.

    A trainer with several sets writes `eval_NAME_rewards/chosen`.
    """
    starts = set()
    for key in case.keys:
        name, _, side = key.rpartition("/")
        for what in ("shift", "rewards", "logps"):
            start = name.removesuffix(what)
            if start != name and start.startswith("eval_") and side in SIDES:
                starts.add(start)
    return sorted(starts, key=lambda start: (start != "eval_", start))


def _on_fixed_pairs(case: Case, start: str) -> Movement | None:
    names = ("shift", "rewards", "logps") if case.has_reference else ("shift", "logps")
    for name in names:
        rows = [case.series(f"{start}{name}/{side}") for side in SIDES]
        steps = [step for step in dict(rows[0]) if step in dict(rows[1])]
        if len(steps) >= 2:
            break
    else:
        return None
    chosen, rejected = ([dict(side)[step] for step in steps] for side in rows)
    if name == "logps":
        chosen, rejected = ([v - side[0] for v in side] for side in (chosen, rejected))
    if name == "rewards":
        chosen, rejected = ([v / _unit(case) for v in side] for side in (chosen, rejected))
    logps = case.series(f"{start}logps/chosen")
    scale = abs(logps[0][1]) if logps else 0.0
    sink, rise = (max(least, SHARE * scale) for least in (SINK, RISE))
    certain = name == "shift"
    down, up = (
        all(_settled(side, steps, bound, certain) for side in (chosen, rejected))
        for bound in (-sink, rise)
    )
    where = f" of {start.removeprefix('eval_').rstrip('_')}" if start != "eval_" else ""
    what = {
        "shift": f"Held-out log-probs{where} against the reference",
        "rewards": f"Held-out rewards{where}, which compare with the reference",
        "logps": f"Held-out log-probs{where} since step {steps[0]}",
    }[name]
    both = _both(case, chosen[-1], rejected[-1], name == "rewards")
    begin = steps[0] if name == "logps" else 0
    path = [(step - begin, nats) for step, nats in zip(steps, chosen, strict=True)]
    sentence = f"{what}, at step {steps[-1]}: {both}."
    return Movement(sentence, down, up, chosen[-1], scale, path, fixed=True)


def _settled(values: Sequence[float], steps: Sequence[int], bound: float, certain: bool) -> bool:
    """Return whether the last value is beyond the bound, and if there are many, not by chance."""
    way = 1 if bound > 0 else -1
    if way * (values[-1] - bound) < 0:
        return False
    if certain or len(values) < MANY:
        return True
    found = trend(values, steps)
    end = mean(last_quarter(list(zip(steps, values, strict=True))))
    return found is not None and found.sign == way and way * (end - bound / 2) >= 0


def _on_batches(case: Case) -> Movement | None:
    """Return the movement by the rewards of training batches."""
    unit = 1.0
    rows = [case.series(f"shift/{side}") for side in SIDES]
    if not all(rows):
        if not case.has_reference:
            return None
        rows, unit = [case.series(f"rewards/{side}") for side in SIDES], _unit(case)
    trends = [trend([v / unit for _, v in side], [step for step, _ in side]) for side in rows]
    if None in trends:
        return None
    chosen, rejected = trends
    logps = [abs(value) for _, value in case.series("logps/chosen")]
    scale = median(logps) if logps else 0.0
    least = max(SINK, SHARE * (scale or UNKNOWN_SCALE))
    down = chosen.passed(-least) and rejected.sign <= 0
    up = chosen.passed(least) and rejected.passed(least)
    both = _both(case, chosen.end, rejected.end, unit != 1.0 or case.beta is None)
    sentence = (
        f"By the trend of {chosen.lines} logged lines of training rewards, at step "
        f"{rows[0][-1][0]}: {both} ({_times(chosen)} standard errors of the noise between batches "
        f"for the chosen)."
    )
    alone = not (rejected.sign < 0 or rejected.end < -least)
    first = rows[0][0][1] / unit
    at_once = rows[0][0][0] > 1 and abs(first) > max(least, MOST * abs(chosen.last))
    path = [(step, v / unit) for step, v in rows[0]] if down and logps else []
    return Movement(
        sentence, down, up, chosen.end, logps[0] if logps else 0.0, path, alone, at_once=at_once
    )


def _times(one: Trend) -> str:
    return f"{min(abs(one.t), 999):.1f}" if abs(one.t) < 999 else "over 999"


def _unit(case: Case) -> float:
    """Return β, or TRL's default if it is unknown: the value of one nat as a reward."""
    return case.beta or TRL_BETA


def _both(case: Case, chosen: float, rejected: float, from_rewards: bool) -> str:
    """Return both movements in words: in nats, or in β·nats where β is not known."""
    nats = f"chosen {signed(chosen)}, rejected {signed(rejected)} nats"
    if not from_rewards or case.beta is not None:
        return nats
    rewards = f"chosen {chosen * TRL_BETA:+.2f}, rejected {rejected * TRL_BETA:+.2f} β·nats"
    return f"{rewards.replace('-', '−')} (at β = {TRL_BETA}, TRL's default: {nats})"
