"""A cache folder for each test, and whether a tokenizer was called."""

import pytest

from adadpo_mini import load_pairs


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def some():
    return load_pairs("refusal")[:20]


@pytest.fixture
def tokenised(toy, monkeypatch):
    """Returns whether a tokenizer has been called since the last call of this function."""
    kind, calls = type(toy[1]), []
    real = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda *a, **how: calls.append(a) or real(*a, **how))

    def since_last_time():
        some = bool(calls)
        calls.clear()
        return some

    return since_last_time
