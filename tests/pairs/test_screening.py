"""Rows that are dropped, and what the report and the note say about them."""

import datasets
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.load import load_splits, split_pairs
from adadpo_mini.pairs.screening import TOO_LONG, loading_note
from adadpo_mini.toyworld.sets import SETS
from tests.pairs.shared import FAULTY, KEPT, ROWS, saved, write_lines, write_parquet

pytestmark = pytest.mark.usefixtures("quiet")


def test_a_faulty_row_stops_a_file_and_is_dropped_from_a_data_set_and_reported(written, held):
    path = written(FAULTY)
    if path.suffix:
        with pytest.raises(InputError, match="(line|row) 4: chosen is empty"):
            load_pairs(path, **held)
        return
    loaded = load_pairs(path, **held)
    assert list(loaded) == KEPT
    assert [place.rpartition(" ")[2] for place in loaded.where] == ["1", "2", "6", "9"]
    report = loaded.report
    assert report.kept + sum(report.dropped.values()) == report.rows == 9
    assert report.text == (
        f"{path}: 4 of 9 rows kept; dropped 2 that repeat an earlier pair (first: row 3), "
        "2 with an empty side (first: row 4), 1 with chosen equal to rejected (first: row 5); "
        "1 contradicts an earlier pair (first: row 6) and is kept."
    )


def test_lines_of_ones_own_may_repeat_and_contradict_and_that_is_told(tmp_path):
    path = tmp_path / "mine.jsonl"
    write_lines(path, [ROWS[0], ROWS[1], ROWS[0], FAULTY[5]])
    loaded = load_pairs(path)
    assert list(loaded) == [ROWS[0], ROWS[1], FAULTY[5]]
    assert loaded.report.dropped == {"that repeat an earlier pair": 1}
    assert loaded.report.contradictory == 1 and "first: line 3" in loaded.report.text


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_dropped_from_a_toy_set(name):
    for part in load_splits(name):
        assert part.report.kept == part.report.rows == len(part)


def test_texts_that_only_run_together_alike_are_no_repetition():
    rows = [
        {"prompt": "a", "chosen": "bc", "rejected": "d"},
        {"prompt": "ab", "chosen": "c", "rejected": "d"},
    ]
    assert list(load_pairs(rows)) == rows


def test_a_missing_cell_is_an_empty_side_or_no_prompt(tmp_path):
    rows = [ROWS[0], {**ROWS[1], "chosen": None}, {**ROWS[2], "prompt": None}]
    path = saved(tmp_path / "set", train=rows)
    assert load_pairs(path).report.dropped == {"with an empty side": 1, "without a prompt": 1}
    write_parquet(tmp_path / "pairs.parquet", rows)
    with pytest.raises(InputError, match=r"pairs.parquet, row 2: chosen is empty \(None\)"):
        load_pairs(tmp_path / "pairs.parquet")


def test_a_data_set_without_a_usable_row_is_an_error_that_names_the_first(written):
    if written.name == "folder":
        with pytest.raises(InputError, match="none of its 2 rows .* row 1: rejected is empty"):
            load_pairs(written([{**row, "rejected": ""} for row in ROWS[:2]]))


def test_a_held_out_pair_that_was_trained_on_is_dropped_and_told(tmp_path, held):
    path = saved(tmp_path / "set", train=ROWS[:6], test=[ROWS[7], *ROWS[4:7], ROWS[7]])
    train, test = load_splits(path, **held)
    assert (list(train), list(test)) == (ROWS[:6], [ROWS[7], ROWS[6]])
    assert test.report.dropped == {
        "also in the training split": 2, "that repeat an earlier pair": 1,
    }  # fmt: skip
    assert loading_note(train.report, test.report) == (
        f"{path} (test): 2 of 5 rows kept; dropped 2 also in the training split (first: row 2), "
        "1 that repeat an earlier pair (first: row 5)."
    )
    assert list(load_pairs(path, "test")) == [ROWS[7], *ROWS[4:7]], "asked for by itself"


def test_a_held_out_pair_that_only_contradicts_the_training_split_stays(tmp_path):
    path = saved(tmp_path / "set", train=[ROWS[1]], test=[FAULTY[5]])
    train, test = load_splits(path)
    assert list(test) == [FAULTY[5]] and loading_note(train.report, test.report) is None


def test_a_test_split_that_is_the_training_split_is_told(tmp_path):
    path = saved(tmp_path / "set", train=ROWS, test=ROWS[:3])
    with pytest.raises(InputError, match="all of its 3 rows are also in the training split"):
        load_splits(path)


def test_both_sides_are_told_of_in_their_order_and_nothing_if_all_is_used(tmp_path):
    path = saved(tmp_path / "set", train=FAULTY, test=[*ROWS[6:], ROWS[6]])
    sentence = loading_note(*(part.report for part in load_splits(path)))
    assert 0 < sentence.index("(train): 4 of 9") < sentence.index("(test): 6 of 7")
    assert loading_note(*(part.report for part in load_splits(ROWS))) is None
    assert loading_note(None, None) is None


def test_what_was_parted_here_is_told_of_as_one():
    parts = split_pairs(load_pairs(datasets.Dataset.from_list([*FAULTY, *ROWS[6:]])))
    train, test = (part.report for part in parts)
    assert loading_note(train, test) == train.text
    too_long = (train.without(2, TOO_LONG, "row 7"), test.without(1, TOO_LONG, "row 5"))
    assert "7 of 15 rows kept" in loading_note(*too_long)
    assert "3 longer than the model reads (first: row 7)" in loading_note(*too_long)
    assert "9 of 15 rows kept" in loading_note(train, too_long[1]), "of the held-out side alone"
    assert loading_note(too_long[0], too_long[0]) == too_long[0].text, (
        "where both sides are the same"
    )
