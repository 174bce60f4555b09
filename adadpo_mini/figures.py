"""The figure of a race. A method is a colour, the chosen side solid, the rejected side dashed."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from adadpo_mini.event import Event
from adadpo_mini.methods import EVERY_METHOD

LABELS = {name: method.title for name, method in EVERY_METHOD.items()}
COLOURS = {name: method.colour for name, method in EVERY_METHOD.items()}
DASHES = {"chosen": "solid", "rejected": "dash"}


def trajectory_figure(events: Mapping[str, Sequence[Event]]) -> go.Figure:
    """Chosen and rejected log-prob trajectories, one pair of curves per method.

    The curves are `eval_shift/chosen` and `eval_shift/rejected`, the mean over held-out pairs of
    log π_θ − log π_ref, in nats per completion, against the training step. The traces are named
    "<method> chosen" and "<method> rejected", in that order.

    Args:
        events: a race's events by method; an empty list makes empty traces, to be extended live.
    """
    figure = go.Figure()
    for method, log in events.items():
        measured = [event for event in log if "eval_loss" in event]
        for side in ("chosen", "rejected"):
            figure.add_scatter(
                x=[event["step"] for event in measured],
                y=[event[f"eval_shift/{side}"] for event in measured],
                name=f"{method} {side}",
                meta=f"{LABELS[method]} {side}",
                mode="lines",
                line={"color": COLOURS[method], "dash": DASHES[side], "width": 2.5},
                hovertemplate="step %{x}: %{y:+.2f} nats",
            )
    figure.add_hline(y=0, line={"color": "#888", "width": 1, "dash": "dot"})
    figure.update_layout(
        template="plotly_white",
        margin={"l": 70, "r": 20, "t": 20, "b": 55},
        height=440,
        xaxis={"title": "training step"},
        yaxis={"title": "change in log-prob against the reference<br>(nats per completion)"},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="x unified",
    )
    return figure


def measurement_figure(events: Mapping[str, Sequence[Event]], key: str, unit: str) -> go.Figure:
    """One number of the events against the training step, one curve per method.

    Args:
        events: a race's events by method; a step without the number has no point. If they have
            `<key>/low` and `<key>/high`, as the mass ledger has, error bars show this range.
        key: the number, such as "eval_rewards/margins".
        unit: the title of its axis.
    """
    figure = go.Figure()
    for method, log in events.items():
        points = [event for event in log if event.get(key) is not None]
        figure.add_scatter(
            x=[event["step"] for event in points],
            y=[event[key] for event in points],
            error_y=_range_of(points, key),
            name=LABELS[method],
            mode="lines+markers" if len(points) < 10 else "lines",
            line={"color": COLOURS[method], "width": 2},
            hovertemplate="step %{x}: %{y:.4g}",
        )
    figure.update_layout(
        template="plotly_white",
        margin={"l": 60, "r": 10, "t": 10, "b": 45},
        height=240,
        showlegend=False,
        xaxis={"title": "training step"},
        yaxis={"title": unit},
        hovermode="x unified",
    )
    return figure


def _range_of(points: Sequence[Event], key: str) -> dict | None:
    """Return the error bars from `<key>/low` to `<key>/high`; None if a point has none."""
    low, high = f"{key}/low", f"{key}/high"
    if not points or any(event.get(end) is None for event in points for end in (low, high)):
        return None
    return {
        "type": "data",
        "symmetric": False,
        "array": [event[high] - event[key] for event in points],
        "arrayminus": [event[key] - event[low] for event in points],
        "thickness": 1,
        "width": 3,
    }


class LiveTrajectories:
    """The same figure in a notebook, redrawn as a race goes on.

        live = LiveTrajectories(["dpo", "adadpo"], steps=120)
        race("tone", steps=120, on_event=live.on_event)

    It is an ordinary output of the cell that runs the race, and replaces that cell's earlier
    outputs. It needs no network, and is still there after a reload and in the saved notebook. A
    FigureWidget is not, and stays empty if the kernel is busy when the page requests its state.

    Args:
        methods: the race's methods.
        steps: the right end of the axis; by default the axis grows with the curves.

    Attributes:
        figure: the figure as last drawn.
    """

    def __init__(self, methods: Sequence[str], steps: int | None = None) -> None:
        self._events: dict[str, list[Event]] = {method: [] for method in methods}
        self._steps = steps
        self.figure = trajectory_figure(self._events)

    def on_event(self, method: str, event: Event) -> None:
        """Add one event; redraw when all methods have reached its step."""
        if "eval_loss" not in event:
            return
        self._events[method].append(event)
        if len({len(log) for log in self._events.values()}) > 1:
            return
        self.figure = trajectory_figure(self._events)
        if self._steps is not None:
            self.figure.update_xaxes(range=[0, self._steps])
        self._show(f"trajectories up to step {event['step']}")

    def _show(self, in_words: str) -> None:
        from IPython.display import clear_output, display

        # Plotly's own display() adds a copy of plotly.js to the notebook at every redraw.
        figure = {**self.figure.to_plotly_json(), "config": {"displaylogo": False}}
        clear_output(wait=True)
        display({"application/vnd.plotly.v1+json": figure, "text/plain": in_words}, raw=True)
