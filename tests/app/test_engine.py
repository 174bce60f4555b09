"""Live races without a page: started, stopped, watched by cursor, saved, never mixed up."""

import json
import threading
import time

import pytest
import torch

from adadpo_mini import race, resume
from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.lockstep import Race
from adadpo_mini.store.folder import RunFolder, list_runs
from app.engine import MAX_LIVE, Engine
from app.live import LiveRun
from app.runs import StoredRun, make_room, writable_root
from app.tabs.train import feed_since
from app.words import status

CLOCK = {"time": 0, "own_time": 0}  # what may differ from run to run
SMALL = {
    "data": "tone", "methods": ["dpo", "adadpo"], "batch_size": 2, "eval_pairs": 2,
    "measure_every": 0,
}  # fmt: skip
ENDLESS = {**SMALL, "steps": 100_000}


@pytest.fixture
def new_engine(toy, tmp_path):
    """A function that returns an engine with the toy model; at the end no race is left running."""
    engines = []

    def new(**options):
        engines.append(Engine(tmp_path / "runs", load_toy=lambda: toy, **options))
        return engines[-1]

    yield new
    for run in [run for engine in engines for run in engine.live_runs()]:
        run.stop()
        ended(run)


@pytest.fixture
def engine(new_engine):
    return new_engine()


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def ended(run):
    wait_until(lambda: not run.live)
    return run


def events(run):
    return run.events_since({})[0]


def test_a_run_has_the_events_of_a_race_without_a_page(engine, toy):
    run = ended(engine.start({**SMALL, "steps": 3}))
    assert run.status == "finished"
    alone = list(Race(RaceConfig(**SMALL, steps=3), start=toy).events())
    assert [m for m, _ in events(run)] == [m for m, _ in alone]
    for (_, mine), (_, theirs) in zip(events(run), alone, strict=True):
        assert mine | CLOCK == theirs | CLOCK


def test_a_run_is_a_run_folder_with_snapshots_like_any_other(engine):
    run = ended(engine.start({**SMALL, "steps": 24}))
    folder = RunFolder(engine.root / run.id)
    assert folder.status == "finished" and folder.summary()["methods"].keys() == {"dpo", "adadpo"}
    assert folder.snapshots("dpo") == list(range(0, 25, 2))
    assert folder.config()["started_by"] == "page"
    same = Race(RaceConfig(data="tone", steps=1, eval_pairs=2))
    assert folder.config()["fingerprint"] == same.prepared.fingerprint


def test_stop_ends_a_run_which_keeps_what_it_has_and_can_be_resumed(engine):
    run = engine.start({**SMALL, "steps": 40})
    wait_until(lambda: run.step > 3)
    run.stop()
    assert ended(run).status == "interrupted"
    count = len(events(run))
    time.sleep(0.3)
    assert len(events(run)) == count > 6
    assert set(engine.chat_models(engine.get(run.id)).models) == {"reference", "dpo", "adadpo"}
    wait_until(lambda: isinstance(engine.get(run.id), StoredRun))
    assert resume(engine.root / run.id).summary["status"] == "finished"
    assert engine.get(run.id).status == "finished" and engine.get(run.id).step == 40


def test_another_server_shows_the_runs_of_the_one_before(engine, new_engine):
    first = ended(engine.start({**SMALL, "steps": 2}))
    second = ended(engine.start({**SMALL, "steps": 3, "seed": 4}))
    fresh = new_engine()
    assert fresh.latest().id == second.id
    for run in (first, second):
        again = fresh.get(run.id)
        assert events(again) == events(run) and again.settings == {**run.settings, "threads": 1}
        assert status(again) == status(run)
        mine, theirs = (e.chat_models(e.get(run.id)).models for e in (fresh, engine))
        assert mine.keys() == theirs.keys() == {"reference", "dpo", "adadpo"}
        weights = [models["dpo"].state_dict() for models in (mine, theirs)]
        assert all(torch.equal(w, weights[1][n]) for n, w in weights[0].items())


def test_a_race_of_the_command_line_is_shown_and_chatted_with_in_its_own_form(
    engine, tiny, tmp_path
):
    data = tmp_path / "hh.jsonl"
    rows = [
        {"prompt": f"\n\nHuman: Why {i}?\n\nAssistant:", "chosen": " Because.", "rejected": " No."}
        for i in range(12)
    ]
    data.write_text("\n".join(map(json.dumps, rows)) + "\n")
    settings = {"model": str(tiny), "steps": 2, "batch_size": 2, "eval_pairs": 2}
    race(data, out=engine.root / "mine", **settings)
    run = engine.latest()
    assert run.id == "mine" and "Finished after 2 steps" in status(run)
    found = engine.chat_models(run)
    assert found.form == "\n\nHuman: {}\n\nAssistant:"
    assert found.models["reference"].config.n_embd == found.models["dpo"].config.n_embd == 32


def test_a_damaged_run_is_not_offered_to_everybody(engine):
    good = ended(engine.start({**SMALL, "steps": 1}))
    for name, config, events in (
        ("no config", "[]", ""),
        ("no methods", '{"model": "toy"}', ""),
        ("no events", '{"model": "toy", "methods": ["dpo"]}', "{}\n"),
        ("no JSON", '{"model": "toy", "methods": ["dpo"]}', "\0\0\n"),
    ):
        (engine.root / name / "dpo").mkdir(parents=True)
        (engine.root / name / "config.json").write_text(config)
        (engine.root / name / "dpo" / "metrics.jsonl").write_text(events)
        assert engine.latest().id == good.id
        with pytest.raises(InputError, match="damaged|not name a model|list of names"):
            engine.get(name).settings, feed_since(engine.get(name), {})


def test_only_names_of_runs_are_ids(engine, tmp_path):
    race(out=tmp_path / "outside", **{**SMALL, "steps": 1, "methods": ("dpo",)})
    run = ended(engine.start({**SMALL, "steps": 1}))
    for wrong in ("../outside", str(tmp_path / "outside"), "..", ".", "", None, "a/b", "x\0", "?"):
        assert engine.get(wrong) is None
    assert engine.get(run.id).id == run.id


def test_the_models_of_a_chat_do_not_change_while_training_continues(engine):
    run = engine.start(ENDLESS)
    wait_until(lambda: run.step > 1)
    model = engine.chat_models(run).models["dpo"]
    before = [p.clone() for p in model.parameters()]
    seen = run.step
    wait_until(lambda: run.step > seen + 2)
    assert all((a == b).all() for a, b in zip(before, model.parameters(), strict=True))


def test_two_runs_at_once_do_not_touch_each_other(engine):
    runs = [engine.start({**SMALL, "steps": 4, "seed": 1}) for _ in range(2)]
    numbers = [[e | CLOCK for _, e in events(ended(run))] for run in runs]
    assert numbers[0] == numbers[1] and len(numbers[0]) == 10
    assert runs[0].id != runs[1].id


def test_too_many_runs_are_refused_in_words(engine):
    for _ in range(MAX_LIVE):
        engine.start(ENDLESS)
    with pytest.raises(InputError, match="wait for one to end"):
        engine.start({**SMALL, "steps": 1})


def test_old_runs_of_pages_are_deleted_and_others_stay(engine, tmp_path):
    own = [ended(engine.start({**SMALL, "steps": 1})).id for _ in range(3)]
    wait_until(lambda: all(isinstance(engine.get(run), StoredRun) for run in own))
    race(out=engine.root / "mine", **{**SMALL, "steps": 1})
    before = {run.path.name for run in list_runs(engine.root)}
    make_room(engine.root, 1e12)
    assert {run.path.name for run in list_runs(engine.root)} == before == {*own, "mine"}
    make_room(engine.root, 40e6)  # of 69: two models and four snapshots of 3.8 MB each, thrice
    folders = [RunFolder(engine.root / name) for name in own]
    assert [f.path.is_dir() for f in folders] == [True] * 3, "snapshots go first"
    assert folders[0].snapshots("dpo") == [] and (folders[0].model("dpo")).is_dir()
    assert folders[2].snapshots("dpo") == [0, 1], "the newest last"
    make_room(engine.root, 9e6)
    assert {run.path.name for run in list_runs(engine.root)} == {own[2], "mine"}


def test_bad_settings_start_nothing(engine):
    with pytest.raises(InputError, match="steps must be a whole number"):
        engine.start({**SMALL, "steps": 0})
    assert engine.latest() is None and list_runs(engine.root) == []


def test_a_run_that_cannot_start_says_why(engine):
    run = ended(engine.start({**SMALL, "data": "nowhere.jsonl", "steps": 1}))
    assert run.status == "failed"
    assert "nowhere.jsonl" in status(run) and engine.get(run.id) is run


def test_a_race_that_cannot_be_written_says_so_and_its_models_answer(engine, monkeypatch):
    def full(path, text):
        raise WriteError(f"{path} cannot be written (the disk is full).")

    from adadpo_mini.errors import WriteError

    monkeypatch.setattr("adadpo_mini.store.writer.append_text", full)
    run = ended(engine.start({**SMALL, "steps": 3}))
    assert "the disk is full" in status(engine.get(run.id))
    assert set(engine.chat_models(run).models) == {"reference", "dpo", "adadpo"}


def test_where_nothing_can_be_written_runs_go_to_a_temporary_folder(tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    root = writable_root(tmp_path / "file" / "runs")
    assert root.is_dir() and tmp_path not in root.parents
    assert f"Runs go to {root} instead" in capsys.readouterr().err
    root.rmdir()
    assert writable_root(tmp_path / "runs") == tmp_path / "runs"


def test_a_race_that_no_page_watches_any_more_is_stopped(new_engine):
    engine = new_engine(unwatched=0.5)
    watched, alone = (engine.start(ENDLESS) for _ in range(2))

    def stopped():
        watched.watch()
        return not alone.live

    wait_until(stopped)
    assert alone.status == "interrupted" and watched.live


def test_a_race_stopped_before_it_began_is_stopped_at_once_and_stays_so(toy, tmp_path):
    run = LiveRun(RunFolder(tmp_path / "run"), {**SMALL, "steps": 5})
    run.stop()
    assert run.status == "interrupted"
    run.train(toy)
    assert run.status == "interrupted" and events(run) == []


def test_the_toy_is_loaded_once_however_many_ask_and_again_if_it_failed(tmp_path, caplog):
    loads, warming, all_have_asked = [], [], threading.Event()

    def load():
        loads.append(1)
        assert all_have_asked.wait(60)
        if len(loads) == 1:
            raise OSError("the disk is gone")
        return "model", "tokenizer"

    engine = Engine(tmp_path, load_toy=load)
    threads = [threading.Thread(target=lambda: warming.append(engine.warm_up())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_have_asked.set()
    for thread in warming:
        thread.join()
    assert len(loads) == 1 and len(warming) == 8 and "the disk is gone" in caplog.text
    assert engine.start_model() == ("model", "tokenizer") and len(loads) == 2


def test_a_race_says_that_the_toy_cannot_be_loaded(tmp_path):
    engine = Engine(tmp_path, load_toy=lambda: 1 / 0)
    run = ended(engine.start({**SMALL, "steps": 1}))
    assert run.status == "failed" and "toy model could not be loaded" in status(run)


def test_the_feed_sends_every_measurement_once(engine):
    run = engine.start({**SMALL, "steps": 7, "eval_every": 2})
    cursor, points, figures, seen = {}, [], 0, 0
    while True:
        live = run.live
        text, cursor = feed_since(run, cursor)
        message = json.loads(text)
        assert message["from"] == seen or message["from"] == 0 == message["to"]
        seen = message["to"]
        points += message["points"]
        figures += "figure" in message and bool(message["points"])
        if not live:
            break
    assert figures == 1
    assert [(m, step) for m, step, *_ in points] == [
        (method, step) for step in (0, 2, 4, 6, 7) for method in ("dpo", "adadpo")
    ]


def test_the_first_message_about_a_run_contains_the_empty_figure(tmp_path):
    run = LiveRun(RunFolder(tmp_path / "run"), {**SMALL, "steps": 5})
    message = json.loads(feed_since(run, {})[0])
    assert [trace["name"] for trace in message["figure"]["data"]] == [
        "dpo chosen", "dpo rejected", "adadpo chosen", "adadpo rejected",
    ]  # fmt: skip
    assert json.loads(feed_since(None, {})[0]) == {"run": None}
