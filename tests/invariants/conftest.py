"""A tiny model and pairs for the invariants."""

import pytest
import torch

from adadpo_mini import load_model, load_pairs
from adadpo_mini.tokens.batch import TokenizedPair


@pytest.fixture(scope="module")
def start(tiny):
    """(model, tokenizer) from a folder whose configuration asks for dropout."""
    model, tokenizer = load_model(tiny)
    assert model.config.attn_pdrop > 0
    return model.eval().requires_grad_(False), tokenizer


@pytest.fixture(scope="module")
def pairs():
    """Eight pairs of random tokens; prompts and completions have 1 to 24 of them."""
    generator = torch.Generator().manual_seed(0)

    def some():
        count = int(torch.randint(1, 25, (1,), generator=generator))
        return torch.randint(2, 800, (count,), generator=generator).tolist()

    return [TokenizedPair(some(), some(), some()) for _ in range(8)]


@pytest.fixture(scope="module")
def rows():
    return list(load_pairs("swap")[:16])
