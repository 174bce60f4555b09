"""Every rule: logs in which it finds its problem, and logs just on the other side of its bounds."""

import math

import pytest

from adadpo_mini.doctor.case import Case
from adadpo_mini.doctor.diagnose import diagnose
from adadpo_mini.doctor.moves import find_movements
from adadpo_mini.doctor.rules import RULES
from tests.doctor.made_logs import (
    LN2,
    STEPS,
    changed,
    judge,
    rows,
    shifts,
)
from tests.doctor.rule_cases import CASES, CEILING


@pytest.mark.parametrize(
    ("name", "events"), [(name, log) for name, (heard, _) in CASES.items() for log in heard]
)
def test_a_rule_finds_its_problem(name, events):
    diagnosis = judge(name, events)
    assert diagnosis is not None
    assert diagnosis.name == name
    assert diagnosis in diagnose(events)
    assert any(character.isdigit() for character in diagnosis.evidence)
    for text in (diagnosis.what, diagnosis.evidence, diagnosis.advice):
        assert text.endswith(".") and "\n" not in text and " nan" not in text


@pytest.mark.parametrize(
    ("name", "events"), [(name, log) for name, (_, silent) in CASES.items() for log in silent]
)
def test_a_rule_finds_nothing_just_on_the_other_side_or_without_its_numbers(name, events):
    assert judge(name, events) is None


def test_every_rule_has_its_cases():
    assert CASES.keys() == RULES.keys()


def test_the_evidence_names_numbers_and_steps():
    (sink,) = diagnose(shifts(-12.3, -110.6))
    assert "step 40" in sink.evidence and "−12.3" in sink.evidence and "−110.6" in sink.evidence
    (rate,) = diagnose(changed(shifts(-0.1, -9, loss=(LN2, 0.2)), 10, loss=2.5))
    assert "from 0.693 to 2.5 at step 10" in rate.evidence
    (mass,) = diagnose(rows(mass__else=(0.334, 0.999), mass__chosen=(0.24, 0.001)))
    assert all(word in mass.evidence for word in ("0.334", "0.999 at step 40", "chosen", "0.001"))
    (ceiling,) = diagnose(changed(rows(**CEILING), 0, **{"eval_ada/ceiling_share": 0.5}))
    assert "96% of the pairs" in ceiling.evidence
    assert "from step 35 to 40 (first at step 5), with β_w/β_l = 2.00" in ceiling.evidence


def test_the_gravest_comes_first():
    events = shifts(-90, -180, mass__else=(0.1, 1.0), eval_length=(20, 60), loss=(LN2, 3.0))
    names = [diagnosis.name for diagnosis in diagnose(events)]
    assert names == ["learning_rate_too_high", "mass_leaves", "both_sink", "length_drift"]


def test_the_order_of_the_events_does_not_matter():
    events = shifts(-90, -180)
    assert diagnose(events[::-1]) == diagnose(events) != []


def test_no_events_and_events_without_numbers_get_no_diagnosis():
    assert diagnose([]) == []
    empty = {"eval_shift/chosen": None, "eval_shift/rejected": math.nan, "mass/else": None}
    assert diagnose([{"step": step, **empty} for step in STEPS]) == []


def test_held_out_pairs_are_preferred_to_training_pairs():
    training = rows(shift__chosen=(0, -15), shift__rejected=(0, -50))
    both = [{**a, **b} for a, b in zip(training, shifts(0.5, -9), strict=True)]
    assert [one.chosen for one in find_movements(Case(both))] == [0.5]
    assert diagnose(both) == []
    assert [diagnosis.name for diagnosis in diagnose(training)] == ["both_sink"]
