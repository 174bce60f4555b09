"""The trajectory figure: names, colours, dashes, units."""

import pytest

from adadpo_mini.figures import (
    COLOURS,
    LiveTrajectories,
    measurement_figure,
    trajectory_figure,
)
from adadpo_mini.methods.registry import METHODS


def event(step, chosen, rejected, measured=True):
    extra = {"eval_loss": 0.5, "eval_shift/chosen": chosen, "eval_shift/rejected": rejected}
    return {"step": step, "loss": 0.6, **(extra if measured else {})}


LOG = [event(0, 0.0, 0.0), event(1, 9.0, 9.0, measured=False), event(2, -1.0, -5.0)]


def traces(figure):
    return {trace.name: trace for trace in figure.data}


def test_a_method_is_a_colour_and_the_rejected_side_is_dashed():
    drawn = traces(trajectory_figure({"dpo": LOG, "adadpo": LOG}))
    assert list(drawn) == ["dpo chosen", "dpo rejected", "adadpo chosen", "adadpo rejected"]
    assert drawn["dpo chosen"].line.color == drawn["dpo rejected"].line.color == COLOURS["dpo"]
    assert drawn["adadpo chosen"].line.color == COLOURS["adadpo"] != COLOURS["dpo"]
    assert [trace.line.dash for trace in drawn.values()] == ["solid", "dash"] * 2


def test_only_held_out_measurements_are_drawn():
    drawn = traces(trajectory_figure({"dpo": LOG}))
    assert list(drawn["dpo chosen"].x) == [0, 2] and list(drawn["dpo chosen"].y) == [0.0, -1.0]
    assert list(drawn["dpo rejected"].y) == [0.0, -5.0]


def test_the_axes_say_what_and_in_which_unit():
    layout = trajectory_figure({"dpo": []}).layout
    assert layout.xaxis.title.text == "training step"
    assert "nats per completion" in layout.yaxis.title.text


def test_every_method_has_a_colour_of_its_own_and_empty_logs_give_empty_curves():
    drawn = traces(trajectory_figure({method: [] for method in METHODS}))
    assert len(drawn) == 2 * len(METHODS)
    assert not any(trace.x or trace.y for trace in drawn.values())
    assert len({trace.line.color for trace in drawn.values()}) == len(METHODS)
    assert not trajectory_figure({}).data


def test_a_number_that_has_a_range_is_drawn_with_it_and_any_other_without():
    log = [
        {"step": 0, "mass/else": 0.2, "mass/else/low": 0.1, "mass/else/high": 0.5, "eval_kl": 0.0},
        {"step": 1},
        {"step": 9, "mass/else": 0.6, "mass/else/low": 0.6, "mass/else/high": 0.7, "eval_kl": 3.0},
    ]
    [trace] = measurement_figure({"dpo": log}, "mass/else", "probability").data
    assert list(trace.x) == [0, 9] and list(trace.y) == [0.2, 0.6]
    assert list(trace.error_y.array) == pytest.approx([0.3, 0.1])
    assert list(trace.error_y.arrayminus) == pytest.approx([0.1, 0.0])
    for key, events in (("eval_kl", log), ("mass/else", [{"step": 0, "mass/else": 0.2}])):
        [trace] = measurement_figure({"dpo": events}, key, "nats").data
        assert trace.error_y.array is None and len(trace.x)


@pytest.fixture
def displayed(monkeypatch):
    """What a notebook cell shows: the outputs since the last clear_output."""
    display = pytest.importorskip("IPython.display")
    outputs = []
    monkeypatch.setattr(display, "display", lambda data, raw: outputs.append((data, raw)))
    monkeypatch.setattr(display, "clear_output", lambda wait: outputs.clear())
    return outputs


def test_the_notebooks_figure_is_redrawn_when_all_methods_have_reached_a_step(displayed):
    live = LiveTrajectories(["dpo", "adadpo"], steps=20)
    live.on_event("dpo", LOG[0])
    assert displayed == [], "adadpo is not there yet"
    live.on_event("adadpo", LOG[0])
    ((first, raw),) = displayed
    assert raw and first["text/plain"] == "trajectories up to step 0"
    live.on_event("dpo", LOG[1])
    assert displayed == [(first, True)], "nothing was measured on held-out pairs"
    for method in ("dpo", "adadpo"):
        live.on_event(method, LOG[2])
    ((second, _),) = displayed
    assert second["text/plain"] == "trajectories up to step 2"
    figure = second["application/vnd.plotly.v1+json"]
    curves = {trace["name"]: list(trace["y"]) for trace in figure["data"]}
    assert curves["adadpo rejected"] == [0.0, -5.0] and len(curves) == 4
    assert list(figure["layout"]["xaxis"]["range"]) == [0, 20]
    assert traces(live.figure)["adadpo rejected"].y == (0.0, -5.0)
