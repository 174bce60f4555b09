"""The splits of data sets in memory and in saved folders."""

import datasets
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.load import load_splits, split_pairs
from tests.pairs.shared import FAULTY, KEPT, ROWS, saved, write_folder, write_lines

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


def test_a_named_split_is_used_and_a_part_of_it_held_out(tmp_path, monkeypatch):
    path = saved(tmp_path / "set", train=ROWS[:4], test=ROWS[4:6], extra=ROWS[6:])
    monkeypatch.chdir(tmp_path)
    assert list(load_pairs("set:extra")) == list(load_pairs(f"{path}:extra")) == ROWS[6:]
    train, held_out = load_splits("set:extra")
    assert (train, held_out) == split_pairs(load_pairs("set:extra"))
    assert sorted(pair["prompt"] for part in (train, held_out) for pair in part) == sorted(
        row["prompt"] for row in ROWS[6:]
    )
    assert list(load_pairs("tone:test")) == list(load_pairs("tone", "test"))
    assert [len(part) for part in load_splits("tone:test")] == [180, 20]


def test_a_split_that_is_not_there_or_cannot_be_is_told(tmp_path, monkeypatch):
    saved(tmp_path / "set", train=ROWS, extra=ROWS[:2])
    write_folder(tmp_path / "one", ROWS)
    write_lines(tmp_path / "a.jsonl", ROWS)
    write_lines(tmp_path / "a:b.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    for name, words in {
        "set:test": "no split 'test'; its splits are train, extra",
        "tone:dev": "tone has no split 'dev'; its splits are train, test",
        "one:train": "one has no splits; leave out ':train'",
        "a.jsonl:train": "a file has no splits; give a.jsonl, without ':train'",
        "tone:": "no such file or toy set",
    }.items():
        with pytest.raises(InputError, match=words):
            load_splits(name)
    assert list(load_pairs("a:b.jsonl")) == ROWS, "a file of this name"


@pytest.mark.parametrize("form", [None, "arrow", "numpy", "pandas"])
def test_a_streamed_data_set_is_read_as_rows_and_loses_its_faulty_ones(form):
    rows = [{**row, "id": n} for n, row in enumerate(FAULTY)]
    stream = datasets.Dataset.from_list(rows).to_iterable_dataset().with_format(form)
    for given, name in (
        (stream, "the given data"),
        (datasets.IterableDatasetDict(train=stream), "the given data (train)"),
        (stream.map(lambda row: row), "the given data"),
    ):
        loaded = load_pairs(given)
        assert list(loaded) == KEPT and loaded.where[0] == f"{name}, row 1"
        assert loaded.report.dropped["with an empty side"] == 2
        assert loaded.report.remarks.unused() == ["id"]


def test_a_streamed_data_set_without_answers_is_told_its_columns():
    stream = datasets.Dataset.from_list([{"good": "a", "bad": "b"}]).to_iterable_dataset()
    with pytest.raises(InputError, match="no column 'chosen'; its columns are good, bad; rename"):
        load_pairs(stream)


def test_a_data_set_of_torch_is_read_by_index():
    class Rows:
        def __len__(self):
            return len(ROWS)

        def __getitem__(self, index):
            return ROWS[index]

    assert list(load_pairs(Rows())) == ROWS
