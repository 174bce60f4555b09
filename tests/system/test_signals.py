"""Ctrl-C and similar signals, held back while a race is in the middle of a step."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from adadpo_mini.system.signals import held_signals

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send"),
    pytest.mark.usefixtures("ctrl_c"),
]


@pytest.fixture
def clock(monkeypatch):
    """A stopped clock; its only item is the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_unheard():
    """An interruption that should be held back; if it is not, only this test fails."""
    try:
        interrupt()
    except KeyboardInterrupt:
        pytest.fail("it was not held back")


def test_a_signal_is_noted_while_it_is_held_back_and_raised_again_afterwards():
    before = signal.getsignal(signal.SIGINT)
    with held_signals() as interrupted:
        assert not interrupted()
        interrupt_unheard()
        assert interrupted()
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(KeyboardInterrupt):
        interrupt()


def test_a_second_signal_counts_as_the_first_unless_it_comes_a_second_later(clock):
    with held_signals() as interrupted:
        interrupt_unheard()
        clock[0] += 0.9
        interrupt_unheard()
        clock[0] += 0.2
        with pytest.raises(KeyboardInterrupt):
            interrupt()
        assert interrupted()


def test_without_insist_every_signal_is_held_back(clock):
    with held_signals(insist=False) as interrupted:
        for _ in range(3):
            interrupt_unheard()
            clock[0] += 10
        assert interrupted()


def test_signals_can_be_let_through_for_a_while():
    with held_signals() as interrupted:
        with pytest.raises(KeyboardInterrupt), interrupted.let_through():
            interrupt()
            pytest.fail("it should have been raised")
        interrupt_unheard()
        assert interrupted(), "afterwards it is held back again"


def test_what_was_noted_before_is_raised_where_signals_are_let_through():
    with held_signals() as interrupted:
        interrupt_unheard()
        with pytest.raises(KeyboardInterrupt), interrupted.let_through():
            pytest.fail("nothing should begin here")


def test_an_error_inside_leaves_the_handlers_as_they_were():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), held_signals():
        1 / 0  # noqa: B018
    assert signal.getsignal(signal.SIGINT) is before


def test_only_the_main_thread_hears_of_signals():
    told = []

    def hold():
        with held_signals() as interrupted:
            told.append(interrupted())

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert told == [False]


UNHANDLED = """
import os, signal
from adadpo_mini.system.signals import held_signals
with held_signals():
    os.kill(os.getpid(), signal.SIGTERM)
    print("still here")
"""


def test_a_signal_that_nobody_handles_still_ends_the_process():
    done = subprocess.run([sys.executable, "-c", UNHANDLED], capture_output=True, timeout=120)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, b"")
