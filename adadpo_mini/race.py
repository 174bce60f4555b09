"""A race from start to end: trained, summed up, and written to its run folder."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from adadpo_mini.contest import Race
from adadpo_mini.memory import REMEDY
from adadpo_mini.policies import whole_model
from adadpo_mini.runs import RunFolder
from adadpo_mini.settings import RaceConfig
from adadpo_mini.trainer import Emit, Event


@dataclass(frozen=True)
class RaceResult:
    """What a race leaves in memory.

    Attributes:
        config: its settings.
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
    on_event: Emit = lambda method, event: None,
    **settings,
) -> RaceResult:
    """Train several methods on the same pairs, from the same start, in the same order.

    Args:
        data: a toy set, a JSON-lines file, or rows, as `load_pairs` takes them.
        out: where to write the run folder; nothing is written if left out.
        on_event: called with (method, event) as they happen, for instance to draw them.
        **settings: fields of `RaceConfig`, such as methods, steps, beta, learning_rate, seed.

    Returns:
        The result. After KeyboardInterrupt or divergence it holds what was done until then, and
        its summary's `status` says "interrupted" or "diverged"; if memory ran out, "failed".

    Raises:
        InputError: the settings, the data or the model cannot be used; nothing was trained.
    """
    by_name = isinstance(data, (str, Path))
    config = RaceConfig(data=str(data) if by_name else "rows", **settings)
    if out is not None:
        RunFolder.check_free(out)
    contest = Race(config, data=None if by_name else data)

    def run(emit: Emit) -> None:
        for method, event in contest.events():
            emit(method, event)

    return conduct(contest, run, out=out, on_event=on_event)


def conduct(
    contest: Race,
    run: Callable[[Emit], None],
    *,
    out: str | Path | None,
    on_event: Emit,
    **told: object,
) -> RaceResult:
    """Let a contest run, note and write what happens, and sum it up; see `race`.

    Args:
        run: trains, and hands on each event as it happens.
        told: what config.json says besides the settings.
    """
    config = contest.config
    settings = {**config.as_dict(), "prompt_form": contest.prompt_form, **told}
    folder = RunFolder.create(out, settings) if out is not None else None
    events: dict[str, list[Event]] = {method: [] for method in config.methods}

    def emit(method: str, event: Event) -> None:
        events[method].append(event)
        if folder:
            folder.append(method, event)
        on_event(method, event)

    status, problem, win_rates = "finished", None, None
    try:
        run(emit)
        win_rates = contest.win_rates()
    except KeyboardInterrupt:
        status = "interrupted"
    except FloatingPointError as error:
        status, problem = "diverged", str(error)
    except torch.OutOfMemoryError:
        status = "failed"
        problem = f"{contest.reference.device} has run out of memory; {REMEDY}."
    summary = {
        "status": status,
        "problem": problem,
        "trained_on_held_out": contest.trained_on_held_out,
        "report": contest.report,
        **summarize(config, events, win_rates),
    }
    if folder:
        with _uninterrupted():
            folder.write_summary(summary)
            for method, model in contest.models.items():
                folder.save_model(method, whole_model(model), contest.tokenizer)
    return RaceResult(config, events, summary, contest.models, contest.reference, contest.tokenizer)


def summarize(
    config: RaceConfig, events: dict[str, list[Event]], win_rates: dict[str, float] | None
) -> dict:
    """The closing table as a dict.

    Returns:
        data, seed, and methods: for each method, from its last held-out measurement, steps,
        delta_chosen and delta_rejected (nats per completion against the reference), accuracy,
        margin (β·(u_w − u_l)), win_rate against the reference (None if unknown), and seconds that
        this method has computed.
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
    return {"data": config.data, "seed": config.seed, "methods": methods}


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let a second Ctrl-C not tear what the first has caused to be saved."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals never reach other threads
        return
    before = {name: signal.signal(name, signal.SIG_IGN) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
