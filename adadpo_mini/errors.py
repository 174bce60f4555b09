"""The one exception for everything a user can put right, and what it says of the hub."""

import os


class InputError(ValueError):
    """Bad input, told in one sentence: where, what is wrong, what to do.

    The command line prints the sentence and exits with code 2; the page shows it.
    """


class WriteError(InputError):
    """Something cannot be written, such as on a full disk: what, why, and what to do."""


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE is set, as the hub's own library reads it."""
    return os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON")


def not_available(what: str, name: str, instead: str, reason: str = "") -> InputError:
    """What to raise where something is not on this machine and cannot be had from the hub.

    Args:
        what: "model" or "data set".
        name: its name on the hub.
        instead: what else may be given.
        reason: why the hub did not give it, if that is known.
    """
    if is_offline():
        return InputError(
            f"{what} {name!r} is not on this machine, nor in the hub's cache, and HF_HUB_OFFLINE "
            f"is set: unset it to download the {what}, or give {instead}."
        )
    return InputError(
        f"{what} {name!r} is not on this machine and could not be had from the hub"
        f"{f' ({reason})' if reason else ''}: check the name and the network, or give {instead}."
    )
