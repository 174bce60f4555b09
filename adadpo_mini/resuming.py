"""Going on with a race whose process was killed or interrupted."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from adadpo_mini.contest import Race
from adadpo_mini.errors import InputError
from adadpo_mini.keeper import Note
from adadpo_mini.race import RaceResult, carry_out
from adadpo_mini.run_writer import reopen_run, versions
from adadpo_mini.runs import RunFolder, read_splits
from adadpo_mini.trainer import Event, OnEvent


def resume(
    path: str | Path,
    *,
    on_event: OnEvent = lambda method, event: None,
    note: Note = lambda sentence: None,
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
        return carry_out(contest, writer, events, on_event=on_event, note=note)


def _check_same(contest: Race, folder: RunFolder, note: Note) -> None:
    """Raise InputError if this is another race; say if its last bits may come out otherwise."""
    config = folder.config()
    if contest.fingerprint != config.get("fingerprint", contest.fingerprint):
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
    race = _kind_of_race(config)(settings, start=start, **data)
    if kept:  # nothing here knows any longer how they were found
        race.report = config.get("report")
        race.trained_on_held_out = config.get("trained_on_held_out", race.trained_on_held_out)
    return race


def _kind_of_race(config: dict) -> type[Race]:
    if config.get("engine", "own") == "own":
        return Race
    try:
        from adadpo_mini.trl_engine import TrlRace
    except ImportError as error:
        raise InputError(
            "the engine trl is not installed: pip install 'adadpo-mini[trl]'."
        ) from error
    return TrlRace


def _load(folder: RunFolder, summary: dict) -> RaceResult:
    """The result of a race that is finished."""
    settings, (reference, tokenizer) = folder.settings(), folder.load()
    models = {method: folder.load(folder.model(method))[0] for method in settings.methods}
    return RaceResult(settings, folder.events(), summary, models, reference, tokenizer)
