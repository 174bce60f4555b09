"""Logs made to fit a rule: columns that go in equal steps from a first to a last value."""

import math

LN2 = math.log(2)
STEPS = tuple(range(0, 45, 5))


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


STILL = rows(loss=(LN2, LN2), rewards__margins=(0, 0), grad_norm=(0.8, 0.8))
FINE = rows(loss=(LN2, 0.2), grad_norm=(1.0, 3.0))
