"""The tables of `make bench` on made-up measurements."""

import json

import pytest

from tests.bench.speed import ENGINES
from tests.bench.tables import bench_tables

MACHINE = {"cpu": "Abacus 3000", "cores": 2, "system": "Linux x86_64", "torch": "2.13"}


def runs(ours: float, known: float, trl: float, work="4 pairs of 64 + 64 tokens"):
    seconds = dict(zip(ENGINES, (ours, known, trl, 3.0, 6.0), strict=True))
    return [
        {
            "work": work, "engine": engine, "half": False, "pairs": 4, "memory": memory * 10**9,
            "seconds": [9 * took, took, took / 2], "operations": 10**12 * took, "peak": 4e12,
        }
        for _ in range(2)
        for (engine, took), memory in zip(seconds.items(), (3, 3, 4, 4, 2), strict=True)
    ]  # fmt: skip


@pytest.fixture
def tables(tmp_path):
    def write(**parts):
        path = tmp_path / "bench.json"
        path.write_text(json.dumps({"machine": MACHINE, **parts}))
        return bench_tables(path)

    return write


def test_ratios_are_of_median_steps_and_a_missed_goal_is_marked(tables):
    text = tables(speed=runs(ours=2.0, known=1.0, trl=5.0))
    assert "5.00 (5.00–5.00), goal 4 |" in text, "reached"
    assert "3.00 (3.00–3.00), goal 2.5 |" in text
    assert "2.50 (2.50–2.50) |" in text and "6.00 (6.00–6.00) |" in text
    assert "0.75 (0.75–0.75), goal 0.7: missed" in text
    assert "goal 4: missed" in tables(speed=runs(ours=2.0, known=2.0, trl=5.0))
    assert "Abacus 3000" in text and "4/s, 3.0 GB, 25%" in text


def test_the_limit_is_what_our_step_would_take_at_the_machines_full_speed(tables):
    text = tables(speed=runs(ours=2.0, known=1.0, trl=5.0))
    assert "| fp32 | 20.0 | 5.00 times as much |" in text


def test_growth_and_waits_have_their_rows(tables):
    growing = [{**run, "growing": "pairs"} for run in runs(1.0, 1.0, 1.0)[:1]]
    text = tables(
        growth=growing,
        waits={"one race of 40 steps": [2.0, 4.0, 3.0], "two such races at once": [6.0]},
        page={
            "120-step race, headless": [10.0], "the same without the slow measurements": [9.0],
            "120-step race, on the page": [12.0],
        },
    )  # fmt: skip
    assert "| pairs | 4 pairs of 64 + 64 tokens | 1 s | 3.00 GB |" in text
    assert "| one race of 40 steps | 3.00 | 2.00–4.00 |" in text
    assert "take 10% of the headless race" in text and "at 75% of the speed" in text
    assert "Two races at once take 2.00 times" in text
