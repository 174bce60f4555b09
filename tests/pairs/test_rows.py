"""One row: where its prompt ends and its answers begin, and what is no answer."""

import pytest

from adadpo_mini import InputError
from adadpo_mini.pairs.rows import SEVERAL_TURNS, UnusableRow, read_row

SYSTEM = {"role": "system", "content": "Be kind."}
ASKED = "\n\nHuman: Why?\n\nAssistant:"


def say(*contents):
    return [
        {"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)
    ]


def fault(row):
    """Why the row cannot be used."""
    with pytest.raises(UnusableRow, match="row 7") as caught:
        read_row("row 7", row)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def parted(row):
    pair = read_row("row 7", row)
    return pair["messages"], pair["chosen"], pair["rejected"]


@pytest.mark.parametrize("prompt", [{}, {"prompt": say("Why?")}, {"prompt": "Why?"}])
@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        (("So.", "How?", "Thus."), ("No.", "How?", "Go.")),
        (("So.",), ("So.", "Oh?", "No.")),
        (("So.", "Oh?"), ("No.",)),
    ],
)
def test_an_answer_that_holds_what_the_user_says_next_cannot_be_used(prompt, chosen, rejected):
    sides = {"chosen": say("Why?", *chosen), "rejected": say("Why?", *rejected)}
    assert fault({**prompt, **sides}) == SEVERAL_TURNS


def test_conversations_that_differ_from_the_first_question_on_cannot_be_used():
    row = {"chosen": say("Why?", "So."), "rejected": say("How?", "No.")}
    assert fault(row) == SEVERAL_TURNS


def test_one_conversation_beside_a_text_is_held_to_the_same():
    row = {"prompt": "Why?", "chosen": say("Why?", "So.", "Oh?", "Yes."), "rejected": "No."}
    assert fault(row) == SEVERAL_TURNS


def test_the_users_own_words_are_no_answer():
    row = {"prompt": say("Hi.", "Hello."), "chosen": say("Why?"), "rejected": say("", "No.")[1:]}
    assert "not the assistant's" in fault(row)


def test_equal_answers_after_a_shared_conversation_are_no_preference():
    talk = say("Why?", "So.")
    with pytest.raises(InputError, match="equal"):
        read_row("row 7", {"chosen": talk, "rejected": talk})


TALK = say("Hi.", "Hello.", "Why?")


@pytest.mark.parametrize(
    ("prompt", "head", "whole"),
    [
        ([SYSTEM], [SYSTEM, *TALK], [SYSTEM, *TALK]),
        ([SYSTEM], TALK, [SYSTEM, *TALK]),
        ([SYSTEM, *TALK], TALK, [SYSTEM, *TALK]),
        ([SYSTEM, *TALK], [], [SYSTEM, *TALK]),
        (TALK[:1], TALK, TALK),
        (TALK, TALK, TALK),
        ("Why?", TALK, TALK),
        ("Why?", [SYSTEM], [SYSTEM, *say("Why?")]),
        ("Why?", [], say("Why?")),
        (ASKED, [], say("Why?")),
    ],
)
def test_the_prompt_is_all_that_is_given_or_shared_and_nothing_twice(prompt, head, whole):
    sides = {side: [*head, *say("", side)[1:]] for side in ("chosen", "rejected")}
    assert parted({"prompt": prompt, **sides}) == (whole, "chosen", "rejected")


# Anthropic's HH

HH = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"


@pytest.mark.parametrize(
    "row",
    [
        {"chosen": f"{HH} So.", "rejected": f"{HH} No."},
        {"prompt": HH, "chosen": " So.", "rejected": " No."},
    ],
)
def test_a_dialogue_in_text_keeps_its_text_and_its_turns(row):
    assert read_row("row 7", row) == {
        "prompt": HH, "chosen": " So.", "rejected": " No.", "messages": TALK,
    }  # fmt: skip


def test_a_speakers_two_turns_in_a_row_are_one_message():
    prompt = "\n\nHuman: Hi.\n\nHuman: Why?\n\nAssistant:"
    messages, *_ = parted({"prompt": prompt, "chosen": "So.", "rejected": "No."})
    assert messages == say("Hi.\n\nWhy?")


@pytest.mark.parametrize(
    "prompt",
    [
        "Why?\n",
        "Who is the Assistant:",
        "A play.\n\nHuman: Why?\n\nAssistant:",
        "\n\nHuman: Why?",
        "\n\nHuman: Why?\n\nAssistant: Because",
        "\n\nAssistant: Hello.\n\nAssistant:",
        "\n\nHuman: Why?\n\nAssistant: So.\n\nAssistant:",
    ],
)
def test_a_prompt_of_another_form_is_no_dialogue(prompt):
    row = {"prompt": prompt, "chosen": " it is.", "rejected": " no."}
    assert read_row("row 7", row) == row


@pytest.mark.parametrize("more", ["\n\nHuman: Oh!", "\n\nHuman: Oh?\n\nAssistant: Yes."])
def test_a_dialogue_that_goes_on_after_the_answer_cannot_be_used(more):
    assert fault({"chosen": f"{HH} So.", "rejected": f"{HH} No.{more}"}) == SEVERAL_TURNS
    assert fault({"prompt": HH, "chosen": f" So.{more}", "rejected": " No."}) == SEVERAL_TURNS
    row = {"prompt": "Write a play.\n", "chosen": f"A play.{more}", "rejected": "No."}
    assert read_row("row 7", row) == row, "who asked for a dialogue may have one"
