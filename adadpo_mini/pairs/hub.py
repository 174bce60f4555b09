"""Data sets of the `datasets` library: a folder it saved, or a name on the hub."""

import logging
import os.path
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError, is_offline, not_available
from adadpo_mini.pairs.readers import not_read

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# What data sets call their splits: UltraFeedback's pairs are in "train_prefs", for instance.
TRAIN = ("train", "train_prefs")
TEST = ("test", "test_prefs", "validation", "validation_prefs", "valid", "val", "dev", "eval")
HUB_NAME = re.compile(
    r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(:(?P<config>[\w.-]+))?(@(?P<revision>[\w./-]+))?"
)
TIMEOUT = 5  # seconds
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
    of_a_path = name.startswith(".") or ".." in name or name.lower().endswith(FILE_ENDINGS)
    return bool(found) and not of_a_path


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


def open_hub(source: str) -> tuple["DatasetDict", str]:
    """A data set on the hub, and a sentence to tell if it is not from there: what the copy on this
    machine lacks, because only a part was ever fetched, is nowhere to be seen in it.

    The hub is asked first. The copy is taken if the hub is not to be asked or does not answer. No
    code that comes with a data set is run.

    Raises:
        InputError: it cannot be had, or has no such configuration.
    """
    import datasets

    for library in ("huggingface_hub", "datasets"):  # their retries and which copy they take
        logging.getLogger(library).setLevel(logging.ERROR)
    name, config, revision = HUB_NAME.fullmatch(source).group("name", "config", "revision")
    found = None if is_offline() else _commit(name, revision)
    try:
        if found is None:
            why = "HF_HUB_OFFLINE is set" if is_offline() else "the hub did not give it"
            return _open_copy(name, config, revision), (
                f"{source}: read from the copy on this machine, since {why}; whether it is whole "
                "and the newest was not checked."
            )
        return datasets.load_dataset(name, config, revision=found), ""
    except Exception as error:  # the library's own, the network's, the file system's
        reason = " ".join(str(error).split("\n")[:2]).rstrip(".")
        if _is_about_configurations(error):
            raise InputError(
                f"data set {source!r}: {reason}; write it as owner/name:configuration."
            ) from error
        raise not_available("data set", source, "a local file", reason) from error


def _commit(name: str, revision: str | None) -> str | None:
    """The commit that a revision is on the hub; None if the hub does not say."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT).sha
    except Exception:  # no network, no such data set, or not for this user: a copy may be here
        return None


def _open_copy(name: str, config: str | None, revision: str | None) -> "DatasetDict":
    """The data set from the hub's cache on this machine or, failing that, from what `datasets` made
    of it for its own cache."""
    import datasets
    from huggingface_hub import snapshot_download

    try:
        with _no_progress_bars():
            copy = snapshot_download(
                name, repo_type="dataset", revision=revision, local_files_only=True
            )
            return datasets.load_dataset(copy, config)
    except Exception as error:  # there is no copy, or other files than these were copied
        if _is_about_configurations(error):
            raise
    return datasets.load_dataset(name, config, revision=revision)


def _is_about_configurations(error: Exception) -> bool:
    return isinstance(error, ValueError) and "config" in str(error).lower()


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
