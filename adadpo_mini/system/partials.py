"""Partial files: what is written beside a file or folder before it takes its place."""

import ctypes
import itertools
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL = ".partial"

_numbers = itertools.count()
_own: set[str] = set()  # the partials that this process is writing


@contextmanager
def partial_path(path: Path) -> Iterator[Path]:
    """Yield an unused name beside `path`, unique to this thread; remove what is there at the end.

    Partials of `path` that killed processes left behind are removed first.
    """
    name = f".{zlib.crc32(os.fsencode(path.name)):08x}"
    for left in path.parent.glob(f"{name}-*{PARTIAL}"):
        if _is_left(left):
            remove(left)
    partial = path.parent / f"{name}-{next(_numbers)}-{os.getpid()}{PARTIAL}"
    _own.add(partial.name)
    try:
        yield partial
    finally:
        remove(partial)
        _own.discard(partial.name)


def remove_partials(folder: Path) -> None:
    """Remove the partials that killed processes left in a folder and its subfolders."""
    for left in [*folder.rglob(f".*{PARTIAL}")]:
        if _is_left(left):
            remove(left)


def _is_left(partial: Path) -> bool:
    """Return whether the process that wrote a partial is gone.

    In containers, different processes can have the same number as this one.
    """
    from psutil import pid_exists

    number = partial.name.removesuffix(PARTIAL).rpartition("-")[2]
    if number == str(os.getpid()):
        return partial.name not in _own
    return number.isdigit() and not pid_exists(int(number))


def exchange(folder: Path, other: Path) -> None:
    """Swap two folders: atomically on Linux; elsewhere `other` is missing for a moment."""
    if sys.platform == "linux":
        swap = getattr(ctypes.CDLL(None), "renameat2", None)
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        paths = (os.fsencode(folder), os.fsencode(other))
        if swap and swap(here, paths[0], here, paths[1], exchange) == 0:
            return
    aside = other.with_name(f"{other.name}.old-{os.getpid()}")  # not a partial: never clean it up
    other.rename(aside)
    folder.rename(other)
    aside.rename(folder)


def remove(path: Path) -> None:
    """Remove a file or folder if it exists."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def give_usual_mode(file: Path) -> None:
    """Give a file the permissions of any new file; safetensors lets only the owner read its own."""
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


def flush_to_disk(path: Path) -> None:
    """Wait until the system has written a file or folder to its disk."""
    if os.name == "nt":
        return  # Windows cannot open a folder, or a file for reading, to flush it
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
