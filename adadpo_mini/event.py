"""The event: what is known about one training step. It is the one thing that flows through here.

A trainer makes it, the run folder keeps it, figures and the page draw it, the doctor reads it.
"""

from collections.abc import Callable, Mapping

Event = dict[str, float]
"""A flat dict of numbers with TRL's names, such as `logps/chosen`; see `Trainer.step`."""
OnEvent = Callable[[str, Event], None]
"""Called with (method, event) as they happen."""
Emit = Callable[[Mapping[str, Event]], None]
"""Called with the events of one step, by method."""
Note = Callable[[str], None]
"""Called with a sentence that a user should read."""


def say_nothing(*_: object) -> None:
    """The default of what is called with events and sentences."""
