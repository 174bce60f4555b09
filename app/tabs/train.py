"""The Train tab: settings, Start and Stop, the live chart, and a status line in words."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.figures import LABELS, trajectory_figure
from adadpo_mini.store.folder import Cursor
from adadpo_mini.toyworld import data_dir
from adadpo_mini.toyworld.sets import CAVEATS, SETS

from .. import words
from ..engine import Engine
from ..live import LiveRun
from ..markup import render
from ..runs import Run

LIVE_PLOT_JS = (Path(__file__).parents[1] / "static" / "live_plot.js").read_text(encoding="utf-8")
# The page draws held-out curves but no slow measurements: they would delay the first points.
PACE = {"eval_every": 2, "measure_every": 0}
METHODS_OFFERED = ("dpo", "adadpo", "fixed_ratio")  # the command line offers all of them
TICK = 0.25  # seconds between two updates of the page
# What the chart needs from an event; the rest stays on the server.
SENT = ("step", "eval_shift/chosen", "eval_shift/rejected")
SETTINGS = ("data", "methods", "beta", "learning_rate", "steps", "seed")
LEGEND = (
    "Solid: chosen. Dashed: rejected. Measured on held-out pairs; 0 is the reference model, where "
    "all methods start. These are log-probs of the model itself, which is temperature 1. The loss "
    "curve shows none of this."
)


def describe_sets() -> str:
    """Return a line about each data set, from its docstring."""
    lines = {name: make_pair.__doc__.splitlines()[0] for name, make_pair in SETS.items()}
    lines["noisy_labels"] = "As tone, but with the labels of one training pair in five flipped."
    lines |= {name: f"{lines[name]} {caveat}" for name, caveat in CAVEATS.items()}
    return "\n".join(f"- **{name}**: {line}" for name, line in lines.items())


def beta_measured() -> str:
    """Return the page about β from the results, without its title and how it is made."""
    text = (data_dir() / "results" / "beta.md").read_text(encoding="utf-8")
    shown = text.split("\n", 1)[1].split("## How it is made")[0]
    return re.sub(r"\[(.+?)\]\(\S+?\)", r"\1", shown)  # links lead to files beside it


def feed_since(run: Run | None, cursor: Cursor) -> tuple[str, Cursor]:
    """Return what the chart has not seen yet, as one JSON message, and the new cursor.

    The first message about a run contains the empty figure.
    """
    if run is None:
        return json.dumps({"run": None}), {}
    if run.folder.is_stale(cursor):
        cursor = {}  # the chart is drawn again from the start
    events, end = run.events_since(cursor)
    measured = [(method, event) for method, event in events if words.is_measured(event)]
    points = [[method, *(event[name] for name in SENT)] for method, event in measured]
    begin = sum(cursor.values())
    message = {"run": run.id, "from": begin, "to": sum(end.values()), "points": points}
    if begin == 0:
        message["figure"] = json.loads(trajectory_figure({m: [] for m in run.methods}).to_json())
        message["steps"] = run.settings["steps"]
    return json.dumps(message), end


@dataclass(frozen=True)
class Parts:
    """The components of the tab.

    Attributes:
        settings: one for each of `SETTINGS`.
    """

    settings: list[gr.components.Component]
    start: gr.Button
    stop: gr.Button
    chart: gr.HTML
    status: gr.HTML
    cursor: gr.State
    timer: gr.Timer

    @property
    def view(self) -> list[gr.components.Component]:
        """What an update of the page changes, in the order in which `Handlers.look` returns it."""
        return [self.chart, self.cursor, self.status, self.start, self.stop, self.timer]


def build(
    page: gr.Blocks, engine: Engine, mine: gr.BrowserState, watched: gr.State, plotly_js: Path
) -> None:
    """Lay out the tab and connect it.

    Args:
        mine: the id of the race that this browser started.
        watched: the id of the run that the page shows.
        plotly_js: the file of plotly.js.
    """
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            settings = _lay_out_settings()
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="run-start", min_width=90)
                stop = gr.Button("Stop", interactive=False, elem_id="run-stop", min_width=90)
            with gr.Accordion("What the data sets are", open=False):
                gr.Markdown(describe_sets())
        with gr.Column(scale=3, min_width=320):
            status = gr.HTML(words.status(None), elem_id="run-status", padding=False)
            chart = _lay_out_chart(plotly_js)
            gr.Markdown(LEGEND, elem_classes="caption")
            with gr.Accordion("What β does, measured", open=False):
                gr.Markdown(beta_measured(), elem_classes="wide-table")
    timer = gr.Timer(TICK, active=False)
    parts = Parts(settings, start, stop, chart, status, gr.State({}), timer)
    _connect(page, parts, Handlers(engine), mine, watched)


def _lay_out_settings() -> list[gr.components.Component]:
    data = gr.Dropdown(list(SETS), value=RaceConfig.data, label="Data set", elem_id="run-data")
    methods = gr.CheckboxGroup(
        [(LABELS[name], name) for name in METHODS_OFFERED],
        value=list(RaceConfig.methods),
        label="Methods",
        elem_id="run-methods",
    )
    with gr.Row():
        beta = _number("β", "run-beta", RaceConfig.beta, minimum=0, step=0.1)
        rate = _number("Learning rate", "run-lr", RaceConfig.learning_rate, minimum=0, step=1e-5)
    whole = {"precision": 0, "step": 1}
    with gr.Row():
        steps = _number("Steps", "run-steps", RaceConfig.steps, minimum=1, maximum=100_000, **whole)
        seed = _number("Seed", "run-seed", RaceConfig.seed, minimum=0, maximum=2**31, **whole)
    return [data, methods, beta, rate, steps, seed]


def _number(label: str, elem_id: str, value: float, **options: float) -> gr.Number:
    return gr.Number(value, label=label, elem_id=elem_id, min_width=90, **options)


def _lay_out_chart(plotly_js: Path) -> gr.HTML:
    return gr.HTML(
        value="",
        html_template=render("plot.html"),
        js_on_load=LIVE_PLOT_JS,
        head=render("plotly.html", plotly_js=plotly_js.as_posix()),
        elem_id="live-chart",
    )


@dataclass(frozen=True)
class Handlers:
    """What the tab does when something is clicked, and at each tick of the timer.

    `own` is the id of the race that this browser started, `shown` that of the run on the page.
    """

    engine: Engine

    def look(self, run: Run | None, seen: Cursor, own: str | None) -> tuple:
        """Return the new values of `Parts.view`, for a page that has seen events up to `seen`."""
        try:
            # Read before the events, so that "finished" comes with the last of them.
            live = run is not None and run.live
            if run is not None:
                run.watch()
            message, end = feed_since(run, seen)
            text = words.status(run, own=run is None or run.id == own)
        except InputError as problem:  # somebody has changed its folder
            live, (message, end) = False, feed_since(None, {})
            text = words.unreadable(problem)
        changed = message if seen != end or not any(seen.values()) else gr.skip()
        own_live = live and run.id == own and isinstance(run, LiveRun)
        buttons = gr.update(interactive=not own_live), gr.update(interactive=own_live)
        return changed, end, text, *buttons, gr.update(active=live)

    def start(self, own: str | None, *values: object) -> tuple:
        """Start a race, unless this browser's race is still running: a second click."""
        run = self.engine.get(own)
        if not (isinstance(run, LiveRun) and run.live):
            given = dict(zip(SETTINGS, values, strict=True))
            empty = [name for name, value in given.items() if value is None]
            if empty:
                raise gr.Error(f"Please fill in {', '.join(empty)}.", print_exception=False)
            try:
                run = self.engine.start({**given, **PACE})
            except InputError as problem:
                raise gr.Error(str(problem), print_exception=False) from problem
        return run.id, run.id, *self.look(run, {}, run.id)

    def stop(self, own: str | None, shown: str | None, seen: Cursor) -> tuple:
        """Stop this browser's race."""
        run = self.engine.get(own)
        if run is not None:
            run.stop()
        return self.tick(own, shown, seen)

    def tick(self, own: str | None, shown: str | None, seen: Cursor) -> tuple:
        """Show what is new."""
        return self.look(self.engine.get(shown), seen, own)

    def resync(self, own: str | None, shown: str | None) -> tuple:
        """Show everything: the chart was rebuilt or missed a message."""
        return self.tick(own, shown, {})

    def load(self, own: str | None) -> tuple:
        """Show the race that this browser started, or else the newest one."""
        run = self.engine.readable(own) or self.engine.latest()
        shown = [gr.skip()] * len(SETTINGS)
        if run is not None:
            given = run.settings
            if given["data"] in SETS and set(given["methods"]) <= set(METHODS_OFFERED):
                shown = [given[name] for name in SETTINGS]
        return run.id if run else None, *shown, *self.look(run, {}, own)


def _connect(
    page: gr.Blocks, parts: Parts, do: Handlers, mine: gr.BrowserState, watched: gr.State
) -> None:
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    at_once = {**quiet, "concurrency_limit": None}
    ids, view, cursor = [mine, watched], parts.view, parts.cursor
    parts.start.click(do.start, [mine, *parts.settings], [*ids, *view], **quiet)
    parts.stop.click(do.stop, [*ids, cursor], view, **at_once)
    parts.timer.tick(do.tick, [*ids, cursor], view, trigger_mode="once", **at_once)
    parts.chart.resync(do.resync, ids, view, **quiet)
    page.load(do.load, [mine], [watched, *parts.settings, *view], **quiet)
