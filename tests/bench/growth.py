"""How time and memory of our step grow; two races at once; how fast the chat answers."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from tests.bench.speed import WORKS, Work, run_alone

KNOWN = "ours, scores known"
BASE = replace(WORKS[1], steps=3)
GROWING = {
    "pairs": [replace(BASE, name=f"{n} pairs", pairs=n) for n in (1, 2, 4, 8)],
    "length": [
        replace(BASE, name=f"{2 * n} tokens", prompt=n, completion=n) for n in (32, 64, 128, 256)
    ],
    "model": [replace(BASE, name=model, model=model) for model in ("toy", "small", "gpt2")],
}


def growth() -> Iterator[dict]:
    """Yield seconds and memory of a step in fp32 as one thing grows and the rest stays."""
    for what, works in GROWING.items():
        for work in works:
            yield {**run_alone(_within_the_toy(work), KNOWN, False), "growing": what}


def _within_the_toy(work: Work) -> Work:
    return replace(work, steps=20) if work.model == "toy" else work


def time_races(count: int, steps: int = 40) -> float:
    """Return the seconds until `count` races of two methods, started together, have all ended."""
    from adadpo_mini import load_model
    from adadpo_mini.config import RaceConfig
    from adadpo_mini.lockstep import Race

    start = load_model()
    settings = RaceConfig(steps=steps, measure_every=0)
    races = [Race(settings, start=start) for _ in range(count)]
    threads = [threading.Thread(target=lambda race=race: list(race.events())) for race in races]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - began


def time_chat() -> tuple[float, float]:
    """Return (seconds to the first token of three models side by side, tokens/s of all three)."""
    from adadpo_mini import load_model
    from adadpo_mini.models.generate import stream_answers

    model, tokenizer = load_model()
    models = {name: model for name in ("reference", "dpo", "adadpo")}
    began = time.perf_counter()
    rounds = stream_answers(models, tokenizer, "How do I stir the vegan pasta?", seed=0)
    next(rounds)
    first = time.perf_counter() - began
    count = 1 + sum(1 for _ in rounds)
    return first, len(models) * count / (time.perf_counter() - began)


def waits(repeats: int) -> dict[str, list[float]]:
    """Return `repeats` of each wait that needs no browser, in seconds (the last in tokens/s)."""
    torch.set_num_threads(1)
    time_races(1, steps=2)  # the first passes of a process are slow
    time_chat()
    times: dict[str, list[float]] = {}
    for _ in range(repeats):
        first, speed = time_chat()
        for name, value in (
            ("one race of 40 steps", time_races(1)),
            ("two such races at once", time_races(2)),
            ("chat: first token of three models (s)", first),
            ("chat: tokens a second, three models together", speed),
        ):
            times.setdefault(name, []).append(value)
    return times
