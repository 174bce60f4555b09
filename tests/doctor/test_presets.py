"""The presets: each reproduces the problem that its rule finds."""

import pytest

from adadpo_mini import InputError, RaceConfig, race
from adadpo_mini.doctor.diagnose import diagnose_all
from adadpo_mini.doctor.presets import PRESETS, find_preset
from adadpo_mini.doctor.rules import RULES

# A toy race cannot have these: its data, its reference and its weights are checked.
ONLY_IN_OTHER_LOGS = {
    "not_finite",
    "no_answer_tokens",
    "reference_is_base",
    "rewards_not_zero_at_start",
    "sides_misnamed",
    "sides_swapped",
    "batch_of_one",
    "evaluation_not_repeatable",
}


def test_there_is_a_preset_for_every_rule_about_a_race_and_a_healthy_one():
    assert {*RULES, "healthy"} - ONLY_IN_OTHER_LOGS <= PRESETS.keys()
    assert not PRESETS.keys() & ONLY_IN_OTHER_LOGS
    for name, preset in PRESETS.items():
        config = RaceConfig(**preset.settings)
        assert preset.name == name and preset.question.endswith("?")
        assert tuple(preset.expect) == config.methods
        expected = {diagnosis for each in preset.expect.values() for diagnosis in each}
        assert expected <= RULES.keys()
        if name in RULES or name == "healthy":
            assert config.steps <= 60 and config.batch_size <= 16
            assert expected == ({name} if name in RULES else set())


def test_an_unknown_preset_is_refused_with_the_names_of_all():
    assert find_preset("both_sink") is PRESETS["both_sink"]
    with pytest.raises(InputError, match=r"'sink'.*both_sink"):
        find_preset("sink")


@pytest.mark.parametrize(("name", "preset"), PRESETS.items(), ids=PRESETS)
def test_a_preset_gets_the_diagnosis_it_is_for(name, preset):
    result = race(**preset.settings)
    found = diagnose_all(result.events, result.summary["problem"])
    for method, expected in preset.expect.items():
        names = [diagnosis.name for diagnosis in found[method]]
        assert set(expected) <= set(names)
        wild = name not in RULES and name != "healthy"  # runs to compare with may have more
        assert names == [] or expected or wild, "what should be healthy is"
