"""Serve the page as a command: the port, the signals, the messages and the exit code.

Nothing that takes long is imported here, so that the first message appears at once.
"""

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from adadpo_mini.system.signals import set_handlers

Handler = Callable[[int, FrameType | None], NoReturn]


def run(host: str, port: int, runs: str, *, program: str) -> int:
    """Serve the page until interrupted; the process then exits with code 130.

    Args:
        host: the address to listen on; an IPv6 address may have brackets.
        port: the port; 0 means any free one.
        runs: the folder for run folders.
        program: the name that messages on stderr begin with.

    Returns:
        2, after one sentence on stderr, if the page cannot be served there.
    """

    def note(sentence: str) -> None:
        print(f"{program}: {sentence}", file=sys.stderr, flush=True)

    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (it stays open to the end)
    if sys.stdout is None:
        note("standard output is closed; leave it open, or send it to /dev/null.")
        return 2
    host = host.removeprefix("[").removesuffix("]")
    _set_environment(host)
    exit_now = _exit_now(program)
    with _signals(exit_now):
        try:
            _serve(host, port, runs, note)
        except KeyboardInterrupt:
            exit_now(signal.SIGINT, None)
        except (OSError, UnicodeError, OverflowError) as error:
            note(why_not(host, port, error))
            return 2
    return 0


def _serve(host: str, port: int, runs: str, note: Callable[[str], None]) -> None:
    port = free_port(host, port)
    note("loading the dashboard …")
    from .page import serve

    serve(host, port, runs, when_up=_announce, note=note)


def _set_environment(host: str) -> None:
    """Set what torch and Gradio read when they are imported."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # live races share the cores, one per method
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    os.environ["no_proxy"] = f"{direct},{host},localhost"  # Gradio checks that its page answers


def free_port(host: str, port: int) -> int:
    """Return the port, or any free one for 0, after checking that this machine can listen there.

    Raises:
        OSError: it cannot. UnicodeError: the host is not a valid name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, (address, _, *rest) in found:
        with socket.socket(family, kind, protocol) as probe:
            if os.name != "nt":  # there the option means something else
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port, *rest))
            probe.listen()
            port = probe.getsockname()[1]
    return port


def _announce(url: str) -> None:
    """Print where the page is. From now on a signal must let the races save what they have."""
    set_handlers(_interrupt)
    try:
        print(f"The dashboard is on {url} (Ctrl-C stops it).", flush=True)
    except OSError:  # nobody reads it; at exit the interpreter would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def why_not(host: str, port: int, error: Exception) -> str:
    """Return the sentence for an address at which the page cannot be served."""
    number = getattr(error, "errno", None)
    if isinstance(error, OverflowError):
        return f"port {port} does not exist; give one from 0 to 65535 with --port."
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"--host {host!r} is not a known address; leave it out to use 127.0.0.1."
    if number == errno.EADDRNOTAVAIL:
        return f"--host {host!r} is not an address of this machine; leave it out to use 127.0.0.1."
    if number == errno.EACCES:
        return f"port {port} may not be used ({error.strerror}); give another one with --port."
    return (
        f"cannot listen on {host}:{port}; if something runs there already, give another port "
        "with --port."
    )


def _exit_now(program: str) -> Handler:
    """Return a handler that exits at once, for the time when nothing can be lost.

    During an import a KeyboardInterrupt could be swallowed, and at a normal exit threads that
    still compute would upset the interpreter.
    """

    def exit_now(signum: int, frame: FrameType | None) -> NoReturn:
        with suppress(OSError):
            os.write(2, f"{program}: interrupted.\n".encode())
        os._exit(130)

    return exit_now


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _signals(handler: Handler) -> Iterator[None]:
    """Let Ctrl-C, `kill` and a closed terminal call `handler` until the block ends."""
    before = set_handlers(handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
