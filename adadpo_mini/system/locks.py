"""File locks: at most one process writes a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.system.paths import writing

PATIENCE = 0.5  # seconds; `is_locked` in another process may hold the lock for a moment


@contextmanager
def locked(file: Path, otherwise: str) -> Iterator[None]:
    """Hold an exclusive lock. The system releases it when this process ends, even if it is killed.

    Args:
        file: the lock file. It is created and stays.
        otherwise: the message to raise if another process holds the lock.

    Raises:
        InputError: another process holds the lock. WriteError: the file cannot be created.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(file, thread_local=False)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout as error:
            raise InputError(otherwise) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(file: Path) -> bool:
    """Return whether any process holds the lock of a file."""
    from filelock import FileLock, Timeout

    if not file.exists():
        return False
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # for example on a read-only disk
        return False
    lock.release()
    return False
