"""Plain logs of TRL: judged by rewards, never by log-probs of other pairs; told apart by cause."""

import math
import random

import pytest

from adadpo_mini.doctor import diagnose
from adadpo_mini.doctor.case import Case
from adadpo_mini.doctor.trend import trend
from tests.doctor.made_logs import FINE, LN2, changed, judge, rows, shifts, trl, without


def names(events, **known):
    return [one.name for one in diagnose(events, **known)]


def test_log_probs_of_other_pairs_are_no_movement_however_far_they_fall():
    events = [{**e, "logps/chosen": -50.0 - e["step"]} for e in trl(1, -9, noise=0.3)]
    assert names(events) == []
    assert names(without(events, "rewards")) == ["nothing_to_judge"]


@pytest.mark.parametrize(("beta", "words"), [(None, "−3.0"), (0.5, "−6.")])
def test_rewards_are_stated_in_beta_nats_or_with_beta_in_nats(beta, words):
    events = trl(-30, -60, noise=0.1)
    (sink,) = diagnose(events, beta=beta)
    assert ("β·nats" in sink.evidence) == (beta is None) and words in sink.evidence


def test_beta_follows_from_an_evaluation_set():
    moved = {"eval_rewards__chosen": (0, -6), "eval_logps__chosen": (-300, -340)}
    events = rows(**moved, eval_rewards__rejected=(0, -9), eval_logps__rejected=(-300, -360))
    assert Case(events).beta == 0.15
    assert "chosen −40.0, rejected −60.0 nats" in diagnose(events)[0].evidence


@pytest.mark.parametrize("shape", ["line", "late", "plateau", "and back"])
def test_a_fall_of_any_shape_is_found_but_not_one_that_came_back(shape):
    draw = random.Random(1)
    parts = [(i + 1) / 60 for i in range(60)]
    nats = {
        "line": lambda t: -8 * t,
        "late": lambda t: -8 * max(0, t - 0.6) / 0.4,
        "plateau": lambda t: -8 * min(1, 5 * t),
        "and back": lambda t: -8 * math.sin(math.pi * t) + 3 * t,
    }[shape]
    values = [nats(t) + draw.gauss(0, 2) for t in parts]
    assert trend(values, range(10, 610, 10)).passed(-3) == (shape != "and back")


def test_noise_alone_is_no_trend_and_neighbours_that_resemble_each_other_count_less():
    alarms = {0.0: 0, 0.5: 0}
    for link in alarms:
        for seed in range(300):
            draw, value, values = random.Random(seed), 0.0, []
            for _ in range(60):
                value = link * value + draw.gauss(0, 1)
                values.append(value)
            alarms[link] += trend(values, range(1, 61)).sign != 0
    assert alarms[0.0] <= 9 and alarms[0.5] <= 30


def test_rewards_without_a_reference_are_not_read_as_movement():
    events = [
        {**e, "rewards/chosen": 0.1 * e["logps/chosen"], "rewards/rejected": -40.0}
        for e in trl(1, -9)
    ]
    (nothing,) = diagnose(events)
    assert nothing.name == "nothing_to_judge" and "without a reference" in nothing.evidence
    evaluated = rows(eval_logps__chosen=(-90, -100), eval_logps__rejected=(-90, -140))
    levels = [{**e, "eval_rewards/chosen": -9.0, "eval_rewards/rejected": -9.0} for e in evaluated]
    for more in (evaluated, levels):
        (sink,) = diagnose([*events, *more])
        assert sink.name == "both_sink" and "chosen −10.0, rejected −50.0 nats" in sink.evidence


def test_one_cause_is_not_told_as_another():
    swapped = rows(
        rewards__accuracies=(1, 1), eval_rewards__accuracies=(0, 0),
        eval_rewards__chosen=(0, -9), eval_rewards__rejected=(0, 9),
    )  # fmt: skip
    assert names(swapped) == ["sides_swapped"], "not a learning rate that is too high"
    penalty = [{**e, "loss": 0.7 + e["step"] / 50} for e in trl(-0.5, -9, noise=0.3)]
    assert names(penalty) == [], "a loss that jumps by design while the chosen keeps its place"


def test_a_first_line_that_shows_all_of_the_rise_raises_a_doubt_about_the_reference():
    events = trl(20, 15, noise=0.5)
    lifted = [{**e, **{k: 3.0 for k in ("rewards/chosen", "rewards/rejected")}} for e in events]
    for i, event in enumerate(lifted):
        event["rewards/chosen"] += 0.01 * i
    assert "reference is not the model" in diagnose(lifted)[0].advice
    assert "reference is not the model" not in diagnose(events)[0].advice


STUCK = {"loss": (LN2, LN2), "rewards__margins": (0, 0)}
CAUSES = {
    "gradient is zero": {"grad_norm": (0, 0), "learning_rate": (5e-6, 0)},
    "learning rate is 0 in every row": {"grad_norm": (2, 2), "learning_rate": (0, 0)},
    "Raise the learning rate tenfold": {"grad_norm": (2, 2), "learning_rate": (1e-9, 0)},
    "bf16 weights round": {"grad_norm": (2, 2), "learning_rate": (5e-6, 0)},
    "reference moves along": {
        "grad_norm": (2, 2), "learning_rate": (1e-4, 0), "eval_logps__chosen": (-90, -99),
        "eval_logps__rejected": (-90, -99),
    },
    "ended during warm-up": {},
}  # fmt: skip


@pytest.mark.parametrize(("words", "more"), CAUSES.items(), ids=CAUSES)
def test_a_run_that_is_stuck_is_told_apart_by_cause(words, more):
    assert words in judge("nothing_moved", rows(**STUCK, **more)).advice


def test_tiny_margins_with_a_small_rate_may_be_bf16_or_a_rate_too_small():
    events = rows(
        loss=(LN2, LN2), rewards__margins=(0, 1e-3), grad_norm=(1, 1), learning_rate=(5e-7, 0)
    )
    advice = judge("nothing_moved", events).advice
    assert "bf16" in advice and "learning rate" in advice


def test_margins_that_scatter_about_zero_for_long_have_not_moved():
    def scattered(drift):
        draw = random.Random(3)
        events = rows(range(10, 610, 10), loss=(LN2, LN2), learning_rate=(5e-7, 0))
        margins = [drift * i / 60 + draw.gauss(0, 0.01) for i in range(60)]
        return [{**e, "rewards/margins": m} for e, m in zip(events, margins, strict=True)]

    assert judge("nothing_moved", scattered(0.0)) is not None
    assert judge("nothing_moved", scattered(0.03)) is None


def test_nan_before_any_update_is_not_blamed_on_the_learning_rate():
    events = [{"step": step, "loss": 0.0, "rewards/chosen": math.nan} for step in (1, 2, 3)]
    (nan,) = diagnose(events)
    assert nan.name == "not_finite" and "before any update" in nan.what
    assert "NaN loss as 0" in nan.evidence and "learning rate" not in nan.advice
    assert all(word in nan.advice for word in ("precision", "data", "weights"))


def test_nan_later_says_since_when_and_blames_the_rate_only_if_it_can_be():
    fine = without(FINE, "eval_shift")
    (nan,) = diagnose(changed(fine, 40, loss=math.nan))
    assert "since step 40" in nan.what and "a tenth of the learning rate" in nan.advice
    slow = [{**event, "learning_rate": 5e-7} for event in changed(fine, 40, loss=math.nan)]
    assert "learning rate" not in diagnose(slow)[0].advice


@pytest.mark.parametrize(
    ("method", "known", "absent"),
    [
        ("adadpo", {}, "adadpo"),
        ("fixed_ratio", {}, "fixed_ratio"),
        ("rpo", {}, "NLL"),
        ("dpo", {"nll_loss": (1, 1)}, "NLL"),
        ("dpo", {"learning_rate": (5e-7, 0)}, "learning rate"),
        ("dpo", {"beta": 2.0}, "raise β"),
        ("trainer", {"ada__rho": (1, 1.8)}, "adadpo"),
    ],
)
def test_nothing_is_advised_that_the_run_already_does(method, known, absent):
    beta = known.get("beta")
    events = shifts(-9, -30, **{k: v for k, v in known.items() if k != "beta"})
    (sink,) = diagnose(events, method=method, beta=beta)
    assert absent.lower() not in sink.advice.lower()
    plain = diagnose(shifts(-9, -30), method="dpo")[0].advice.lower()
    assert absent.lower() in plain


def test_a_large_offset_before_training_is_a_wrong_reference_and_a_small_one_dropout():
    def advice(reward):
        events = rows((1, 2, 3), rewards__chosen=(reward, reward), rewards__rejected=(0, -0.1))
        return judge("rewards_not_zero_at_start", events).advice

    assert advice(-4.0).startswith("Check that the reference") and "dropout" in advice(0.1)


def test_few_lines_are_not_enough_and_more_are_asked_for():
    (nothing,) = diagnose(trl(-30, -60)[:2])
    assert nothing.name == "nothing_to_judge" and "Only 2" in nothing.evidence
    assert names([{"step": 0}]) == ["nothing_to_judge"]
