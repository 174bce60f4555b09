"""`Inspection` as tables on the terminal."""

from collections.abc import Callable, Iterable

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from adadpo_mini.cli.inspection import Inspection, ModelView, Side

VISIBLE = str.maketrans({" ": "·", "\n": "⏎", "\t": "⇥"})
ROWS: tuple[tuple[str, Callable[[ModelView], float | None]], ...] = (
    ("log π chosen", lambda m: m.chosen_logp),
    ("log π rejected", lambda m: m.rejected_logp),
    ("force on chosen", lambda m: m.forces and m.forces[0]),
    ("  at the start", lambda m: m.forces_at_start and m.forces_at_start[0]),
    ("force on rejected", lambda m: m.forces and m.forces[1]),
    ("  at the start", lambda m: m.forces_at_start and m.forces_at_start[1]),
    ("displacement", lambda m: m.meter),
    ("  threshold", lambda m: m.threshold),
    ("  cosine", lambda m: m.cosine),
    ("  norm ratio", lambda m: m.norm_ratio),
    ("CHES", lambda m: m.ches),
    ("  normalised", lambda m: m.normalised_ches),
    ("KL", lambda m: m.kl),
)


def print_inspection(found: Inspection) -> None:
    """Print one pair: the two completions token by token, the forces, the mass, the probe set."""
    console = Console()
    when = "at the end" if found.step is None else f"at step {found.step}"
    console.print(
        f"{escape(found.run)}, held-out pair {found.pair} of {found.pairs}, models {when}\n"
        f"prompt: {escape(found.prompt.strip())}"
    )
    for name, side in (("chosen", found.chosen), ("rejected", found.rejected)):
        console.print(f"\nThe {name}, token by token: log π_ref, and the change against it (nats)")
        console.print(_token_table(side))
    console.print("\nThe pair")
    console.print(_pair_table(found))
    console.print(
        "Forces: how hard the loss pushes log π of each side, up and down. To first order, a step "
        "on this pair alone lowers the chosen if the displacement exceeds its threshold; in a race "
        "the other pairs and AdamW move it, too. Log-probs and KL in nats, of π itself "
        "(temperature 1)."
    )
    if next(iter(found.models.values())).mass:
        console.print(
            "\nWhere the probability of the answers to this prompt is (π itself, temperature 1; "
            "other prompts may differ)"
        )
        console.print(_mass_table(found))
        for name, model in found.models.items():
            console.print(f"most likely for {name}: {escape(repr(model.most_likely))}")
        console.print("\nThe probe set: log π (nats)")
        console.print(_probe_table(found))
    for note in found.notes:
        console.print(escape(note))


def _table(first: str, names: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    return table


def _token_table(completion: Side) -> Table:
    table = _table("token", ("reference", *completion.change))
    changes = completion.change.values()
    for i, token in enumerate(completion.tokens):
        cells = [f"{completion.reference_logps[i]:.2f}", *(f"{c[i]:+.2f}" for c in changes)]
        table.add_row(escape(token.translate(VISIBLE)), *cells)
    table.add_section()
    totals = (f"{sum(change):+.2f}" for change in changes)
    table.add_row("sum", f"{sum(completion.reference_logps):.2f}", *totals)
    return table


def _pair_table(found: Inspection) -> Table:
    table = _table("", found.models)
    for title, value in ROWS:
        cells = [_number(value(model)) for model in found.models.values()]
        if set(cells) != {"–"}:
            table.add_row(title, *cells)
    return table


def _mass_table(found: Inspection) -> Table:
    table = _table("answers", found.models)
    models = list(found.models.values())
    titles = {
        "chosen": "the chosen",
        "rejected": "the rejected",
        "well_formed": "other well-formed",
    }
    for name in models[0].mass:
        table.add_row(titles.get(name, name), *(f"{model.mass[name]:.4f}" for model in models))
    table.add_section()
    for kind in models[0].mass_by_kind:
        cells = (f"{model.mass_by_kind[kind]:.4f}" for model in models)
        table.add_row(f"kind {kind}", *cells)
    table.add_section()
    table.add_row("the most likely", *(f"{model.most_likely_mass:.4f}" for model in models))
    return table


def _probe_table(found: Inspection) -> Table:
    table = _table("answer", found.models)
    models = list(found.models.values())
    for name in models[0].probe:
        cells = (f"{model.probe[name]:.2f}" for model in models)
        table.add_row(name.replace("_", " "), *cells)
    return table


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
