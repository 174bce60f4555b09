"""A run as the page sees it: its settings, its status, its events, its models."""

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.store.folder import Cursor, RunFolder, list_runs
from adadpo_mini.system.files import check_can_write, user_path
from adadpo_mini.tokens.templates import LINE

PAGE = "page"  # "started_by" in config.json, for a run that a page started
KEPT_BYTES = 2e9  # for a page's own runs; beyond it the oldest are deleted


@dataclass(frozen=True)
class ChatModels:
    """Models that answer side by side.

    Attributes:
        models: by name, "reference" first.
        tokenizer: the one they share.
        form: the form of a typed prompt, see `templates.prompt_form`.
    """

    models: dict[str, object]
    tokenizer: object
    form: str = LINE


def last_step(recent: Mapping[str, Sequence[Event]]) -> int:
    """Return the last step that all methods have reached."""
    return min((log[-1]["step"] if log else 0 for log in recent.values()), default=0)


class Run:
    """One race and its folder: what a page can ask while it runs, and afterwards."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.id = folder.path.name

    @property
    def settings(self) -> dict:
        """The fields of `RaceConfig` of the race."""
        raise NotImplementedError

    @property
    def status(self) -> str:
        """preparing, running, finished, interrupted, diverged or failed."""
        raise NotImplementedError

    @property
    def problem(self) -> str:
        """One sentence, if the race diverged or failed; else empty."""
        raise NotImplementedError

    @property
    def live(self) -> bool:
        """Whether more events will come."""
        return self.status in ("preparing", "running")

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods in the race."""
        return tuple(self.settings["methods"])

    def recent(self) -> dict[str, list[Event]]:
        """Return the last few events of each method, from the disk."""
        return {method: self.folder.recent(method) for method in self.methods}

    @property
    def step(self) -> int:
        """The last step that all methods have written."""
        return last_step(self.recent())

    def events_since(self, cursor: Cursor) -> tuple[list, Cursor]:
        """See `RunFolder.events_since`; there are no events before the folder exists."""
        if not (self.folder.path / "config.json").is_file():
            return [], {}
        return self.folder.events_since(cursor)

    def watch(self) -> None:
        """Note that a page is looking at the race."""

    def stop(self) -> None:
        """Ask the race to stop. Has an effect only on a race in this process."""

    def chat_models(self) -> ChatModels | None:
        """Return the models as they are now, if they are in memory."""
        return None


class StoredRun(Run):
    """A run that is read from its folder: it has ended, or another process writes it."""

    @property
    def settings(self) -> dict:
        """The fields of `RaceConfig`, and "started_by", as config.json has them.

        Raises:
            InputError: config.json is damaged.
        """
        started_by = self.folder.config().get("started_by")
        return {**self.folder.settings().as_dict(), "started_by": started_by}

    @property
    def status(self) -> str:
        """As summary.json says; without one, running or interrupted.

        Raises:
            InputError: summary.json is damaged.
        """
        return self.folder.status

    @property
    def problem(self) -> str:
        """One sentence, if the race diverged or failed; else empty.

        Raises:
            InputError: summary.json is damaged.
        """
        return (self.folder.summary() or {}).get("problem") or ""

    @property
    def version(self) -> tuple:
        """A value that changes whenever the models on the disk change."""
        folders = [self.folder.model(method) for method in self.methods]
        newest = [tuple(self.folder.snapshots(method)[-1:]) for method in self.methods]
        return (self.id, *(f.stat().st_mtime_ns if f.is_dir() else 0 for f in folders), *newest)

    def load_models(self, toy: Callable[[], tuple]) -> ChatModels:
        """Return the reference and the trained models; for a killed race, the last snapshots.

        Args:
            toy: returns (model, tokenizer) of the toy, which is in memory already.

        Raises:
            InputError: one of the models cannot be loaded.
        """
        from adadpo_mini.models.load import TOY

        config = self.folder.config()
        plain = config["model"] == TOY and config.get("dtype", "float32") == "float32"
        reference, tokenizer = toy() if plain else self.folder.load()
        models = {"reference": reference}
        for method in self.methods:
            folder = self.folder.model(method)
            if not folder.is_dir():
                kept = self.folder.snapshots(method)
                folder = self.folder.model(method, kept[-1]) if kept else folder
            if folder.is_dir():
                models[method], _ = self.folder.load(folder)
        return ChatModels(models, tokenizer, config.get("prompt_form", LINE))


def warn(sentence: str) -> None:
    """Print a sentence on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def writable_root(root: str | Path, note: Callable[[str], None] = warn) -> Path:
    """Return the folder for runs, or a temporary one, with a note, if it cannot be written."""
    try:
        root = user_path(root)
        check_can_write(root / "run")
    except InputError as problem:
        instead = Path(tempfile.mkdtemp(prefix="adadpo_mini-runs-"))
        note(f"{problem} Runs go to {instead} instead.")
        return instead
    return root


def make_room(root: Path, limit: float = KEPT_BYTES) -> None:
    """Keep the runs that pages started within `limit` bytes, before another one begins.

    The snapshots of the oldest runs are deleted first, and whole runs only if that is not enough.
    Runs from the command line or a notebook are never touched.
    """
    own = [run for run in reversed(list_runs(root)) if _is_own(run) and not run.is_being_written()]
    sizes = {run.path: _bytes_in(run.path) for run in own}
    total = sum(sizes.values())
    for run in own:
        for method in run.config()["methods"] if total > limit else ():
            snapshots = run.path / method / "snapshots"
            total -= _bytes_in(snapshots)
            shutil.rmtree(snapshots, ignore_errors=True)
    for run in own:
        if total > limit:
            total -= _bytes_in(run.path)
            shutil.rmtree(run.path, ignore_errors=True)


def _is_own(run: RunFolder) -> bool:
    try:
        return run.config().get("started_by") == PAGE
    except InputError:
        return False


def _bytes_in(folder: Path) -> int:
    size = 0
    with suppress(OSError):  # another process is deleting it
        for file in folder.rglob("*"):
            size += file.stat().st_size if file.is_file() else 0
    return size
