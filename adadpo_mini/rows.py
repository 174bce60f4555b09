"""One row of preference data, in any of TRL's forms, made into a `Pair`; or why it is none."""

from typing import NotRequired, TypedDict

from adadpo_mini.errors import InputError

FIELDS = ("prompt", "chosen", "rejected")


class Message(TypedDict):
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


class Pair(TypedDict):
    """One preference: after `prompt`, `chosen` was preferred to `rejected`.

    Where the data hold conversations, `messages` keeps the prompt's, so that a chat template can
    be applied to them; `prompt` is their text all the same.
    """

    prompt: str
    chosen: str
    rejected: str
    messages: NotRequired[list[Message]]


class UnusableRow(InputError):
    """A row that could be left out without harm to the others.

    Attributes:
        reason: what is wrong in a few words, the same for all rows with that fault.
    """

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def read_row(where: str, row: object) -> Pair:
    """The pair that a row stands for; columns that it does not need are ignored.

    Args:
        where: how to call the row, should it be faulty.
        row: TRL's explicit-prompt form; its implicit one, where what both sides begin with is the
            prompt; or its conversational one, where a side is a list of {"role", "content"}, with
            the prompt in a list or a text of its own, at the head of both sides, or both.

    Raises:
        UnusableRow: a side is empty or no text, or there is no preference or no prompt.
        InputError: the row is no object with the fields chosen and rejected.

    >>> read_row("row 1", {"chosen": "Sky? Blue.", "rejected": "Sky? Red."})
    {'prompt': 'Sky? ', 'chosen': 'Blue.', 'rejected': 'Red.'}
    """
    if not isinstance(row, dict):
        raise InputError(f"{where}: expected an object with chosen and rejected, got {row!r:.60}.")
    for field in FIELDS[1:]:
        if field not in row:
            raise InputError(f"{where}: the field {field!r} is missing; add it to the pair.")
    row, messages = _part_messages(row)
    fields = {name: _as_text(where, name, row[name]) for name in FIELDS if name in row}
    if "prompt" not in fields:
        fields = _split_off_prompt(where, fields["chosen"], fields["rejected"])
    for name, text in fields.items():
        if not text.strip():
            raise UnusableRow(
                f"{where}: {name} is empty; give it some text or drop the pair.",
                "with an empty side",
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnusableRow(
                f"{where}: {name} has half a character (a lone surrogate such as \\ud83d); mend it "
                "or drop the pair.",
                "with half a character",
            ) from error
    if fields["chosen"] == fields["rejected"]:
        raise UnusableRow(
            f"{where}: chosen and rejected are equal, so there is no preference; drop the pair.",
            "with chosen equal to rejected",
        )
    return Pair(**fields, messages=messages) if messages else Pair(**fields)


def _as_text(where: str, name: str, value: object) -> str:
    """A string as it is; a conversation as its messages' contents, each prompt message ended by
    a line break."""
    if isinstance(value, str):
        return value
    if _is_conversation(value):
        text = "\n".join(message["content"] for message in value)
        return f"{text}\n" if name == "prompt" else text
    raise UnusableRow(
        f"{where}: {name} is not text but {type(value).__name__}; "
        "make it a string (or a list of messages with role and content).",
        "with an empty side" if value is None else "with a side that is no text",
    )


def _is_conversation(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_message, value))


def _is_message(item: object) -> bool:
    return isinstance(item, dict) and isinstance(item.get("content"), str) and "role" in item


def _part_messages(row: dict) -> tuple[dict, list[Message]]:
    """A row whose sides hold the answers alone, and the prompt's messages, if there are any.

    The prompt's messages may be given, or stand at the head of both sides, as in trl-lib's data
    sets; in UltraFeedback they do, and the last of them is the text `prompt` as well.
    """
    prompt, messages, beside = row.get("prompt"), [], row.get("messages")
    if _is_conversation(prompt):
        messages = _plain(prompt)
    elif _is_conversation(beside) and _as_text("", "prompt", beside) == prompt:
        messages = _plain(beside)  # the row is a `Pair` already
    if _is_conversation(row["chosen"]) and _is_conversation(row["rejected"]):
        chosen, rejected = _plain(row["chosen"]), _plain(row["rejected"])
        shared = _shared_head(chosen, rejected)
        if prompt is None or isinstance(prompt, str):
            asked = [] if prompt is None else [Message(role="user", content=prompt)]
            messages = shared or asked
        elif shared[: len(messages)] == messages:
            shared = messages
        else:
            shared = []
        row = {**row, "chosen": chosen[len(shared) :], "rejected": rejected[len(shared) :]}
    return ({**row, "prompt": messages} if messages else row), messages


def _plain(conversation: list) -> list[Message]:
    return [Message(role=item["role"], content=item["content"]) for item in conversation]


def _shared_head(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """The messages that both begin with; each side keeps its last one, even if they are equal."""
    common, most = 0, min(len(chosen), len(rejected)) - 1
    while common < most and chosen[common] == rejected[common]:
        common += 1
    return chosen[:common]


def _split_off_prompt(where: str, chosen: str, rejected: str) -> dict[str, str]:
    """The implicit-prompt form: what both texts begin with is the prompt.

    In Anthropic's HH format it ends with the last shared "Assistant:"; elsewhere with the last
    shared line break or, failing that, space.
    """
    shared = _common_beginning(chosen, rejected)
    for mark in ("\n\nAssistant:", "\n", " "):
        if mark in shared:
            cut = shared.rindex(mark) + len(mark)
            return {"prompt": shared[:cut], "chosen": chosen[cut:], "rejected": rejected[cut:]}
    raise UnusableRow(
        f"{where}: the field 'prompt' is missing and chosen and rejected share no beginning that "
        "could be one; add the prompt.",
        "without a prompt",
    )


def _common_beginning(some: str, other: str) -> str:
    """By halving, since comparing character by character takes most of the time on long texts."""
    least, most = 0, min(len(some), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if some[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return some[:least]
