"""One line of progress: the bar, the time left, the steps, then as many details as fit."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions
from rich.live import Live
from rich.text import Text

from adadpo_mini.cli.status import hide, say
from adadpo_mini.event import Event

REPLAYED = 5e-4  # seconds; no step is that fast, so a resumed race is only repeating its events
BAR = 8  # one part in 8 of the width is the bar
FIRST_LINE, SHARE = 5.0, 0.05  # of a log: its first line after 5 s, each 5 % of the time later


@dataclass
class Line:
    """A progress line. `what` is the unit, such as "steps"; the first `details` matter most."""

    what: str
    total: int
    done: int = 0
    details: Sequence[str] = ()
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=100))
    changed_at: float = field(default_factory=time.monotonic)

    def update(self, done: int, details: Sequence[str], total: int) -> None:
        """Set what is known now."""
        now = time.monotonic()
        if done > self.done:
            each = (now - self.changed_at) / (done - self.done)
            if each > REPLAYED:
                self.seconds.append(each)
            self.changed_at = now
        self.done, self.total, self.details = done, total, details or self.details

    def plain(self) -> str:
        """Return the whole line for a log, where width does not matter."""
        return ", ".join((f"{self.done}/{self.total} {self.what}", self._left(), *self.details))

    def fitted(self, width: int) -> str:
        """Return the line for a terminal: never wider than `width`, and no detail is cut."""
        full = self._full(width)
        bar = "━" * full + "─" * (width // BAR - full)
        parts = f"{bar} {self._left()}  {self.done}/{self.total}"
        line = f"{parts} {self.what}"
        if len(line) > width:
            return parts[:width]
        for number, detail in enumerate(self.details):
            rest = len(self.details) - number - 1
            more = f"  +{rest}" if rest else ""
            if len(line) + 2 + len(detail) + len(more) > width:
                more = f"  +{rest + 1}"
                return line + more if len(line + more) <= width else line
            line = f"{line}  {detail}"
        return line

    def _full(self, width: int) -> int:
        """Return how much of the bar is done, in characters."""
        return (width // BAR) * min(self.done, self.total) // max(1, self.total)

    def _left(self) -> str:
        """Return the time left, from the mean of the last steps."""
        if not self.seconds:
            return "-:-- left"
        each = sum(self.seconds) / len(self.seconds)
        minutes, seconds = divmod(round(each * (self.total - self.done)), 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}" if hours else f"{minutes}"
        return f"{clock}:{seconds:02} left"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width = options.max_width
        text = Text(self.fitted(width), no_wrap=True, overflow="crop")
        text.stylize("bar.complete", 0, self._full(width))
        text.stylize("bar.back", self._full(width), width // BAR)
        yield text


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[..., None]]:
    """Show progress on stderr; yields a function to call with (done, details, in_all).

    A terminal shows one line that changes; a file or pipe gets a line now and then. Nothing is
    shown before the first call, so that input rejected before any work gives one line only.
    """
    line, console = Line(what, total), Console(stderr=True)
    live = Live(line, console=console, refresh_per_second=8)
    began = last = time.monotonic()

    def show(done: int, details: Sequence[str] = (), in_all: int = total) -> None:
        nonlocal last
        line.update(done, details, in_all)
        if console.is_terminal:
            if not live.is_started:
                hide()
                live.start()
            return
        now = time.monotonic()
        if now - last >= max(FIRST_LINE, SHARE * (now - began)):
            say(line.plain())
            last = now

    try:
        yield show
    finally:
        if live.is_started:
            live.stop()


@contextmanager
def race_progress(steps: int, methods: Sequence[str]) -> Iterator[Callable[[str, Event], None]]:
    """Show the progress of a race: of each method the name and the latest Δchosen.

    Yields the race's `on_event`.
    """
    latest: dict[str, float] = {}
    at: dict[str, float] = {}
    with progress("steps", steps) as show:

        def on_event(method: str, event: Event) -> None:
            if "eval_shift/chosen" in event:
                latest[method] = event["eval_shift/chosen"]
            at[method] = event["step"]
            if len(at) == len(methods) and len({*at.values()}) == 1:  # all have reported this step
                show(event["step"], details_of(latest))

        yield on_event


def details_of(latest: dict[str, float]) -> list[str]:
    """Return what the line says about each method; the first detail explains the numbers.

    >>> details_of({"dpo": -3.44, "adadpo": 0.5})
    ['Δchosen: dpo -3.4', 'adadpo +0.5']
    """
    details = [f"{method} {shift:+.1f}" for method, shift in latest.items()]
    return [f"Δchosen: {details[0]}", *details[1:]] if details else []
