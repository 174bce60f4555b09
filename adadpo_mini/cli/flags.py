"""Command-line flags made from the fields of `RaceConfig`, and the parser that rejects in one line.

Libraries that derive flags from dataclasses were measured first. Importing simple-parsing,
jsonargparse, tyro or cyclopts adds 0.08 to 0.12 s to every start, where argparse takes 0.016 s. Of
those that were tried further, simple-parsing and tyro fill in the default of a flag that was not
given, so a preset could not set it; jsonargparse wants brackets around a list; and the errors of
all three take several lines.
"""

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import NoReturn, TextIO, get_args

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError, did_you_mean
from adadpo_mini.system.files import user_path


class Parser(argparse.ArgumentParser):
    """A parser that rejects in one line what it does not understand, and reports lost output."""

    def print_help(self, file: TextIO | None = None) -> None:
        """Print the help, or raise OSError; argparse ignores a full disk or a closed pipe."""
        print(self.format_help(), end="", file=file, flush=True)

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse, or reject what is not known: of a command's flags only its own parser knows."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._guess(unknown[0])}")
        return namespace, unknown

    def _guess(self, word: str) -> str:
        """Return the end of the sentence about an unknown argument: the flag it may stand for."""
        if not word.startswith("-"):
            return "."
        # Without the dashes, which would make all short flags alike. A field of RaceConfig also
        # counts as a name of its flag; a switch's field may be its opposite.
        names = {flag.strip("-"): flag for flag in self._option_string_actions}
        for action in self._option_string_actions.values():
            if action.nargs != 0:
                names.setdefault(action.dest.replace("_", "-"), action.option_strings[-1])
        typed = word.partition("=")[0].strip("-").replace("_", "-")
        guess = did_you_mean(typed, names)
        return re.sub("'(.+)'", lambda found: repr(names[found[1]]), guess)

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        message = one_line(message).rstrip(".")
        see = f"see `{self.prog} --help`.\n"
        and_see = f" {see.capitalize()}" if message.endswith("?") else f"; {see}"
        self.exit(2, f"{self.prog}: {message}{and_see}")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Reject an unknown choice and suggest the closest one."""
        if action.choices is not None and value not in action.choices:
            known = ", ".join(map(str, action.choices))
            guess = did_you_mean(value, action.choices)
            raise argparse.ArgumentError(
                action, f"invalid choice: {value!r} (choose from {known}){guess}"
            )


def one_line(text: str) -> str:
    """Return a message on one line, without control characters and with endless words cut."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)
    return re.sub(r"(\S{200})\S{160,}(\S{40})", r"\1…\2", text)


@contextmanager
def _as_argument_error() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def path(text: str) -> Path:
    """Return a path as the user gave it, `~` expanded; for `add_argument(type=path)`."""
    with _as_argument_error():
        return user_path(text)


def name_or_path(text: str) -> str:
    """Check that the text can be a path. Whether it is a name or a path is decided later."""
    path(text)
    return text


CONVERTERS = {"data": name_or_path, "model": name_or_path, "methods": str}
METAVARS = {int: "N", float: "X"}


def add_settings(parser: argparse.ArgumentParser, *, without: tuple[str, ...] = ()) -> None:
    """Add one flag for each field of `RaceConfig`, with its help text and its default.

    The parser must have `argument_default=argparse.SUPPRESS`.

    Args:
        without: fields that get no flag.
    """
    groups: dict[str, argparse._ActionsContainer] = {"": parser}
    for one in fields(RaceConfig):
        if one.name not in without:
            title = one.metadata.get("group", "")
            if title not in groups:
                groups[title] = parser.add_argument_group(title)
            flag = one.metadata.get("flag", "--" + one.name.replace("_", "-"))
            groups[title].add_argument(flag, dest=one.name, **_kind(one))


def _kind(one: Field) -> dict[str, object]:
    """Return the arguments of `add_argument` for a field."""
    about = one.metadata
    if one.type is bool:  # the flag says the opposite of the default
        action = "store_false" if one.default else "store_true"
        return {"action": action, "help": about.get("flag_help", about["help"])}
    types = [kind for kind in get_args(one.type) or (one.type,) if kind is not type(None)]
    return {
        "type": CONVERTERS.get(one.name, types[0]),
        "choices": about.get("choices"),
        "metavar": None if "choices" in about else METAVARS.get(types[0]),
        "help": f"{about['help']} (default: {shown_default(one)})",
    }


def shown_default(one: Field) -> str:
    """Return a field's default as the help shows it."""
    if "unset" in one.metadata:
        return one.metadata["unset"]
    assert one.default is not MISSING
    if isinstance(one.default, tuple):
        return ",".join(one.default)
    return f"{one.default:g}" if isinstance(one.default, float) else str(one.default)
