"""Open data sets of the `datasets` library: a folder it saved, or a name on the hub."""

import logging
import os.path
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError, is_offline, not_available
from adadpo_mini.pairs.opening import not_read

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

# Names of splits in public data sets: UltraFeedback's pairs are in "train_prefs", for example.
TRAIN = ("train", "train_prefs")
TEST = ("test", "test_prefs", "validation", "validation_prefs", "valid", "val", "dev", "eval")
HUB_NAME = re.compile(
    r"(?P<name>[\w.-]{1,96}/[\w.-]{1,96})(:(?P<config>[\w.-]+))?(:(?P<split>[\w.-]+))?"
    r"(@(?P<revision>[\w./-]+))?"
)
TIMEOUT = 5  # seconds
FILE_ENDINGS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".txt", ".gz")


def is_saved_dataset(path: Path) -> bool:
    """Return whether `save_to_disk` wrote this folder."""
    return any(os.path.isfile(path / name) for name in ("state.json", "dataset_dict.json"))  # noqa: PTH113


def is_hub_name(name: str) -> bool:
    """Return whether this could be the name of a data set on the hub.

    The forms are owner/name, owner/name:split, owner/name:config and owner/name:config:split, each
    with @revision at its end or not.

    >>> is_hub_name("Anthropic/hh-rlhf"), is_hub_name("data/pairs.jsonl"), is_hub_name("./a")
    (True, False, False)
    """
    found = HUB_NAME.fullmatch(name)
    of_a_path = name.startswith(".") or ".." in name or name.lower().endswith(FILE_ENDINGS)
    return bool(found) and not of_a_path


def open_saved(path: Path) -> "Dataset | DatasetDict":
    """Return the data set in a folder written by `save_to_disk`, memory-mapped.

    Raises:
        InputError: the folder is damaged.
    """
    import datasets

    try:
        return datasets.load_from_disk(str(path))
    except Exception as error:  # the library raises many kinds on a damaged file
        raise not_read(str(path), error) from error


def open_hub(source: str) -> tuple["DatasetDict", str | None, str]:
    """Return a data set on the hub, the name of the split that `source` names, and a note for the
    user if it was read from the local copy.

    The hub is asked first; the local copy is read if HF_HUB_OFFLINE is set or the hub does not
    answer. The note is needed because nothing in a local copy shows that parts of it were never
    downloaded. Code that comes with a data set is never run.

    Raises:
        InputError: the data set is not available, or has no such configuration or split.
    """
    for library in ("huggingface_hub", "datasets"):  # they log retries and which copy they read
        logging.getLogger(library).setLevel(logging.ERROR)
    name, config, split, revision = HUB_NAME.fullmatch(source).group(
        "name", "config", "split", "revision"
    )
    found = None if is_offline() else _commit(name, revision)
    try:
        data, split = _open_named(name, config, split, revision, found)
    except InputError:
        raise
    except Exception as error:  # the library's own, the network's, the file system's
        reason = " ".join(str(error).split("\n")[:2]).rstrip(".")
        if _is_about_configurations(error):
            raise InputError(
                f"data set {source!r}: {reason}; write it as owner/name:configuration."
            ) from error
        raise not_available("data set", source, "a local file", reason) from error
    if found is not None:
        return data, split, ""
    why = "HF_HUB_OFFLINE is set" if is_offline() else "the hub did not provide it"
    return (
        data,
        split,
        f"{source}: read from the local copy, because {why}; it may be incomplete or outdated.",
    )


def _open_named(
    name: str, config: str | None, split: str | None, revision: str | None, commit: str | None
) -> tuple["DatasetDict", str | None]:
    """Return the data set and its split. A single name after the colon is a configuration or, if
    the data set has no such configuration, a split."""

    def load(config: str | None) -> "DatasetDict":
        import datasets

        if commit is None:
            return _open_copy(name, config, revision)
        return datasets.load_dataset(name, config, revision=commit)

    try:
        return load(config), split
    except Exception as error:
        if config is None or split is not None or not _is_about_configurations(error):
            raise
        try:
            data = load(None)
        except Exception:  # it has several configurations, and none of them is the default
            raise error from None
        if config in data:
            return data, config
        reason = str(error).split("\n")[0].rstrip(".")
        raise InputError(
            f"data set '{name}:{config}': {reason}; its splits are {', '.join(data)}; write it as "
            "owner/name:configuration or owner/name:split."
        ) from error


def _commit(name: str, revision: str | None) -> str | None:
    """Return the commit of a revision on the hub, or None if the hub does not answer."""
    from huggingface_hub import HfApi

    try:
        return HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT).sha
    except Exception:  # no network, no such data set, or no access: there may be a copy
        return None


def _open_copy(name: str, config: str | None, revision: str | None) -> "DatasetDict":
    """Return the data set from the hub's cache on this machine or, failing that, from the Arrow
    files that `datasets` made from it in its own cache."""
    import datasets
    from huggingface_hub import snapshot_download

    try:
        with _no_progress_bars():
            copy = snapshot_download(
                name, repo_type="dataset", revision=revision, local_files_only=True
            )
            return datasets.load_dataset(copy, config)
    except Exception as error:  # there is no copy, or it lacks the files of this configuration
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
    """Return which of a data set's splits is meant by "train", "test" or a split's own name.

    >>> choose_split(["train_prefs", "test_prefs", "train_sft"], "test")
    'test_prefs'
    """
    names = list(names)
    alike = next((group for group in (TRAIN, TEST) if split in group), ())
    return next((name for name in (split, *alike) if name in names), None)
