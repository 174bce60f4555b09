"""The presets: each reproduces the problem that its rule finds."""

import pytest

from adadpo_mini import InputError, RaceConfig, race
from adadpo_mini.doctor.diagnose import diagnose_all
from adadpo_mini.doctor.presets import PRESETS, find_preset
from adadpo_mini.doctor.rules import RULES


def test_there_is_a_preset_for_every_rule_and_a_healthy_one():
    assert PRESETS.keys() == {*RULES, "healthy"}
    for name, preset in PRESETS.items():
        config = RaceConfig(**preset.settings)
        assert config.steps <= 60 and config.batch_size <= 16
        assert preset.name == name and preset.question.endswith("?")
        assert tuple(preset.expect) == config.methods
        expected = {diagnosis for each in preset.expect.values() for diagnosis in each}
        assert expected == ({name} if name in RULES else set())


def test_an_unknown_preset_is_refused_with_the_names_of_all():
    assert find_preset("both_sink") is PRESETS["both_sink"]
    with pytest.raises(InputError, match=r"'sink'.*both_sink"):
        find_preset("sink")


@pytest.mark.parametrize("preset", PRESETS.values(), ids=PRESETS)
def test_a_preset_gets_the_diagnosis_it_is_for(preset):
    result = race(**preset.settings)
    found = diagnose_all(result.events, result.summary["problem"])
    for method, expected in preset.expect.items():
        names = [diagnosis.name for diagnosis in found[method]]
        assert set(expected) <= set(names)
        assert names == [] or expected, "what should be healthy is"
