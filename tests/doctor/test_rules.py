"""Every rule: logs in which it finds its problem, and logs just on the other side of its bounds."""

import math

import pytest

from adadpo_mini.doctor.diagnose import diagnose
from adadpo_mini.doctor.rules import RULES
from adadpo_mini.doctor.series import find_shifts
from tests.doctor.made_logs import FINE, LN2, STEPS, STILL, changed, learned, rows, shifts

CEILING = {"eval_ada__rho": (2, 2), "eval_ada__ceiling_share": (0.96, 0.96)}
# For each rule: logs in which it speaks, and logs just on the other side, or without its numbers.
CASES = {
    "nothing_moved": (
        [
            STILL,
            rows(loss=(LN2, LN2 - 9e-4), rewards__margins=(0, 1.9e-3)),
            rows((0, 5, 10), loss=(LN2, LN2), rewards__margins=(0, 0)),
        ],
        [
            rows(loss=(LN2, LN2 - 1.1e-3), rewards__margins=(0, 0)),
            rows(loss=(LN2, LN2), rewards__margins=(0, 2.1e-3)),
            rows((0, 3, 6, 9), loss=(LN2, LN2), rewards__margins=(0, 0)),
            rows((0, 40), loss=(LN2, LN2), rewards__margins=(0, 0)),
            rows(loss=(LN2, LN2)),
        ],
    ),
    "both_sink": (
        [
            shifts(-1.1, -20),
            shifts(-3.1, -20, start=-300),
            rows(eval_logps__chosen=(-5, -6.1), eval_logps__rejected=(-5, -9)),
            rows(shift__chosen=(0, -1.1), shift__rejected=(0, -9)),
            rows(logps__chosen=(-90, -100), logps__rejected=(-90, -100)),
        ],
        [
            shifts(-0.9, -20),
            shifts(-2.9, -20, start=-300),
            shifts(-9, -0.9),
            rows(eval_logps__chosen=(-5, -5.9), eval_logps__rejected=(-5, -9)),
            rows(logps__chosen=(-90, -98), logps__rejected=(-90, -130)),
            rows(eval_shift__chosen=(0, -9)),
        ],
    ),
    "chosen_rises": (
        [shifts(0.5, 0.11), shifts(4, 3.1, start=-300)],
        [shifts(0.5, 0.09), shifts(4.5, -30), shifts(0.05, 0.5), shifts(4, 2.9, start=-300)],
    ),
    "saturated": (
        [learned()],
        [
            learned(loss=0.011),
            learned(grad=0.06),
            learned(margin=-1),
            [{"step": e["step"], "loss": e["loss"]} for e in learned()],
        ],
    ),
    "length_drift": (
        [
            changed(rows(eval_length=(20, 30.1)), 35, eval_length=30.1),
            changed(rows(eval_length=(30, 19.9)), 35, eval_length=19.9),
            rows(completions__mean_length=(200, 350)),
        ],
        [
            changed(rows(eval_length=(20, 29.9)), 35, eval_length=30.1),
            changed(rows(eval_length=(20, 30.1)), 35, eval_length=29.9),
            changed(rows(eval_length=(30, 20.1)), 35, eval_length=19.9),
            changed(rows(eval_length=(20, 10)), 35, eval_length=40),
            rows((0, 40), eval_length=(20, 60)),
            rows(loss=(1, 9)),
        ],
    ),
    "mass_leaves": (
        [rows(mass__else=(0.3, 0.41)), rows(mass__else=(0.0, 1.0))],
        [rows(mass__else=(0.3, 0.39)), rows(mass__else=(0.9, 0.1)), shifts(-90, -90)],
    ),
    "learning_rate_too_high": (
        [
            changed(FINE, 10, loss=1.4),
            changed(FINE, 10, grad_norm=20.1),
            changed(shifts(-0.1, -9, loss=(LN2, 0.2)), 10, loss=1.4),
            changed(FINE, 40, loss=math.nan),
            changed(FINE, 10, loss=None),
            changed(FINE, 40, grad_norm=math.inf),
            changed(changed(FINE, 5, grad_norm=None), 10, grad_norm=None),
            rows((0, 5, 10), eval_shift__chosen=(0, -5.1), eval_shift__rejected=(0, -9)),
            rows((5, 10, 15), eval_logps__chosen=(-5, -11), eval_logps__rejected=(-5, -99)),
        ],
        [
            changed(FINE, 10, loss=1.38),
            changed(FINE, 10, grad_norm=19.9),
            changed(FINE, 5, grad_norm=None),
            rows(loss=(0.01, 1.3)),
            changed(shifts(0.1, -9, loss=(LN2, 0.2), grad_norm=(1, 1)), 10, loss=9, grad_norm=99),
            rows((0, 5, 10), eval_shift__chosen=(0, -4.9), eval_shift__rejected=(0, -9)),
            rows((0, 6, 12), eval_shift__chosen=(0, -9.9), eval_shift__rejected=(0, -9)),
            rows((0, 5, 10), eval_logps__chosen=(-9, -17), eval_logps__rejected=(-5, -99)),
            shifts(-5.1, -90),
        ],
    ),
    "all_at_ceiling": (
        [rows(**CEILING), rows(ada__rho=(1, 2), ada__ceiling_share=(0.2, 1.1))],
        [
            changed(rows(**CEILING), 35, **{"eval_ada/ceiling_share": 0.94}),
            rows(ada__rho=(1, 1), ada__ceiling_share=(0, 0)),
            rows(ada__rho=(2, 2)),
            rows((0, 40), **CEILING),
        ],
    ),
}


@pytest.mark.parametrize(
    ("name", "events"), [(name, log) for name, (heard, _) in CASES.items() for log in heard]
)
def test_a_rule_finds_its_problem(name, events):
    diagnosis = RULES[name](events)
    assert diagnosis is not None
    assert diagnosis.name == name
    assert diagnosis in diagnose(events)
    assert any(character.isdigit() for character in diagnosis.evidence)
    for text in (diagnosis.what, diagnosis.evidence, diagnosis.advice):
        assert text.endswith(".") and "\n" not in text and "nan" not in text


@pytest.mark.parametrize(
    ("name", "events"), [(name, log) for name, (_, silent) in CASES.items() for log in silent]
)
def test_a_rule_finds_nothing_just_on_the_other_side_or_without_its_numbers(name, events):
    assert RULES[name](events) is None


def test_every_rule_has_its_cases():
    assert CASES.keys() == RULES.keys()


def test_the_evidence_names_numbers_and_steps():
    (sink,) = diagnose(shifts(-12.3, -110.6))
    assert "step 40" in sink.evidence and "−12.3" in sink.evidence and "−110.6" in sink.evidence
    (rate,) = diagnose(changed(FINE, 10, loss=2.5))
    assert "from 0.693 to 2.5 at step 10" in rate.evidence
    (mass,) = diagnose(rows(mass__else=(0.334, 0.999), mass__chosen=(0.24, 0.001)))
    assert all(word in mass.evidence for word in ("0.334", "0.999 at step 40", "chosen", "0.001"))
    (ceiling,) = diagnose(changed(rows(**CEILING), 0, **{"eval_ada/ceiling_share": 0.5}))
    assert "96% of the pairs" in ceiling.evidence
    assert "from step 35 to 40 (first at step 5), with β_w/β_l = 2.00" in ceiling.evidence


def test_a_gradient_of_zero_gets_other_advice_than_a_small_learning_rate():
    assert "zero" not in RULES["nothing_moved"](STILL).advice
    frozen = [{**event, "grad_norm": 0.0} for event in STILL]
    assert "trainable" in RULES["nothing_moved"](frozen).advice


def test_the_gravest_comes_first():
    events = shifts(-90, -180, mass__else=(0.1, 1.0), eval_length=(20, 60), loss=(LN2, 3.0))
    names = [diagnosis.name for diagnosis in diagnose(events)]
    assert names == ["learning_rate_too_high", "mass_leaves", "both_sink", "length_drift"]


def test_the_order_of_the_events_does_not_matter():
    events = shifts(-90, -180)
    assert diagnose(events[::-1]) == diagnose(events) != []


def test_no_events_and_events_without_numbers_get_no_diagnosis():
    assert diagnose([]) == []
    assert diagnose([{"step": 0}]) == []
    empty = {"eval_shift/chosen": None, "eval_shift/rejected": math.nan, "mass/else": None}
    assert diagnose([{"step": step, **empty} for step in STEPS]) == []


def test_held_out_pairs_are_preferred_to_training_pairs():
    training = rows(shift__chosen=(0, -15), shift__rejected=(0, -50))
    both = [{**a, **b} for a, b in zip(training, shifts(0.5, -9), strict=True)]
    assert find_shifts(both).chosen[-1] == 0.5
    assert diagnose(both) == []
    assert [diagnosis.name for diagnosis in diagnose(training)] == ["both_sink"]


def test_training_rows_of_other_pairs_do_not_outweigh_the_rewards():
    """The last batch has longer answers, so their log-probs are lower; the rewards know better."""
    events = rows(logps__chosen=(-90, -150), logps__rejected=(-90, -150))
    risen = [{**e, "rewards/chosen": 0.1, "rewards/rejected": -2.0} for e in events]
    fallen = [{**e, "rewards/chosen": -0.1, "rewards/rejected": -2.0} for e in events]
    assert diagnose(risen) == []
    assert [diagnosis.name for diagnosis in diagnose(fallen)] == ["both_sink"]
