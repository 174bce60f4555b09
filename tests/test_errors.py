"""What is said where something is not on this machine."""

import pytest
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES

from adadpo_mini.errors import is_offline, not_available


def test_the_hub_is_not_asked_whenever_its_own_library_would_not(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert not is_offline()
    for value in ENV_VARS_TRUE_VALUES:
        monkeypatch.setenv("HF_HUB_OFFLINE", value.lower())
        assert is_offline(), value
    for value in ("0", "", "false"):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        assert not is_offline(), value


@pytest.mark.parametrize("offline", ["0", "1"])
def test_what_cannot_be_had_is_said_with_what_to_do(monkeypatch, offline):
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    sentence = str(not_available("model", "gpt9", "a local folder", "no network"))
    assert sentence.startswith("model 'gpt9' is not on this machine")
    assert sentence.endswith("or use a local folder.")
    assert ("unset it to download the model" in sentence) == (offline == "1")
    assert ("(no network)" in sentence) == (offline == "0")
