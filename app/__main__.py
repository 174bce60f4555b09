"""`python -m app`: serve the dashboard."""

import argparse
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

PORTS = 1 << 16


class Parser(argparse.ArgumentParser):
    """Refuses what it does not understand in one line; as `adadpo-mini` does."""

    def error(self, message: str) -> NoReturn:
        """Leave with code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}; see `{self.prog} --help`.\n")


def main() -> int:
    """Serve until interrupted, and leave with code 130 then. Returns 2 for what cannot be done."""
    parser = Parser(prog="python -m app", description="Serve the dashboard.")
    parser.add_argument("--host", type=_not_empty, default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=7860, help="(default: 7860; 0: a free one)")
    parser.add_argument(
        "--runs",
        type=_not_empty,
        default="runs",
        help="the folder of run folders (default: runs)",
    )
    arguments = parser.parse_args()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (it stays open to the end)
    if sys.stdout is None:
        parser.error("standard output is closed; leave it open, or send it to /dev/null")
    _catch_signals(_leave)
    host = arguments.host.removeprefix("[").removesuffix("]")
    _set_environment(host)
    try:
        port = free_port(host, arguments.port)
        from app.page import serve

        serve(host, port, arguments.runs, when_up=_tell)
    except KeyboardInterrupt:
        _leave(signal.SIGINT, None)
    except (OSError, UnicodeError) as error:
        print(f"python -m app: {_why_not(host, arguments.port, error)}", file=sys.stderr)
        return 2
    return 0


def _set_environment(host: str) -> None:
    """What must be said before torch and Gradio are imported."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # live races share the cores, one a method
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY", "")
    os.environ["no_proxy"] = f"{direct},{host},localhost"  # Gradio asks the page whether it is up


def free_port(host: str, port: int) -> int:
    """The port, or for 0 some free one, if this machine can listen there.

    Raises:
        OSError: it cannot. UnicodeError: the host is no name.
    """
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, protocol, _, (address, _, *rest) in found:
        with socket.socket(family, kind, protocol) as probe:
            if os.name != "nt":  # where it means something else
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((address, port, *rest))
            probe.listen()
            port = probe.getsockname()[1]
    return port


def _tell(url: str) -> None:
    """The page is up."""
    _catch_signals(_interrupt)
    try:
        print(f"The dashboard is on {url} (Ctrl-C stops it).", flush=True)
    except OSError:  # nobody can be told; at its end the interpreter would try once more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _why_not(host: str, port: int, error: Exception) -> str:
    """The sentence for an address at which the page cannot be served."""
    number = getattr(error, "errno", None)
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"--host {host!r} is no address that can be found; leave it out to use 127.0.0.1."
    if number == errno.EADDRNOTAVAIL:
        return f"--host {host!r} is no address of this machine; leave it out to use 127.0.0.1."
    if number == errno.EACCES:
        return f"port {port} may not be used ({error.strerror}); give another one with --port."
    return (
        f"cannot listen on {host}:{port}; if something runs there already, give another port "
        "with --port."
    )


def _port(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < PORTS:
        raise argparse.ArgumentTypeError(f"not a port from 0 to {PORTS - 1}: {text[:60]!r}")
    return number


def _not_empty(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; leave it out or give one")
    return text


def _catch_signals(handler: Callable[[int, FrameType | None], NoReturn]) -> None:
    """Let Ctrl-C, `kill` and a closed terminal call this, unless they are ignored."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # the last is unknown to Windows
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def _leave(signum: int, frame: FrameType | None) -> NoReturn:
    """Leave at once, when nothing can be lost: in the middle of an import KeyboardInterrupt could
    be swallowed, and threads that still compute would upset the interpreter at its end."""
    with suppress(OSError):
        os.write(2, b"python -m app: interrupted.\n")
    os._exit(130)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
