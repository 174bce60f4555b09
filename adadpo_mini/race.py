"""A race from start to end: trained, written to its run folder, and summed up."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from adadpo_mini.contest import Race
from adadpo_mini.errors import InputError, WriteError
from adadpo_mini.files import free_space, user_path
from adadpo_mini.keeper import Keeper, Note, model_bytes, plan_snapshots, snapshot_steps
from adadpo_mini.memory import REMEDY
from adadpo_mini.run_writer import RunWriter, check_free, create_run
from adadpo_mini.settings import RaceConfig
from adadpo_mini.signals import held_signals
from adadpo_mini.trainer import Event, OnEvent


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
    data: str | Path | Iterable[dict] = "tone",
    *,
    out: str | Path | None = None,
    on_event: OnEvent = lambda method, event: None,
    note: Note = lambda sentence: None,
    **settings,
) -> RaceResult:
    """Train several methods on the same pairs, from the same start, in the same order.

    Args:
        data: a toy set, a JSON-lines file, or rows, as `load_pairs` takes them.
        out: where to write the run folder; nothing is written if left out.
        on_event: called with (method, event) as they happen, for instance to draw them.
        note: called with what else is to be said, a sentence each.
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
    by_name = isinstance(data, (str, Path))
    config = RaceConfig(data=str(data) if by_name else "rows", **settings)
    check_output(config, out)
    contest = Race(config, data=None if by_name else data)
    return conduct(contest, out=out, on_event=on_event, note=note, keep_pairs=not by_name)


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
    contest: Race,
    *,
    out: str | Path | None,
    on_event: OnEvent = lambda method, event: None,
    note: Note = lambda sentence: None,
    stop: Callable[[], bool] = lambda: False,
    keep_pairs: bool = False,
    **told: object,
) -> RaceResult:
    """Let a contest run, write what happens, and sum it up; see `race`.

    Every race goes through here, whoever started it and whatever trains.

    Args:
        stop: asked after every step; True ends the race as an interruption does.
        keep_pairs: write the pairs to the run folder, because nowhere else are they kept.
        told: what config.json says besides the settings.
    """
    events: dict[str, list[Event]] = {method: [] for method in contest.config.methods}
    if out is None:
        return carry_out(contest, None, events, on_event=on_event, stop=stop, note=note)
    size = model_bytes(contest.models.values())
    every = plan_snapshots(contest.config, size, free_space(user_path(out)), note)
    contest.config = replace(contest.config, snapshot_every=every)
    settings = {
        **contest.config.as_dict(),
        "prompt_form": contest.prompt_form,
        "fingerprint": contest.fingerprint,
        "report": contest.report,
        "trained_on_held_out": contest.trained_on_held_out,
        **told,
    }
    pairs = (contest.train_pairs, contest.held_out) if keep_pairs else None
    needed = size * (1 + len(snapshot_steps(contest.config.steps, every)))
    with create_run(out, settings, pairs, needed) as writer:
        return carry_out(contest, writer, events, on_event=on_event, stop=stop, note=note)


def carry_out(
    contest: Race,
    writer: RunWriter | None,
    events: dict[str, list[Event]],
    *,
    on_event: OnEvent,
    note: Note,
    stop: Callable[[], bool] = lambda: False,
) -> RaceResult:
    """Train, judge, save and sum up. Whatever ends it, what was computed is kept."""
    keeper = Keeper(contest, writer, note)
    status, problem, win_rates = "finished", None, None
    with held_signals() as interrupted:
        try:
            _train(contest, keeper, events, on_event, lambda: interrupted() or stop())
            with interrupted.let_through():
                win_rates = contest.win_rates()
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
            problem = f"{contest.reference.device} has run out of memory; {REMEDY}."
        summary = {
            "status": status,
            "problem": problem,
            "trained_on_held_out": contest.trained_on_held_out,
            "report": contest.report,
            **summarize(contest.config, events, win_rates),
        }
        summary = keeper.save_all(summary)
    return RaceResult(
        contest.config, events, summary, contest.models, contest.reference, contest.tokenizer
    )


def _train(
    contest: Race,
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
    contest.train(emit)
    keeper.at_rest = True


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the computer itself, has no memory left: torch says it in two ways."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "allocate memory" in str(error)


def summarize(
    config: RaceConfig, events: dict[str, list[Event]], win_rates: dict[str, float] | None
) -> dict:
    """The closing table as a dict.

    Returns:
        data, seed, threads (CPU threads of each method), and methods: for each method, from its
        last held-out measurement, steps, delta_chosen and delta_rejected (nats per completion
        against the reference), accuracy, margin (β·(u_w − u_l)), win_rate against the reference
        (None if unknown), and seconds that this method has computed.
    """

    def row(method: str) -> dict:
        measured = [event for event in events[method] if "eval_loss" in event]
        if not measured:
            return {"steps": 0}
        last = measured[-1]
        return {
            "steps": last["step"],
            "delta_chosen": last["eval_shift/chosen"],
            "delta_rejected": last["eval_shift/rejected"],
            "accuracy": last["eval_rewards/accuracies"],
            "margin": last["eval_rewards/margins"],
            "win_rate": None if win_rates is None else win_rates[method],
            "seconds": last["own_time"],
        }

    methods = {method: row(method) for method in config.methods}
    about = {"data": config.data, "seed": config.seed, "threads": config.threads}
    return {**about, "methods": methods}
