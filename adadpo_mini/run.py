"""A race from start to end: trained, kept in its run folder, and summed up; and how to go on."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import torch

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError, WriteError
from adadpo_mini.event import Event, Note, OnEvent, say_nothing
from adadpo_mini.lockstep import Race
from adadpo_mini.measure.answers import probe_prompts, win_rates
from adadpo_mini.models.memory import REMEDY
from adadpo_mini.store.folder import RunFolder, read_splits
from adadpo_mini.store.keeper import Keeper, model_bytes, plan_snapshots, snapshot_steps
from adadpo_mini.store.summary import summarize
from adadpo_mini.store.writer import RunWriter, check_free, create_run, reopen_run, versions
from adadpo_mini.system.files import free_space, user_path
from adadpo_mini.system.signals import held_signals

OWN, TRL = ENGINES = ("own", "trl")


@dataclass(frozen=True)
class RaceResult:
    """What a race leaves in memory.

    Attributes:
        config: its settings, with the number of threads that was chosen where none was given.
        events: every event, by method.
        summary: see `summarize`.
        models: the trained policies, by method.
        reference: the model they all started from.
        tokenizer: the tokenizer they share.
    """

    config: RaceConfig
    events: dict[str, list[Event]]
    summary: dict
    models: dict
    reference: object
    tokenizer: object


def race(
    data: str | Path | Iterable[dict] = RaceConfig.data,
    *,
    out: str | Path | None = None,
    on_event: OnEvent = say_nothing,
    note: Note = say_nothing,
    engine: str = OWN,
    **settings,
) -> RaceResult:
    """Train several methods on the same pairs, from the same start, in the same order.

    Args:
        data: a toy set, a JSON-lines file, or rows, as `load_pairs` takes them.
        out: where to write the run folder; nothing is written if left out.
        on_event: called with (method, event) as they happen, for instance to draw them.
        note: called with what else there is to say, a sentence each.
        engine: what trains: "own", or "trl" for one method in TRL's trainer (needs
            `adadpo-mini[trl]`).
        **settings: fields of `RaceConfig`, such as methods, steps, beta, learning_rate, seed.

    Returns:
        The result. After KeyboardInterrupt or divergence it holds what was done until then, and
        its summary's `status` says "interrupted" or "diverged"; if memory or the disk ran out,
        "failed".

    Raises:
        InputError: the settings, the data or the model cannot be used, or nothing can be written
            to `out`; nothing was trained.
    """
    if data is None:
        raise InputError("data must be a toy set, a file or rows, not None.")
    new_race = race_class(engine)
    by_name = isinstance(data, (str, Path))
    if engine == TRL:
        settings = {"methods": ("adadpo",), **settings}
    config = RaceConfig(data=str(data) if by_name else "rows", **settings)
    new_race.check(config)
    check_output(config, out)
    ready = new_race(config, data=None if by_name else data)
    more = {} if engine == OWN else {"engine": engine}
    return conduct(ready, out=out, on_event=on_event, note=note, keep_pairs=not by_name, **more)


def race_class(engine: str) -> type[Race]:
    """The kind of race that an engine runs.

    Raises:
        InputError: there is no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}.")
    if engine == OWN:
        return Race
    if find_spec("trl") is None:
        raise InputError("the engine trl is not installed: pip install 'adadpo-mini[trl]'.")
    from adadpo_mini.trl.engine import TrlRace

    return TrlRace


def check_output(config: RaceConfig, out: str | Path | None) -> None:
    """Find out, before anything is loaded, whether the run can be written.

    Raises:
        InputError: it cannot.
    """
    if out is not None:
        check_free(out)
    elif config.snapshot_every:
        raise InputError("snapshot_every needs a run folder to write to: give out (--out).")


def conduct(
    race: Race,
    *,
    out: str | Path | None,
    on_event: OnEvent = say_nothing,
    note: Note = say_nothing,
    stop: Callable[[], bool] = lambda: False,
    keep_pairs: bool = False,
    **about: object,
) -> RaceResult:
    """Run a race, write what happens, and sum it up; see `race`.

    Every race goes through here, whoever started it and whatever trains.

    Args:
        stop: asked after every step; True ends the race as an interruption does.
        keep_pairs: write the pairs to the run folder, because nowhere else are they kept.
        about: what config.json says besides the settings.
    """
    events: dict[str, list[Event]] = {method: [] for method in race.config.methods}
    if out is None:
        return train_and_save(race, None, events, on_event=on_event, stop=stop, note=note)
    size = model_bytes(race.models.values())
    every = plan_snapshots(race.config, size, free_space(user_path(out)), note)
    race.config = replace(race.config, snapshot_every=every)
    settings = {
        **race.config.as_dict(),
        "prompt_form": race.prepared.prompt_form,
        "fingerprint": race.prepared.fingerprint,
        "report": race.report,
        "trained_on_held_out": race.trained_on_held_out,
        **about,
    }
    pairs = (race.train_pairs, race.held_out) if keep_pairs else None
    needed = size * (1 + len(snapshot_steps(race.config.steps, every)))
    with create_run(out, settings, pairs, needed) as writer:
        return train_and_save(race, writer, events, on_event=on_event, stop=stop, note=note)


def train_and_save(
    race: Race,
    writer: RunWriter | None,
    events: dict[str, list[Event]],
    *,
    on_event: OnEvent,
    note: Note,
    stop: Callable[[], bool] = lambda: False,
) -> RaceResult:
    """Train, judge, save and sum up. Whatever ends it, what was computed is kept."""
    keeper = Keeper(race, writer, note)
    status, problem, judged = "finished", None, None
    with held_signals() as interrupted:
        try:
            _train(race, keeper, events, on_event, lambda: interrupted() or stop())
            with interrupted.let_through():
                judged = _judge(race)
        except KeyboardInterrupt:
            status = "interrupted"
        except FloatingPointError as error:
            status, problem = "diverged", str(error)
        except WriteError as error:
            status, problem = "failed", keeper.with_remedy(error)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            status = "failed"
            problem = f"{race.reference.device} has run out of memory; {REMEDY}."
        summary = {
            "status": status,
            "problem": problem,
            "trained_on_held_out": race.trained_on_held_out,
            "report": race.report,
            **summarize(race.config, events, judged),
        }
        summary = keeper.save_all(summary)
    return RaceResult(race.config, events, summary, race.models, race.reference, race.tokenizer)


def _judge(race: Race) -> dict[str, float] | None:
    """The win rates of the methods against the reference, on the probe's prompts."""
    prompts = probe_prompts(race.held_out, race.config.eval_pairs)
    return win_rates(race.models, race.reference, race.tokenizer, prompts, race.config.seed)


def _train(
    race: Race,
    keeper: Keeper,
    events: dict[str, list[Event]],
    on_event: OnEvent,
    stop: Callable[[], bool],
) -> None:
    """Train to the end, or to the end of the step in which somebody interrupts."""

    def emit(step_events: Mapping[str, Event]) -> None:
        for method, event in step_events.items():
            events[method].append(event)
        keeper.keep_events(step_events)
        for method, event in step_events.items():
            on_event(method, event)
        if stop():
            raise KeyboardInterrupt
        keeper.keep_models()

    keeper.take_snapshot()
    race.train(emit)
    keeper.at_rest = True


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the computer itself, has no memory left: torch says it in two ways."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "allocate memory" in str(error)


def resume(
    path: str | Path,
    *,
    on_event: OnEvent = say_nothing,
    note: Note = say_nothing,
) -> RaceResult:
    """Go on with a race that was interrupted, as if nothing had happened.

    It goes on from the state that was saved last, or else starts again; events and final weights
    are then those of a race that was never interrupted, to the last bit. A finished race is loaded
    as it is.

    Args:
        path: the run folder. on_event, note: as for `race`.

    Raises:
        InputError: there is no run, it has diverged, another process is writing it, or its data or
            model are no longer what they were.
    """
    folder = RunFolder.open(path)
    summary = folder.summary() or {}
    if summary.get("status") == "finished" and "report" in summary:
        return _load(folder, summary)
    with reopen_run(path) as writer:
        if summary.get("status") == "diverged":
            raise InputError(
                f"{folder.path}: {summary.get('problem')} Resumed, it would diverge again."
            )
        contest = _same_race(folder)
        _check_same(contest, folder, note)
        state = writer.load_state()
        if state:
            contest.restore(state)
        events = writer.keep_steps(contest.step)
        writer.reopen()
        steps = contest.config.steps
        where = f"going on at step {contest.step} of {steps}"
        note(f"{folder.path}: {where if contest.step <= steps else 'all steps are done'}.")
        for method, event in _in_order(events):
            on_event(method, event)
        return train_and_save(contest, writer, events, on_event=on_event, note=note)


def _check_same(contest: Race, folder: RunFolder, note: Note) -> None:
    """Raise InputError if this is another race; say if its last bits may come out otherwise."""
    config = folder.config()
    if contest.prepared.fingerprint != config.get("fingerprint", contest.prepared.fingerprint):
        raise InputError(
            f"{folder.path}: the data or the model are no longer those that the race began with; "
            "put them back, or start another race."
        )
    before = config.get("made_with", {})
    changed = [name for name, now in versions().items() if before.get(name, now) != now]
    if changed:
        note(f"{' and '.join(changed)} changed since the race began; the last digits may differ.")


def _in_order(events: Mapping[str, list[Event]]) -> Iterator[tuple[str, Event]]:
    for step in zip(*events.values(), strict=True):
        yield from zip(events, step, strict=True)


def _same_race(folder: RunFolder) -> Race:
    """The race that a run folder's config.json tells of, as it was before its first step."""
    settings, start = folder.settings(), folder.load()
    config, (train, test) = folder.config(), folder.pairs
    kept = settings.data == "rows" and train.is_file()
    data = {"splits": read_splits(train, test)} if kept else {"data": folder.source(settings.data)}
    race = race_class(config.get("engine", OWN))(settings, start=start, **data)
    if kept:  # nothing here knows any longer how they were found
        race.report = config.get("report")
        race.trained_on_held_out = config.get("trained_on_held_out", race.trained_on_held_out)
    return race


def _load(folder: RunFolder, summary: dict) -> RaceResult:
    """The result of a race that is finished."""
    settings, (reference, tokenizer) = folder.settings(), folder.load()
    models = {method: folder.load(folder.model(method))[0] for method in settings.methods}
    return RaceResult(settings, folder.events(), summary, models, reference, tokenizer)
