"""Logs made to fit a rule: columns that go in equal steps from a first to a last value."""

import math
import random

from adadpo_mini.doctor.case import Case
from adadpo_mini.doctor.rules import RULES

LN2 = math.log(2)
STEPS = tuple(range(0, 45, 5))
TENS = tuple(range(10, 510, 10))


def rows(steps=STEPS, **columns):
    """Events in which each column goes in equal steps from a first to a last value.

    `__` stands for the `/` of a name.
    """
    events = []
    for i, step in enumerate(steps):
        part = i / (len(steps) - 1)
        values = {k.replace("__", "/"): a + (b - a) * part for k, (a, b) in columns.items()}
        events.append({"step": step, **values})
    return events


def shifts(chosen, rejected, start=-5.0, **more):
    """Held-out log-probs that move so far against the reference."""
    return rows(
        eval_shift__chosen=(0, chosen),
        eval_shift__rejected=(0, rejected),
        eval_logps__chosen=(start, start + chosen),
        **more,
    )


def learned(loss=0.009, grad=0.04, margin=6.0):
    """A loss that is large in the first three quarters of the log and this in the last one."""
    events = rows(rewards__margins=(0, margin))
    for i, event in enumerate(events):
        end = i >= 0.75 * len(events)
        event |= {"loss": loss if end else 0.4, "grad_norm": grad if end else 1.0}
    return events


def changed(events, step, **values):
    """The same events with other values at one step."""
    return [{**e, **values} if e["step"] == step else e for e in events]


def trl(chosen, rejected, beta=0.1, steps=TENS, noise=2.0, pairs=20.0, seed=0, **more):
    """A log of TRL: rewards that move so many nats, other pairs in every line.

    `noise` is the standard deviation of the rewards' nats, `pairs` that of the log-probs.
    """
    draw = random.Random(seed)
    events = []
    for i, event in enumerate(rows(steps, loss=(LN2, 0.4), learning_rate=(5e-6, 0), **more)):
        part = (i + 1) / len(steps)
        for side, nats in (("chosen", chosen), ("rejected", rejected)):
            moved = nats * part + draw.gauss(0, noise)
            event[f"rewards/{side}"] = beta * moved
            event[f"logps/{side}"] = -300 + draw.gauss(0, pairs) + moved
        event["rewards/margins"] = event["rewards/chosen"] - event["rewards/rejected"]
        event["rewards/accuracies"] = 0.6
        events.append(event)
    return events


def without(events, *names):
    """The same events without the numbers whose names begin so."""
    return [{k: v for k, v in e.items() if not k.startswith(names)} for e in events]


def judge(name, events, **known):
    """What one rule says."""
    return RULES[name](Case(sorted(events, key=lambda e: e["step"]), **known))


STILL = rows(loss=(LN2, LN2), rewards__margins=(0, 0), grad_norm=(0.8, 0.8))
FINE = rows(
    loss=(LN2, 0.2), grad_norm=(1.0, 3.0), eval_shift__chosen=(0, 0), eval_shift__rejected=(0, 0)
)
"""A race of this package that has nothing to report."""
