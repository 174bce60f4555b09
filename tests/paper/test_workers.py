"""The processes of a sweep: none outlives it, however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from adadpo_mini.cli.entry import main
from adadpo_mini.paper.results import read_measurements
from adadpo_mini.paper.sweep import results_file

TINY = {"steps": 2, "batch_size": 2, "eval_pairs": 2, "measure_every": 0}

COMMAND = f"""
import sys
from adadpo_mini import RaceConfig
from adadpo_mini.cli import entry as cli
from adadpo_mini.paper import plans
from adadpo_mini.paper.sweep import PlannedRace

tiny = {TINY}
plans.PLANS["sets"] = plans.Stages("tiny", lambda: [  # those from the fourth on take minutes
    PlannedRace("sets", RaceConfig(**tiny | {{"seed": n, "steps": 2 if n < 4 else 20_000}}))
    for n in range(9)
])
sys.exit(cli.main(["sweep", "sets", "--processes", "2", "--out", sys.argv[1]]))
"""


@pytest.fixture
def running(tmp_path):
    """(process, its two workers, its file) of a sweep on the command line."""
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "results.csv"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, out],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    this, workers = psutil.Process(process.pid), []
    while len(workers) < 2:
        assert process.poll() is None
        time.sleep(0.02)
        workers = [child for child in this.children() if "spawn_main" in str(child.cmdline())]
    yield process, workers, out
    process.kill()
    for worker in workers:
        if worker.is_running():
            worker.kill()
    process.communicate()


def gone(workers):
    import psutil

    return not psutil.wait_procs(workers, timeout=30)[1]


def test_a_sweep_that_is_killed_leaves_whole_rows_and_no_process(running, capsys):
    process, workers, out = running
    for worker in workers:
        worker.send_signal(signal.SIGINT)  # a Ctrl-C is for all, but they leave it to their parent
    while not out.exists() or out.read_text().count("\n") < 17:
        assert process.poll() is None
        time.sleep(0.02)
    assert main(["sweep", "sets", "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.err == (
        f"adadpo-mini: {out}: another sweep is writing to it; wait until it ends, or give another "
        "file.\n"
    )
    process.kill()
    assert gone(workers)
    with results_file(out):
        rows = read_measurements(out)
    assert len(rows) == 16  # four of each race


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals as on Unix")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_sweep_says_so_in_a_line_and_leaves_no_process(running, name):
    process, workers, out = running
    os.killpg(process.pid, getattr(signal, name))
    said = process.communicate()[1]
    assert process.returncode == 130, said
    assert said.splitlines()[-1] == "adadpo-mini: interrupted." and "Traceback" not in said
    assert gone(workers)


def test_a_sweep_whose_worker_is_killed_says_what_to_do(running):
    process, workers, out = running
    workers[1].kill()
    said = process.communicate()[1]
    assert process.returncode == 2 and gone(workers) and "Traceback" not in said
    assert "fewer --processes if need be: it continues from here.\n" in said
