"""Files that a kill or a full disk cannot spoil: replaced as a whole, or appended line by line.

A reader of such a file sees the old content or the new one, never a part. A full disk, a missing
permission or a name too long is a `WriteError`: one sentence with the path and what to do.
"""

import ctypes
import errno
import itertools
import os
import shutil
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adadpo_mini.errors import InputError, WriteError

PARTIAL = ".partial"
PATIENCE = 0.5  # seconds; somebody may just be asking whether a file is locked
PROBE = 4096  # bytes written to find out whether a place can be written at all
TAIL = 1 << 16  # bytes read at a time in search of the last line end
REASONS = {
    errno.ENOSPC: "the disk is full; free some space or give another place",
    errno.EDQUOT: "the disk quota is used up; free some space or give another place",
    errno.EFBIG: "the file would exceed the size limit; raise the limit or give another place",
    errno.EROFS: "the disk is read-only; give another place",
    errno.EACCES: "permission denied; give another place",
    errno.EPERM: "not permitted; give another place",
    errno.ENAMETOOLONG: "the name is too long; give a shorter one",
    errno.ENOTDIR: "a part of the path is a file, not a folder; give another place",
    errno.EISDIR: "this is a folder; give the name of a file",
    errno.EEXIST: "a file is in the way; give another place",
}


def user_path(path: str | Path) -> Path:
    """A path as a user gives it, with `~` expanded.

    Raises:
        InputError: it is empty, is not valid text, or names the home of nobody.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InputError(f"a path must be text, not {path!r}.")
    text = str(os.fspath(path))
    if not text:
        raise InputError("the path is empty; give one.")
    if "\0" in text:
        raise InputError(f"{text!r}: a path cannot hold a null character; give another one.")
    try:
        text.encode()
        return Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise InputError(f"{text!r}: the path is not valid UTF-8; rename it.") from error
    except RuntimeError as error:
        raise InputError(f"{text}: there is no such user's home; give a full path.") from error


def cannot_write(path: Path, error: Exception) -> WriteError:
    """The sentence for a failed write."""
    number = getattr(error, "errno", None)
    if number is None and "os error" in str(error):  # Rust's libraries have it in the text only
        digits = str(error).rpartition("os error")[2].strip(" ).")
        number = int(digits) if digits.isdigit() else None
    reason = REASONS.get(number) or (os.strerror(number) if number else str(error).split("\n")[0])
    return WriteError(f"{path}: cannot be written ({reason}).")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what goes wrong while `path` is written into a `WriteError`."""
    try:
        yield
    except Exception as error:  # tokenizers raises just that, safetensors a kind of its own
        if isinstance(error, OSError) or "os error" in str(error):
            raise cannot_write(path, error) from error
        raise


@contextmanager
def replaced_file(path: str | Path) -> Iterator[Path]:
    """Yields where to write; when all is written, that takes the place of `path` at once.

    Folders above it are made. What is no regular file, such as /dev/stdout, is written directly.

    Raises:
        WriteError: it cannot be written; what stood there before is untouched.
    """
    path = Path(path)
    with writing(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder", str(path))
        if _is_device(path):
            yield path
            return
        path = Path(os.path.realpath(path))  # a link stays, and what it points at is replaced
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path) as partial:
            yield partial
            if path.exists():
                shutil.copymode(path, partial)
            else:
                _give_usual_mode(partial)
            _to_disk(partial)
            os.replace(partial, path)  # noqa: PTH105
            _to_disk(path.parent)


def replace_text(path: str | Path, text: str) -> None:
    """Write a text file, UTF-8 with plain line feeds, as a whole or not at all."""
    with replaced_file(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder to fill; when it is full, it takes the place of `path`.

    Raises:
        WriteError: it cannot be written; what stood there before is untouched.
    """
    path = Path(os.path.realpath(path))
    with writing(path):
        if path.exists() and not path.is_dir():
            raise FileExistsError(errno.EEXIST, "not a folder", str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        with _partial(path) as partial:
            partial.mkdir()
            yield partial
            for file in partial.rglob("*"):
                if file.is_file():
                    _give_usual_mode(file)
                _to_disk(file)
            _to_disk(partial)
            if path.exists():
                _exchange(partial, path)  # the old one is then the partial, and goes
            else:
                partial.rename(path)
            _to_disk(path.parent)


def append_text(path: Path, text: str) -> None:
    """Add text to the end of a file, all of it or none.

    Raises:
        WriteError: it cannot be written; the file is as it was.
    """
    with writing(path), path.open("ab", buffering=0) as stream:
        before = stream.tell()
        rest = memoryview(text.encode())
        try:
            while rest:
                rest = rest[stream.write(rest) :]
        except BaseException:
            with suppress(OSError):  # a device cannot be cut, and needs not be
                os.ftruncate(stream.fileno(), before)
            raise


def drop_torn_end(path: Path) -> int:
    """Cut off a last line that was not written to its end; the rest is not touched.

    Returns:
        How many bytes were cut off.
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
    """Wait until the system has written a file to its disk, so that a power cut keeps it.

    Raises:
        WriteError: it has not.
    """
    with writing(path):
        _to_disk(path)


@contextmanager
def locked(file: Path, otherwise: str) -> Iterator[None]:
    """Hold an exclusive lock, which ends with this process, however that ends.

    Args:
        file: its file, which stays.
        otherwise: the sentence to raise if somebody else holds it.

    Raises:
        InputError: somebody else holds it. WriteError: the file cannot be made.
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
    """Whether somebody holds the lock of that file now."""
    from filelock import FileLock, Timeout

    if not file.exists():
        return False
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    except OSError:  # such as on a disk that is read-only
        return False
    lock.release()
    return False


def check_can_write(path: Path, needed: int = 0) -> None:
    """Find out, before any work starts, whether a file or folder can be written there.

    Args:
        needed: bytes that will be written.

    Raises:
        WriteError: it cannot, or the disk has not that much room.
    """
    with writing(path):
        if _is_device(path):
            return
        folder = _nearest_folder(path)
        with _partial(folder / path.name) as probe:
            probe.write_bytes(bytes(PROBE))
        free = shutil.disk_usage(folder).free
    if free < needed:
        raise WriteError(
            f"{path}: about {in_words(needed)} will be written, but the disk has only "
            f"{in_words(free)} left; free some space or give another place."
        )


def free_space(path: Path) -> int:
    """Bytes left on the disk that holds `path`, or will."""
    return shutil.disk_usage(_nearest_folder(path)).free


def in_words(count: float) -> str:
    """A number of bytes for people.

    >>> in_words(3_700_000), in_words(12_300_000_000)
    ('3.7 MB', '12.3 GB')
    """
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def remove_partials(folder: Path) -> None:
    """Remove what writers that were killed have left in a folder and below."""
    for left in [*folder.rglob(f".*{PARTIAL}")]:
        if _is_left(left):
            _remove(left)


def _is_device(path: Path) -> bool:
    """Whether it is neither file nor folder, such as /dev/stdout."""
    return path.exists() and not path.is_file() and not path.is_dir()


def _nearest_folder(path: Path) -> Path:
    """The folder that exists and lies nearest above `path`, or `path` itself."""
    path = Path(os.path.realpath(path))
    for folder in (path, *path.parents):
        try:
            os.stat(folder)  # noqa: PTH116
        except FileNotFoundError:
            continue
        if folder.is_dir():  # else it is `path`, a file: what lies below one is an error above
            return folder
    return Path(path.anchor)


_numbers = itertools.count()
_own: set[str] = set()  # the partials that this process is writing


@contextmanager
def _partial(path: Path) -> Iterator[Path]:
    """A name beside `path`, no other thread's or process's, for what is not yet it; gone in the
    end."""
    name = f".{zlib.crc32(os.fsencode(path.name)):08x}"
    for left in path.parent.glob(f"{name}-*{PARTIAL}"):
        if _is_left(left):
            _remove(left)
    partial = path.parent / f"{name}-{next(_numbers)}-{os.getpid()}{PARTIAL}"
    _own.add(partial.name)
    try:
        yield partial
    finally:
        _remove(partial)
        _own.discard(partial.name)


def _is_left(partial: Path) -> bool:
    """Whether whoever wrote this is gone. In a container all processes may have one number."""
    from psutil import pid_exists

    number = partial.name.removesuffix(PARTIAL).rpartition("-")[2]
    if number == str(os.getpid()):
        return partial.name not in _own
    return number.isdigit() and not pid_exists(int(number))


def _exchange(folder: Path, other: Path) -> None:
    """Swap two folders: at once where the system can, else `other` is away for a moment."""
    if sys.platform == "linux":
        swap = getattr(ctypes.CDLL(None), "renameat2", None)
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        paths = (os.fsencode(folder), os.fsencode(other))
        if swap and swap(here, paths[0], here, paths[1], exchange) == 0:
            return
    aside = other.with_name(f"{other.name}.old-{os.getpid()}")  # no partial: it is all there is
    other.rename(aside)
    folder.rename(other)
    aside.rename(folder)


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _give_usual_mode(file: Path) -> None:
    """The permissions that any new file gets; safetensors gives its owner's only."""
    umask = os.umask(0)
    os.umask(umask)
    file.chmod(0o666 & ~umask)


def _to_disk(path: Path) -> None:
    if os.name == "nt":
        return  # there a folder cannot be opened, and a file only for writing
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
