"""A file or folder of each form, a cache of its own, and pairs in memory or on disk."""

import datasets
import pytest

from tests.pairs.shared import WRITERS


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """Writes rows as a file or folder of one form, and gives its path."""

    def write(rows, name=request.param):
        WRITERS[request.param](tmp_path / name, rows)
        return tmp_path / name

    write.name = request.param
    return write


@pytest.fixture
def quiet(capfd):
    """The library prints nothing, whatever it is given."""
    datasets.disable_progress_bars()  # those of the tests' own writing
    yield
    datasets.enable_progress_bars()
    assert capfd.readouterr() == ("", "")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["in memory", "on disk"])
def held(request):
    """How to load pairs so that they are held in memory, or kept on disk."""
    return {"in_memory": 100} if request.param == "on disk" else {}
