"""Open a text file: what it is, how it is compressed, and how it is encoded."""

import codecs
import errno
import gzip
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TextIO
from zlib import error as ZlibError

from adadpo_mini.errors import InputError

GZIP = b"\x1f\x8b"
# What the files of other compressions begin with.
COMPRESSED = {
    b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip",
    b"7z\xbc\xaf": "7-Zip", b"\x04\x22\x4d\x18": "lz4",
}  # fmt: skip
# The longer mark first, because UTF-32 begins like UTF-16.
BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip


def check_is_file(path: Path, wanted: str, what: str = "file") -> None:
    """Raise an InputError unless the path is a regular file, which has an end.

    Args:
        wanted: what to give instead, in words.
        what: what the message calls a missing file.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        if error.errno == errno.EACCES:
            raise not_read(str(path), error) from error
        usual = error.errno in (errno.ENOENT, errno.ENOTDIR)
        why = "" if usual else f" ({error.strerror})"
        raise InputError(f"{path}: there is no such {what}{why}; give {wanted}.") from error
    if stat.S_ISDIR(mode):
        raise InputError(f"{path} is a folder; give {wanted}.")
    if not stat.S_ISREG(mode):  # a device or a pipe might never end
        raise InputError(f"{path} is not a regular file; give {wanted}.")


def not_read(where: str, error: Exception) -> InputError:
    """Return the InputError to raise after reading `where` has failed with `error`."""
    if isinstance(error, UnicodeError):
        reason = getattr(error, "reason", error)
        return InputError(f"{where}: not UTF-8 text ({reason}); save it as UTF-8.")
    if reason := getattr(error, "strerror", None):
        return InputError(f"{where} cannot be read ({reason}); give a file that can be.")
    reason = str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    return InputError(f"{where} cannot be read ({reason}); it is damaged, save it again.")


def format_of(path: Path) -> str:
    """Return the ending that decides the format of a file, without .gz.

    >>> format_of(Path("pairs.CSV.gz")), format_of(Path("pairs"))
    ('.csv', '')

    Raises:
        InputError: a Parquet file is compressed as a whole.
    """
    ending = path.suffix.lower()
    if ending != ".gz":
        return ending
    ending = Path(path.stem).suffix.lower()
    if ending == ".parquet":
        raise InputError(f"{path} is a compressed Parquet file; decompress it with gunzip.")
    return ending


@contextmanager
def text_of_file(path: Path, newline: str = "\n") -> Iterator[TextIO]:
    """Open a file of text, compressed with gzip or not, in UTF-8 or with a byte order mark.

    Raises:
        InputError: it cannot be read as text, now or later.
    """
    # Only a line feed ends a line: a JSON string may contain other characters that end lines.
    try:
        with path.open("rb") as raw:
            head = raw.read(8)
            raw.seek(0)
            if head.startswith(GZIP):
                with gzip.open(raw) as content:
                    start = content.peek(4)[:4]
                    with TextIOWrapper(content, _encoding(start), newline=newline) as file:
                        yield file
                return
            for mark, name in COMPRESSED.items():
                if head.startswith(mark):
                    raise InputError(
                        f"{path} is compressed with {name}; decompress it, or use gzip."
                    )
            with TextIOWrapper(raw, _encoding(head), newline=newline) as file:
                yield file
    except (UnicodeError, OSError, EOFError, ZlibError) as error:
        raise not_read(str(path), error) from error


def _encoding(head: bytes) -> str:
    for mark, name in BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return name
    return "utf-8-sig"
