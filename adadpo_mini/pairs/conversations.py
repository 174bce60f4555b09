r"""Conversations: lists of messages, or text such as "\n\nHuman: Why?\n\nAssistant:"."""

import re
from typing import TypedDict

TURN = re.compile(r"\n\n(Human|Assistant):")


class Message(TypedDict):
    """One turn of a conversation; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


def text_of(conversation: list[Message]) -> str:
    """Return a prompt's messages as text: their contents, each with a line break after it."""
    return "".join(f"{message['content']}\n" for message in conversation)


def shared_head(chosen: list[Message], rejected: list[Message]) -> list[Message]:
    """Return the messages that both begin with, without the last message of either side."""
    common, most = 0, min(len(chosen), len(rejected)) - 1
    while common < most and chosen[common] == rejected[common]:
        common += 1
    return chosen[:common]


def join(some: list[Message], more: list[Message]) -> list[Message]:
    """Join two conversations; messages that end the first and begin the second appear once.

    >>> system, ask = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}
    >>> join([system], [system, ask]) == join([system, ask], [ask]) == [system, ask]
    True
    """
    start = next(i for i in range(len(some) + 1) if more[: len(some) - i] == some[i:])
    return some[:start] + more


def dialogue_of(prompt: str) -> list[Message]:
    r"""Return the messages of a prompt in the form of Anthropic's HH, or none if it is not.

    Two turns in a row by one speaker, of which HH has a few, become one message, because many chat
    templates reject them.

    >>> dialogue_of("\n\nHuman: Why?\n\nAssistant:")
    [{'role': 'user', 'content': 'Why?'}]
    """
    head, *rest = TURN.split(f"\n\n{prompt.lstrip()}")
    turns: list[Message] = []
    for speaker, said in zip(rest[::2], rest[1::2], strict=True):
        role = "user" if speaker == "Human" else "assistant"
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += f"\n\n{said.strip()}"
        else:
            turns.append(Message(role=role, content=said.strip()))
    if head or len(turns) < 2 or turns[0]["role"] != "user" or rest[-2] != "Assistant":
        return []
    *asked, last = turns
    begins_the_answer = last != Message(role="assistant", content="")
    return [] if begins_the_answer else asked


def answer_text(prompt: str, answer: str) -> str:
    r"""Return the answer as the content of a message.

    After "Assistant:", an answer begins with a space that is part of HH's notation, not of the
    answer: it is removed, because a chat template has its own separators.

    >>> answer_text("\n\nHuman: Why?\n\nAssistant:", " Because."), answer_text("Why?", " So.")
    ('Because.', ' So.')
    """
    in_dialogue = prompt.endswith("Assistant:") and dialogue_of(prompt)
    return answer.removeprefix(" ") if in_dialogue else answer
