"""What the command line prints: the closing table, the table of losses, answers side by side."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from adadpo_mini.cli.status import hide
from adadpo_mini.methods.registry import LOSS_COLUMNS, loss_rows
from adadpo_mini.models.generate import stream_answers
from adadpo_mini.store.summary import CAPTION, TITLES, closing_cells, reward_notes
from adadpo_mini.types import Model, Tokenizer


def closing_table(summary: dict, out: Path | None) -> None:
    """Print the summary of a race as a table. An unknown value, or NaN, is a dash."""
    title = f"{escape(summary['data'])}, seed {summary['seed']}: {summary['status']}"
    narrow = {"show_edge": False, "pad_edge": False, "padding": (0, 1, 0, 0)}
    table = Table(title=title, box=box.SIMPLE_HEAD, **narrow)
    table.add_column("method", overflow="fold")
    for name in ("steps", *TITLES):
        table.add_column(name, justify="right", no_wrap=True)
    for method, row in summary["methods"].items():
        table.add_row(method, *closing_cells(row))
    console = Console()
    console.print(table)
    console.print(CAPTION)
    for note in reward_notes(summary["methods"]):
        console.print(escape(note))
    if summary["trained_on_held_out"]:
        console.print(
            "All pairs have the same prompt, so none could be held out: the numbers are measured "
            "on the training pairs."
        )
    if "threads" in summary:
        console.print(f"CPU threads: {summary['threads']} for each method.")
    if out:
        console.print(f"Run folder: {escape(str(out))}")


def losses_table() -> None:
    """Print every method with its loss, what it balances and its source."""
    table = Table(show_lines=True)
    for name in LOSS_COLUMNS:
        table.add_column(name)
    for row in loss_rows():
        table.add_row(*map(escape, row))
    Console().print(table)
    Console().print(
        "u = log π_θ(y|x) − log π_ref(y|x), p = π_θ(y|x)^(1/|y|), r = sg[min(k·ρ, C)], w chosen, "
        "l rejected; r = 1 at ρ = 1. The balance holds below the ceiling. Where log-probs are "
        "summed but balanced per token (AdaDPO, Ada-IPO, Ada-R-DPO, Ada-CPO), it holds only for "
        "answers of equal length; otherwise the two sides differ by |y_w|/|y_l|."
    )


def chat_once(
    models: Mapping[str, Model],
    tokenizer: Tokenizer,
    prompt: str,
    *,
    quiet: bool = False,
    **ask: Any,
) -> dict[str, str]:
    """Show the answer of each model in a table: on a terminal as it grows, else when it is whole.

    Args:
        models: by name, in the order of the columns.
        quiet: print nothing.
        **ask: temperature, seed and form of the prompt, see `stream_answers`.

    Returns:
        The final answers, by model name.

    Raises:
        InputError: the prompt has no tokens, or another argument is out of range.
    """

    def picture(answers: dict[str, str]) -> Table:
        table = Table(*answers, title=escape(prompt))
        table.add_row(*map(escape, answers.values()))
        return table

    stream = stream_answers(models, tokenizer, prompt, **ask)
    answers = {name: "" for name in models}
    console = Console(quiet=quiet)
    hide()
    if not console.is_terminal:  # there Live leaves out the last line end
        *_, answers = stream
        console.print(picture(answers))
        return answers
    with Live(picture(answers), console=console) as live:
        for answers in stream:
            live.update(picture(answers))
    return answers
