"""Every lesson matches its source, has no outputs, and runs from top to bottom."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from jupyter_client import KernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
LESSONS = sorted((ROOT / "tutorials").glob("*.ipynb"))
BUILD = ROOT / "tutorials" / "build.py"

# By its path: there is a package called build, too.
spec = importlib.util.spec_from_file_location("tutorials_build", BUILD)
build = importlib.util.module_from_spec(spec)
spec.loader.exec_module(build)


class ThisPython(KernelManager):
    """Runs the kernel with the interpreter of the tests, whatever else is installed."""

    @property
    def kernel_spec(self):
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="this Python", language="python")


def execute(path: Path) -> nbformat.NotebookNode:
    """Return the notebook with the outputs of its fast profile."""
    notebook = nbformat.read(path, as_version=4)
    manager = ThisPython()
    client = NotebookClient(notebook, km=manager, timeout=300, resources={})
    client.execute(env={**os.environ, "ADADPO_FAST": "1"}, cwd=str(ROOT / "tutorials"))
    return notebook


def printed(notebook: nbformat.NotebookNode) -> str:
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    return "".join(output.get("text", "") for output in outputs)


def test_there_is_a_lesson_to_start_with():
    assert "00_start_here.ipynb" in [path.name for path in LESSONS]


def test_every_notebook_matches_its_source():
    assert build.problems() == []


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_committed_notebook_has_no_outputs(path):
    assert not build.has_outputs(path)


@pytest.fixture
def folder(tmp_path):
    """A copy of build.py with one small lesson, built."""
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("# %% [markdown]\n# # Title\n\n# %%\nprint(1)\n")
    (tmp_path / "build.py").write_text(BUILD.read_text(encoding="utf-8"), encoding="utf-8")
    build.write(tmp_path)
    return tmp_path


def check(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(folder / "build.py"), "--check"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_check_accepts_what_build_writes(folder):
    assert check(folder).returncode == 0


def test_check_names_a_changed_a_missing_and_an_orphaned_notebook(folder):
    notebook = folder / "a.ipynb"
    notebook.write_text(notebook.read_text().replace("print(1)", "print(2)"))
    (folder / "src" / "b.py").write_text("# %%\nprint(1)\n")
    (folder / "c.ipynb").write_text("{}")
    result = check(folder)
    assert result.returncode == 1
    changed, missing, orphaned, _ = result.stderr.splitlines()
    assert "a.ipynb differs" in changed
    assert "b.ipynb is missing" in missing
    assert "c.ipynb has no source" in orphaned


def test_building_twice_gives_the_same_bytes(folder):
    before = (folder / "a.ipynb").read_bytes()
    build.write(folder, force=True)
    assert (folder / "a.ipynb").read_bytes() == before


def test_a_notebook_that_somebody_ran_is_kept_unless_forced(folder, capsys):
    path = folder / "a.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    nbformat.write(notebook, path)
    build.write(folder)
    assert build.has_outputs(path) and "kept" in capsys.readouterr().out
    build.write(folder, force=True)
    assert not build.has_outputs(path)


@pytest.fixture(scope="module")
def start_here():
    return execute(ROOT / "tutorials" / "00_start_here.ipynb")


def test_the_first_lesson_runs_a_race_and_judges_the_prediction(start_here):
    text = printed(start_here)
    assert "Race finished after 6 steps" in text
    predicted, outcome = (
        next(line.split()[-1] for line in text.splitlines() if line.startswith(start))
        for start in ("Your prediction for DPO", "What they did in this race")
    )
    assert outcome in ("rise", "stay", "fall")
    assert ("You were right." in text) == (predicted == outcome)


def test_the_first_lesson_computes_the_two_forces(start_here):
    text = printed(start_here)
    assert "x_w / x_l = 1.50" in text
    assert "DPO    chosen up" in text and "1.50 times as hard" in text


def test_the_first_lesson_shows_three_answers_with_their_reward(start_here):
    text = printed(start_here)
    assert all(f"{name}, judged" in text for name in ("reference", "DPO", "AdaDPO"))


def test_the_first_lesson_leaves_one_figure_whose_four_curves_have_grown(start_here):
    kind = "application/vnd.plotly.v1+json"
    outputs = (output for cell in start_here.cells for output in cell.get("outputs", []))
    [figure] = [output.data[kind] for output in outputs if kind in output.get("data", {})]
    names = [f"{method} {side}" for method in ("dpo", "adadpo") for side in ("chosen", "rejected")]
    assert [trace["name"] for trace in figure["data"]] == names
    assert all(trace["x"] == [0, 5, 6] and len(trace["y"]) == 3 for trace in figure["data"])


def test_the_figure_brings_no_copy_of_plotly_and_no_address_to_fetch_one_from(start_here):
    text = json.dumps(start_here)
    assert "cdn" not in text and "<script" not in text and len(text) < 200_000
