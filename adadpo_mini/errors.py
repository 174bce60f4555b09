"""`InputError`, raised for everything a user can fix, and the messages about the hub."""

import os
from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Bad input. The message is one sentence: where, what is wrong, what to do.

    The command line prints the message and exits with code 2; the page shows it.
    """


class WriteError(InputError):
    """A write failed, for example on a full disk. The message says what, why, and what to do."""


def is_offline() -> bool:
    """Return whether HF_HUB_OFFLINE is set, by the rules of `huggingface_hub`."""
    return os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON")


def not_available(what: str, name: str, instead: str, reason: str = "") -> InputError:
    """Return the error for something that is neither on this machine nor downloadable.

    Args:
        what: "model" or "data set".
        name: its name on the hub.
        instead: what the user can pass in its place.
        reason: why the download failed, if known.
    """
    if is_offline():
        return InputError(
            f"{what} {name!r} is not on this machine or in the hub's cache, and HF_HUB_OFFLINE is "
            f"set: unset it to download the {what}, or use {instead}."
        )
    return InputError(
        f"{what} {name!r} is not on this machine and could not be downloaded from the hub"
        f"{f' ({reason})' if reason else ''}: check the name and the network, or use {instead}."
    )


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return the end of a sentence about an unknown word: the closest known one, or a full stop.

    >>> did_you_mean("adpo", ("dpo", "adadpo")), did_you_mean("ppo?", ("tone", "swap"))
    ("; did you mean 'adadpo'?", '.')
    """
    if not isinstance(word, str) or not word:
        return "."
    close = get_close_matches(word[:100].lower(), known)
    # Few people mistype the first letter: "adpo" is meant to be "adadpo", although "dpo" is closer.
    close.sort(key=lambda name: name[0] != word[0].lower())
    return f"; did you mean {close[0]!r}?" if close else "."


def shown(value: object, most: int = 60) -> str:
    """Return a value, whatever it is, as a message shows it: on one line and not too long.

    >>> shown(["a", "b"]), shown("x" * 99, 8), shown(10**9999)
    ("['a', 'b']", "'xxxxxx…", 'an int')
    """
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an integer with too many digits, a list nested too deep, a user's object
        return f"an {name}" if (name := type(value).__name__)[0] in "aeiou" else f"a {name}"
    return text if len(text) <= most else f"{text[: most - 1]}…"
