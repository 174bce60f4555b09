"""From an interval to a verdict, and to its text."""

import math

import pytest

from adadpo_mini.paper.verdict import (
    FAILS,
    HOLDS,
    NO_DIFFERENCE,
    NOT_APPLICABLE,
    NOT_RUN,
    UNDECIDED,
    Units,
    decide,
    verdict_on,
)

CLEAR = [0.2, 0.21, 0.19]


@pytest.mark.parametrize(
    ("interval", "side", "tolerance", "verdict"),
    [
        ((0.1, 0.3), 1, None, HOLDS),
        ((0.1, 0.3), -1, None, FAILS),
        ((-0.3, -0.1), 1, None, FAILS),
        ((-0.3, -0.1), -1, None, HOLDS),
        ((-0.1, 0.3), 1, None, UNDECIDED),
        ((0.0, 0.3), 1, None, UNDECIDED),
        ((0.0, 0.0), 1, None, UNDECIDED),
        ((math.nan, math.nan), 1, None, UNDECIDED),
        ((-0.04, 0.05), 1, 0.05, HOLDS),
        ((0.06, 0.07), 1, 0.05, FAILS),
        ((-0.07, -0.06), 1, 0.05, FAILS),
        ((0.04, 0.06), 1, 0.05, UNDECIDED),
        ((math.nan, math.nan), 1, 0.05, UNDECIDED),
    ],
)
def test_the_verdict_follows_the_interval_alone(interval, side, tolerance, verdict):
    assert decide(interval, side, tolerance) == verdict


def test_ties_and_claims_about_what_never_happens_come_before_the_interval():
    assert verdict_on(Units(CLEAR)).verdict == HOLDS
    assert verdict_on(Units(CLEAR, ties=0.5)).verdict == HOLDS
    assert verdict_on(Units(CLEAR, ties=0.51)).verdict == NO_DIFFERENCE
    assert verdict_on(Units([0.0] * 3, ties=1.0), tolerance=0.05).verdict == HOLDS
    never = verdict_on(Units(CLEAR, applies=False, note="0% of pairs"))
    assert never.text == "**not applicable**, 0% of pairs" and never.verdict == NOT_APPLICABLE
    assert verdict_on(Units([])).text == f"**{NOT_RUN}**"


def test_the_interval_is_widened_as_the_units_say():
    plain, wide = (verdict_on(Units(CLEAR, widen=widen)) for widen in (1, 3))
    width = plain.interval[1] - plain.interval[0]
    assert wide.interval[1] - wide.interval[0] == pytest.approx(3 * width)
    assert wide.effect == plain.effect == pytest.approx(0.2)


def test_ties_are_counted_among_the_values():
    assert Units.of([0.0, 0.0, 0.1]).ties == pytest.approx(2 / 3) and Units.of([]).ties == 0
    assert Units.of([0.0, 0.1], note="x").note == "x"


def test_the_text_has_the_verdict_the_effect_its_interval_and_the_note():
    found = verdict_on(Units([12.0, 12.0], note="9 settings"))
    assert found.text == "**holds** +12.0 (+12.0 to +12.0), 9 settings"
    assert found.details == " +12.0 (+12.0 to +12.0), 9 settings"
    assert verdict_on(Units([-0.25])).text == "**undecided here** −0.25 (one seed)"
