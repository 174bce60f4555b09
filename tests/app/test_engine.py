"""Live races without a page: started, stopped, watched by cursor, never mixed up."""

import json
import threading
import time

import pytest

from adadpo_mini.contest import Race
from adadpo_mini.errors import InputError
from adadpo_mini.settings import RaceConfig
from app.engine import MAX_KEPT, MAX_LIVE, Engine, LiveRun
from app.tabs.train import feed_since
from app.words import status

CLOCK = {"time": 0, "own_time": 0}  # what may differ from run to run
SMALL = {
    "data": "tone", "methods": ["dpo", "adadpo"], "batch_size": 2, "eval_pairs": 2,
    "measure_every": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def engine(toy):
    """An engine whose toy model is loaded already."""
    engine = Engine()
    engine._toy = toy
    return engine


@pytest.fixture(autouse=True)
def leave_nothing_running(engine):
    yield
    for run in list(engine._runs.values()):
        run.stop()
        wait_until(lambda run=run: not run.live)


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_run_has_the_events_of_a_race_without_a_page(engine, toy):
    run = engine.start({**SMALL, "steps": 3})
    wait_until(lambda: not run.live)
    assert run.status == "finished"
    alone = list(Race(RaceConfig(**SMALL, steps=3), start=toy).events())
    assert [m for m, _ in run.events] == [m for m, _ in alone]
    for (_, mine), (_, theirs) in zip(run.events, alone, strict=True):
        assert mine | CLOCK == theirs | CLOCK


def test_stop_ends_a_run_and_keeps_what_it_has(engine):
    run = engine.start({**SMALL, "steps": 100_000})
    wait_until(lambda: len(run.events) > 4)
    run.stop()
    wait_until(lambda: not run.live)
    assert run.status == "stopped"
    count = len(run.events)
    time.sleep(0.3)
    assert len(run.events) == count > 4
    assert set(run.models()) == {"reference", "dpo", "adadpo"}


def test_models_handed_out_do_not_change_while_training_goes_on(engine):
    run = engine.start({**SMALL, "steps": 100_000})
    wait_until(lambda: run.step > 1)
    model = run.models()["dpo"]
    before = [p.clone() for p in model.parameters()]
    seen = run.step
    wait_until(lambda: run.step > seen + 2)
    assert all((a == b).all() for a, b in zip(before, model.parameters(), strict=True))


def test_two_runs_at_once_do_not_touch_each_other(engine):
    first = engine.start({**SMALL, "steps": 4, "seed": 1})
    second = engine.start({**SMALL, "steps": 4, "seed": 1})
    wait_until(lambda: not first.live and not second.live)
    numbers = [[e | CLOCK for _, e in run.events] for run in (first, second)]
    assert numbers[0] == numbers[1]


def test_more_runs_than_the_machine_bears_are_refused_in_words(engine):
    for _ in range(MAX_LIVE):
        engine.start({**SMALL, "steps": 100_000})
    with pytest.raises(InputError, match="wait for one to end"):
        engine.start({**SMALL, "steps": 1})


def test_old_runs_are_forgotten(engine):
    for _ in range(MAX_KEPT + 2):
        run = engine.start({**SMALL, "steps": 1})
        wait_until(lambda run=run: not run.live)
    assert len(engine._runs) <= MAX_KEPT
    assert engine.latest() is run


def test_bad_settings_start_nothing(engine):
    before = engine.latest()
    with pytest.raises(InputError, match="steps must be a whole number"):
        engine.start({**SMALL, "steps": 0})
    assert engine.latest() is before


def test_a_run_that_cannot_start_says_why(engine):
    run = engine.start({**SMALL, "data": "nowhere.jsonl", "steps": 1})
    wait_until(lambda: not run.live)
    assert run.status == "failed"
    assert "nowhere.jsonl" in status(run)


def test_a_race_that_no_page_watches_any_more_is_stopped(engine, monkeypatch):
    monkeypatch.setattr("app.engine.UNWATCHED", 0.5)
    watched, alone = (engine.start({**SMALL, "steps": 100_000}) for _ in range(2))

    def stopped():
        watched.watch()
        return not alone.live

    wait_until(stopped)
    assert alone.status == "stopped" and watched.live


def test_a_race_stopped_before_it_began_is_stopped_at_once_and_stays_so(toy):
    run = LiveRun({**SMALL, "steps": 5})
    run.stop()
    assert run.status == "stopped"
    run.train(toy)
    assert run.status == "stopped" and run.events == []


def test_a_race_that_has_ended_keeps_its_models_and_nothing_of_its_training(engine):
    run = engine.start({**SMALL, "steps": 1})
    wait_until(lambda: not run.live)
    wait_until(lambda: not hasattr(run._race, "_meters"))
    assert not run._race._trainers and set(run.models()) == {"reference", "dpo", "adadpo"}


def test_the_toy_is_loaded_once_however_many_ask_and_again_if_it_failed(monkeypatch):
    engine, loads = Engine(), []

    def load():
        loads.append(1)
        time.sleep(0.1)
        if len(loads) > 1:
            engine._toy = ("model", "tokenizer")

    monkeypatch.setattr(engine, "_load_toy", load)
    threads = [threading.Thread(target=engine.warm_up) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine._warm.join()
    assert len(loads) == 1
    assert engine.start_model() == ("model", "tokenizer") and len(loads) == 2


def test_the_feed_hands_out_every_measurement_once(engine):
    run = engine.start({**SMALL, "steps": 7, "eval_every": 2})
    cursor, points, figures = 0, [], 0
    while True:
        live = run.live
        text, cursor = feed_since(run, cursor)
        message = json.loads(text)
        points += message["points"]
        figures += "figure" in message and bool(message["points"])
        if not live:
            break
    assert figures == 1
    assert [(m, step) for m, step, *_ in points] == [
        (method, step) for step in (0, 2, 4, 6, 7) for method in ("dpo", "adadpo")
    ]


def test_the_first_message_of_a_run_carries_the_empty_figure():
    run = LiveRun({**SMALL, "steps": 5})
    message = json.loads(feed_since(run, 0)[0])
    assert [trace["name"] for trace in message["figure"]["data"]] == [
        "dpo chosen", "dpo rejected", "adadpo chosen", "adadpo rejected",
    ]  # fmt: skip
    assert json.loads(feed_since(None, 0)[0]) == {"run": None}
