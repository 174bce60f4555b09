"""Every table in the README is what its command writes from the committed results."""

import re
from collections import Counter

import pytest

from adadpo_mini.methods.registry import methods_table
from adadpo_mini.paper.results import closing_rows, read_measurements
from adadpo_mini.toyworld import data_dir
from adadpo_mini.toyworld.sets import SETS

pytest.importorskip("statsmodels")
ROOT = data_dir().parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
RESULTS = ROOT / "data" / "results"


def between(name: str) -> str:
    begin, end = f"<!-- {name}:begin -->\n", f"\n<!-- {name}:end -->"
    return README.split(begin)[1].split(end)[0]


def test_the_table_of_losses_is_the_registry():
    assert between("losses") == methods_table()


def test_the_table_of_the_bench_is_what_the_committed_measurements_say():
    from tests.bench.tables import bench_tables

    assert between("bench") == bench_tables(RESULTS / "bench.json")


def test_every_module_is_named_in_the_readme():
    """By its file's name as a whole word: pretrain.py does not name train.py, and two files of one
    name want two entries."""
    named = README.split("## What is where")[1].split("## How it was tested")[0]
    hidden = {"__init__.py", "__main__.py", "errors.py"}
    modules = [path for top in ("adadpo_mini", "app") for path in (ROOT / top).rglob("*.py")]
    names = Counter(path.name for path in modules if path.name not in hidden)
    missing = names - Counter(re.findall(r"\w+\.py", named))
    assert sorted(missing) == []


def test_the_table_of_sets_is_what_the_committed_sweep_says():
    from adadpo_mini.paper.tables import sets_table

    assert between("sets") == sets_table(RESULTS / "sets.csv")


def test_the_table_of_claims_is_what_the_committed_sweep_says():
    from adadpo_mini.paper.claims import verdict_table

    assert between("claims") == verdict_table(read_measurements(RESULTS / "paper.csv"))


def test_the_committed_sweeps_are_whole():
    from adadpo_mini.paper.experiments import SEEDS, ablations, grid, sets
    from adadpo_mini.paper.results import RUN

    rows = read_measurements(RESULTS / "paper.csv")
    done = {tuple(row[name] for name in RUN) for row in rows if row["step"] == row["steps"]}
    for planned in (*grid(), *ablations(rows)):
        assert done.issuperset(planned.keys()), planned
    rows = closing_rows(read_measurements(RESULTS / "sets.csv"), "sets")
    assert len(rows) == len(SETS) * SEEDS * 3 == len(sets()) * 3
