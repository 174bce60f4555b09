"""Data sets of the `datasets` library: a folder it saved, or a name on the hub."""

import logging
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.readers import not_read

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# What data sets call their splits: UltraFeedback's pairs are in "train_prefs", for instance.
TRAIN = ("train", "train_prefs")
TEST = ("test", "test_prefs", "validation", "validation_prefs", "valid", "val", "dev", "eval")
HUB_NAME = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?")
FILE_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz")


def is_saved_dataset(path: Path) -> bool:
    """Whether `save_to_disk` wrote this folder."""
    return any(os.path.isfile(path / name) for name in ("state.json", "dataset_dict.json"))  # noqa: PTH113


def is_hub_name(name: str) -> bool:
    """Whether this could be the name of a data set on the hub: owner/name, owner/name:config,
    owner/name@revision.

    >>> is_hub_name("Anthropic/hh-rlhf"), is_hub_name("data/pairs.jsonl"), is_hub_name("./a")
    (True, False, False)
    """
    found = HUB_NAME.fullmatch(name)
    return bool(found) and not name.startswith(".") and not name.lower().endswith(FILE_ENDINGS)


def open_saved(path: Path) -> "Dataset | DatasetDict":
    """The data set in a folder that `save_to_disk` wrote, memory-mapped.

    Raises:
        InputError: the folder is damaged.
    """
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:  # whatever the library meets in files that it did not write so
        raise not_read(str(path), error) from error


def open_hub(source: str) -> "DatasetDict":
    """A data set on the hub, from the copy on this machine if there is a whole one.

    No code that comes with a data set is run.

    Raises:
        InputError: it is not on this machine and cannot be had, or has no such configuration.
    """
    import datasets
    from huggingface_hub import snapshot_download

    for library in ("huggingface_hub", "datasets"):  # their retries and which copy they take
        logging.getLogger(library).setLevel(logging.ERROR)
    name, config, revision = HUB_NAME.fullmatch(source).group("name", "config", "revision")
    try:
        with _no_progress_bars():
            copy = snapshot_download(
                name, repo_type="dataset", revision=revision, local_files_only=True
            )
            return datasets.load_dataset(copy, config)
    except Exception as error:  # there is no copy, or other files than these were copied
        if _is_about_configurations(error):
            raise _not_had(source, error) from error
    try:
        return datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # the library's own, the network's, the file system's
        raise _not_had(source, error) from error


def _is_about_configurations(error: Exception) -> bool:
    return isinstance(error, ValueError) and "config" in str(error).lower()


def _not_had(source: str, error: Exception) -> InputError:
    if _is_about_configurations(error):
        reason = " ".join(str(error).split("\n")[:2]).rstrip(".")
        return InputError(f"data set {source!r}: {reason}; write it as owner/name:configuration.")
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "TRUE", "YES", "ON"):
        return InputError(
            f"data set {source!r} is neither a file or folder here nor in the hub's cache, and "
            "HF_HUB_OFFLINE is set: unset it to download the data set, or give a local file."
        )
    return InputError(
        f"data set {source!r} is no file or folder here and could not be had from the hub: check "
        "the name and the network, or give a local file."
    )


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    import datasets

    before = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if before:
            datasets.enable_progress_bars()


def choose_split(names: Iterable[str], split: str) -> str | None:
    """Which of a data set's splits is meant by "train", "test" or a name of its own.

    >>> choose_split(["train_prefs", "test_prefs", "train_sft"], "test")
    'test_prefs'
    """
    names = list(names)
    alike = next((group for group in (TRAIN, TEST) if split in group), ())
    return next((name for name in (split, *alike) if name in names), None)
