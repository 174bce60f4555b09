"""Writing the run folder; `folder.py` lists its files.

A kill at any moment leaves the folder consistent: events are appended line by line, and every other
file is replaced atomically. The summary is written last; once it exists, everything else does too.
A lock keeps a second writer out.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from shlex import quote

from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.models.policies import whole_model
from adadpo_mini.models.state import TrainingState
from adadpo_mini.pairs.load import Pairs
from adadpo_mini.store.folder import LOCK, RunFolder
from adadpo_mini.store.records import to_json
from adadpo_mini.system.files import (
    append_text,
    check_can_write,
    drop_torn_end,
    free_space,
    in_words,
    locked,
    remove_partials,
    replace_text,
    replaced_file,
    replaced_folder,
    to_disk,
    user_path,
    writing,
)
from adadpo_mini.types import Model, Tokenizer

STATE = "state.safetensors"
SOONEST = 2.0  # the shortest time between two saved states, seconds
SHARE = 0.01  # the largest share of the time that may go into saving states
ROOMY = 1.05  # free space needed, as a multiple of the bytes to write


class RunWriter:
    """The writer of one run. `create_run` and `reopen_run` make it.

    Attributes:
        folder: the run folder, for reading.
    """

    def __init__(self, folder: RunFolder, methods: Sequence[str]) -> None:
        self.folder, self._methods = folder, methods
        self._saved, self._pause = time.monotonic(), SOONEST

    def append(self, events: Mapping[str, Event]) -> None:
        """Append the events of one step: one line to each method's metrics.jsonl.

        Raises:
            WriteError: the events cannot be written.
        """
        for method, event in events.items():
            file = self.folder.metrics(method)
            with writing(file):
                file.parent.mkdir(exist_ok=True)
            append_text(file, to_json(event) + "\n")

    def save_model(
        self, method: str, model: Model, tokenizer: Tokenizer, step: int | None = None
    ) -> None:
        """Save a model and its tokenizer in the format that `from_pretrained` loads.

        Args:
            step: the number of updates, for a snapshot; None for the model at the end of training.
        """
        with replaced_folder(self.folder.model(method, step)) as partial:
            whole_model(model).save_pretrained(partial)
            tokenizer.save_pretrained(partial)

    def save_pairs(self, train: Pairs, held_out: Pairs) -> None:
        """Save pairs that came from Python objects. Resuming the run needs them."""
        for file, pairs in zip(self.folder.pairs, (train, held_out), strict=True):
            with replaced_file(file) as partial, partial.open("w", encoding="utf-8") as stream:
                stream.writelines(to_json(dict(pair)) + "\n" for pair in pairs)
            if train is held_out:
                return

    @property
    def state_is_due(self) -> bool:
        """Whether to save the state again: after `SOONEST`, and within `SHARE` of the time."""
        return time.monotonic() - self._saved > self._pause

    def save_state(self, state: TrainingState, reserve: int = 0) -> str | None:
        """Replace the saved state, from which the run can be resumed.

        Args:
            reserve: bytes that must stay free for the models saved later.

        Returns:
            None; or, if the disk has too little space, the reason. The previous state is then kept.

        Raises:
            WriteError: the state cannot be written. The previous state is kept.
        """
        began = time.monotonic()
        if free_space(self.folder.path) < ROOMY * (state.num_bytes + reserve):
            self._pause = float("inf")
            return (
                f"{self.folder.path}: too little space on the disk to save the training state "
                f"({in_words(state.num_bytes)}); if the process is killed, everything computed "
                "from now on is lost."
            )
        for method in self._methods:
            if (metrics := self.folder.metrics(method)).is_file():
                to_disk(metrics)  # the events first: a state without its events cannot be resumed
        with replaced_file(self.folder.path / STATE) as partial:
            state.save(partial)
        self._saved = time.monotonic()
        self._pause = max(SOONEST, (self._saved - began) / SHARE)
        return None

    def load_state(self) -> TrainingState | None:
        """Return the last saved state, or None if there is none.

        Raises:
            InputError: the state is damaged.
        """
        file = self.folder.path / STATE
        return TrainingState.load(file) if file.is_file() else None

    def keep_steps(self, count: int) -> dict[str, list[Event]]:
        """Remove the events from step `count` on. Resuming writes them again, with equal numbers.

        Returns:
            The remaining events, by method.

        Raises:
            InputError: events before step `count` are missing.
        """
        for method in self._methods:
            file = self.folder.metrics(method)
            drop_torn_end(file)
            if file.is_file():
                lines = file.read_bytes().splitlines(keepends=True)[:count]
                with writing(file):
                    os.truncate(file, sum(map(len, lines)))
        found = self.folder.events()
        kept = {method: found.get(method, []) for method in self._methods}
        for method, events in kept.items():
            if [event["step"] for event in events] != list(range(count)):
                raise InputError(
                    f"{self.folder.metrics(method)}: some of the steps 0 to {count - 1} are "
                    f"missing; delete {STATE} to restart the run at step 0."
                )
        return kept

    def reopen(self) -> None:
        """Delete the summary, which marks the race as not ended."""
        file = self.folder.path / "summary.json"
        with writing(file):
            file.unlink(missing_ok=True)

    def finish(self, summary: Mapping[str, object]) -> None:
        """Write the summary, after everything else. Delete the state if the race has finished."""
        replace_text(self.folder.path / "summary.json", to_json(summary, indent=2) + "\n")
        if summary["status"] == "finished":
            with suppress(OSError):
                (self.folder.path / STATE).unlink(missing_ok=True)


def check_free(path: str | Path) -> Path:
    """Check that a run can be written to a folder, and return its path. Nothing is created.

    Raises:
        InputError: the folder already contains a run. WriteError: it cannot be written.
    """
    path = user_path(path)
    with writing(path):
        if (path / "config.json").exists() or any(path.glob("*/metrics.jsonl")):
            raise InputError(
                f"{path} already contains a run; use another folder, delete this one, or resume "
                f"it: adadpo-mini resume {quote(str(path))}"
            )
    check_can_write(path / "config.json")
    return path


@contextmanager
def create_run(
    path: str | Path,
    config: Mapping[str, object],
    pairs: tuple[Pairs, Pairs] | None = None,
    needed: int = 0,
) -> Iterator[RunWriter]:
    """Create the folder, write config.json, and yield its writer. The folder is locked meanwhile.

    Args:
        pairs: training and held-out pairs, if they came from Python objects.
        needed: bytes that the run will write; too little space is reported now.

    Raises:
        InputError: the folder already contains a run. WriteError: it cannot be written.
    """
    path = check_free(path)
    check_can_write(path, needed)
    with _lock(path):
        check_free(path)  # again: before the lock, another process could have created it
        writer = RunWriter(RunFolder(path), list(config["methods"]))
        if pairs:
            writer.save_pairs(*pairs)
        settings = {**config, "made_with": versions(), "started_in": str(Path.cwd())}
        replace_text(path / "config.json", to_json(settings, indent=2) + "\n")
        yield writer


@contextmanager
def reopen_run(path: str | Path) -> Iterator[RunWriter]:
    """Yield the writer of an interrupted run. The folder is locked meanwhile.

    Raises:
        InputError: the folder does not contain a run, or another process is writing it.
    """
    folder = RunFolder.open(path)
    with _lock(folder.path):
        remove_partials(folder.path)
        yield RunWriter(folder, folder.config()["methods"])


def _lock(path: Path) -> AbstractContextManager[None]:
    return locked(path / LOCK, f"{path}: another process is writing this run; wait until it ends.")


def versions() -> dict[str, str]:
    """Return what the last bit of a number also depends on: library versions and the processor."""
    import torch
    import transformers

    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": processor,
    }
