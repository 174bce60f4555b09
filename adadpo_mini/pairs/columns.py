"""What each column of preference data is for: prompt, context, something to refuse, or nothing."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache

from adadpo_mini.errors import InputError, shown

FIELDS = ("prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog")
INSTRUCTION = ("instruction", "input")
QUESTIONS = (*CONVERSATIONS, *INSTRUCTION, "question", "query")
"""Columns that can contain the prompt if the column `prompt` has none, the first one first."""
SYSTEM = ("system", "system_prompt", "system_message")
HISTORY = "history"
MEDIA = {
    "image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "pixel",
    "video", "videos", "audio", "audios",
}  # fmt: skip
TOOLS = {"tools", "functions", "tool_calls", "function_call"}
CONTEXT = {"context", "documents", "chat_template_kwargs"}
PICTURE = "images, video and audio are not read: use pairs that consist of text only"
"""What is wrong with pictures, and what to do, for the messages about them."""

# Names of the answers in other data, where `get_close_matches` does not find them.
OTHER_NAMES = {
    "chosen": {"preferred", "accepted", "winner", "win", "good", "better", "positive", "pos"},
    "rejected": {"dispreferred", "loser", "lose", "bad", "worse", "negative", "neg"},
}


@dataclass(frozen=True)
class Layout:
    """The columns of a row by purpose.

    Attributes:
        missing: the first of chosen and rejected that is not there.
        questions, systems: columns of `QUESTIONS` and `SYSTEM`.
        has_history: whether there is an earlier part of the conversation in a column.
        refused: columns that must be empty, because the answers may be about what they contain.
        other: columns that are not used.
    """

    missing: str | None
    questions: tuple[str, ...]
    systems: tuple[str, ...]
    has_history: bool
    refused: tuple[str, ...]
    other: tuple[str, ...]

    @property
    def used(self) -> tuple[str, ...]:
        """The columns to read."""
        history = (HISTORY,) if self.has_history else ()
        return (*FIELDS, *self.questions, *self.systems, *history, *self.refused)


@lru_cache(maxsize=1024)
def layout_of(columns: tuple[str, ...]) -> Layout:
    """Return what each of these columns is for.

    >>> layout = layout_of(("id", "images", "instruction", "input", "chosen", "rejected"))
    >>> layout.questions, layout.refused, layout.other
    (('instruction', 'input'), ('images',), ('id',))
    """
    names = [name for name in columns if isinstance(name, str)]
    questions = tuple(name for name in QUESTIONS if name in names)
    systems = tuple(name for name in SYSTEM if name in names)
    refused = tuple(name for name in names if is_refused(name))
    known = {*FIELDS, *questions, *systems, HISTORY, *refused}
    return Layout(
        missing=next((side for side in SIDES if side not in names), None),
        questions=questions,
        systems=systems,
        has_history=HISTORY in names,
        refused=refused,
        other=tuple(str(name) for name in columns if name not in known and not _is_index(name)),
    )


def _is_index(column: object) -> bool:
    """Return whether a data frame wrote its row numbers in this column."""
    return column == "" or str(column).startswith(("__index_level_", "Unnamed: 0"))


def is_refused(column: str) -> bool:
    """Return whether a column that is not empty changes what the answers mean."""
    return is_media(column) or column in TOOLS or column in CONTEXT


def is_media(column: str) -> bool:
    """Return whether the column contains pictures, sound or video, by its name.

    >>> is_media("images"), is_media("prompt_image"), is_media("imagination")
    (True, True, False)
    """
    return not MEDIA.isdisjoint(re.split(r"[\W_]+", column.lower()))


def check_columns(name: object, columns: Collection[str]) -> None:
    """Raise an InputError unless the columns of pairs are among these."""
    columns = tuple(columns)
    if side := layout_of(columns).missing:
        names = ", ".join(map(str, columns)) or "none"
        raise InputError(
            f"{name} has no column {side!r}; its columns are {names}; {remedy(side, columns)}."
        )


def missing_field(where: str, row: dict) -> InputError:
    """Return the error for a row without chosen or rejected."""
    columns = tuple(row)
    side = layout_of(columns).missing
    names = shown(", ".join(map(str, columns)), 120)
    return InputError(
        f"{where}: the field {side!r} is missing; its fields are {names}; {remedy(side, columns)}."
    )


def remedy(side: str, columns: Collection[str]) -> str:
    """Return what to do about a column that is missing.

    >>> remedy("chosen", ["prompt", "chosen_response", "rejected_response"])
    "rename 'chosen_response' to 'chosen'"
    """
    names = [name for name in columns if isinstance(name, str)]
    if {"completion", "label"} <= {*names} or {"response", "label"} <= {*names}:
        return (
            "DPO needs two answers to the same prompt, but these rows have one answer and a label "
            "(the form of KTO): put a good and a bad answer to the same prompt in one row"
        )
    if several := next((n for n in ("responses", "completions", "answers") if n in names), None):
        return (
            f"put the better of {several!r} into chosen and a worse one into rejected, one pair a "
            "row"
        )
    alike = [name for name in names if side in name.lower().replace("-", "_").split("_")]
    alike += [name for name in names if name.lower() in OTHER_NAMES[side]]
    alike += get_close_matches(side, names, cutoff=0.75)
    alike = [name for name in alike if name not in FIELDS]
    if alike:
        return f"rename {alike[0]!r} to {side!r}"
    return f"rename the one with the {'better' if side == 'chosen' else 'worse'} answer, or add it"


def is_blank(value: object) -> bool:
    """Return whether a cell contains nothing: null, NaN, white space, an empty list or object.

    >>> [is_blank(value) for value in (None, float("nan"), " ", [], {"a": None}, 0, "null")]
    [True, True, True, True, True, False, False]
    """
    if isinstance(value, str):
        return not value or value.isspace()
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # as in pandas
        return True
    if isinstance(value, float):
        return value != value  # NaN is the number that differs from itself
    if isinstance(value, dict):
        return all(map(is_blank, value.values()))
    return hasattr(value, "__len__") and len(value) == 0


def is_nothing(value: object) -> bool:
    """Return whether a cell is blank or says in another way that there is nothing.

    >>> [is_nothing(value) for value in ("[]", "null", 0, False, "x.png")]
    [True, True, True, True, False]
    """
    if isinstance(value, str):
        return value.strip().lower() in ("", "[]", "{}", "null", "none", "nan", "na", "false", "0")
    return is_blank(value) or (isinstance(value, (bool, int, float)) and not value)
