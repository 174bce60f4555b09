"""Ctrl-C and its like, held back until a race is between two steps."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # the last is unknown to Windows


@contextmanager
def held_signals(insist: bool = True) -> Iterator[Callable[[], bool]]:
    """Note an interruption instead of raising KeyboardInterrupt; yields what tells of one.

    A signal that would end the process, because nobody handles it, still does.

    Args:
        insist: a second interruption raises KeyboardInterrupt at once; else all are held back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # signals never reach other threads
        return
    noted: list[int] = []

    def note(signum: int, frame: object) -> None:
        if noted and insist:
            raise KeyboardInterrupt
        noted.append(signum)

    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {n: signal.getsignal(n) for n in numbers if callable(signal.getsignal(n))}
    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(noted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
