"""What the page says must be what happened."""

import pytest

from app.engine import LiveRun
from app.tabs.chat import suggested_prompts, verdict_line, why_silent
from app.tabs.train import describe_sets
from app.words import status

SETTINGS = {
    "data": "swap", "methods": ["dpo"], "beta": 0.1, "learning_rate": 2e-4, "steps": 9, "seed": 3,
}  # fmt: skip


def run_with(state, chosen=0.0, rejected=0.0):
    event = {
        "step": 4, "eval_loss": 0.5, "eval_shift/chosen": chosen, "eval_shift/rejected": rejected,
        "eval_rewards/accuracies": 0.75,
    }  # fmt: skip
    return LiveRun(SETTINGS, status=state, events=[("dpo", event)])


def test_before_the_first_run_it_says_what_to_do():
    assert "Start" in status(None)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("running", "Step 4 of 9"),
        ("finished", "Finished after 9"),
        ("stopped", "Stopped at step 4"),
    ],
)
def test_it_says_how_far_the_run_is(state, words):
    said = status(run_with(state))
    assert words in said and "swap" in said and "seed 3" in said


@pytest.mark.parametrize(
    ("shift", "word"),
    [(-3.0, "fell (−3.0 nats)"), (3.0, "rose (+3.0 nats)"), (0.2, "hardly moved")],
)
def test_it_says_where_the_chosen_went(shift, word):
    assert f"the chosen answers {word}" in status(run_with("running", chosen=shift, rejected=-9.0))


def test_accuracy_is_that_of_the_last_measurement():
    assert "accuracy 75%" in status(run_with("running"))


def test_every_suggested_prompt_is_judged():
    for prompt in suggested_prompts():
        assert "not a well-formed answer" in verdict_line(prompt, "Blah.")


def test_outside_the_toy_world_there_is_no_verdict():
    assert verdict_line("Who are you?", "Sure!") == ""


def test_a_pane_without_a_model_says_why():
    assert "start a race" in why_silent("dpo", None)
    assert "AdaDPO is not in this race" in why_silent("adadpo", run_with("finished"))
    assert "still being prepared" in why_silent("dpo", LiveRun(SETTINGS))
    failed = LiveRun(SETTINGS, status="failed", problem="No pairs.")
    assert "No pairs." in why_silent("dpo", failed)


def test_every_data_set_is_described():
    assert describe_sets().count("\n- ") == 6 and "flipped" in describe_sets()
