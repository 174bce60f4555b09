"""A race from start to end: train, judge, save, sum up; and resume after an interruption."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from adadpo_mini.config import ENGINES, OWN, TRL, RaceConfig
from adadpo_mini.errors import InputError, WriteError, did_you_mean
from adadpo_mini.event import Event, Note, OnEvent, say_nothing
from adadpo_mini.lockstep import Race, with_matched_ratio
from adadpo_mini.measure.answers import all_win_rates, probe_prompts
from adadpo_mini.models.memory import REMEDY, is_out_of_memory
from adadpo_mini.store.folder import RunFolder
from adadpo_mini.store.keeper import Keeper, model_bytes, plan_snapshots, snapshot_steps
from adadpo_mini.store.summary import summarize
from adadpo_mini.store.writer import RunWriter, check_free, create_run, reopen_run, versions
from adadpo_mini.system.files import free_space, user_path
from adadpo_mini.system.signals import held_signals
from adadpo_mini.types import Model, Tokenizer


@dataclass(frozen=True)
class RaceResult:
    """What a race leaves in memory.

    Attributes:
        config: the settings, with the number of threads filled in.
        events: all events by method.
        summary: the closing table, see `summarize`.
        models: the trained policies by method.
        reference: the model that they all started from.
        tokenizer: the tokenizer that they share.
    """

    config: RaceConfig
    events: dict[str, list[Event]]
    summary: dict
    models: dict[str, Model]
    reference: Model
    tokenizer: Tokenizer


def race(
    data: str | Path | Iterable[dict] = RaceConfig.data,
    *,
    out: str | Path | None = None,
    on_event: OnEvent = say_nothing,
    note: Note = say_nothing,
    engine: str = OWN,
    **settings: object,
) -> RaceResult:
    """Train several methods on the same pairs, from the same start, in the same order.

    Args:
        data: a toy set, a file, a data set or rows; see `load_pairs`.
        out: the run folder to write; by default nothing is written.
        on_event: called with (method, event) during the race, for example to draw a chart.
        note: called with sentences for the user.
        engine: "own", or "trl" to train one method with TRL's trainer, which
            `pip install 'trl>=1.16,<1.17'` installs.
        **settings: fields of `RaceConfig`, such as methods, steps, beta, learning_rate, seed.

    Returns:
        The result. `summary["status"]` is "finished", "interrupted" (KeyboardInterrupt),
        "diverged", or "failed" (out of memory or disk space). In all cases the result has
        everything up to that step.

    Raises:
        InputError: the settings, the data or the model cannot be used, or `out` cannot be written.
            Raised before any training.
    """
    if data is None:
        raise InputError("data must be a toy set, a file, a data set or rows, not None.")
    new_race = race_class(engine)
    by_name = isinstance(data, (str, Path))
    if engine == TRL:
        settings = {"methods": ("adadpo",), **settings}
    config = RaceConfig(data=str(data) if by_name else "rows", **settings)
    new_race.check(config)
    check_output(config, out)
    ready = new_race(config, data=None if by_name else data)
    ready = with_matched_ratio(ready, note) if config.match_ratio else ready
    more = {} if engine == OWN else {"engine": engine}
    return conduct(ready, out=out, on_event=on_event, note=note, keep_pairs=not by_name, **more)


def race_class(engine: str) -> type[Race]:
    """Return the class of race that an engine runs.

    Raises:
        InputError: the engine is unknown or not installed.
    """
    if engine not in ENGINES:
        guess = did_you_mean(engine, ENGINES)
        raise InputError(f"engine must be one of {', '.join(ENGINES)}, not {engine!r}{guess}")
    if engine == OWN:
        return Race
    if find_spec("trl") is None:
        raise InputError("the engine trl is not installed: pip install 'trl>=1.16,<1.17'.")
    from adadpo_mini.trl.engine import TrlRace

    return TrlRace


def check_output(config: RaceConfig, out: str | Path | None) -> None:
    """Check, before anything is loaded, that the run folder can be written.

    Raises:
        InputError: it cannot be written.
    """
    if out is not None:
        check_free(out)
    elif config.snapshot_every:
        raise InputError("snapshot_every needs a run folder to write to: set out (--out).")


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
    """Run a prepared race and write its run folder; see `race`.

    Every race goes through here: from Python, the command line, the page, and TRL.

    Args:
        stop: called after every step; if it returns True, the race ends as if interrupted.
        keep_pairs: write the pairs to the run folder, because they are in no file.
        about: more entries for config.json.
    """
    if race.report:
        note(race.report)
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
    """Train, judge, save and sum up. However the race ends, what was computed is kept."""
    keeper = Keeper(race, writer, note)
    status, problem, judged = "finished", None, {}
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
            if not is_out_of_memory(error):
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


def _judge(race: Race) -> dict[float, dict[str, float] | None]:
    """Return, by temperature, the methods' win rates over the reference on the probe's prompts."""
    prompts = probe_prompts(race.held_out, race.config.eval_pairs)
    return all_win_rates(race.models, race.reference, race.tokenizer, prompts, race.config.seed)


def _train(
    race: Race,
    keeper: Keeper,
    events: dict[str, list[Event]],
    on_event: OnEvent,
    stop: Callable[[], bool],
) -> None:
    """Train to the end, or to the end of the step in which an interruption comes."""

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


def resume(
    path: str | Path,
    *,
    on_event: OnEvent = say_nothing,
    note: Note = say_nothing,
) -> RaceResult:
    """Continue a race that was interrupted.

    The race continues from the last saved state, or starts again if there is none. Its events and
    final weights are those of an uninterrupted race, to the last bit. A finished race is only
    loaded.

    Args:
        path: the run folder.
        on_event, note: see `race`.

    Raises:
        InputError: the folder has no run, the run has diverged, another process is writing it, or
            its data or model have changed.
    """
    folder = RunFolder.open(path)
    summary = folder.summary() or {}
    if summary.get("status") == "finished" and "report" in summary:
        return _load(folder, summary)
    with reopen_run(path) as writer:
        if summary.get("status") == "diverged":
            raise InputError(f"{folder.path}: {summary.get('problem')} It would diverge again.")
        race = _same_race(folder)
        _check_same(race, folder, note)
        if state := writer.load_state():
            race.restore(state)
        events = writer.keep_steps(race.step)
        writer.reopen()
        steps = race.config.steps
        where = f"continuing at step {race.step} of {steps}"
        note(f"{folder.path}: {where if race.step <= steps else 'all steps are done'}.")
        for step_events in zip(*events.values(), strict=True):
            for method, event in zip(events, step_events, strict=True):
                on_event(method, event)
        return train_and_save(race, writer, events, on_event=on_event, note=note)


def _check_same(race: Race, folder: RunFolder, note: Note) -> None:
    """Raise InputError if data or model have changed; note whether the last digits may differ."""
    config = folder.config()
    if race.prepared.fingerprint != config.get("fingerprint", race.prepared.fingerprint):
        raise InputError(
            f"{folder.path}: the data or the model have changed since the race began; restore them "
            "or start another race."
        )
    before = config.get("made_with", {})
    changed = [name for name, now in versions().items() if before.get(name, now) != now]
    if changed:
        note(f"{' and '.join(changed)} changed since the race began; the last digits may differ.")


def _same_race(folder: RunFolder) -> Race:
    """Return the race of a run folder, as it was before its first step."""
    settings, start = folder.settings(), folder.load()
    config, kept = folder.config(), folder.kept_splits()
    data = {"splits": kept} if kept else {"data": folder.source(settings.data)}
    race = race_class(config.get("engine", OWN))(settings, start=start, **data)
    if kept:  # the pairs no longer know where they came from
        race.report = config.get("report")
        race.trained_on_held_out = config.get("trained_on_held_out", race.trained_on_held_out)
    return race


def _load(folder: RunFolder, summary: dict) -> RaceResult:
    """Return the result of a finished race."""
    settings, (reference, tokenizer) = folder.settings(), folder.load()
    models = {method: folder.load(folder.model(method))[0] for method in settings.methods}
    return RaceResult(settings, folder.events(), summary, models, reference, tokenizer)
