"""Turn a row of preference data, in any of TRL's forms, into a `Pair`, or say why it is not one."""

from typing import NotRequired, TypedDict

from adadpo_mini.errors import InputError, shown
from adadpo_mini.pairs.conversations import (
    TURN,
    Message,
    dialogue_of,
    is_conversation,
    join,
    plain,
    shared_head,
)

FIELDS = ("prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
SEVERAL_TURNS = "with an answer of several turns"


class Pair(TypedDict):
    """One preference: after `prompt`, `chosen` was preferred to `rejected`.

    If the data contains conversations, as messages or in the form of Anthropic's HH, `messages` are
    the prompt's, for a chat template to be applied to, and `prompt` is their text.
    """

    prompt: str
    chosen: str
    rejected: str
    messages: NotRequired[list[Message]]


class UnusableRow(InputError):
    """Raised for a row that can be left out without affecting the others.

    Attributes:
        reason: what is wrong, in the same few words for all rows with that fault.
    """

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def read_row(where: str, row: object) -> Pair:
    """Return the pair in a row; columns that are not part of it are ignored.

    Args:
        where: what messages call the row.
        row: TRL's explicit-prompt form; its implicit form, in which the prompt is what both sides
            begin with; or its conversational form, in which a side is a list of {"role",
            "content"} and the prompt is a separate list or text, the head of both sides, or both.

    Raises:
        UnusableRow: a side is empty, not text, or more than one answer; or the row has no
            preference or no prompt.
        InputError: the row is not an object with the fields chosen and rejected.

    >>> read_row("row 1", {"chosen": "Sky? Blue.", "rejected": "Sky? Red."})
    {'prompt': 'Sky? ', 'chosen': 'Blue.', 'rejected': 'Red.'}
    """
    if not isinstance(row, dict):
        raise InputError(
            f"{where}: expected an object with chosen and rejected, got {shown(row)}; write the "
            "pair as an object."
        )
    for field in SIDES:
        if field not in row:
            raise InputError(f"{where}: the field {field!r} is missing; add it to the pair.")
    row, messages = _part_messages(row)
    for side in SIDES:
        _check_one_answer(where, side, row[side])
    fields = {name: _as_text(where, name, row[name]) for name in FIELDS if name in row}
    if "prompt" not in fields:
        fields = _split_off_prompt(where, fields["chosen"], fields["rejected"])
    _check_texts(where, fields, messages)
    if not messages and (messages := dialogue_of(fields["prompt"])):
        for side in SIDES:
            if TURN.search(fields[side]):
                raise _several_turns(where, side)
    return Pair(**fields, messages=messages) if messages else Pair(**fields)


def _check_one_answer(where: str, side: str, value: object) -> None:
    """Refuse sides that include the user's next turn: a model would learn to write it itself."""
    if not is_conversation(value):
        return
    if len(value) > 1:
        raise _several_turns(where, side)
    if (role := value[0]["role"]) != "assistant":
        raise UnusableRow(
            f"{where}: the last message of {side} has the role {shown(role)}; end it with an "
            "assistant message or drop the pair.",
            "with an answer that is not the assistant's",
        )


def _several_turns(where: str, side: str) -> UnusableRow:
    return UnusableRow(
        f"{where}: {side} has several turns after the shared prompt; keep one answer or drop the "
        "pair.",
        SEVERAL_TURNS,
    )


def _check_texts(where: str, fields: dict[str, str], messages: list[Message]) -> None:
    for name, text in fields.items():
        if not text.strip():
            raise UnusableRow(
                f"{where}: {name} is empty; add text or drop the pair.",
                "with an empty side",
            )
    roles = {"a role": "".join(message["role"] for message in messages)}
    for name, text in {**fields, **roles}.items():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnusableRow(
                f"{where}: {name} has half a character (a lone surrogate such as \\ud83d); fix it "
                "or drop the pair.",
                "with half a character",
            ) from error
    if fields["chosen"] == fields["rejected"]:
        raise UnusableRow(
            f"{where}: chosen and rejected are equal, so there is no preference; drop the pair.",
            "with chosen equal to rejected",
        )


def _as_text(where: str, name: str, value: object) -> str:
    """Return a string unchanged, and a conversation as its messages' contents, one per line.

    The text of a prompt ends with a line break.
    """
    if isinstance(value, str):
        return value
    if is_conversation(value):
        text = "\n".join(message["content"] for message in value)
        return f"{text}\n" if name == "prompt" else text
    raise UnusableRow(
        f"{where}: {name} is not text but {type(value).__name__}; "
        "make it a string (or a list of messages with role and content).",
        "with an empty side" if value is None else "with a side that is not text",
    )


def _part_messages(row: dict) -> tuple[dict, list[Message]]:
    """Return the row with the answers alone in its sides, and the prompt's messages, if any.

    The prompt's messages may be a field, or the head of both sides, as in trl-lib's data sets, or
    partly each. In UltraFeedback the text `prompt` repeats the last of them.
    """
    prompt, messages, beside = row.get("prompt"), [], row.get("messages")
    if is_conversation(prompt):
        messages = plain(prompt)
    elif is_conversation(beside) and _as_text("", "prompt", beside) == prompt:
        messages = plain(beside)  # the row is a `Pair` already
    if is_conversation(row["chosen"]) and is_conversation(row["rejected"]):
        chosen, rejected = plain(row["chosen"]), plain(row["rejected"])
        shared = shared_head(chosen, rejected)
        if not isinstance(prompt, str):
            messages = join(messages, shared)
        elif any(message["role"] == "user" for message in shared):
            messages = shared
        else:
            asked = dialogue_of(prompt) or [Message(role="user", content=prompt)]
            messages = shared + asked
        row = {**row, "chosen": chosen[len(shared) :], "rejected": rejected[len(shared) :]}
    return ({**row, "prompt": messages} if messages else row), messages


def _split_off_prompt(where: str, chosen: str, rejected: str) -> dict[str, str]:
    """Split the implicit-prompt form, in which the prompt is what both texts begin with.

    In Anthropic's HH format the prompt ends with the last shared "Assistant:"; elsewhere with the
    last shared line break or, if there is none, space.
    """
    shared = _common_beginning(chosen, rejected)
    for mark in ("\n\nAssistant:", "\n", " "):
        if mark in shared:
            cut = shared.rindex(mark) + len(mark)
            return {"prompt": shared[:cut], "chosen": chosen[cut:], "rejected": rejected[cut:]}
    raise UnusableRow(
        f"{where}: the field 'prompt' is missing, and chosen and rejected do not begin with a "
        "shared prompt; add the prompt.",
        "without a prompt",
    )


def _common_beginning(some: str, other: str) -> str:
    """Search by halving: comparing character by character is slow on long texts."""
    least, most = 0, min(len(some), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if some[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return some[:least]
