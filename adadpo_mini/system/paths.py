"""Paths from users, failed writes as clear errors, and sizes in words."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adadpo_mini.errors import InputError, WriteError

REASONS = {
    errno.ENOSPC: "the disk is full; free some space or use another path",
    errno.EDQUOT: "the disk quota is used up; free some space or use another path",
    errno.EFBIG: "the file would exceed the size limit; raise the limit or use another path",
    errno.EROFS: "the disk is read-only; use another path",
    errno.EACCES: "permission denied; use another path",
    errno.EPERM: "not permitted; use another path",
    errno.ENAMETOOLONG: "the name is too long; use a shorter one",
    errno.ENOTDIR: "a part of the path is a file, not a folder; use another path",
    errno.EISDIR: "this is a folder; use a file name",
    errno.EEXIST: "a file is in the way; use another path",
}


def user_path(path: str | Path) -> Path:
    """Return a user's path with `~` expanded.

    Raises:
        InputError: the path is empty or not valid text, or its user does not exist.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"a path must be text, not {path!r}.")
    text = str(os.fspath(path))
    if not text:
        raise InputError("the path is empty; enter one.")
    if "\0" in text:
        raise InputError(f"{text!r}: a path cannot contain a null character; remove it.")
    try:
        text.encode()
        return Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise InputError(f"{text!r}: the path is not valid UTF-8; rename it.") from error
    except RuntimeError as error:
        raise InputError(f"{text}: no such user; use a full path.") from error


def cannot_write(path: Path, error: Exception) -> WriteError:
    """Return the `WriteError` for a failed write."""
    number = getattr(error, "errno", None)
    if number is None and "os error" in str(error):  # Rust libraries put the number in the text
        digits = str(error).rpartition("os error")[2].strip(" ).")
        number = int(digits) if digits.isdigit() else None
    reason = REASONS.get(number) or (os.strerror(number) if number else str(error).split("\n")[0])
    return WriteError(f"{path} cannot be written ({reason}).")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors from writing `path` into a `WriteError`."""
    try:
        yield
    except Exception as error:  # tokenizers raises a bare Exception, safetensors its own class
        if isinstance(error, OSError) or "os error" in str(error):
            raise cannot_write(path, error) from error
        raise


def is_device(path: Path) -> bool:
    """Return whether a path is neither a file nor a folder, such as /dev/stdout."""
    return path.exists() and not path.is_file() and not path.is_dir()


def nearest_folder(path: Path) -> Path:
    """Return `path` or the nearest folder above it that exists."""
    path = Path(os.path.realpath(path))
    for folder in (path, *path.parents):
        try:
            os.stat(folder)  # noqa: PTH116
        except FileNotFoundError:
            continue
        if folder.is_dir():  # if not, `path` itself is a file; `stat` fails on paths below a file
            return folder
    return Path(path.anchor)


def in_words(count: float) -> str:
    """Format a number of bytes.

    >>> in_words(3_700_000), in_words(12_300_000_000)
    ('3.7 MB', '12.3 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
