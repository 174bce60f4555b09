"""How many CPU threads a method gets: more are not always faster."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGE = 10_000_000  # weights; with fewer, a second thread gains a fifth of a step's time at most


def choose_threads(parameters: int, methods: int) -> int:
    """Threads for each method, where nobody has said how many.

    All methods train at the same time, so that together they use the cores once. A small model
    gets one thread however many cores there are: more gain little, and its numbers then do not
    depend on the machine's cores. `make bench` measures both.

    Args:
        parameters: weights of the model.
        methods: that train at the same time.
    """
    # As many as torch would use: the cores, unless OMP_NUM_THREADS or set_num_threads says less.
    cores = torch.get_num_threads()
    return max(1, cores // methods) if parameters >= LARGE else 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let each torch operation use `count` threads. More threads than cores, over all that
    trains at once, do not share the machine but fight over it, and take 10 times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
