"""Reading a sweep's file: what is in it, and what is wrong with it."""

import os
import random
from pathlib import Path

import pytest

from adadpo_mini import InputError
from adadpo_mini.paper.results import COLUMNS, read_measurements
from tests.paper.made_up import run, write


def test_results_are_read_back_as_they_were_written(better, tmp_path):
    assert read_measurements(write(better, tmp_path / "results.csv")) == better


def cell(name, text):
    """Puts a text into the cell of this name in line 3."""

    def change(content):
        lines = [line.split(",") for line in content.split("\n")]
        lines[2][COLUMNS.index(name)] = text
        return "\n".join(",".join(line) for line in lines)

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: None, "no such file"),
        (lambda text: text.replace("lc_win_rate", "lc"), "does not contain a sweep's results"),
        (lambda text: "", "has no results"),
        (lambda text: text.splitlines()[0] + "\n", "has no results"),
        (lambda text: "\ufeff" + text, "line 1 begins with a byte order mark"),
        (lambda text: text.replace("tone", "t\xf6ne").encode("latin-1"), "line 2 is not UTF-8"),
        (lambda text: text.rstrip("\n")[:-20] + "\n", "line 4"),
        (lambda text: text.replace("\n", ",1\n").replace(",1\n", "\n", 1), "line 2"),
        (lambda text: text.replace("grid,tone,dpo,0,40", "grid,tone,dpo,0,"), "line 2"),
        (
            lambda text: text + text.splitlines()[-1] + "\n",
            "line 5 repeats .* of line 4",
        ),
        (cell("seed", "zero"), "line 3: seed must be a number, not 'zero'"),
        (cell("seed", "-1"), "line 3: seed must be a whole number from 0 up, not '-1'"),
        (cell("step", "0.5"), "line 3: step must be a whole number from 0 up, not '0.5'"),
        (cell("step", "50"), "line 3: step 50 is after the last, 40"),
        (cell("steps", "0"), "line 3: steps must be a whole number from 1 up"),
        (cell("beta", "0"), "line 3: beta must be a positive number, not '0'"),
        (cell("margin", "nan"), "line 3: margin must be a finite number.* not 'nan'"),
        (cell("margin", "-inf"), "line 3: margin must be a finite number.* not '-inf'"),
        (cell("margin", "1e308"), "line 3: margin must be a finite number, at most 1e.100"),
        (cell("margin", "\0"), "line 3: margin must be a number"),
        (cell("margin", "x" * 1000), "line 3: margin must be a number, not 'x{39}…'.$"),
        (cell("margin", "1" * 200_000), "line 3 cannot be read .field larger"),
        (cell("experiment", "\0"), "line 3: experiment must be a name"),
        (cell("experiment", ""), "line 3: experiment must be a name"),
        (cell("method", "ppo"), "line 3: method must be one of dpo, .*, not 'ppo'"),
        (cell("data", "moon"), "line 3: data must be one of tone, .*, not 'moon'"),
    ],
)
def test_a_damaged_file_is_refused_with_its_line(change, message, tmp_path):
    path = tmp_path / "results.csv"
    noise = random.Random(0)
    write(run("grid", "tone", "dpo", 0, (1e-4, 0.1), 0.5, noise), path)
    text = change(path.read_text())
    if text is None:
        path.unlink()
    else:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError, match=message):
        read_measurements(path)


def test_a_folder_and_what_is_not_a_regular_file_are_refused(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_measurements(tmp_path)
    with pytest.raises(InputError, match="is not a regular file"):
        read_measurements(Path(os.devnull))
