"""The event: all measurements of one training step. The whole package passes it on.

A trainer makes it, the run folder keeps it, the figures and the page draw it, the doctor reads it.
"""

from collections.abc import Callable, Mapping

Event = dict[str, float]
"""A flat dict of numbers with TRL's names, such as `logps/chosen`; see `Trainer.step`."""
OnEvent = Callable[[str, Event], None]
"""Called with (method, event) as they happen."""
Emit = Callable[[Mapping[str, Event]], None]
"""Called with the events of one step, by method."""
Note = Callable[[str], None]
"""Called with a sentence for the user."""


def say_nothing(*_: object) -> None:
    """Do nothing: the default where a function is called with events or sentences."""
