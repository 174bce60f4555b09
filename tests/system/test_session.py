"""What the tests themselves leave behind."""

import os
import subprocess
import sys
from pathlib import Path

PASSES_AND_FAILS = """
import tempfile
from pathlib import Path

def test_a(tmp_path):
    (tmp_path / "file").write_text("")

def test_b(tmp_path):
    (Path(tempfile.mkdtemp()) / "file").write_text("")
    (tmp_path / "file").write_text("")
    assert False
"""


def test_a_session_leaves_nothing_in_the_temp_folder_or_at_home(tmp_path):
    root = Path(__file__).parents[2]
    for name in ("temp", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "test_it.py").write_text(PASSES_AND_FAILS)
    own = {"TMPDIR": tmp_path / "temp", "HOME": tmp_path / "home"}
    options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", root / "pyproject.toml"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, tmp_path / "test_it.py"],
        cwd=root, env={**os.environ, **own}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert [list((tmp_path / name).iterdir()) for name in ("temp", "home")] == [[], []]
