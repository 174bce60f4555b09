"""Data that is larger than memory, and what reading leaves on the disk."""

import json
import os
import subprocess
import sys

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.load import load_splits
from tests.pairs.shared import ROWS, WRITERS, write_csv, write_lines

pytestmark = pytest.mark.usefixtures("quiet")


def test_a_large_data_set_is_split_as_a_small_one(tmp_path):
    path = tmp_path / "pairs.csv"
    write_csv(path, [{**row, "prompt": f"{n % 5}\n"} for n, row in enumerate(ROWS)])
    small, large = load_splits(path), load_splits(path, in_memory=0)
    assert not any(isinstance(part.rows, tuple) for part in large)
    assert [list(part) for part in large] == [list(part) for part in small]
    assert [list(part.where) for part in large] == [list(part.where) for part in small]


def test_a_bad_line_behind_many_good_ones_is_named_and_leaves_no_file(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_lines(path, [{**ROWS[0], "prompt": f"{n}"} for n in range(2500)])
    path.write_text(f"{path.read_text()}\n{{")
    with pytest.raises(InputError, match="pairs.jsonl, line 2501: not valid JSON"):
        load_pairs(path, in_memory=0)
    assert not list((tmp_path / "cache").iterdir())


def test_a_disk_without_space_for_large_pairs_is_named_with_a_way_out(tmp_path):
    resource = pytest.importorskip("resource")
    rows = [{**ROWS[0], "prompt": f"{n} {'x' * 100}"} for n in range(2500)]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(InputError, match="cache.*File too large.*ADADPO_MINI_CACHE"):
            load_pairs(rows, in_memory=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "cache").iterdir())


LOCAL = """
import sys
from adadpo_mini import load_pairs
for path in ("tone", *sys.argv[2:]):
    load_pairs(path)
assert "datasets" not in sys.modules, "it takes half a second, and more to read a small file"
for path in sys.argv[1:]:
    assert len(load_pairs(path, in_memory=0)) == 12
"""


def test_files_are_read_without_the_hubs_cache_and_small_ones_without_datasets(tmp_path):
    for name, write in WRITERS.items():
        write(tmp_path / name, ROWS)
    paths = [tmp_path / name for name in sorted(WRITERS)]  # the folder first
    home = tmp_path / "home"
    kept = {name: str(home) for name in ("HOME", "HF_HOME", "XDG_CACHE_HOME", "TMPDIR")}
    run = subprocess.run([sys.executable, "-c", LOCAL, *paths], env={**os.environ, **kept})
    assert run.returncode == 0 and not home.exists()


MEASURE = """
import re, sys, threading, time, datasets, pyarrow
from pathlib import Path
from adadpo_mini.pairs.load import load_pairs, split_pairs

def used():  # by the process itself, in MiB; pages of a mapped file can be dropped at any time
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def watch():
    global peak
    while True:
        peak = max(peak, used())
        time.sleep(0.005)

load_pairs("tone")
peak = before = used()
threading.Thread(target=watch, daemon=True).start()
train, test = split_pairs(load_pairs(sys.argv[1]))
print(len(train) + len(test), peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("form", ["parquet", "jsonl", "folder"])
def test_a_large_data_set_is_never_held_in_memory(tmp_path, form):
    count, size = 40_000, 4000
    path = tmp_path / f"pairs.{form}"
    table = pyarrow.table(
        {
            name: pyarrow.array([f"{name} {n} {size * letter}" for n in range(count)])
            for name, letter in (("prompt", ""), ("chosen", "c"), ("rejected", "r"))
        }
    )
    if form == "parquet":
        pyarrow.parquet.write_table(table, path, compression="none", row_group_size=count // 40)
    elif form == "jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
    else:
        datasets.Dataset(table).save_to_disk(path)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True
    )
    kept, grown = map(float, run.stdout.split())
    assert kept == count
    assert grown < table.nbytes / 2**20 / 2, run.stdout
