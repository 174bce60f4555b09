"""The splits of data sets in memory and in saved folders."""

import datasets
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.load import load_splits, split_pairs
from tests.pairs.shared import FAULTY, KEPT, ROWS, saved, write_folder

pytestmark = pytest.mark.usefixtures("quiet")


def test_the_splits_of_a_saved_data_set_are_found_by_what_they_are_for(tmp_path):
    train, test = ROWS[:8], ROWS[8:]
    for n, names in enumerate(
        [("train", "test"), ("train_prefs", "test_prefs"), ("train", "validation")]
    ):
        other = {"train_sft": ROWS[:1], "test_gen": ROWS[:2]}
        path = saved(tmp_path / str(n), **dict(zip(names, (train, test), strict=True)), **other)
        assert list(load_pairs(path)) == train and list(load_pairs(path, "test")) == test
        assert list(load_pairs(str(path), names[1])) == test
        assert list(load_pairs(path, "test_gen")) == ROWS[:2], "by its own name"
        assert [list(part) for part in load_splits(path)] == [train, test]
        assert load_pairs(path, "test").where[1] == f"{path} ({names[1]}), row 2"


def test_a_missing_split_is_told_with_those_there_are(tmp_path):
    path = saved(tmp_path / "set", train=ROWS, extra=ROWS[:2])
    with pytest.raises(InputError, match="no split 'test'; its splits are train, extra"):
        load_pairs(path, "test")


def test_a_data_set_without_a_test_split_is_split_by_its_prompts(tmp_path):
    path = saved(tmp_path / "set", train=ROWS, train_sft=ROWS[:2])
    assert load_splits(path) == split_pairs(load_pairs(path))


def test_a_dataset_and_a_dict_of_them_may_be_given_as_such(held):
    table = datasets.Dataset.from_list(FAULTY)
    assert list(load_pairs(table, **held)) == KEPT
    assert list(load_pairs(table.select([8, 7, 6]), **held)) == [ROWS[5], ROWS[0]]
    assert list(load_pairs(datasets.DatasetDict(a=table, test=table), "test", **held)) == KEPT
    assert list(load_pairs(iter(ROWS), **held)) == ROWS


def test_a_damaged_folder_is_told_in_a_sentence(tmp_path):
    write_folder(tmp_path / "set", ROWS)
    for file in (tmp_path / "set").glob("*.arrow"):
        file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="set cannot be read") as caught:
        load_pairs(tmp_path / "set")
    assert "\n" not in str(caught.value)
