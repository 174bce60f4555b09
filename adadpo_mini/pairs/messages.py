"""Messages as they are stored: several names for the keys and roles, parts, columns, text."""

import ast
import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from adadpo_mini.errors import shown
from adadpo_mini.pairs.columns import PICTURE, TOOLS, is_blank, is_media
from adadpo_mini.pairs.conversations import Message
from adadpo_mini.pairs.remarks import DECODED, LINE_ENDS, Remarks
from adadpo_mini.pairs.unusable import UnusableRow

ROLE_KEYS, CONTENT_KEYS = ("role", "from"), ("content", "value")
ROLES = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant",
    "bot": "assistant", "ai": "assistant",
}  # fmt: skip
PLAIN_ROLES = ("system", "user", "assistant")
TOOL_ROLES = ("tool", "function", "function_call", "ipython", "observation")
REASONING = {"thinking", "reasoning", "reasoning_content", "thoughts"}
# A list of messages, or one message, as JSON or as Python prints it.
STORED = re.compile(r"""\s*\[?\s*\{\s*(['"])(role|content|from|value)\1\s*:""")
QUOTED = [re.compile(rf"""(['"])({"|".join(keys)})\1\s*:""") for keys in (ROLE_KEYS, CONTENT_KEYS)]
BETWEEN = re.compile(r"\}\s*\n\s*\{")


def read_conversation(
    where: str, name: str, value: object, remarks: Remarks
) -> list[Message] | None:
    """Return the messages in a cell, or None if it contains none.

    A conversation is a list of messages, a single message, an object of lists (the form in which
    Parquet files contain sequences), or one of these as text. A message has a role (`role` or
    `from`) and a content (`content` or `value`), which is text or a list of text parts.

    Args:
        where, name: what error messages call the row and the cell.
        remarks: gets what was changed.

    Raises:
        UnusableRow: a message has no role or content, an unknown role, or more than text.
    """
    if isinstance(value, str):
        value = decode(where, name, value)
        if value is not None:
            remarks.count(DECODED, where)
    if hasattr(value, "tolist"):  # a cell of a data frame
        value = value.tolist()
    if isinstance(value, Mapping):
        value = _of_columns(value)
    if not isinstance(value, (list, tuple)) or not any(isinstance(i, Mapping) for i in value):
        return None
    messages = [
        _plain(item) or _message(where, f"message {n} of {name}", item, remarks)
        for n, item in enumerate(value, 1)
    ]
    for message in messages:
        if "\r" in message["content"]:
            message["content"] = with_line_feeds(where, message["content"], remarks)
    return messages


def _plain(item: object) -> Message | None:
    """Return the message if it has a role and a text only, as most have."""
    if isinstance(item, dict) and len(item) == 2:
        role, content = item.get("role"), item.get("content")
        if role in PLAIN_ROLES and isinstance(content, str):
            return Message(role=role, content=content)
    return None


def with_line_feeds(where: str, text: str, remarks: Remarks) -> str:
    r"""Return a text with \n as its line ends, as models and Anthropic's HH have them."""
    if "\r" not in text or "\r\n" not in text:  # one character is found faster than two
        return text
    remarks.count(LINE_ENDS, where)
    return text.replace("\r\n", "\n")


def decode(where: str, name: str, text: str) -> list | None:
    """Return the messages that a text contains as JSON or as Python prints them, or None if it is
    a text about something else, such as an answer in JSON.

    Raises:
        UnusableRow: the text is a list of messages, but cannot be decoded.
    """
    if not STORED.match(text):
        return None
    # pandas writes an array of messages without commas, but with a line break, which no Python
    # string contains.
    for read in (json.loads, ast.literal_eval, lambda t: ast.literal_eval(BETWEEN.sub("}, {", t))):
        try:
            value = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        items = value if isinstance(value, list) else [value]
        return items if all(map(_is_message, items)) else None
    if text.lstrip().startswith("{") or not all(key.search(text) for key in QUOTED):
        return None
    raise UnusableRow(
        f"{where}: {name} is a list of messages stored as text that is neither JSON nor Python; "
        "store the list itself, or its JSON.",
        "with messages that cannot be decoded",
    )


def _is_message(item: object) -> bool:
    if not isinstance(item, dict):
        return False
    role, content, _ = _keys(tuple(item))
    return content is not None and str(item.get(role)).strip().lower() in (*ROLES, *TOOL_ROLES)


def _of_columns(value: Mapping) -> list:
    """Return one message as a list, and an object of lists as a list of objects."""
    columns = {key: column for key, column in value.items() if isinstance(column, (list, tuple))}
    if not any(key in columns for key in ROLE_KEYS):
        return [value] if any(key in value for key in ROLE_KEYS) else []
    count = max(map(len, columns.values()))
    return [
        {key: column[i] if i < len(column) else None for key, column in columns.items()}
        for i in range(count)
    ]


@lru_cache(maxsize=1024)
def _keys(keys: tuple[str, ...]) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return a message's keys: the role's, the content's, and the others."""
    role, content = (
        next((key for key in known if key in keys), None) for known in (ROLE_KEYS, CONTENT_KEYS)
    )
    return role, content, tuple(key for key in keys if key not in (role, content))


def _message(where: str, name: str, item: object, remarks: Remarks) -> Message:
    if not isinstance(item, Mapping):
        raise _no_message(where, name, f"is not an object but {shown(item)}")
    role_key, content_key, others = _keys(tuple(item))
    for key in others:
        if is_blank(item[key]):
            continue
        if key in TOOLS or key in REASONING or is_media(str(key)):
            raise refusal(where, f"{name} has {shown(key)}", key)
        remarks.ignore(f"{key} of messages")
    role, content = item.get(role_key), item.get(content_key)
    if not isinstance(role, str):
        raise _no_message(where, name, f"has no role that is text; its keys are {_list(item)}")
    known = ROLES.get(role) or ROLES.get(role.strip().lower())
    if known is None:
        if role.strip().lower() in TOOL_ROLES:
            raise refusal(where, f"{name} has the role {shown(role)}", "tools")
        raise UnusableRow(
            f"{where}: {name} has the role {shown(role)}; use system, user or assistant, or drop "
            "the pair.",
            "with a message of an unknown role",
        )
    return Message(role=known, content=_text(where, name, item, content))


def _text(where: str, name: str, item: Mapping, content: object) -> str:
    if isinstance(content, str):
        return content
    if hasattr(content, "tolist"):
        content = content.tolist()
    if isinstance(content, Mapping):
        content = [content]
    if isinstance(content, (list, tuple)) and content:
        return "".join(_part(where, name, part) for part in content)
    found = f"has no text as its content; its keys are {_list(item)}"
    raise _no_message(where, name, found)


def _part(where: str, name: str, part: object) -> str:
    """Return the text of a part of a message's content."""
    if isinstance(part, str):
        return part
    fields = part if isinstance(part, Mapping) else {}
    kind, text = fields.get("type"), fields.get("text")
    if isinstance(text, str) and (kind is None or str(kind).endswith("text")):
        return text
    kind = str(kind or next((k for k, v in fields.items() if not is_blank(v)), type(part).__name__))
    raise refusal(where, f"{name} has a part of the type {shown(kind)}", kind)


def refusal(where: str, found: str, kind: str) -> UnusableRow:
    """Return the error for what cannot be read as text and would change the meaning.

    Args:
        found: what was found, as the beginning of a sentence after "row 3: ".
        kind: the name of the column, key or type.
    """
    if is_media(kind):
        return UnusableRow(f"{where}: {found}; {PICTURE}, or drop the pair.", "with pictures")
    if kind in TOOLS or kind.startswith("tool") or kind.startswith("function"):
        return UnusableRow(
            f"{where}: {found}; tool calls are not read: write them as text, or drop the pair.",
            "with tool calls",
        )
    if kind in REASONING:
        return UnusableRow(
            f"{where}: {found}, which most chat templates leave out; write the reasoning into the "
            "content, or remove it.",
            "with reasoning beside the answer",
        )
    return UnusableRow(
        f"{where}: {found}, and it is not read; write it into the prompt, or remove it.",
        f"with {kind}",
    )


def _no_message(where: str, name: str, found: str) -> UnusableRow:
    return UnusableRow(
        f"{where}: {name} {found}; give each message a role and a content (or from and value).",
        "with a message without role or content",
    )


def _list(keys: Iterable) -> str:
    return shown(", ".join(map(str, keys)), 80)
