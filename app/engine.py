"""The races of the page: each trains in a worker thread and writes a run folder; pages read it."""

import copy
import logging
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.store.folder import RunFolder, list_runs

from .runs import PAGE, ChatModels, Run, StoredRun, make_room

if TYPE_CHECKING:
    from adadpo_mini.lockstep import Race

MAX_LIVE = 2  # races that may train at the same time
MAX_KEPT = 12  # ended races kept in memory because they could not be saved on the disk
MAX_LOADED = 3  # runs whose models are kept in memory for the chat
# After this time without a page that watches it, a race is stopped: its tab was closed, and it
# would occupy one of the places for ever. Browsers wake a hidden tab once a minute.
UNWATCHED = 180  # seconds
SNAPSHOTS = 12  # for each race, besides the first

log = logging.getLogger(__name__)


class LiveRun(Run):
    """A race that trains in this process, or one that ended and could not be saved."""

    def __init__(self, folder: RunFolder, settings: dict) -> None:
        super().__init__(folder)
        self._settings = settings
        self._status, self._problem = "preparing", ""
        self._stop = threading.Event()
        self._seen = time.monotonic()
        self._resting = threading.Lock()  # free while no method is in the middle of a step
        self._race: Race | None = None
        self._trained: ChatModels | None = None

    @property
    def settings(self) -> dict:
        return {**self._settings, "started_by": PAGE}

    @property
    def status(self) -> str:
        return self._status

    @property
    def problem(self) -> str:
        return self._problem

    def stop(self) -> None:
        """Ask the race to stop after the current step."""
        self._stop.set()
        if self._status == "preparing":
            self._status = "interrupted"

    def fail(self, problem: str) -> None:
        """End the race as failed, with a sentence that says why."""
        self._problem, self._status = problem, "failed"

    def watch(self) -> None:
        """Note that a page is watching the race."""
        self._seen = time.monotonic()

    def chat_models(self) -> ChatModels | None:
        """Return copies of the policies as they are now, and the reference."""
        if self._trained is not None:
            return self._trained
        race = self._race
        if race is None:
            return None
        with self._resting:
            policies = {name: copy.deepcopy(model) for name, model in race.models.items()}
        return _chat_models(race, policies)

    def train(self, start: tuple) -> None:
        """Run the race until it ends, is stopped or fails; called in the worker thread."""
        from adadpo_mini.config import RaceConfig
        from adadpo_mini.lockstep import Race
        from adadpo_mini.run import conduct

        try:
            race = Race(RaceConfig(**self._settings), start=start)
            if self._stop.is_set():
                return
            with self._resting:
                self._race, self._status = race, "running"
                result = conduct(
                    race,
                    out=self.folder.path,
                    stop=self._between_steps,
                    note=lambda sentence: log.info("race %s: %s", self.id, sentence),
                    started_by=PAGE,
                )
            self._problem, self._status = result.summary["problem"] or "", result.summary["status"]
        except InputError as problem:
            self.fail(str(problem))
        except Exception as problem:  # whatever went wrong, the page must not wait for ever
            log.exception("race %s failed", self.id)
            self.fail(f"Unexpected problem: {problem!r}")
        finally:
            if self._race is not None:  # release what only training needs
                self._trained = _chat_models(self._race, self._race.models)
                self._race = None

    def _between_steps(self) -> bool:
        """Let a waiting chat copy the models; return whether to stop."""
        self._resting.release()
        unwatched = time.monotonic() - self._seen > UNWATCHED
        stop = self._stop.wait(0.0005) or unwatched
        self._resting.acquire()
        return stop


def _chat_models(race: "Race", policies: Mapping[str, object]) -> ChatModels:
    models = {"reference": race.reference, **policies}
    return ChatModels(models, race.tokenizer, race.prepared.prompt_form)


class Engine:
    """All races of this server, and the toy model that they start from.

    Args:
        root: the folder for run folders; runs that are already there are shown as well.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
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
                self._warm = threading.Thread(target=self._load_toy, daemon=True)
                self._warm.start()
            return self._warm

    def _load_toy(self) -> None:
        import torch

        from adadpo_mini.config import RaceConfig
        from adadpo_mini.lockstep import Race
        from adadpo_mini.models.load import load_model

        torch.set_num_threads(1)
        toy = load_model()
        # The first forward and backward passes of a process are slow; spend them here.
        for _ in Race(RaceConfig(steps=1, measure_every=0), start=toy).events():
            pass
        self._toy = toy

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
            run = self._runs[folder.path.name] = LiveRun(folder, settings)
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
    """Return whether a run can be read; a damaged one is not shown to everyone who comes."""
    run = StoredRun(folder)
    try:
        run.settings, run.status, run.recent()
    except InputError:
        return False
    return True


def _new_name(data: str) -> str:
    return f"{data}-{datetime.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:6]}"
