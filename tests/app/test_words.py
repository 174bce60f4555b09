"""What the page says is what happened, and is safe to show."""

import json

import pytest

from adadpo_mini.store.folder import RunFolder
from adadpo_mini.store.writer import create_run
from app.live import LiveRun
from app.runs import StoredRun
from app.tabs.chat import bubble, suggested_prompts, verdict_line, why_silent
from app.tabs.train import describe_sets
from app.words import status, unreadable, whose

SETTINGS = {
    "data": "swap", "methods": ["dpo"], "beta": 0.1, "learning_rate": 2e-4, "steps": 9, "seed": 3,
}  # fmt: skip


@pytest.fixture
def run_with(tmp_path):
    """A function that makes a run with that status and one event."""

    def make(state, chosen=0.0, rejected=0.0, step=4):
        event = {
            "step": step, "eval_loss": 0.5, "eval_shift/chosen": chosen,
            "eval_shift/rejected": rejected, "eval_rewards/accuracies": 0.75,
            "eval_ranking_accuracy": 0.25,
        }  # fmt: skip
        with create_run(tmp_path / "run", {**SETTINGS, "model": "toy"}) as writer:
            writer.append({"dpo": event})
            if state != "running":
                writer.finish({"status": state, "problem": "No pairs." * (state == "failed")})
        run = StoredRun(RunFolder(tmp_path / "run"))
        if state == "running":
            run.__class__ = type("Running", (StoredRun,), {"status": "running"})
        return run

    return make


def test_before_the_first_run_it_says_what_to_do():
    assert "Start" in status(None)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("running", "Step 4 of 9"),
        ("finished", "Finished after 9"),
        ("interrupted", "Stopped at step 4"),
        ("failed", "<b>The race failed.</b> No pairs."),
    ],
)
def test_it_says_how_far_the_run_is(state, words, run_with):
    said = status(run_with(state))
    assert words in said and (state == "failed" or ("swap" in said and "seed 3" in said))


def test_a_finished_race_has_its_win_rates_with_their_temperatures(run_with):
    run = run_with("finished", chosen=2.0, rejected=-3.0)
    row = {"win_rate": 0.62, "win_rate_at_1": 0.0}
    run.folder.path.joinpath("summary.json").write_text(
        json.dumps({"status": "finished", "methods": {"dpo": row}})
    )
    said = status(run)
    assert "62% at temperature 0.7, 0% at temperature 1" in said


def test_a_race_that_still_runs_has_no_win_rates(run_with):
    assert "win rate" not in status(run_with("running", chosen=2.0))


def test_accuracy_is_followed_by_how_often_the_chosen_is_the_likelier_one(run_with):
    said = status(run_with("running", chosen=2.0))
    assert "accuracy 75%, the chosen likelier in 25% of pairs" in said


def test_after_the_last_step_it_says_what_still_runs(run_with):
    assert "judging the answers" in status(run_with("running", step=9))


def test_it_says_where_a_race_of_another_page_comes_from(run_with, tmp_path):
    stored = run_with("finished")
    assert "folder run" in whose(stored)
    assert "folder run" in status(stored, own=False) and "folder run" not in status(stored)
    live = LiveRun(RunFolder(tmp_path / "live"), SETTINGS)
    assert "another window" in whose(live)


@pytest.mark.parametrize(
    ("shift", "word"),
    [(-3.0, "fell (−3.0 nats)"), (3.0, "rose (+3.0 nats)"), (0.2, "hardly moved")],
)
def test_it_says_where_the_chosen_went(shift, word, run_with):
    assert f"the chosen answers {word}" in status(run_with("running", chosen=shift, rejected=-9.0))


def test_accuracy_is_that_of_the_last_measurement(run_with):
    assert "accuracy 75%" in status(run_with("running"))


def test_every_suggested_prompt_is_judged():
    for prompt in suggested_prompts():
        assert "not a well-formed answer" in verdict_line(prompt, "Blah.")


def test_outside_the_toy_world_there_is_no_verdict():
    assert verdict_line("Who are you?", "Sure!") == ""


def test_a_pane_without_a_model_says_why(run_with, tmp_path):
    assert "start a race" in why_silent("dpo", None)
    assert "AdaDPO is not in this race" in why_silent("adadpo", run_with("finished"))
    preparing = LiveRun(RunFolder(tmp_path / "new"), SETTINGS)
    assert "still being prepared" in why_silent("dpo", preparing)
    preparing.fail("No pairs.")
    assert "No pairs." in why_silent("dpo", preparing)


def test_no_text_becomes_html(tmp_path):
    text = "<img src=x> & 'y' ![z](http://127.0.0.1:9/z.png)"
    run = LiveRun(RunFolder(tmp_path / "new"), {**SETTINGS, "data": text})
    run.fail(text)
    for html in (status(run), unreadable(text), bubble(text, text)):
        assert "<img" not in html and "&lt;img" in html and "& '" not in html


def test_every_data_set_is_described():
    assert describe_sets().count("\n- ") == 6 and "flipped" in describe_sets()
