"""Turn a row of preference data, in any of its usual forms, into a `Pair`, or say why it is not
one."""

from typing import NotRequired, TypedDict

from adadpo_mini.errors import InputError, shown
from adadpo_mini.pairs.answers import (
    SEVERAL_TURNS,
    after_prompt,
    answer_of,
    check_one_turn,
    check_texts,
    read_sides,
)
from adadpo_mini.pairs.columns import FIELDS, SIDES, Layout, is_nothing, layout_of, missing_field
from adadpo_mini.pairs.conversations import Message, dialogue_of, shared_head, text_of
from adadpo_mini.pairs.earlier import with_earlier
from adadpo_mini.pairs.messages import refusal
from adadpo_mini.pairs.prompts import check_prompt, no_prompt, read_prompt, with_shared
from adadpo_mini.pairs.remarks import Remarks
from adadpo_mini.pairs.unusable import UnusableRow

__all__ = ["FIELDS", "SEVERAL_TURNS", "SIDES", "Message", "Pair", "UnusableRow", "read_row"]


class Pair(TypedDict):
    """One preference: after `prompt`, `chosen` was preferred to `rejected`.

    If the data contains conversations, as messages or in the form of Anthropic's HH, `messages` are
    the prompt's, for a chat template to be applied to, and `prompt` is their text.
    """

    prompt: str
    chosen: str
    rejected: str
    messages: NotRequired[list[Message]]


def read_row(where: str, row: object, remarks: Remarks | None = None) -> Pair:
    r"""Return the pair in a row.

    The prompt is in the column `prompt` or in one that `columns.QUESTIONS` names, with the system
    message and the history in columns of their own; or it is the messages that both sides begin
    with; or, for dialogues in the form of Anthropic's HH, the text up to the last "Assistant:" that
    both sides share. Plain text that both sides begin with is not taken for the prompt, as TRL
    takes it: two answers to the same question often begin with the same words, so the prompt would
    be a guess.

    Args:
        where: what messages call the row.
        row: an object with chosen and rejected. A side is a text, a message or a list of messages;
            `messages.read_conversation` has their forms.
        remarks: collects which columns are used and what is changed.

    Raises:
        UnusableRow: a side is empty, not text, or more than one answer; or the row has no
            preference, no prompt, several prompts, or more than text.
        InputError: the row is not an object with the fields chosen and rejected.

    >>> sky = {"chosen": "\n\nHuman: Sky?\n\nAssistant: Blue.", "rejected": "..."}
    >>> sky["rejected"] = sky["chosen"].replace("Blue", "Red")
    >>> read_row("row 1", sky)["prompt"], read_row("row 1", sky)["chosen"]
    ('\n\nHuman: Sky?\n\nAssistant:', ' Blue.')
    """
    if not isinstance(row, dict):
        raise InputError(
            f"{where}: expected an object with chosen and rejected, got {shown(row)}; write the "
            "pair as an object."
        )
    remarks = Remarks() if remarks is None else remarks
    columns = tuple(row)
    layout = layout_of(columns)
    remarks.saw(columns)
    if layout.missing:
        raise missing_field(where, row)
    for name in layout.refused:
        if not is_nothing(row[name]):
            raise refusal(where, f"the field {name!r} is not empty", name)
    return _pair(where, row, layout, remarks)


def _pair(where: str, row: dict, layout: Layout, remarks: Remarks) -> Pair:
    sides = read_sides(where, row, remarks)
    are_talks = isinstance(sides[0], list) and isinstance(sides[1], list)
    shared = shared_head(*sides) if are_talks else []
    sides = [side[len(shared) :] for side in sides] if shared else sides
    answers = [answer_of(where, SIDES[i], side) for i, side in enumerate(sides)]
    asked = read_prompt(where, row, layout, [] if shared else answers, remarks)
    if are_talks:
        prompt = with_shared(where, asked, shared)
    else:
        prompt, answers = after_prompt(where, asked, answers, remarks)
    fields = dict(zip(SIDES, answers, strict=True))
    if not (prompt.text or any(message["role"] == "user" for message in prompt.messages)):
        check_texts(where, fields)
        raise no_prompt(where, row, layout)
    prompt = with_earlier(where, row, layout, prompt, remarks)
    check_prompt(where, prompt)
    text = prompt.text or text_of(prompt.messages)
    fields = {"prompt": text, **fields}
    check_texts(where, fields)
    dialogue = dialogue_of(text) if prompt.text else []
    if dialogue:
        check_one_turn(where, answers)
    messages = prompt.messages or dialogue
    return Pair(**fields, messages=messages) if messages else Pair(**fields)
