"""`adadpo-mini lessons` copies the lessons, keeps a learner's work, and opens the first one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adadpo_mini.cli import main
from adadpo_mini.cli.serve import copy_lessons

TUTORIALS = Path(__file__).parents[2] / "tutorials"
FIRST = "00_start_here.ipynb"


def test_notebooks_and_pages_are_copied_and_nothing_else(tmp_path):
    assert main(["lessons", "--to", str(tmp_path / "new" / "folder"), "--no-open"]) == 0
    copied = {path.name: path.read_bytes() for path in (tmp_path / "new" / "folder").iterdir()}
    pages = (path for path in TUTORIALS.iterdir() if path.suffix in (".ipynb", ".md"))
    assert copied == {path.name: path.read_bytes() for path in pages}


def test_a_notebook_that_somebody_worked_in_is_kept_and_the_others_are_restored(tmp_path, capsys):
    copied, _ = copy_lessons(tmp_path)
    (tmp_path / FIRST).write_text("my work")
    others = [path for path in copied if path.name != FIRST]
    others[0].unlink()
    assert main(["lessons", "--to", str(tmp_path), "--no-open"]) == 0
    assert (tmp_path / FIRST).read_text() == "my work"
    assert all(path.is_file() for path in others)
    out = capsys.readouterr().out.splitlines()
    assert [line for line in out if "kept" in line] == [
        f"{tmp_path / FIRST}: kept, because it is not the original; rename it to get a fresh copy."
    ]
    assert FIRST in out[-1]


def test_a_file_in_place_of_the_folder_is_refused_and_stays(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["lessons", "--to", str(tmp_path / "file"), "--no-open"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'file'}: this is a file" in line
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is full")
def test_what_cannot_be_written_is_refused_in_one_sentence(capsys):
    assert main(["lessons", "--to", "/dev/full/lessons", "--no-open"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "cannot be written" in line


@pytest.mark.skipif(os.name == "nt", reason="there JupyterLab is a child process")
def test_jupyterlab_opens_the_first_lesson_and_its_exit_code_is_ours(tmp_path):
    fake = tmp_path / "path" / "jupyterlab"
    fake.mkdir(parents=True)
    (fake / "__init__.py").touch()
    (fake / "__main__.py").write_text("import os, sys\nprint(os.getpid(), sys.argv[1])\nexit(7)\n")
    command = [sys.executable, "-m", "adadpo_mini", "lessons", "--to", str(tmp_path / "to")]
    environment = {**os.environ, "PYTHONPATH": str(fake.parent)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        out = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 7
    assert out[-1] == f"{process.pid} {tmp_path / 'to' / FIRST}", "in place of our process"
