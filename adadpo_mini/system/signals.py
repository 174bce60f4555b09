"""Ctrl-C and its like, held back until a race is between two steps."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is unknown to Windows
NUMBERS = tuple(getattr(signal, name) for name in NAMES if hasattr(signal, name))
HURRY = 1.0  # seconds; what comes sooner after the first is the same wish


class HeldSignals:
    """Interruptions that were noted instead of raised; called, it says whether there are any.

    Args:
        insist: whether another one, a second later or more, raises KeyboardInterrupt at once.
    """

    def __init__(self, insist: bool = True) -> None:
        self._insist, self._first = insist, 0.0
        here = threading.current_thread() is threading.main_thread()  # others hear of no signal
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
        """Note interruptions until the block ends."""
        self._set(dict.fromkeys(self._before, self._note))
        try:
            yield
        finally:
            self._set(self._before)

    @contextmanager
    def let_through(self) -> Iterator[None]:
        """Within `hold`: interruptions, those noted before included, raise KeyboardInterrupt."""
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
    """Note an interruption instead of raising KeyboardInterrupt; yields what tells of one.

    A signal that would end the process, because nobody handles it, still does.

    Args:
        insist: another interruption, a second later or more, raises KeyboardInterrupt at once;
            else all are held back.
    """
    held = HeldSignals(insist)
    with held.hold():
        yield held
