"""Keep what need not be computed twice: token ids of pairs, and log-probs under the reference.

A file's name is a digest of everything its content depends on, so the content is never out of
date. A damaged or foreign file is ignored and computed again; if nothing can be written, nothing
is kept. The folder may be deleted at any time. Files left half-written by a killed process are
removed at the next write.
"""

import functools
import hashlib
import os
import shutil
import tempfile
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.system.files import remove_partials, replaced_file

if TYPE_CHECKING:  # the doctor and the list of runs need no torch
    from torch import Tensor

CHECKSUM = "checksum"


def cache_folder() -> Path | None:
    """Return the cache's folder: $ADADPO_MINI_CACHE, or adadpo_mini in the user's cache folder.

    None if the user has no home folder.
    """
    if own := os.environ.get("ADADPO_MINI_CACHE"):
        return Path(own)
    if os.path.isabs(shared := os.environ.get("XDG_CACHE_HOME", "")):  # noqa: PTH117
        return Path(shared) / "adadpo_mini"
    try:
        return Path.home() / ".cache" / "adadpo_mini"
    except RuntimeError:
        return None


def scratch_folder() -> tempfile.TemporaryDirectory:
    """Return a new temporary folder for this process, inside the cache's folder if possible.

    The system's own temporary folder may be in memory. Folders left by killed processes are
    removed.
    """
    kept = cache_folder()
    try:
        if kept:
            kept.mkdir(parents=True, exist_ok=True)
            with _scratch_lock:
                _remove_left_scratch(kept)
                prefix = f"{SCRATCH}{os.getpid()}-"
                folder = tempfile.TemporaryDirectory(
                    dir=kept, prefix=prefix, ignore_cleanup_errors=True
                )
                _scratch.add(folder)
            return folder
    except OSError:
        pass
    return tempfile.TemporaryDirectory(prefix="adadpo_mini-", ignore_cleanup_errors=True)


SCRATCH = "tmp-"  # then the process id and a unique ending
_scratch_lock = threading.Lock()
_scratch: "weakref.WeakSet[tempfile.TemporaryDirectory]" = weakref.WeakSet()


def _remove_left_scratch(kept: Path) -> None:
    from psutil import pid_exists

    ours = {Path(folder.name).name for folder in _scratch}
    for folder in kept.glob(f"{SCRATCH}*-*"):
        number = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if number == str(os.getpid()):  # maybe an earlier process with our id, as in a container
            is_left = folder.name not in ours
        else:
            is_left = number.isdigit() and not pid_exists(int(number))
        if is_left:
            shutil.rmtree(folder, ignore_errors=True)


def digest(parts: "Iterable[bytes | str | Tensor]") -> str:
    """Return a name for these parts in this order, 64 hexadecimal digits.

    >>> digest(["ab", "c"]) == digest(["a", "bc"])
    False
    """
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode("utf-8", "surrogatepass")
        elif not isinstance(part, bytes):
            sha.update(f"{part.dtype}{tuple(part.shape)}".encode())
            part = _bytes_of(part)
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()


@functools.cache
def code_key(*modules: str) -> str:
    """Return a digest of the code of these modules, such as "tokens/batch"."""
    return digest((Path(__file__).parents[1] / f"{name}.py").read_bytes() for name in modules)


def keep_tensors(name: str, tensors: "Mapping[str, Tensor]") -> None:
    """Write tensors under this name, completely or not at all; if writing fails, do nothing."""
    from safetensors.torch import save_file

    folder = cache_folder()
    if folder is None:
        return
    metadata = {CHECKSUM: _checksum(tensors)}
    with suppress(InputError, OSError):
        remove_partials(folder)
        with replaced_file(folder / f"{name}.safetensors") as partial:
            save_file(dict(tensors), partial, metadata=metadata)


def kept_tensors(
    name: str, fits: "Callable[[dict[str, Tensor]], bool]"
) -> "dict[str, Tensor] | None":
    """Return the tensors under this name, memory-mapped, or None if there are none or they are
    damaged.

    Args:
        fits: returns whether tensors have the names, shapes and types that the caller expects.
    """
    from safetensors import SafetensorError, safe_open

    folder = cache_folder()
    if folder is None:
        return None
    try:
        with safe_open(str(folder / f"{name}.safetensors"), "pt") as file:
            checksum = (file.metadata() or {}).get(CHECKSUM)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no dict)
    except (OSError, SafetensorError, UnicodeError):
        return None
    return tensors if checksum == _checksum(tensors) and fits(tensors) else None


def _checksum(tensors: "Mapping[str, Tensor]") -> str:
    checksum = 0
    for name in sorted(tensors):
        checksum = zlib.crc32(_bytes_of(tensors[name]), zlib.crc32(name.encode(), checksum))
    return str(checksum)


def _bytes_of(tensor: "Tensor") -> memoryview:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    return memoryview(flat.numpy())
