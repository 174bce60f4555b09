"""Find the prompt of a pair: in its columns, in both sides, or in the text of a dialogue."""

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from adadpo_mini.errors import shown
from adadpo_mini.pairs.columns import (
    CONVERSATIONS,
    FIELDS,
    INSTRUCTION,
    PICTURE,
    Layout,
    is_blank,
)
from adadpo_mini.pairs.conversations import Message, dialogue_of, join, text_of
from adadpo_mini.pairs.messages import read_conversation, with_line_feeds
from adadpo_mini.pairs.remarks import Remarks
from adadpo_mini.pairs.unusable import UnusableRow

PLACEHOLDER = re.compile(r"(?m)^[ \t]*(<(?:image|video|audio)>)|(<(?:image|video|audio)>)[ \t]*$")


class Prompt(NamedTuple):
    """What the answers reply to: a text, messages, the messages and their text, or neither."""

    text: str = ""
    messages: list[Message] = []  # noqa: RUF012 it is never changed


NO_PROMPT = Prompt()


def read_prompt(
    where: str, row: dict, layout: Layout, answers: Collection[str], remarks: Remarks
) -> Prompt:
    """Return the prompt in a row's columns: `prompt` or one of `QUESTIONS`.

    If several have a text, the one that contains the others is the prompt.

    Args:
        answers: the texts of the answers, if both are without their prompt.

    Raises:
        UnusableRow: two columns contain different prompts, or a column contains neither text nor
            messages.
    """
    prompt = _cell(where, "prompt", row.get("prompt"), remarks)
    if not layout.questions:
        if prompt is not NO_PROMPT:
            remarks.use("prompt")
        return prompt
    found = [(("prompt",), prompt), *_questions(where, row, layout, remarks)]
    found = [(columns, value) for columns, value in found if value.text or value.messages]
    asked = [(columns, _without_answer(columns, p, found, answers)) for columns, p in found]
    asked = [(columns, prompt) for columns, prompt in asked if prompt.text or prompt.messages]
    for columns, prompt in asked:
        if all(_contains(prompt, other) for _, other in asked):
            remarks.use(*columns)
            return prompt if prompt.messages else _with_messages(prompt, found, remarks)
    if not asked:
        return NO_PROMPT
    first, second = (" and ".join(map(repr, columns)) for columns, _ in asked[:2])
    raise two_prompts(where, first, second)


def _with_messages(
    prompt: Prompt, found: list[tuple[tuple[str, ...], Prompt]], remarks: Remarks
) -> Prompt:
    """Return a text with the messages that it is the text of, if they are in the row, too."""
    for columns, other in found:
        if other.messages and other.messages[-1]["role"] != "assistant":
            remarks.use(*columns)
            return Prompt(prompt.text, other.messages)
    return prompt


def _questions(
    where: str, row: dict, layout: Layout, remarks: Remarks
) -> Iterator[tuple[tuple[str, ...], Prompt]]:
    for name in layout.questions:
        if name in CONVERSATIONS:
            talk = read_conversation(where, name, row[name], remarks)
            yield (name,), Prompt(messages=talk or [])
    columns = tuple(name for name in INSTRUCTION if name in layout.questions)
    if columns:
        parts = [_cell(where, name, row[name], remarks) for name in columns]
        texts = [part.text.strip("\n") for part in parts if part.text]
        talk = next((part.messages for part in parts if part.messages), [])
        yield columns, Prompt(_line("\n".join(texts)), talk)
    for name in layout.questions:
        if name not in (*CONVERSATIONS, *INSTRUCTION):
            asked = _cell(where, name, row[name], remarks)
            yield (name,), Prompt(_line(asked.text), asked.messages)


def _line(text: str) -> str:
    # These columns contain a question without what separates it from the answer.
    return f"{text}\n" if text and not text[-1].isspace() else text


def _cell(where: str, name: str, value: object, remarks: Remarks) -> Prompt:
    if is_blank(value):
        return NO_PROMPT
    talk = read_conversation(where, name, value, remarks)
    if talk:
        return Prompt(messages=talk)
    return Prompt(as_text(where, name, value, remarks))


def as_text(where: str, name: str, value: object, remarks: Remarks) -> str:
    r"""Return a text cell with \n as its line ends.

    Raises:
        UnusableRow: it is not text.
    """
    if isinstance(value, str):
        return with_line_feeds(where, value, remarks)
    if is_blank(value):
        raise UnusableRow(
            f"{where}: {name} is empty ({shown(value)}); add text or drop the pair.",
            "with an empty side",
        )
    raise UnusableRow(
        f"{where}: {name} is not text but {type(value).__name__}; "
        "make it a string (or a list of messages with role and content).",
        "with a side that is not text",
    )


def _without_answer(
    columns: tuple[str, ...],
    prompt: Prompt,
    found: list[tuple[tuple[str, ...], Prompt]],
    answers: Collection[str],
) -> Prompt:
    """Return a conversation without the answer at its end, if that is known to be one: the prompt
    is in another column or in the sides, too, or one of the sides is this answer."""
    talk = prompt.messages
    if columns[0] not in CONVERSATIONS or not talk or talk[-1]["role"] != "assistant":
        return prompt
    is_answer = len(found) > 1 or not answers or talk[-1]["content"] in answers
    return Prompt(messages=talk[:-1]) if is_answer else prompt


def _contains(whole: Prompt, part: Prompt) -> bool:
    """Return whether all texts of a prompt are also in the other, whatever the white space."""
    if whole is part:
        return True
    texts = [message["content"] for message in part.messages] or [part.text]
    text = words(whole.text or text_of(whole.messages))
    return all(words(one) in text for one in texts)


def words(text: str) -> str:
    """Return the text with every run of white space as one space."""
    return " ".join(text.split())


def two_prompts(where: str, first: str, second: str) -> UnusableRow:
    """Return the error for a row in which two parts ask for different things."""
    return UnusableRow(
        f"{where}: {first} and {second} contain different prompts; put all that the answers reply "
        "to into the column prompt, and remove the others.",
        "with two different prompts",
    )


def with_shared(where: str, prompt: Prompt, shared: list[Message]) -> Prompt:
    """Return the prompt, as messages, of two sides that both begin with these messages.

    Raises:
        UnusableRow: the prompt in the columns is a different one.
    """
    if prompt.messages:
        return Prompt(messages=_joined(where, prompt.messages, shared))
    asks = any(message["role"] == "user" for message in shared)
    if prompt.text and asks and not is_same(prompt, Prompt(messages=shared)):
        raise two_prompts(where, "the prompt's column", "the beginning of both sides")
    asked = [] if asks or not prompt.text else as_messages(prompt.text)
    return Prompt(messages=shared + asked)


def is_same(prompt: Prompt, other: Prompt) -> bool:
    """Return whether one of two prompts contains the other."""
    return _contains(other, prompt) or _contains(prompt, other)


def _joined(where: str, given: list[Message], shared: list[Message]) -> list[Message]:
    if all(message in shared for message in given):
        return shared
    if not shared:
        return given
    joined = join(given, shared)
    apart = len(joined) == len(given) + len(shared)
    if apart and given[-1]["role"] == "user" == shared[0]["role"]:
        raise two_prompts(where, "the prompt's column", "the beginning of both sides")
    return joined


def as_messages(text: str) -> list[Message]:
    """Return the dialogue that a text is, or the text as the user's message."""
    return dialogue_of(text) or [Message(role="user", content=text.strip())]


def check_prompt(where: str, prompt: Prompt) -> None:
    """Raise an UnusableRow if an answer to this prompt would not be a reply to its text."""
    if prompt.messages and prompt.messages[-1]["role"] == "assistant":
        raise UnusableRow(
            f"{where}: the prompt ends with an assistant message; end it with what the user says, "
            "or drop the pair.",
            "with a prompt that ends with an answer",
        )
    if any(message["role"] == "system" for message in prompt.messages[1:]):
        raise UnusableRow(
            f"{where}: a system message comes after the first message; put it first, or drop the "
            "pair.",
            "with a late system message",
        )
    text = prompt.text or text_of(prompt.messages)
    if ">" in text and (found := PLACEHOLDER.search(text)):
        mark = found[1] or found[2]
        if mark.replace("<", "</") not in text:  # as in HTML
            raise UnusableRow(
                f"{where}: the prompt has the placeholder {mark}; {PICTURE}, or drop the pair.",
                "with pictures",
            )


def no_prompt(where: str, row: dict, layout: Layout) -> UnusableRow:
    """Return the error for a row without a prompt."""
    others = [name for name in (*layout.refused, *layout.other) if name not in FIELDS]
    blank = [name for name in ("prompt", *layout.questions) if name in row]
    missing = f"{' and '.join(blank)} is empty" if blank else "the field 'prompt' is missing"
    rename = f", or rename the one of {', '.join(others)} that contains it" if others else ""
    return UnusableRow(
        f"{where}: {missing}, and chosen and rejected neither share messages nor have the form "
        f'"Human: ... Assistant: ..." of Anthropic\'s HH, so the prompt would be a guess; add the '
        f"prompt{rename}.",
        "without a prompt",
    )
