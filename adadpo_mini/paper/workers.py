"""Apply a function to many items in several processes, which end with their parent."""

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TypeVar

from adadpo_mini.errors import InputError

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], count: int
) -> Iterator[Result]:
    """Yield the function's result for each item as it is ready, in any order.

    Args:
        function: can be imported by name, as the processes do.
        count: the number of processes; they end with this generator.

    Raises:
        InputError: the function raised it, or a process was ended or could not be started.
        RuntimeError: the function raised anything else; the message has its traceback.
    """
    waiting = list(reversed(items))
    workers: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(min(count, len(items))):
            connection, process = _new_worker(function)
            workers[connection] = process
            connection.send(waiting.pop())
        while workers:
            for connection in wait(list(workers)):
                yield _result(connection)
                if waiting:
                    connection.send(waiting.pop())
                else:
                    _end(workers.pop(connection))
    except (EOFError, OSError) as error:
        raise InputError(
            "a process that ran races was ended or could not be started, perhaps because memory "
            "ran out; start the sweep again, with fewer --processes if need be: it continues "
            "from here."
        ) from error
    finally:
        for process in workers.values():
            _end(process)


def _result(connection: Connection) -> Result:
    result = connection.recv()
    if isinstance(result, Exception):
        raise result
    return result


def _end(process: BaseProcess) -> None:
    process.kill()
    process.join()


def _new_worker(function: Callable) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, function), daemon=True)
    with _sigint_blocked():
        process.start()
    theirs.close()  # so that the end of the process closes the pipe
    return ours, process


@contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Make a process that is started in here ignore Ctrl-C from its first instruction on."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # if it started later, it would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _work(connection: Connection, function: Callable) -> None:
    """In a worker process: answer every item that comes, until the process is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Windows it could not be blocked
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, ConnectionError):  # the parent is gone
        while True:
            connection.send(_outcome(function, connection.recv()))


def _outcome(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except InputError as error:
        return error
    except Exception:
        return RuntimeError(f"a race failed in its process:\n{traceback.format_exc()}")


def _end_with_parent() -> None:
    """End this process with its parent; a killed sweep would leave its workers in their races."""
    multiprocessing.parent_process().join()
    os._exit(1)
