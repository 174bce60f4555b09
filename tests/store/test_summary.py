"""The summary of a race: its closing table's numbers, and the notes on them."""

import pytest

from adadpo_mini import RaceConfig
from adadpo_mini.cli.console import closing_table
from adadpo_mini.store.summary import reward_notes, summarize

MEASURED = {
    "step": 4, "eval_loss": 0.6, "eval_shift/chosen": -1.5, "eval_shift/rejected": -9.0,
    "eval_rewards/accuracies": 0.75, "eval_ranking_accuracy": 0.25, "eval_rewards/margins": 0.7,
    "own_time": 2.0,
}  # fmt: skip
CONFIG = RaceConfig(methods=("dpo",), steps=5)


def test_the_row_has_both_accuracies_and_a_win_rate_for_each_temperature():
    events = {"dpo": [MEASURED, {"step": 5, "own_time": 9.0}]}
    rates = {0.7: {"dpo": 0.6}, 1.0: {"dpo": 0.1}}
    row = summarize(CONFIG, events, rates)["methods"]["dpo"]
    assert row == {
        "steps": 4, "delta_chosen": -1.5, "delta_rejected": -9.0, "accuracy": 0.75,
        "ranking_accuracy": 0.25, "margin": 0.7, "win_rate": 0.6, "win_rate_at_1": 0.1,
        "seconds": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("rates", [{}, {0.7: None, 1.0: None}, {0.7: {"dpo": 0.6}}])
def test_a_win_rate_that_is_not_known_is_none(rates):
    row = summarize(CONFIG, {"dpo": [MEASURED]}, rates)["methods"]["dpo"]
    assert row["win_rate_at_1"] is None and row["win_rate"] == (rates.get(0.7) or {}).get("dpo")


def test_the_reward_models_held_out_accuracy_is_in_the_row_of_rlhf():
    config = RaceConfig(methods=("dpo", "rlhf"), steps=5)
    events = {"dpo": [MEASURED], "rlhf": [{**MEASURED, "eval_rlhf/reward_accuracy": 0.9}]}
    rows = summarize(config, events, {})["methods"]
    assert rows["rlhf"]["reward_accuracy"] == 0.9 and "reward_accuracy" not in rows["dpo"]


@pytest.mark.parametrize(
    ("accuracy", "said", "not_said"),
    [
        (1.0, "100 % of the held-out pairs", "mistakes"),
        (0.8, "80 % of the held-out pairs", "mistakes"),
        (0.78, "mistakes", "chance"),
        (0.5, "chance", "mistakes"),
        (0.1, "chance", "mistakes"),
    ],
)
def test_a_reward_model_that_errs_is_warned_of(accuracy, said, not_said, capsys):
    rows = {"dpo": {"steps": 4}, "rlhf": {"steps": 4, "reward_accuracy": accuracy}}
    [note] = reward_notes(rows)
    assert said in note and not_said not in note and note.startswith("rlhf: ")
    about = {"data": "swap", "seed": 0, "status": "finished", "trained_on_held_out": False}
    closing_table({**about, "methods": rows}, None)
    assert " ".join(note.split()) in " ".join(capsys.readouterr().out.split())


def test_without_rlhf_nothing_is_said_of_a_reward_model():
    assert reward_notes({"dpo": {"steps": 4}}) == []
