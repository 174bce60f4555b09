"""What it costs to write the run folder, and what the choice of threads gains."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import torch

from tests.bench.speed import new_model

STEPS = 120
METHODS = ("keep_events", "keep_models", "save_all")  # of `Keeper`: all that writes
EVENTS, SNAPSHOTS = "events and state", "events, state and 13 snapshots"


def time_keeping(snapshot_every: int) -> tuple[float, float]:
    """Return (seconds of the default race with a run folder, seconds spent writing it)."""
    from adadpo_mini import race
    from adadpo_mini.store.keeper import Keeper

    spent = 0.0

    def timed(plain: Callable) -> Callable:
        def call(*arguments):
            nonlocal spent
            began = time.perf_counter()
            try:
                return plain(*arguments)
            finally:
                spent += time.perf_counter() - began

        return call

    with tempfile.TemporaryDirectory() as folder:
        patches = [patch.object(Keeper, name, timed(getattr(Keeper, name))) for name in METHODS]
        for each in patches:
            each.start()
        began = time.perf_counter()
        race(steps=STEPS, out=Path(folder) / "run", snapshot_every=snapshot_every)
        whole = time.perf_counter() - began
        for each in patches:
            each.stop()
    return whole, spent


def time_step(model, tokenizer, threads: int | None, steps: int) -> float:
    """Return the seconds per step of a race of one method; None lets the race choose threads."""
    from adadpo_mini.config import RaceConfig
    from adadpo_mini.lockstep import Race

    config = RaceConfig(
        data="swap", methods=("adadpo",), steps=steps, threads=threads, measure_every=0,
        eval_pairs=4,
    )  # fmt: skip
    race = Race(config, start=(model, tokenizer))
    times = [events["adadpo"]["time"] for events in race.run_steps()]
    return (times[-2] - times[0]) / (steps - 1)  # the first step warms up, the last only measures


def measure(repeats: int) -> dict[str, dict[str, list[float]]]:
    """Return shares of a race's time and seconds per step, `repeats` of each, in turns."""
    from adadpo_mini import load_model

    toy, tokenizer = load_model()
    models = {
        "toy, 0.9 M": (toy, 40),
        "30 M": (new_model("small"), 6),
        "124 M": (new_model("gpt2"), 4),
    }
    shares: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {}
    torch.set_num_threads(1)
    time_keeping(0)  # the first passes of a process are slow
    for _ in range(repeats):
        for name, every in ((EVENTS, 0), (SNAPSHOTS, 10)):
            whole, spent = time_keeping(every)
            shares.setdefault(name, []).append(spent / whole)
    torch.set_num_threads(torch.multiprocessing.cpu_count())
    for _ in range(repeats):
        for name, (model, count) in models.items():
            for label, threads in (("1 thread", 1), ("2 threads", 2), ("as chosen", None)):
                seconds = time_step(model, tokenizer, threads, count)
                steps.setdefault(f"{name}: {label}", []).append(seconds)
    torch.set_num_threads(1)
    return {"shares": shares, "steps": steps}
