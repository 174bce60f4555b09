"""One run as one HTML file: the trajectories, the measurements, the closing table, the diagnoses.

It opens without a network.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from adadpo_mini.config import RaceConfig
from adadpo_mini.doctor import NOTHING, Diagnosis, diagnose_all
from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.figures import COLOURS, LABELS, measurement_figure, trajectory_figure
from adadpo_mini.paper.render import render
from adadpo_mini.store.folder import RunFolder
from adadpo_mini.store.summary import (
    CAPTION,
    TITLES,
    closing_cells,
    reward_notes,
    summarize,
)
from adadpo_mini.system.files import check_can_write, replaced_file

REPORT_BYTES = 5_000_000  # about; most of it is plotly.js
ITSELF = "(π itself, temperature 1)"
OVER_PROMPTS = "(mean of a few held-out prompts, bars their range; π itself, temperature 1)"
MEASUREMENTS = {
    "Held-out loss": ("eval_loss", "nats"),
    "Accuracy (share of pairs with the chosen reward above the rejected one)": (
        "eval_rewards/accuracies", "share of pairs",
    ),
    "Margin (β·(u_w − u_l), mean over pairs)": ("eval_rewards/margins", "reward"),
    "Ranking accuracy (share of pairs with log π_w > log π_l, without the reference)": (
        "eval_ranking_accuracy", "share of pairs",
    ),
    "Force balance, per token (|∂L/∂x_w|/|∂L/∂x_l|; below 1 the rejected is pushed harder; even "
    "AdaDPO is at 1 only for answers of equal length)": ("balance/ratio", "ratio"),
    "ρ as used (after floor and ceiling)": ("ada/rho", "ratio"),
    f"KL to the reference {ITSELF}": ("eval_kl", "nats per completion"),
    f"Length of sampled answers {ITSELF}": ("eval_length", "tokens"),
    f"Mass of the chosen completion {OVER_PROMPTS}": ("mass/chosen", "probability"),
    f"Mass of the rejected completion {OVER_PROMPTS}": ("mass/rejected", "probability"),
    f"Mass of all other well-formed answers {OVER_PROMPTS}": ("mass/well_formed", "probability"),
    f"Mass of all other texts {OVER_PROMPTS}": ("mass/else", "probability"),
    "Reward model’s accuracy (share of held-out pairs it tells apart; below 0.8 it misleads)": (
        "eval_rlhf/reward_accuracy", "share of pairs",
    ),
    "Gradient norm": ("grad_norm", "before clipping"),
}  # fmt: skip
"""The event's key and the unit of each small figure, by its caption."""


@dataclass(frozen=True)
class Setting:
    """A row of the table of settings."""

    name: str
    value: str
    meaning: str
    is_default: bool


def write_run_report(run: Path, out: Path) -> None:
    """Write the report of a run folder as one self-contained HTML file.

    Raises:
        InputError: the folder has no run, a file in it is damaged, or the report would replace a
            file of the run. WriteError: the report cannot be written.
    """
    folder = RunFolder.open(run)
    inside = Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder.path))
    if inside and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{out} could be a file of the run; name the report something.html.")
    check_can_write(out, REPORT_BYTES)
    with replaced_file(out) as partial_file:
        partial_file.write_text(run_html(folder), encoding="utf-8", newline="\n")


def run_html(folder: RunFolder) -> str:
    """Return the page of a run, which may still be running.

    Raises:
        InputError: as `write_run_report`.
    """
    config, events = folder.settings(), folder.events()
    summary = folder.summary() or {}
    problem = summary.get("problem")
    rows = summary.get("methods")
    if not isinstance(rows, dict):
        rows = summarize(config, {m: events.get(m, []) for m in config.methods}, {})["methods"]
    return render(
        "run.html",
        config=config,
        methods=", ".join(LABELS[method] for method in config.methods),
        name=folder.path.resolve().name,
        status=folder.status,
        problem=problem,
        notes=[note for note in (summary.get("report"), *reward_notes(rows)) if note],
        labels=LABELS,
        colours=COLOURS,
        titles=TITLES,
        closing_caption=CAPTION,
        rows={method: closing_cells(row) for method, row in rows.items()},
        trajectories=trajectory_figure(events),
        panels=measurement_panels(events),
        diagnoses=diagnoses(events, problem),
        nothing=NOTHING,
        settings=settings_table(config),
    )


def measurement_panels(events: Mapping[str, Sequence[Event]]) -> dict:
    """Return the small figures by caption, of the numbers that the run has at several steps."""

    def steps(key: str) -> set[float]:
        log = (event for log in events.values() for event in log)
        return {event["step"] for event in log if event.get(key) is not None}

    return {
        caption: measurement_figure(events, key, unit)
        for caption, (key, unit) in MEASUREMENTS.items()
        if len(steps(key)) > 1
    }


def diagnoses(
    events: Mapping[str, Sequence[Event]], problem: str | None
) -> dict[str, list[Diagnosis]]:
    """Return what the doctor says, by method."""
    return diagnose_all({method: log for method, log in events.items() if log}, problem)


def settings_table(config: RaceConfig) -> list[Setting]:
    """Return the settings of a run, with what they mean and whether they are the defaults."""
    rows = []
    for one in fields(config):
        value = getattr(config, one.name)
        text = ", ".join(value) if isinstance(value, tuple) else str(value)
        rows.append(Setting(one.name, text, one.metadata["help"], value == one.default))
    return rows
