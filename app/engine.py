"""The races of the page: each trains in a worker thread and writes a run folder; pages read it."""

import logging
import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.store.folder import RunFolder, list_runs

from .live import UNWATCHED, LiveRun
from .runs import ChatModels, Run, StoredRun, make_room

MAX_LIVE = 2  # races that may train at the same time
MAX_KEPT = 12  # ended races kept in memory because they could not be saved on the disk
MAX_LOADED = 3  # runs whose models are kept in memory for the chat
SNAPSHOTS = 12  # for each race, besides the first

log = logging.getLogger(__name__)


def load_toy() -> tuple:
    """Return (model, tokenizer) of the toy model, after one step of training with it.

    The first forward and backward passes of a process are slow; they are spent here.
    """
    import torch

    from adadpo_mini.config import RaceConfig
    from adadpo_mini.lockstep import Race
    from adadpo_mini.models.load import load_model

    torch.set_num_threads(1)
    toy = load_model()
    for _ in Race(RaceConfig(steps=1, measure_every=0), start=toy).events():
        pass
    return toy


class Engine:
    """All races of this server, and the toy model that they start from.

    Args:
        root: the folder for run folders; runs that are already there are shown as well.
        load_toy: returns (model, tokenizer) of the toy model.
        unwatched: seconds without a page that watches it, after which a race is stopped.
    """

    def __init__(
        self,
        root: Path,
        *,
        load_toy: Callable[[], tuple] = load_toy,
        unwatched: float = UNWATCHED,
    ) -> None:
        self.root, self._unwatched = root, unwatched
        self._load_toy = load_toy
        self._runs: dict[str, LiveRun] = {}
        self._loaded: OrderedDict[tuple, ChatModels] = OrderedDict()
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._toy = None
        self._warm: threading.Thread | None = None
        self._warm_lock = threading.Lock()

    def warm_up(self) -> threading.Thread:
        """Load the toy model in the background, so that the first race starts at once.

        A second call does nothing, unless loading has failed: then it tries again.
        """
        with self._warm_lock:
            if self._warm is None or not (self._warm.is_alive() or self._toy):
                self._warm = threading.Thread(target=self._warm_up, daemon=True)
                self._warm.start()
            return self._warm

    def _warm_up(self) -> None:
        try:
            self._toy = self._load_toy()
        except Exception:  # `start_model` says so on the page
            log.exception("the toy model could not be loaded")

    def start_model(self) -> tuple:
        """Return (model, tokenizer) of the toy, after waiting for the warm-up."""
        if self._toy is None:
            self.warm_up().join()
        if self._toy is None:
            raise InputError("The toy model could not be loaded; see the terminal for the reason.")
        return self._toy

    def start(self, settings: dict) -> LiveRun:
        """Check the settings and start a race.

        Raises:
            InputError: a setting is wrong, or too many races are running already.
        """
        from adadpo_mini.config import RaceConfig

        config = RaceConfig(**settings)
        every = max(1, config.steps // SNAPSHOTS)
        with self._lock:
            live = sum(run.live for run in self._runs.values())
            if live >= MAX_LIVE:
                raise InputError(
                    f"{live} races are running on this machine; wait for one to end or stop it."
                )
            make_room(self.root)
            folder = RunFolder(self.root / _new_name(config.data))
            settings = replace(config, snapshot_every=every).as_dict()
            run = self._runs[folder.path.name] = LiveRun(
                folder, settings, unwatched=self._unwatched
            )
            ended = [other.id for other in self._runs.values() if not other.live]
            for old in ended[: max(0, len(ended) - MAX_KEPT)]:
                del self._runs[old]

        def work() -> None:
            try:
                start = self.start_model()
            except InputError as problem:
                run.fail(str(problem))
            else:
                run.train(start)
                self._let_go(run)

        threading.Thread(target=work, name=f"race {run.id}", daemon=True).start()
        return run

    def _let_go(self, run: LiveRun) -> None:
        """From now on read an ended race from its folder, unless it could not be saved."""
        kept = (run.folder.path / "summary.json").is_file()
        if kept and run.status != "failed":
            with self._lock:
                self._runs.pop(run.id, None)

    def get(self, run_id: str | None) -> Run | None:
        """Return the run with that id, None if it does not exist (any more)."""
        name = run_id if isinstance(run_id, str) else ""
        found = self._runs.get(name)
        if found is not None:
            return found
        # Ids come from browsers: accept only a name, never a path.
        if not name.strip(".") or Path(name).name != name or "\0" in name or len(name) > 200:
            return None
        folder = RunFolder(self.root / name)
        return StoredRun(folder) if (folder.path / "config.json").is_file() else None

    def live_runs(self) -> list[LiveRun]:
        """Return the races that train, or prepare to train, in this process."""
        with self._lock:
            return [run for run in self._runs.values() if run.live]

    def readable(self, run_id: str | None) -> Run | None:
        """As `get`, but return None for a run whose folder is damaged."""
        found = self.get(run_id)
        return None if isinstance(found, StoredRun) and not _is_whole(found.folder) else found

    def latest(self) -> Run | None:
        """Return the newest run, None before the first."""
        with self._lock:
            live = next(reversed(self._runs.values()), None)
        if live is not None and live.live:
            return live
        stored = next(filter(_is_whole, list_runs(self.root)), None)
        return self.get(stored.path.name) if stored else live

    def chat_models(self, run: Run | None) -> ChatModels:
        """Return the models to chat with: those of a run, or the toy alone without a run.

        Raises:
            InputError: the models cannot be loaded.
        """
        found = run and run.chat_models()
        if found:
            return found
        if not isinstance(run, StoredRun):
            model, tokenizer = self.start_model()
            return ChatModels({"reference": model}, tokenizer)
        with self._loading:
            key = run.version
            if key not in self._loaded:
                self._loaded[key] = run.load_models(self.start_model)
            self._loaded.move_to_end(key)
            while len(self._loaded) > MAX_LOADED:
                self._loaded.popitem(last=False)
            return self._loaded[key]


def _is_whole(folder: RunFolder) -> bool:
    """Return whether a run can be read; a damaged one is hidden from visitors."""
    run = StoredRun(folder)
    try:
        run.settings, run.status, run.recent()
    except InputError:
        return False
    return True


def _new_name(data: str) -> str:
    return f"{data}-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
