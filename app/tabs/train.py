"""Tab Train: settings, Start and Stop, the live chart, and a status line in words."""

import json
from pathlib import Path

import gradio as gr

from adadpo_mini.errors import InputError
from adadpo_mini.figures import LABELS, trajectory_figure
from adadpo_mini.store.folder import Cursor
from adadpo_mini.toyworld.sets import SETS
from app import words
from app.engine import Engine, LiveRun
from app.runs import Run

LIVE_PLOT_JS = (Path(__file__).parents[1] / "static" / "live_plot.js").read_text(encoding="utf-8")
# The page draws held-out curves and none of the slow measurements; those would delay the first.
PACE = {"eval_every": 2, "measure_every": 0}
METHODS_OFFERED = ("dpo", "adadpo", "fixed_ratio")  # the relatives are for the command line
TICK = 0.25  # seconds between two looks at the run
# What the chart needs of an event; the rest stays on the server.
SENT = ("step", "eval_shift/chosen", "eval_shift/rejected")


def describe_sets() -> str:
    """A line about each data set, from its own docstring."""
    lines = {name: make_pair.__doc__.splitlines()[0] for name, make_pair in SETS.items()}
    lines["noisy_labels"] = "As tone, but one training pair in five has its labels flipped."
    return "\n".join(f"- **{name}**: {line}" for name, line in lines.items())


def feed_since(run: Run | None, cursor: Cursor) -> tuple[str, Cursor]:
    """What the chart has not seen yet, as one JSON message, and the new cursor.

    The first message of a run carries the empty figure.
    """
    if run is None:
        return json.dumps({"run": None}), {}
    if run.folder.is_stale(cursor):
        cursor = {}  # the chart is drawn anew
    events, end = run.events_since(cursor)
    measured = [(method, event) for method, event in events if words.is_measured(event)]
    points = [[method, *(event[name] for name in SENT)] for method, event in measured]
    begin = sum(cursor.values())
    message = {"run": run.id, "from": begin, "to": sum(end.values()), "points": points}
    if begin == 0:
        message["figure"] = json.loads(trajectory_figure({m: [] for m in run.methods}).to_json())
        message["steps"] = run.settings["steps"]
    return json.dumps(message), end


def build(page: gr.Blocks, engine: Engine, mine, watched, plotly_js: Path) -> None:
    """Lay out the tab and wire it up."""
    with gr.Row():
        with gr.Column(scale=1, min_width=260):
            data = gr.Dropdown(list(SETS), value="tone", label="Data set", elem_id="run-data")
            methods = gr.CheckboxGroup(
                [(LABELS[name], name) for name in METHODS_OFFERED],
                value=["dpo", "adadpo"],
                label="Methods",
                elem_id="run-methods",
            )
            small = {"min_width": 90}
            with gr.Row():
                beta = gr.Number(0.1, label="β", minimum=0, step=0.05, elem_id="run-beta", **small)
                rate = gr.Number(
                    2e-4, label="Learning rate", minimum=0, step=1e-4, elem_id="run-lr", **small
                )
            whole = {"precision": 0, "step": 1, **small}
            with gr.Row():
                steps = gr.Number(
                    120, label="Steps", minimum=1, maximum=100_000, elem_id="run-steps", **whole
                )
                seed = gr.Number(
                    0, label="Seed", minimum=0, maximum=2**31, elem_id="run-seed", **whole
                )
            with gr.Row():
                start = gr.Button("Start", variant="primary", elem_id="run-start", min_width=90)
                stop = gr.Button("Stop", interactive=False, elem_id="run-stop", min_width=90)
            with gr.Accordion("What the data sets are", open=False):
                gr.Markdown(describe_sets())
        with gr.Column(scale=3, min_width=320):
            status = gr.Markdown(words.status(None), elem_id="run-status")
            chart = gr.HTML(
                value="",
                html_template="<div class='plot'></div>",
                js_on_load=LIVE_PLOT_JS,
                head=f'<script src="gradio_api/file={plotly_js}"></script>',
                elem_id="live-chart",
            )
            gr.Markdown(
                "Solid: chosen. Dashed: rejected. Measured on held-out pairs; 0 is the reference "
                "model, which both methods start from. On the loss curve none of this shows.",
                elem_classes="caption",
            )
    cursor = gr.State({})
    timer = gr.Timer(TICK, active=False)
    settings = [data, methods, beta, rate, steps, seed]
    view = [chart, cursor, status, start, stop, timer]

    def look(run: Run | None, seen: Cursor, own: str | None) -> tuple:
        try:
            # The status is read before the events: "finished" then comes with the last of them.
            live = run is not None and run.live
            if run is not None:
                run.watch()
            message, end = feed_since(run, seen)
            text = words.status(run)
            if run is not None and run.id != own:
                text = f"*{words.whose(run)}* {text}"
        except InputError as problem:  # somebody has changed its folder
            live, (message, end) = False, feed_since(None, {})
            text = f"**This run cannot be read.** {problem}"
        changed = message if seen != end or not any(seen.values()) else gr.skip()
        own_live = live and run.id == own and isinstance(run, LiveRun)
        return (
            changed,
            end,
            text,
            gr.update(interactive=not own_live),
            gr.update(interactive=own_live),
            gr.update(active=live),
        )

    def on_start(own, *values):
        run = engine.get(own)
        if not (isinstance(run, LiveRun) and run.live):  # a second click changes nothing
            names = ("data", "methods", "beta", "learning_rate", "steps", "seed")
            given = dict(zip(names, values, strict=True))
            empty = [name for name, value in given.items() if value is None]
            if empty:
                raise gr.Error(f"Please fill in {', '.join(empty)}.", print_exception=False)
            try:
                run = engine.start({**given, **PACE})
            except InputError as problem:
                raise gr.Error(str(problem), print_exception=False) from problem
        return run.id, run.id, *look(run, {}, run.id)

    def on_stop(own, run_id, seen):
        run = engine.get(own)
        if run is not None:
            run.stop()
        return look(engine.get(run_id), seen, own)

    def on_tick(own, run_id, seen):
        return look(engine.get(run_id), seen, own)

    def on_resync(own, run_id):
        return look(engine.get(run_id), {}, own)

    def on_load(own):
        """A fresh or reloaded page: the race this browser started, or else the newest one."""
        run = engine.readable(own) or engine.latest()
        shown = [gr.skip()] * len(settings)
        if run is not None:
            names = ("data", "methods", "beta", "learning_rate", "steps", "seed")
            given = run.settings
            if given["data"] in SETS and set(given["methods"]) <= set(METHODS_OFFERED):
                shown = [given[name] for name in names]
        return run.id if run else None, *shown, *look(run, {}, own)

    quiet = {"show_progress": "hidden", "api_visibility": "private"}
    start.click(on_start, [mine, *settings], [mine, watched, *view], **quiet)
    stop.click(on_stop, [mine, watched, cursor], view, concurrency_limit=None, **quiet)
    timer.tick(
        on_tick, [mine, watched, cursor], view, concurrency_limit=None, trigger_mode="once", **quiet
    )
    # The chart asks for everything from the start when it was built anew or missed a message.
    chart.resync(
        lambda own, run_id: look(engine.get(run_id), {}, own), [mine, watched], view, **quiet
    )
    page.load(on_load, [mine], [watched, *settings, *view], **quiet)
