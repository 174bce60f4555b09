"""Answers that begin with their prompt, and line ends."""

import pytest

from adadpo_mini import load_pairs
from adadpo_mini.pairs.screening import loading_note
from tests.pairs.shared import say

HH = "\n\nHuman: A fish?\n\nAssistant:"


def read(prompt, chosen, rejected):
    loaded = load_pairs([{"prompt": prompt, "chosen": chosen, "rejected": rejected}])
    return (*[loaded[0][name] for name in ("prompt", "chosen", "rejected")], loaded.report)


@pytest.mark.parametrize(
    ("prompt", "begin", "whole", "gap"),
    [
        ("Name a fish.\n", "Name a fish.\n", "Name a fish.\n", ""),
        ("Name a fish.", "Name a fish.\n\n", "Name a fish.\n\n", ""),
        ("Name a fish.", "Name a fish. ", "Name a fish.", " "),
        ("Name a fish.\n", "Name a fish. ", "Name a fish.\n", ""),
        ("Why?", "Why? ", "Why?", " "),
        ("Hello\n", "Hello\n", "Hello\n", ""),
        (HH, f"{HH} ", HH, " "),
        ("A fish?", f"{HH} ", HH, " "),
    ],
)
def test_a_prompt_that_both_answers_repeat_is_removed_and_counted(prompt, begin, whole, gap):
    *pair, report = read(prompt, f"{begin}A trout.", f"{begin}A cow.")
    assert pair == [whole, f"{gap}A trout.", f"{gap}A cow."]
    note = loading_note(report, None)
    assert "both answers begin with the prompt, which is removed from them (1 row)" in note


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        ("Hi", "Hi there!", "Hi."),
        ("Name a fish.", "Name a fish. A trout.", "A cow."),
        ("Name a fish.", "Name a fish.", "Name a fish. A cow."),
        ("Name a fish.", "A trout.", "A cow."),
    ],
)
def test_an_answer_may_begin_like_its_prompt(prompt, chosen, rejected):
    *pair, report = read(prompt, chosen, rejected)
    assert pair == [prompt, chosen, rejected] and loading_note(report, None) is None


def test_hh_with_the_line_ends_of_windows_is_a_dialogue():
    sides = {name: f"{HH} {name}".replace("\n", "\r\n") for name in ("chosen", "rejected")}
    for prompt in ({}, {"prompt": None}, {"prompt": ""}):
        loaded = load_pairs([{**prompt, **sides}])
        assert list(loaded) == [
            {"prompt": HH, "chosen": " chosen", "rejected": " rejected", "messages": say("A fish?")}
        ]
        assert r"line ends \r\n are read as \n (1 row)" in loading_note(loaded.report, None)


def test_line_ends_inside_texts_and_messages_are_those_of_models():
    *pair, _ = read("a\r\nb\r\n", "c\r\nd", "e\rf")
    assert pair == ["a\nb\n", "c\nd", "e\rf"]
    [loaded] = load_pairs([{"prompt": say("a\r\nb"), "chosen": "c", "rejected": "d"}])
    assert loaded["messages"] == say("a\nb")
