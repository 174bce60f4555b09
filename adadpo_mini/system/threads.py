"""Choosing the number of CPU threads per method; more are not always faster."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

LARGE = 10_000_000  # weights; for smaller models a second thread saves at most a fifth of the time


def choose_threads(parameters: int, methods: int) -> int:
    """Return the default number of threads per method.

    The methods train at the same time and share the cores. A small model gets one thread on any
    machine: more threads gain little (`make bench` measures this), and with one thread its numbers
    do not depend on the number of cores.

    Args:
        parameters: the number of weights of the model.
        methods: the number of methods that train at the same time.
    """
    # torch's default: the cores, unless OMP_NUM_THREADS or set_num_threads sets a lower number.
    cores = torch.get_num_threads()
    return max(1, cores // methods) if parameters >= LARGE else 1


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let each torch operation use `count` threads inside the block.

    If everything that trains at once uses more threads than there are cores, the threads compete
    and training takes about ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
