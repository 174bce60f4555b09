"""Live races: each in a worker thread that appends events to a list which pages read by cursor."""

import copy
import logging
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from adadpo_mini.errors import InputError

MAX_LIVE = 2  # races that may train at the same time
MAX_KEPT = 12  # races, live and ended, that are kept for chatting and for reloaded pages
# A race that no page has asked about for so long is stopped: its tab was closed, and it would hold
# one of the places for ever. Browsers wake a hidden tab once a minute.
UNWATCHED = 180  # seconds

log = logging.getLogger(__name__)


@dataclass
class LiveRun:
    """One race and all that a page may want of it.

    Attributes:
        settings: the fields of `RaceConfig` it was started with.
        events: (method, event) in the order they happened; only ever appended to.
        status: preparing, running, finished, stopped or failed.
        problem: one sentence, when it failed.
    """

    settings: dict
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    events: list = field(default_factory=list)
    status: str = "preparing"
    problem: str = ""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._seen = time.monotonic()
        self._models_lock = threading.Lock()
        self._race = None

    @property
    def live(self) -> bool:
        return self.status in ("preparing", "running")

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.settings["methods"])

    @property
    def step(self) -> int:
        """Updates done so far, by all methods."""
        return self.events[-1][1]["step"] if self.events else 0

    def stop(self) -> None:
        """Ask the race to stop after the step it is in."""
        self._stop.set()
        if self.status == "preparing":
            self.status = "stopped"

    def watch(self) -> None:
        """Note that a page is looking at the race."""
        self._seen = time.monotonic()

    def models(self) -> Mapping[str, object]:
        """Copies of the reference and the policies as they are now, safe to sample from."""
        if self._race is None:
            return {}
        with self._models_lock:
            policies = {name: copy.deepcopy(model) for name, model in self._race.models.items()}
        return {"reference": self._race.reference, **policies}

    def train(self, start) -> None:
        """Run the race to its end, to a stop, or to a problem; called in the worker thread."""
        from adadpo_mini.contest import Race
        from adadpo_mini.settings import RaceConfig

        try:
            self._race = Race(RaceConfig(**self.settings), start=start)
            if self._stop.is_set():
                return
            self.status = "running"
            stream = self._race.events()
            while not self._stop.is_set() and time.monotonic() - self._seen < UNWATCHED:
                with self._models_lock:
                    item = next(stream, None)
                if item is None:
                    self.status = "finished"
                    return
                self.events.append(item)
                self._stop.wait(0.0005)  # lets a waiting chat have the lock
            stream.close()
            self.status = "stopped"
        except (InputError, FloatingPointError) as problem:
            self.problem, self.status = str(problem), "failed"
        except Exception as problem:  # the page must not wait for ever, whatever went wrong
            log.exception("race %s failed", self.id)
            self.problem, self.status = f"Unexpected problem: {problem!r}", "failed"
        finally:
            if self._race is not None:
                self._race.forget_training()


class Engine:
    """All races of this server, and the one toy model that they start from."""

    def __init__(self) -> None:
        self._runs: dict[str, LiveRun] = {}
        self._lock = threading.Lock()
        self._toy = None
        self._warm: threading.Thread | None = None
        self._warm_lock = threading.Lock()

    def warm_up(self) -> threading.Thread:
        """Load the toy model in the background, so that the first race starts at once.

        Called again it does nothing, unless loading has failed: then it tries once more.
        """
        with self._warm_lock:
            if self._warm is None or not (self._warm.is_alive() or self._toy):
                self._warm = threading.Thread(target=self._load_toy, daemon=True)
                self._warm.start()
            return self._warm

    def _load_toy(self) -> None:
        import torch

        from adadpo_mini.contest import Race
        from adadpo_mini.models import load_model
        from adadpo_mini.settings import RaceConfig

        torch.set_num_threads(1)
        toy = load_model()
        # The first forward and backward passes of a process are slow; spend them here.
        for _ in Race(RaceConfig(steps=1, measure_every=0), start=toy).events():
            pass
        self._toy = toy

    def start_model(self) -> tuple:
        """(model, tokenizer) of the toy, waiting for the warm-up where it is not over."""
        if self._toy is None:
            self.warm_up().join()
        if self._toy is None:
            raise InputError("The toy model could not be loaded; see the terminal for the reason.")
        return self._toy

    def start(self, settings: dict) -> LiveRun:
        """Check the settings and start a race.

        Raises:
            InputError: a setting is wrong, or enough races are running already.
        """
        from adadpo_mini.settings import RaceConfig

        RaceConfig(**settings)
        with self._lock:
            live = sum(run.live for run in self._runs.values())
            if live >= MAX_LIVE:
                raise InputError(
                    f"{live} races are running on this machine; wait for one to end or stop it."
                )
            run = LiveRun(settings)
            self._runs[run.id] = run
            ended = [other.id for other in self._runs.values() if not other.live]
            for old in ended[: max(0, len(self._runs) - MAX_KEPT)]:
                del self._runs[old]

        def work() -> None:
            try:
                start = self.start_model()
            except InputError as problem:
                run.problem, run.status = str(problem), "failed"
            else:
                run.train(start)

        threading.Thread(target=work, name=f"race {run.id}", daemon=True).start()
        return run

    def get(self, run_id: str | None) -> LiveRun | None:
        """The run of that id, None if there is none (any more)."""
        return self._runs.get(run_id or "")

    def latest(self) -> LiveRun | None:
        """The newest run, None before the first."""
        with self._lock:
            return next(reversed(self._runs.values()), None)
