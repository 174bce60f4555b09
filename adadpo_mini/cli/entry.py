"""Where the command line begins: streams, signals and exit codes."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from adadpo_mini.cli.flags import one_line
from adadpo_mini.cli.parser import build_parser
from adadpo_mini.cli.status import hide
from adadpo_mini.errors import InputError
from adadpo_mini.system.files import cannot_write
from adadpo_mini.system.signals import set_handlers


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; None takes those of the process, which then ends with the command.

    Returns:
        The exit code: 0 done, 2 bad input, 130 interrupted, 141 nobody reads the output.
    """
    with _caught_signals(whole_process=argv is None):
        try:
            _check_streams()
            code = _run(argv)
            sys.stdout.flush()
            return code
        except (InputError, FloatingPointError) as error:
            return _reject(str(error))
        except BrokenPipeError:
            return 141  # as a shell reports it
        except OSError as error:
            return _reject(_reason(error))
        except MemoryError:
            return _reject("out of memory; close other programs, or use less data.")
        except KeyboardInterrupt:
            return _reject("interrupted.", 130)
        finally:
            _drop_unwritable_output()


def _run(argv: Sequence[str] | None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except SystemExit as error:  # rich exits when nobody reads what it writes
        raise BrokenPipeError from error


def _reject(sentence: str, code: int = 2) -> int:
    hide()
    with suppress(OSError):  # nobody reads it
        print(f"adadpo-mini: {one_line(sentence)}", file=sys.stderr, flush=True)
    return code


def _reason(error: OSError) -> str:
    """Return the sentence for a system error that no other code has explained."""
    if error.filename is None:
        return str(cannot_write(Path("standard output"), error))
    return f"{error.filename} cannot be used ({error.strerror}); give another path."


def _check_streams() -> None:
    """Make sure that both streams are open and accept every character, whatever the encoding."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (it stays open to the end)
    if sys.stdout is None:
        raise InputError("standard output is closed; leave it open, or send it to /dev/null.")
    if getattr(sys.stdout, "errors", "") == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_unwritable_output() -> None:
    """Discard what cannot be written, or the interpreter would complain at exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):  # a stream of a test or a notebook has no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _caught_signals(whole_process: bool) -> Iterator[None]:
    """Let Ctrl-C, `kill` and a closed terminal raise KeyboardInterrupt, unless they are ignored.

    If this is the whole process, a signal after the command only interrupts the process's end.
    """
    before = set_handlers(_leave if whole_process else signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if whole_process else handler)


def _leave(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt, or during an import exit at once.

    An import may swallow the exception or turn it into another one, and nothing can be lost then.
    """
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _reject("interrupted.")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt
