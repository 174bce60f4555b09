"""A tiny reference and scored pairs for RLHF."""

import pytest

from adadpo_mini import load_model, load_pairs
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.tokens.batch import tokenize_pairs


@pytest.fixture(scope="module")
def reference(tiny):
    return load_model(tiny)[0].eval().requires_grad_(False)


@pytest.fixture(scope="module")
def tokenized(toy):
    return tokenize_pairs(load_pairs("tone")[:24], toy[1], 256)


@pytest.fixture(scope="module")
def scored(reference, tokenized):
    return ScoredPairs(reference, tokenized)
