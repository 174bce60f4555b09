"""The tables of `make bench` in Markdown.

python -m tests.bench.tables data/results/bench.json --into data/results/speed.md
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from adadpo_mini.paper.tables import write_between
from adadpo_mini.system.markdown import markdown_table

OURS, OURS_KNOWN = "ours", "ours, scores known"
TRL, TRL_KNOWN, TRL_DEFAULT = "TRL", "TRL, scores known", "TRL, checkpointing"
# By work: how many times faster than TRL, the same with known scores, share of TRL's memory.
GOALS = {
    "toy": (3.0, None, None),
    "4 pairs of 64": (4.0, 2.5, 0.7),
    "4 pairs of 512": (5.0, None, None),
}
KEEPING = 0.03  # the goal for writing the run folder, a share of the race's time


def bench_tables(path: Path) -> str:
    """Return all tables of one file of results."""
    found = json.loads(path.read_text(encoding="utf-8"))
    machine = ", ".join(
        f"{name} {value}" if name not in ("cpu", "system") else str(value)
        for name, value in found["machine"].items()
    )
    parts = [f"Measured on: {machine}."]
    if "speed" in found:
        parts += [_seconds_table(found["speed"]), _ratio_table(found["speed"])]
        parts += [LIMIT, _limit_table(found["speed"])]
    if "growth" in found:
        parts.append(_growth_table(found["growth"]))
    if "keeping" in found:
        parts.append(_keeping(found["keeping"]))
    waits = {**found.get("page", {}), **found.get("waits", {})}
    if waits:
        parts += [_waits_table(waits), _shares(waits)]
    return "\n\n".join(part for part in parts if part)


def _grouped(runs: Sequence[dict]) -> dict[tuple[str, bool], dict[str, list[dict]]]:
    groups: dict[tuple[str, bool], dict[str, list[dict]]] = {}
    for run in runs:
        by_engine = groups.setdefault((run["work"], run["half"]), {})
        by_engine.setdefault(run["engine"], []).append(run)
    return groups


def _step(run: dict) -> float:
    return median(run["seconds"])


def _seconds_table(runs: Sequence[dict]) -> str:
    """Return pairs per second, peak memory, and the share of the machine's matmul speed in use."""
    engines = (OURS, OURS_KNOWN, TRL, TRL_KNOWN, TRL_DEFAULT)
    rows = []
    for (work, half), by_engine in _grouped(runs).items():
        cells = []
        for engine in engines:
            mine = by_engine[engine]
            speed = median(run["pairs"] / _step(run) for run in mine)
            memory = median(run["memory"] for run in mine) / 1e9
            share = median(run["operations"] / _step(run) / run["peak"] for run in mine)
            cells.append(f"{speed:.3g}/s, {memory:.1f} GB, {share:.0%}")
        rows.append([work, "bf16" if half else "fp32", *cells])
    return markdown_table(
        ["pairs per second, peak memory, share of matmul speed", "", *engines], rows
    )


def _ratio_table(runs: Sequence[dict]) -> str:
    rows = []
    for (work, half), by_engine in _grouped(runs).items():
        goals = next((goal for part, goal in GOALS.items() if part in work), (None,) * 3)
        memory = [
            ours["memory"] / theirs["memory"]
            for ours, theirs in zip(by_engine[OURS], by_engine[TRL], strict=True)
        ]
        cells = [
            _ratio(by_engine, OURS, TRL, None),
            _ratio(by_engine, OURS_KNOWN, TRL, goals[0]),
            _ratio(by_engine, OURS_KNOWN, TRL_KNOWN, goals[1]),
            _ratio(by_engine, OURS_KNOWN, TRL_DEFAULT, None),
            _spread(memory, goals[2], lower=True),
        ]
        rows.append([work, "bf16" if half else "fp32", *cells])
    head = [
        "how many times faster", "", "both score as they go", "ours known, TRL as it goes",
        "both known", "ours known, TRL with checkpointing", "memory, as they go",
    ]  # fmt: skip
    return markdown_table(head, rows)


def _ratio(by_engine: dict, ours: str, theirs: str, goal: float | None) -> str:
    pairs = zip(by_engine[ours], by_engine[theirs], strict=True)
    return _spread([_step(other) / _step(own) for own, other in pairs], goal)


def _spread(values: Sequence[float], goal: float | None, lower: bool = False) -> str:
    text = f"{median(values):.2f} ({min(values):.2f}–{max(values):.2f})"
    if goal is None:
        return text
    reached = median(values) <= goal if lower else median(values) >= goal
    return f"{text}, goal {goal:g}{'' if reached else ': missed'}"


LIMIT = (
    "Why a goal can be missed: our step reads the prompt once, scores tokens only where needed and "
    "does not ask the reference again. What remains is matrix products, and the work between them. "
    "The next table shows how fast ours (scores known) could be against TRL (as it goes) if the "
    "products ran at the machine's full speed and everything else took no time. In fp32 "
    "they are most of a step of the large model. In bf16, and for the toy, they are the smaller "
    "part; the rest is memory traffic (AdamW, its fp32 master weights, the vocabulary's scores) "
    "and the cost of many small operations."
)


def _limit_table(runs: Sequence[dict]) -> str:
    """Return how much less there is to compute than in TRL, and how many times faster at best."""
    rows = []
    for (work, half), by_engine in _grouped(runs).items():
        ours, theirs = by_engine[OURS_KNOWN], by_engine[TRL]
        less = theirs[0]["operations"] / ours[0]["operations"]
        best = median(own["operations"] / own["peak"] for own in ours)
        limit = median(_step(run) for run in theirs) / best
        rows.append([work, "bf16" if half else "fp32", f"{limit:.1f}", f"{less:.2f} times as much"])
    return markdown_table(["limit", "", "times faster", "TRL computes"], rows)


def _growth_table(runs: Sequence[dict]) -> str:
    rows = []
    for run in runs:
        seconds, memory = f"{_step(run):.3g} s", f"{run['memory'] / 1e9:.2f} GB"
        rows.append([run["growing"], run["work"], seconds, memory])
    return markdown_table(["what grows", "", "time per step", "peak memory"], rows)


def _keeping(found: dict[str, dict[str, list[float]]]) -> str:
    """Return what a run folder costs, with the goal, and the step time by number of threads."""
    shares = [
        [f"writing {name}", f"{median(values):.1%}", f"{min(values):.1%}–{max(values):.1%}"]
        for name, values in found["shares"].items()
    ]
    for row, values in zip(shares, found["shares"].values(), strict=True):
        row[1] += f", goal {KEEPING:.0%}{'' if median(values) <= KEEPING else ': missed'}"
    steps = [
        [f"a step of one method, {name}", f"{1000 * median(values):.3g} ms",
         f"{1000 * min(values):.3g}–{1000 * max(values):.3g}"]
        for name, values in found["steps"].items()
    ]  # fmt: skip
    head = ["share of a 120-step race of two methods; time by threads", "median", "spread"]
    return markdown_table(head, [*shares, *steps])


def _waits_table(waits: dict[str, list[float]]) -> str:
    rows = [
        [name, f"{median(values):.2f}", f"{min(values):.2f}–{max(values):.2f}"]
        for name, values in waits.items()
    ]
    return markdown_table(["seconds, unless stated otherwise", "median", "spread"], rows)


def _shares(waits: dict[str, list[float]]) -> str:
    sentences = []
    middle = {name: median(values) for name, values in waits.items()}
    if "120-step race, headless" in middle:
        headless = middle["120-step race, headless"]
        bare = middle["the same without the slow measurements"]
        live = middle["120-step race, on the page"]
        sentences.append(
            f"The slow measurements take {1 - bare / headless:.0%} of the headless race."
        )
        sentences.append(
            f"The race on the page runs at {bare / live:.0%} of the speed of a headless race "
            "without them."
        )
    if "two such races at once" in middle:
        ratio = middle["two such races at once"] / middle["one race of 40 steps"]
        sentences.append(f"Two races at once take {ratio:.2f} times as long as one.")
    return " ".join(sentences)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tables", description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument(
        "--into", type=Path, help="write them into this document, between its markers"
    )
    arguments = parser.parse_args()
    text = bench_tables(arguments.results)
    if arguments.into:
        write_between(arguments.into, "bench", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
