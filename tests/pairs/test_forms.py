"""Pairs in every form of file and row."""

import pytest

from adadpo_mini import load_pairs
from tests.pairs.shared import ROWS, hh_row, say, trl_row, ultrafeedback_row

pytestmark = pytest.mark.usefixtures("quiet")


def test_every_form_gives_the_same_pairs_and_ignores_other_columns(written, held):
    path = written([{"id": str(n), **row, "note": "x"} for n, row in enumerate(ROWS)])
    loaded = load_pairs(path, **held)
    assert isinstance(loaded.rows, tuple) == (not held)
    assert list(loaded) == ROWS == [loaded[i] for i in range(12)]
    assert loaded[-1] == ROWS[-1] and list(loaded[::-4]) == ROWS[::-4]
    with pytest.raises(IndexError):
        loaded[12]
    assert list(loaded[3:7]) == ROWS[3:7] and list(loaded.take([5, 2])) == [ROWS[5], ROWS[2]]
    assert list(loaded[3:][1:].take([1])) == [ROWS[5]], "a part of a part"
    unit = "line" if path.suffix == ".jsonl" else "row"
    assert loaded.where[4] == loaded[2:].where[2] == f"{path}, {unit} 5"
    assert list(loaded.take([11]).where) == [f"{path}, {unit} 12"]
    report = loaded.report
    assert (report.rows, report.kept, report.dropped, report.contradictory) == (12, 12, {}, 0)
    assert report.text == f"{path}: 12 of 12 rows kept."


def test_hh_rows_are_split_after_the_last_shared_assistant(written, held):
    loaded = load_pairs(written([hh_row(n) for n in range(3)]), **held)
    prompt = "\n\nHuman: Hi 2.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    assert list(loaded)[2] == loaded[2] == {
        "prompt": prompt, "chosen": " Because.", "rejected": " No.",
        "messages": say("Hi 2.", "Hello.", "Why?"),
    }  # fmt: skip


@pytest.mark.parametrize("make", [ultrafeedback_row, trl_row])
def test_ultrafeedback_rows_of_both_shapes_keep_the_messages_of_the_prompt(written, held, make):
    if written.name == "pairs.csv":
        pytest.skip("a cell holds text only")
    loaded = load_pairs(written([make(n) for n in range(3)]), **held)
    assert list(loaded)[1] == loaded[1] == {
        "prompt": "Why 1?\n", "chosen": "Because.", "rejected": "No.", "messages": say("Why 1?"),
    }  # fmt: skip


def test_a_text_prompt_before_answers_in_messages_is_the_users_message():
    row = {"prompt": "Why?", "chosen": say("", "So.")[1:], "rejected": say("", "No.")[1:]}
    [pair] = load_pairs([row])
    assert pair["messages"] == say("Why?") and pair["prompt"] == "Why?\n"
    assert (pair["chosen"], pair["rejected"]) == ("So.", "No.")


def test_a_text_prompt_that_ends_a_longer_conversation_does_not_shorten_it():
    talk = ("Hi.", "Hello.", "Why?")
    sides = {side: say(*talk, side) for side in ("chosen", "rejected")}
    [pair] = load_pairs([{"prompt": "Why?", **sides}])
    assert pair["messages"] == say(*talk) and pair["prompt"] == "Hi.\nHello.\nWhy?\n"


def test_messages_given_and_repeated_at_the_head_of_both_sides_are_taken_once():
    ask = say("Hi.", "Hello.", "Why?")
    answers = {side: [*ask, *say("", side)[1:]] for side in ("chosen", "rejected")}
    [pair] = load_pairs([{"prompt": ask, **answers}])
    assert pair == {
        "prompt": "Hi.\nHello.\nWhy?\n", "chosen": "chosen", "rejected": "rejected",
        "messages": ask,
    }  # fmt: skip


def test_loaded_pairs_may_be_given_as_rows_and_keep_their_messages():
    loaded = load_pairs([ultrafeedback_row(0), trl_row(1), hh_row(2)])
    assert list(load_pairs(list(loaded))) == list(loaded)
    [pair] = load_pairs([{**ROWS[0], "messages": say(ROWS[0]["prompt"], "Because.")}])
    assert pair == ROWS[0], "these messages are no prompt"
