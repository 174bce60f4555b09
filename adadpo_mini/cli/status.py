"""What the command line says on stderr while it works: the first sign of life, and notes."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PROGRAM = "adadpo-mini"
_on_screen = 0  # characters of the line that `hide` must erase


def say(sentence: str) -> None:
    """Print a sentence on stderr."""
    hide()
    print(f"{PROGRAM}: {sentence}", file=sys.stderr, flush=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on a terminal what the command is doing, until there is something else to show.

    The line disappears with the next output. Where stderr is a file or a pipe nothing is written,
    so that a rejected input is the only line there.
    """
    global _on_screen
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = f"{PROGRAM}: {what} …"[: width - 1]
        print(line, end="", file=sys.stderr, flush=True)
        _on_screen = len(line)
    try:
        yield
    finally:
        hide()


def hide() -> None:
    """Erase the line that `working` shows, if it is still there."""
    global _on_screen
    if _on_screen:
        blank, _on_screen = " " * _on_screen, 0
        with suppress(OSError):  # the terminal is gone
            print(f"\r{blank}\r", end="", file=sys.stderr, flush=True)
