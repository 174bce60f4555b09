"""The run folder, as the one process that trains writes it; see `runs.py` for what is in it.

Whatever the moment of a kill, what is in the folder is whole: events are appended line by line,
and everything else is replaced as a whole. The summary comes last, and says that all the rest is
there. A lock keeps a second writer out.
"""

import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import quote

from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.models.policies import whole_model
from adadpo_mini.models.state import TrainingState
from adadpo_mini.pairs.load import Pairs
from adadpo_mini.store.folder import LOCK, RunFolder, to_json
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

STATE = "state.safetensors"
SOONEST = 2.0  # seconds between two saved states, at least; and
SHARE = 0.01  # of the time at most goes into saving them
ROOMY = 1.05  # times what will be written is what the disk must have left


class RunWriter:
    """Writes one run; made by `create_run` and `reopen_run`.

    Attributes:
        folder: the run, for reading.
    """

    def __init__(self, folder: RunFolder, methods: Sequence[str]) -> None:
        self.folder, self._methods = folder, methods
        self._saved, self._pause = time.monotonic(), SOONEST

    def append(self, events: Mapping[str, Event]) -> None:
        """Add the events of one step, one line to each method's metrics.jsonl.

        Raises:
            WriteError: they cannot be written.
        """
        for method, event in events.items():
            file = self.folder.metrics(method)
            with writing(file):
                file.parent.mkdir(exist_ok=True)
            append_text(file, to_json(event) + "\n")

    def save_model(self, method: str, model, tokenizer, step: int | None = None) -> None:
        """Keep a model, with its tokenizer, so that `from_pretrained` loads it.

        Args:
            step: the updates it has had, for a snapshot; None for the model that training leaves.
        """
        with replaced_folder(self.folder.model(method, step)) as partial:
            whole_model(model).save_pretrained(partial)
            tokenizer.save_pretrained(partial)

    def save_pairs(self, train: Pairs, held_out: Pairs) -> None:
        """Keep pairs that came from no file, so that the run can be resumed."""
        for file, pairs in zip(self.folder.pairs, (train, held_out), strict=True):
            with replaced_file(file) as partial, partial.open("w", encoding="utf-8") as stream:
                stream.writelines(to_json(dict(pair)) + "\n" for pair in pairs)
            if train is held_out:
                return

    @property
    def state_is_due(self) -> bool:
        """Whether it is time to save the state again: soon, but at little cost."""
        return time.monotonic() - self._saved > self._pause

    def save_state(self, state: TrainingState, reserve: int = 0) -> str | None:
        """Replace the state from which the run can be resumed.

        Args:
            reserve: bytes that must be left on the disk, for the models that come later.

        Returns:
            Why not, if the disk has too little room; the state before, if there is one, is then
            still there.

        Raises:
            WriteError: it cannot be written; the one before is still there.
        """
        began = time.monotonic()
        if free_space(self.folder.path) < ROOMY * (state.num_bytes + reserve):
            self._pause = float("inf")
            return (
                f"{self.folder.path}: too little room on the disk to keep the state of training "
                f"({in_words(state.num_bytes)}); a kill would lose what is computed from now on."
            )
        for method in self._methods:
            if (metrics := self.folder.metrics(method)).is_file():
                to_disk(metrics)  # no state without the events that led to it
        with replaced_file(self.folder.path / STATE) as partial:
            state.save(partial)
        self._saved = time.monotonic()
        self._pause = max(SOONEST, (self._saved - began) / SHARE)
        return None

    def load_state(self) -> TrainingState | None:
        """The state that was saved last; None if there is none.

        Raises:
            InputError: it is damaged.
        """
        file = self.folder.path / STATE
        return TrainingState.load(file) if file.is_file() else None

    def keep_steps(self, count: int) -> dict[str, list[Event]]:
        """Cut off events from step `count` on; they will come again, with the same numbers.

        Returns:
            The events that are left, by method.

        Raises:
            InputError: some of those before are missing.
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
                    f"{self.folder.metrics(method)}: does not hold steps 0 to {count - 1}; "
                    f"delete {STATE}, and the run starts again at step 0."
                )
        return kept

    def reopen(self) -> None:
        """Take the summary away: until there is another one, the race goes on."""
        file = self.folder.path / "summary.json"
        with writing(file):
            file.unlink(missing_ok=True)

    def finish(self, summary: Mapping[str, object]) -> None:
        """Write the summary, after everything else; a finished run no longer needs its state."""
        replace_text(self.folder.path / "summary.json", to_json(summary, indent=2) + "\n")
        if summary["status"] == "finished":
            with suppress(OSError):
                (self.folder.path / STATE).unlink(missing_ok=True)


def check_free(path: str | Path) -> Path:
    """The path, if a run can be written there. Nothing is left there by the check.

    Raises:
        InputError: the folder already holds a run. WriteError: it cannot be written.
    """
    path = user_path(path)
    with writing(path):
        if (path / "config.json").exists() or any(path.glob("*/metrics.jsonl")):
            raise InputError(
                f"{path}: already holds a run; give another folder, delete it, or go on with it: "
                f"adadpo-mini resume {quote(str(path))}"
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
    """Make the folder, write config.json, and be its writer until the block ends.

    Args:
        pairs: those for training and those held out, if no file or data set has them.
        needed: bytes that the run will take, so that too little room is found out now.

    Raises:
        InputError: the folder already holds a run. WriteError: it cannot be written.
    """
    path = check_free(path)
    check_can_write(path, needed)
    with _lock(path):
        check_free(path)  # once more, now that nobody else can make it
        writer = RunWriter(RunFolder(path), list(config["methods"]))
        if pairs:
            writer.save_pairs(*pairs)
        settings = {**config, "made_with": versions(), "started_in": str(Path.cwd())}
        replace_text(path / "config.json", to_json(settings, indent=2) + "\n")
        yield writer


@contextmanager
def reopen_run(path: str | Path) -> Iterator[RunWriter]:
    """Be the writer of a run that was interrupted, until the block ends.

    Raises:
        InputError: there is no run, or another process is writing it.
    """
    folder = RunFolder.open(path)
    with _lock(folder.path):
        remove_partials(folder.path)
        yield RunWriter(folder, folder.config()["methods"])


def _lock(path: Path):
    return locked(
        path / LOCK,
        f"{path}: another process is writing this run; wait until it ends.",
    )


def versions() -> dict[str, str]:
    """What else the last bit of a number depends on: the libraries and the processor."""
    import torch
    import transformers

    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "processor": processor,
    }
