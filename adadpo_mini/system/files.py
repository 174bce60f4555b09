"""Writing files so that a kill or a full disk cannot damage them: replaced whole, or appended.

A reader sees the old content or the new, never a part. If the disk is full, a permission is missing
or a name is too long, a `WriteError` says in one sentence which path failed and what to do.

`paths.py`: paths and messages. `partials.py`: partial files. `locks.py`: locks. Import from here.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adadpo_mini.errors import WriteError
from adadpo_mini.system.locks import is_locked, locked
from adadpo_mini.system.partials import (
    exchange,
    flush_to_disk,
    give_usual_mode,
    partial_path,
    remove_partials,
)
from adadpo_mini.system.paths import (
    cannot_write,
    in_words,
    is_device,
    nearest_folder,
    user_path,
    writing,
)

__all__ = [
    "append_text",
    "cannot_write",
    "check_can_write",
    "drop_torn_end",
    "free_space",
    "in_words",
    "is_locked",
    "locked",
    "remove_partials",
    "replace_text",
    "replaced_file",
    "replaced_folder",
    "to_disk",
    "user_path",
    "writing",
]

PROBE = 4096  # bytes written to find out whether a path is writable
TAIL = 1 << 16  # bytes read at a time when searching for the last line end


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """Yield a path to write to; at the end of the block, the result replaces `path` atomically.

    Missing parent folders are created. Devices such as /dev/stdout are written directly.

    Raises:
        WriteError: the file cannot be written; any previous file is untouched.
    """
    path = Path(path)
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if is_device(path):
            yield path
            return
        path = Path(os.path.realpath(path))  # keep a link, and replace the file that it points to
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_path(path) as partial:
            yield partial
            if path.exists():
                shutil.copymode(path, partial)
            else:
                give_usual_mode(partial)
            flush_to_disk(partial)
            os.replace(partial, path)  # noqa: PTH105
            flush_to_disk(path.parent)


def replace_text(path: str | Path, text: str) -> None:
    """Replace a text file atomically. It is written as UTF-8 with plain line feeds."""
    with replaced_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; at the end of the block, it replaces `path` atomically.

    Raises:
        WriteError: the folder cannot be written; any previous folder is untouched.
    """
    path = Path(os.path.realpath(path))
    with writing(path):
        if path.exists() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, "not a folder", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial_path(path) as partial:
            partial.mkdir()
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    give_usual_mode(file)
                flush_to_disk(file)
            flush_to_disk(partial)
            if path.exists():
                exchange(partial, path)  # the old folder becomes the partial, which is removed
            else:
                partial.rename(path)
            flush_to_disk(path.parent)


def append_text(path: Path, text: str) -> None:
    """Append text to a file, either all of it or nothing.

    Raises:
        WriteError: the text cannot be written; the file is unchanged.
    """
    with writing(path), path.open("ab", buffering=0) as stream:
        before = stream.tell()
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except BaseException:
            with suppress(OSError):  # a device cannot be truncated
                os.ftruncate(stream.fileno(), before)
            raise


def drop_torn_end(path: Path) -> int:
    """Remove an incomplete last line.

    Returns:
        The number of bytes removed.
    """
    if not path.is_file():
        return 0
    with path.open("rb") as stream:
        size = end = stream.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - TAIL)
            stream.seek(start)
            found = stream.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
    if end < size:
        with writing(path):
            os.truncate(path, end)
    return size - end


def to_disk(path: Path) -> None:
    """Wait until the system has written a file to its disk, where it survives a power cut.

    Raises:
        WriteError: the system could not write it.
    """
    with writing(path):
        flush_to_disk(path)


def check_can_write(path: Path, needed: int = 0) -> None:
    """Check, before any work starts, that a file or folder can be written.

    Args:
        needed: bytes that will be written.

    Raises:
        WriteError: it cannot be written, or the disk has less space than `needed`.
    """
    with writing(path):
        if is_device(path):
            return
        folder = nearest_folder(path)
        with partial_path(folder / path.name) as probe:
            probe.write_bytes(bytes(PROBE))
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise WriteError(
            f"{path}: about {in_words(needed)} will be written, but the disk has only "
            f"{in_words(free)} left; free some space or use another path."
        )


def free_space(path: Path) -> int:
    """Return the free bytes on the disk of `path`, which need not exist yet."""
    return shutil.disk_usage(nearest_folder(path)).free
