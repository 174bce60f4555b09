"""A race of the page while it trains, in a worker thread of this process."""

import copy
import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.store.folder import RunFolder

from .runs import PAGE, ChatModels, Run

if TYPE_CHECKING:
    from adadpo_mini.lockstep import Race

# After this time without a page that watches it, a race is stopped: its tab was closed, and it
# would hold its slot forever. Browsers wake a hidden tab once a minute.
UNWATCHED = 180  # seconds

log = logging.getLogger(__name__)


class LiveRun(Run):
    """A race that trains in this process, or one that ended and could not be saved.

    Args:
        folder: where it is written.
        settings: the fields of `RaceConfig`.
        unwatched: seconds without a page that watches the race, after which it is stopped.
    """

    def __init__(self, folder: RunFolder, settings: dict, *, unwatched: float = UNWATCHED) -> None:
        super().__init__(folder)
        self._settings, self._most_unwatched = settings, unwatched
        self._status, self._problem = "preparing", ""
        self._stop = threading.Event()
        self._seen = time.monotonic()
        self._resting = threading.Lock()  # free while no method is in the middle of a step
        self._race: Race | None = None
        self._trained: ChatModels | None = None

    @property
    def settings(self) -> dict:
        """The fields of `RaceConfig`, and "started_by"."""
        return {**self._settings, "started_by": PAGE}

    @property
    def status(self) -> str:
        """How far the race is; see `Run.status`."""
        return self._status

    @property
    def problem(self) -> str:
        """One sentence, if the race diverged or failed; else empty."""
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
        except Exception as problem:  # whatever went wrong, the page must not wait forever
            log.exception("race %s failed", self.id)
            self.fail(f"Unexpected problem: {problem!r}")
        finally:
            if self._race is not None:  # release what only training needs
                self._trained = _chat_models(self._race, self._race.models)
                self._race = None

    def _between_steps(self) -> bool:
        """Let a waiting chat copy the models; return whether to stop."""
        self._resting.release()
        unwatched = time.monotonic() - self._seen > self._most_unwatched
        stop = self._stop.wait(0.0005) or unwatched
        self._resting.acquire()
        return stop


def _chat_models(race: "Race", policies: Mapping[str, object]) -> ChatModels:
    models = {"reference": race.reference, **policies}
    return ChatModels(models, race.tokenizer, race.prepared.prompt_form)
