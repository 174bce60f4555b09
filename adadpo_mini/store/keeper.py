"""What a race saves while it runs: events, snapshots, and the state to resume from."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from shlex import quote

from torch import Tensor

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import WriteError
from adadpo_mini.event import Event, Note
from adadpo_mini.lockstep import Race
from adadpo_mini.store.writer import RunWriter
from adadpo_mini.system.files import in_words
from adadpo_mini.system.signals import held_signals
from adadpo_mini.types import Model

FREE_SHARE = 0.5  # the largest share of the free disk space that snapshots may use


def snapshot_steps(steps: int, every: int) -> list[int]:
    """Return the steps at which snapshots are taken: 0, every multiple of `every`, and the last.

    >>> snapshot_steps(25, 10)
    [0, 10, 20, 25]
    >>> snapshot_steps(25, 0)
    []
    """
    return sorted({*range(0, steps + 1, every), steps}) if every else []


def affordable_every(steps: int, every: int, size: int, room: float) -> int:
    """Return the smallest multiple of `every` at which all snapshots fit into `room`.

    Args:
        every: the steps between snapshots that the user wants; 0 for none.
        size: bytes of one step's snapshots. room: bytes for all of them.

    Returns:
        At most `steps`, which means one snapshot at each end; 0 if even two do not fit.

    >>> [affordable_every(100, 10, size=1, room=room) for room in (11, 10, 5, 2, 1)]
    [10, 20, 30, 100, 0]
    """
    if not every or 2 * size > room:
        return 0
    multiples = range(every, steps + every, every)
    fits = (m for m in multiples if len(snapshot_steps(steps, m)) * size <= room)
    return min(next(fits), steps)


def plan_snapshots(config: RaceConfig, size: int, free: int, note: Note) -> int:
    """Return the steps between snapshots, and note the decision.

    Args:
        size: bytes of one step's snapshots. free: bytes free on the disk.
    """
    wished = config.snapshot_every
    room = min(config.snapshot_gb * 1e9, FREE_SHARE * free)
    every = affordable_every(config.steps, wished, size, room)
    limit = f"{in_words(room)} (the smaller of --snapshot-gb and half of the free disk space)"
    if wished and not every:
        note(f"No snapshots: two of them need {in_words(2 * size)}, but the limit is {limit}.")
    elif wished:
        count = len(snapshot_steps(config.steps, every))
        taken = f"{count} × {in_words(size)} = {in_words(count * size)}"
        instead = f" instead of every {wished}, to stay within {limit}" if every > wished else ""
        note(f"Snapshots every {every} steps{instead}: {taken}.")
    return every


def model_bytes(models: Collection[Model]) -> int:
    """Return the size of models on disk, in bytes. A LoRA model is saved whole, in fp32."""

    def width(model: Model, weight: Tensor) -> int:
        return 4 if hasattr(model, "merge_and_unload") else weight.element_size()

    return sum(p.numel() * width(model, p) for model in models for p in model.parameters())


class Keeper:
    """Saves a race's events, snapshots and state between steps. Without a writer, it saves nothing.

    Attributes:
        at_rest: whether the events of every update are written. Only then can the state be saved.
    """

    def __init__(self, race: Race, writer: RunWriter | None, note: Note) -> None:
        self._race, self._writer, self._note = race, writer, note
        self.at_rest = False
        config = race.config
        self._planned = snapshot_steps(config.steps, config.snapshot_every)

    def keep_events(self, events: Mapping[str, Event]) -> None:
        """Write the events of one step."""
        if self._writer:
            self._writer.append(events)
        self.at_rest = True

    def take_snapshot(self) -> None:
        """Save the models if a snapshot is planned for this step."""
        race, writer = self._race, self._writer
        if writer and race.step in self._planned:
            for method, model in race.models.items():
                writer.save_model(method, model, race.tokenizer, race.step)

    def keep_models(self) -> None:
        """Take a snapshot if one is planned, and save the state if it is due."""
        self.take_snapshot()
        if self._writer and self._writer.state_is_due:
            self._save_state(self._writer)
        self.at_rest = False

    def _save_state(self, writer: RunWriter) -> None:
        race = self._race
        left = 1 + sum(step > race.step for step in self._planned)  # 1 for the models at the end
        reserve = left * model_bytes(race.models.values())
        refusal = writer.save_state(race.state(), reserve)
        if refusal and self._note:
            self._note(refusal)
            self._note = None  # once is enough

    def save_all(self, summary: dict) -> dict:
        """Write the models and then the summary. Return the summary, changed if a write failed."""
        writer, race = self._writer, self._race
        if writer is None:
            return summary
        with held_signals(insist=False):
            try:
                if summary["status"] == "interrupted" and self.at_rest and race.step:
                    self._save_state(writer)
                for method, model in race.models.items():
                    writer.save_model(method, model, race.tokenizer)
                writer.finish(summary)
            except WriteError as error:
                if summary["status"] != "diverged":
                    problem = summary["problem"] or self.with_remedy(error)
                    summary = {**summary, "status": "failed", "problem": problem}
                with suppress(WriteError):
                    writer.finish(summary)
        return summary

    def with_remedy(self, error: WriteError) -> str:
        """Return the message of the error, with the command that resumes the race."""
        if self._writer is None or not self._writer.folder.is_there():
            return str(error)
        return f"{error} To resume: adadpo-mini resume {quote(str(self._writer.folder.path))}"
