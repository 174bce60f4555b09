"""The doctor's score: how often it finds a chosen that falls, and how often it cries wolf.

    python -m tests.bench.doctor_score                                     print the table
    python -m tests.bench.doctor_score --into data/results/doctor.md       write it there

Each log is simulated as a TRL trainer would write it: 20 to 200 lines, one for every ten steps,
β = 0.1, answers of about 300 nats. Other pairs are in every line, so the log-probs of a line vary
with a standard deviation of 20 nats although nothing moves. The chosen falls by 5, 15 or 30 nats
to the end of the run, in a line, late, or early with a plateau; the rejected falls by twice that
and 10 nats more. In a healthy log the chosen rises by 0 to 10 nats and the rejected falls by 5 to
30. What matters most is how much rewards vary between lines, so it is varied, too.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adadpo_mini.doctor import diagnose
from adadpo_mini.event import Event
from adadpo_mini.paper.tables import write_between
from adadpo_mini.system.markdown import markdown_table

LOGS, EVERY = 100, 10
BETA, NATS, PAIRS_VARY = 0.1, 300.0, 20.0
FALLS = (5.0, 15.0, 30.0)
# nats by which the log-ratio u of a line varies between lines, with what makes it so
NOISES = {
    "2 nats (a line averages 100 pairs of 20 nats each)": 2.0,
    "5 nats (16 pairs)": 5.0,
    "20 nats (a single pair)": 20.0,
}
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "line": lambda t: t,
    "late": lambda t: np.clip((t - 0.5) / 0.5, 0, 1),
    "plateau": lambda t: np.clip(t / 0.2, 0, 1),
}


def simulate(fall: float, noise: float, seed: int) -> list[Event]:
    """Return a log whose chosen falls by so many nats; a healthy one for a fall of 0."""
    draw = np.random.default_rng([seed, int(fall), int(10 * noise)])
    lines = int(draw.integers(20, 201))
    part = np.arange(1, lines + 1) / lines
    shape = SHAPES[str(draw.choice(list(SHAPES)))](part)
    chosen = -fall * shape if fall else draw.uniform(0, 10) * shape
    rejected = -(2 * fall + 10) * shape if fall else -draw.uniform(5, 30) * shape
    u_w, u_l = (side + draw.normal(0, noise, lines) for side in (chosen, rejected))
    before = -NATS + draw.normal(0, PAIRS_VARY, (2, lines))
    margin = BETA * (u_w - u_l)
    return [
        {
            "step": EVERY * (i + 1),
            "loss": float(np.log1p(np.exp(-margin[i]))),
            "learning_rate": 5e-7,
            "grad_norm": float(draw.uniform(5, 10)),
            "rewards/chosen": float(BETA * u_w[i]),
            "rewards/rejected": float(BETA * u_l[i]),
            "rewards/margins": float(margin[i]),
            "rewards/accuracies": float(np.clip(0.5 + 0.1 * margin[i], 0.05, 0.95)),
            "logps/chosen": float(before[0, i] + u_w[i]),
            "logps/rejected": float(before[1, i] + u_l[i]),
        }
        for i in range(lines)
    ]


def found(fall: float, noise: float, logs: int = LOGS) -> int:
    """Return in how many of the logs the doctor finds the fall; for a fall of 0, finds anything."""
    names = [[one.name for one in diagnose(simulate(fall, noise, s))] for s in range(logs)]
    return sum("both_sink" in each if fall else bool(each) for each in names)


def score_table() -> str:
    """Return the score in Markdown."""
    head = ["noise of the log-ratio u in a line"]
    head += [f"a fall of {fall:.0f} nats is found" for fall in FALLS] + ["false alarms, healthy"]
    rows = [
        [name, *(f"{found(fall, noise)} of {LOGS}" for fall in (*FALLS, 0.0))]
        for name, noise in NOISES.items()
    ]
    return markdown_table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.doctor_score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--into", type=Path, help="write the table into this document")
    arguments = parser.parse_args()
    table = score_table()
    if arguments.into:
        write_between(arguments.into, "doctor-score", table)
    else:
        print(table)


if __name__ == "__main__":
    main()
