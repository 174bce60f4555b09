"""Catching Ctrl-C and similar signals, and holding them back while a race is inside a step."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
NUMBERS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
HURRY = 1.0  # seconds; signals that follow the first one sooner count as the same request


Handler = Callable[[int, FrameType | None], object]


def set_handlers(handler: Handler) -> dict[int, Handler | int]:
    """Let Ctrl-C, `kill` and a closed terminal call `handler`, except where they are ignored.

    Returns:
        The handlers that it replaces, by signal; none outside the main thread, which alone gets
        signals.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in NUMBERS}
    before = {n: old for n, old in found.items() if old not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    return before


class HeldSignals:
    """Records signals instead of raising KeyboardInterrupt. Call it to see whether any came.

    Args:
        insist: whether another signal, a second or more after the first, raises KeyboardInterrupt
            immediately.
    """

    def __init__(self, insist: bool = True) -> None:
        self._insist, self._first = insist, 0.0
        here = threading.current_thread() is threading.main_thread()  # only it gets signals
        found = {number: signal.getsignal(number) for number in NUMBERS if here}
        self._before = {n: handler for n, handler in found.items() if callable(handler)}

    def __call__(self) -> bool:
        return self._first > 0

    def _note(self, signum: int, frame: object) -> None:
        now = time.monotonic()
        if self._first and self._insist and now - self._first > HURRY:
            raise KeyboardInterrupt
        self._first = self._first or now

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Record signals until the block ends."""
        self._set(dict.fromkeys(self._before, self._note))
        try:
            yield
        finally:
            self._set(self._before)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Inside `hold`, let signals raise KeyboardInterrupt, including those already recorded."""
        self._set(self._before)
        try:
            if self():
                raise KeyboardInterrupt
            yield
        finally:
            self._set(dict.fromkeys(self._before, self._note))

    @staticmethod
    def _set(handlers: dict[int, Callable]) -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def held_signals(insist: bool = True) -> Iterator[HeldSignals]:
    """Record signals instead of raising KeyboardInterrupt; yield the `HeldSignals`.

    A signal without a Python handler still ends the process.

    Args:
        insist: whether another signal, a second or more after the first, raises KeyboardInterrupt
            immediately. If not, all signals are held back.
    """
    held = HeldSignals(insist)
    with held.hold():
        yield held
