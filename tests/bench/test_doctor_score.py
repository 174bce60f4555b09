"""The doctor's score on simulated logs, on fewer and other logs than the table's."""

import pytest

from adadpo_mini.doctor import diagnose
from tests.bench.doctor_score import simulate

SEEDS = range(1000, 1040)


@pytest.mark.parametrize(("fall", "least"), [(5, 20), (15, 38), (30, 40)])
@pytest.mark.parametrize("noise", [2.0, 5.0])
def test_a_falling_chosen_is_found(fall, least, noise):
    found = [{one.name for one in diagnose(simulate(fall, noise, seed))} for seed in SEEDS]
    assert sum("both_sink" in each for each in found) >= least


@pytest.mark.parametrize("noise", [2.0, 5.0, 20.0])
def test_a_healthy_log_raises_no_alarm(noise):
    assert sum(bool(diagnose(simulate(0, noise, seed))) for seed in SEEDS) <= 1
