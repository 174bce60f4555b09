"""What the command line shows: a live progress line, the closing table, answers side by side."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from adadpo_mini.event import Event
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.models.generate import stream_answers


@contextmanager
def progress_bar(what: str, total: int) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr; yields a function to call with (done, note, in_all).

    It appears with the first call, so that input refused before any work gives one line only.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    bar = Progress(*columns, console=Console(stderr=True))
    task = bar.add_task(what, total=total, note="")

    def show(done: int, note: str = "", in_all: int = total) -> None:
        bar.start()
        bar.update(task, completed=done, total=in_all, **({"note": note} if note else {}))

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def race_progress(steps: int) -> Iterator[Callable[[str, Event], None]]:
    """A live progress line; yields the race's `on_event`."""
    latest: dict[str, str] = {}
    with progress_bar("steps", steps) as show:

        def on_event(method: str, event: Event) -> None:
            if "eval_loss" in event:
                chosen, rejected = event["eval_shift/chosen"], event["eval_shift/rejected"]
                latest[method] = f"{method} {chosen:+.1f}/{rejected:+.1f}"
            show(event["step"], "Δchosen/Δrejected: " + "  ".join(latest.values()))

        yield on_event


def closing_table(summary: dict, out: Path | None) -> None:
    """Print the summary of a race as a table; what is not known, or was no number, is a dash."""
    forms = {
        "delta_chosen": "+.1f", "delta_rejected": "+.1f", "accuracy": ".2f", "margin": ".2f",
        "win_rate": ".2f",
    }  # fmt: skip
    table = Table(title=f"{escape(summary['data'])}, seed {summary['seed']}: {summary['status']}")
    table.add_column("method")
    for name in ("steps", "Δchosen", "Δrejected", "accuracy", "margin", "win rate"):
        table.add_column(name, justify="right")
    for method, row in summary["methods"].items():
        steps = row.get("steps", 0)
        if not steps and "accuracy" not in row:
            table.add_row(method, "0")
            continue
        values = {name: row.get(name) for name in forms}
        cells = ["–" if v is None else f"{v:{forms[name]}}" for name, v in values.items()]
        table.add_row(method, str(steps), *cells)
    console = Console()
    console.print(table)
    console.print(
        "Δ: change of held-out completions' log-prob against the reference, nats. Accuracy and "
        "margin: of the raw rewards. Win rate: against the reference's answers, by the judge."
    )
    if summary["trained_on_held_out"]:
        console.print(
            "All pairs have the same prompt, so none could be held out: what was measured is what "
            "was trained on."
        )
    if "threads" in summary:
        console.print(f"CPU threads: {summary['threads']} for each method.")
    if out:
        console.print(f"Run folder: {escape(str(out))}")


def losses_table() -> None:
    """Print every method with its loss, what it balances and its source."""
    table = Table(show_lines=True)
    for name in ("name", "loss of a pair", "balanced in", "source"):
        table.add_column(name)
    for name, method in METHODS.items():
        table.add_row(*map(escape, (name, method.formula, method.balanced or "–", method.source)))
    Console().print(table)
    Console().print(
        "u = log π_θ(y|x) − log π_ref(y|x), p = π_θ(y|x)^(1/|y|), r = sg[min(k·ρ, C)], w chosen, "
        "l rejected; r = 1 at ρ = 1. What is balanced is so below the ceiling."
    )


def chat_once(models: dict, tokenizer, prompt: str, *, quiet: bool = False, **ask) -> dict:
    """Stream one answer per model into a table; returns the final answers."""

    def picture(answers: dict[str, str]) -> Table:
        table = Table(*answers, title=escape(prompt))
        table.add_row(*map(escape, answers.values()))
        return table

    stream = stream_answers(models, tokenizer, prompt, **ask)
    answers = {name: "" for name in models}
    with Live(picture(answers), console=Console(quiet=quiet)) as live:
        for answers in stream:
            live.update(picture(answers))
    return answers


def pretrain_with_progress(out: Path, steps: int, seed: int, threads: int) -> None:
    """Make the base model and save it, with a progress bar."""
    import torch

    from adadpo_mini.toyworld.pretrain import pretrain, save_base_model

    torch.set_num_threads(threads)
    with progress_bar("pre-training", steps) as show:
        model, tokenizer = pretrain(
            steps, seed=seed, on_step=lambda step, loss: show(step, f"{loss:.3f} nats/token")
        )
    save_base_model(model, tokenizer, out, steps=steps, seed=seed)
    print(out)
