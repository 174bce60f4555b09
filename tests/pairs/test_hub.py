"""Data sets on the hub: what is asked, and when the local copy is read."""

from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.load import load_splits
from adadpo_mini.pairs.screening import loading_note
from tests.pairs.shared import ROWS, ultrafeedback_row, write_folder, write_parquet

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache on this machine with one data set in it, as a download leaves it."""
    cache = tmp_path / "hub" / "datasets--someone--prefs"
    commit = "0" * 39 + "1"
    data = cache / "snapshots" / commit / "data"
    data.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    write_parquet(data / "train_prefs-00000-of-00001.parquet", [ultrafeedback_row(0)])
    write_parquet(data / "test_prefs-00000-of-00001.parquet", [ultrafeedback_row(1)])
    (data.parent / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train_prefs\n    path: data/train_prefs-*\n"
        "  - split: test_prefs\n    path: data/test_prefs-*\n"
        "- config_name: small\n  data_files:\n  - split: train\n    path: data/test_prefs-*\n---\n"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    datasets.enable_progress_bars()
    return commit


def test_a_data_set_in_the_hubs_cache_needs_no_network(hub, monkeypatch):
    import huggingface_hub

    asked, real = [], huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **how: asked.append(how) or real(*a, **how)
    )
    train, test = load_splits("someone/prefs")
    assert (train[0]["prompt"], test[0]["prompt"]) == ("Why 0?\n", "Why 1?\n")
    assert train.where == ("someone/prefs (train_prefs), row 1",)
    assert load_pairs("someone/prefs:small")[0] == test[0]
    assert list(load_pairs(f"someone/prefs@{hub}", "test_prefs")) == list(test)
    assert [how["local_files_only"] for how in asked] == [True] * 3


def test_a_configuration_or_a_revision_that_is_not_there_is_told(hub):
    with pytest.raises(InputError, match="'someone/prefs:tiny': .*default.*small") as caught:
        load_pairs("someone/prefs:tiny")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="hub's cache"):
        load_pairs("someone/prefs@other")


def test_a_name_after_the_colon_is_a_configuration_or_else_a_split(hub):
    assert load_pairs("someone/prefs:test_prefs")[0]["prompt"] == "Why 1?\n"
    assert load_splits("someone/prefs:test_prefs")[0].where == (
        "someone/prefs:test_prefs (test_prefs), row 1",
    )
    assert load_pairs("someone/prefs:default:test_prefs")[0]["prompt"] == "Why 1?\n"
    assert load_pairs("someone/prefs:small")[0]["prompt"] == "Why 1?\n", "a configuration"
    with pytest.raises(InputError, match="no split 'nothing'; its splits are train_prefs, test_"):
        load_pairs("someone/prefs:default:nothing")
    with pytest.raises(InputError, match="'tiny' not found.*its splits are train_prefs, test_pr"):
        load_pairs("someone/prefs:tiny")


def test_a_data_set_that_cannot_be_had_is_told_in_a_sentence(hub, online, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match="could not be downloaded .* .no route to host.") as it:
        load_pairs("someone/other")
    assert "\n" not in str(it.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="'someone/other' is not on.*HF_HUB_OFFLINE is set"):
        load_pairs("someone/other")


@pytest.fixture
def online(monkeypatch):
    """The hub as it is asked for a commit: a list of what it was asked, and of what it answers."""
    asked, answers = [], []

    def dataset_info(_, name, revision=None, timeout=None):
        asked.append((name, revision, timeout))
        if not answers:
            raise ConnectionError("no network")
        return SimpleNamespace(sha=answers.pop())

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    return SimpleNamespace(asked=asked, answers=answers)


def test_the_hub_is_asked_before_a_copy_of_which_a_part_may_be_missing(hub, online, monkeypatch):
    whole = datasets.DatasetDict(
        {name: datasets.Dataset.from_list([*ROWS]) for name in ("train", "test")}
    )
    loaded = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, **how: loaded.append((a, how)) or whole
    )
    online.answers.append("a1b2")
    pairs = load_pairs("someone/prefs:small@v1")
    assert len(pairs) == 12 and pairs.report.note == ""
    [(name, revision, timeout)] = online.asked
    assert (name, revision) == ("someone/prefs", "v1") and 0 < timeout <= 10
    assert loaded == [(("someone/prefs", "small"), {"revision": "a1b2"})]


def test_where_the_hub_does_not_answer_the_copy_is_taken_and_that_is_told_once(hub, online):
    train, test = load_splits("someone/prefs")
    assert (train[0]["prompt"], test[0]["prompt"]) == ("Why 0?\n", "Why 1?\n")
    sentence = loading_note(train.report, test.report)
    assert sentence.startswith("someone/prefs: read from the local copy, because the hub did")
    assert sentence.count("copy") == 1 and len(online.asked) == 1


def test_a_copy_that_is_taken_because_the_hub_must_not_be_asked_is_told(hub, online, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train, test = load_splits("someone/prefs")
    assert "read from the local copy, because HF_HUB_OFFLINE is set" in loading_note(
        train.report, test.report
    )
    assert not online.asked


def test_a_folder_of_the_same_name_goes_before_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()
    write_folder(Path("someone/prefs"), ROWS)
    assert list(load_pairs("someone/prefs")) == ROWS


@pytest.mark.parametrize("name", ["data/missing.jsonl", "a/b/c", "/a/b", "./a", "missing"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_pairs(name)
