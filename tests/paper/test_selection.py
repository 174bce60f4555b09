"""Choosing on the other seeds: of the same place only, and never on the seed itself."""

import math

import pytest

from adadpo_mini.paper.selection import picked_on_other_seeds, widening


def test_the_option_is_chosen_on_the_other_seeds_of_the_same_data_set():
    options = {
        ("tone", 0): {"a": 0.9, "b": 0.1, "c": 0.0},
        ("tone", 1): {"a": 0.2, "b": 0.8, "c": 0.3},
        ("tone", 2): {"a": 0.7, "b": 0.5, "c": 0.4},
        ("swap", 0): {"a": 0.0, "b": 0.0, "c": 1.0},
        ("swap", 1): {"a": 0.0, "b": 0.0, "c": 0.6},
    }
    assert picked_on_other_seeds(options) == {
        ("tone", 0): 0.1,  # b: (0.8 + 0.5) / 2 is above a's (0.2 + 0.7) / 2
        ("tone", 1): 0.2,  # a
        ("tone", 2): 0.7,  # a: (0.9 + 0.2) / 2 is above b's (0.1 + 0.8) / 2
        ("swap", 0): 1.0,
        ("swap", 1): 0.6,
    }


def test_an_option_that_the_other_seeds_lack_is_not_chosen_and_one_seed_has_no_choice():
    options = {("tone", 0): {"a": 0.1, "b": 0.2}, ("tone", 1): {"a": 0.3}, ("swap", 0): {"a": 1.0}}
    assert picked_on_other_seeds(options) == {("tone", 0): 0.1, ("tone", 1): 0.3}


@pytest.mark.parametrize(("seeds", "factor"), [(2, 3), (5, 9 / 4), (10, 19 / 9)])
def test_the_interval_is_widened_by_the_root_of_two_and_one_over_n_less_one(seeds, factor):
    places = [(data, seed) for data in ("tone", "swap") for seed in range(seeds)]
    assert widening(places) == pytest.approx(math.sqrt(factor))
    fewer = [*places, *(("near_duplicate", seed) for seed in range(2))]
    assert widening(fewer) == pytest.approx(math.sqrt(3)), "the fewest seeds decide"
    assert math.isnan(widening([("tone", 0), ("swap", 0)]))
