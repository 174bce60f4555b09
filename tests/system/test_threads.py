"""The number of threads per method."""

import pytest
import torch

from adadpo_mini.system.threads import choose_threads, torch_threads


@pytest.mark.parametrize(("model", "methods", "least"), [
    ("small", 1, 1), ("small", 4, 1), ("large", 1, 8), ("large", 3, 2), ("large", 9, 1),
])  # fmt: skip
def test_large_models_share_the_threads_and_small_ones_take_one(model, methods, least):
    before = torch.get_num_threads()
    torch.set_num_threads(8)
    try:
        assert choose_threads({"small": 10**6, "large": 10**8}[model], methods) == least
    finally:
        torch.set_num_threads(before)


def test_within_a_block_torch_has_that_many_threads_and_afterwards_as_many_as_before():
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), torch_threads(3):
        assert torch.get_num_threads() == 3
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == before
