"""What was noticed while the rows of a data set were read, for one sentence to the user."""

import re
from collections import Counter
from dataclasses import dataclass, field

from adadpo_mini.pairs.columns import FIELDS, HISTORY, QUESTIONS, SYSTEM, layout_of

REPEATED = "both answers begin with the prompt, which is removed from them"
DECODED = "messages stored as text are decoded"
LINE_ENDS = "line ends \\r\\n are read as \\n"


@dataclass
class Remarks:
    """Collects how rows are read. Every row may be read differently.

    Attributes:
        layouts: the columns of the rows, each combination once.
        used: the columns, except for chosen and rejected, that became part of a prompt.
        ignored: what else is not used, such as keys of messages.
        counts: in how many rows something was changed, by what was done.
    """

    layouts: dict[tuple[str, ...], None] = field(default_factory=dict)
    used: dict[str, None] = field(default_factory=dict)
    ignored: dict[str, None] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    _last: dict[str, str] = field(default_factory=dict)

    def count(self, done: str, where: str) -> None:
        """Note that something was changed in a row, once for each row."""
        if self._last.get(done) != where:
            self._last[done] = where
            self.counts[done] += 1

    def saw(self, columns: tuple[str, ...]) -> None:
        """Note which columns there are."""
        self.layouts[columns] = None

    def use(self, *columns: str) -> None:
        """Note that these columns are part of a prompt."""
        for column in columns:
            self.used[column] = None

    def ignore(self, what: str) -> None:
        """Note that something other than a column is not used."""
        self.ignored[what] = None

    def unused(self) -> list[str]:
        """Return what is in no prompt and no answer."""
        questions, others = {}, {}
        for columns in self.layouts:
            layout = layout_of(columns)
            questions |= dict.fromkeys(layout.questions)
            others |= dict.fromkeys(layout.other)
        names = (*questions, *others, *self.ignored)
        return [name for name in names if name not in self.used]

    def text(self, source: str) -> str:
        """Return the sentence about the columns and changes, or "" if there is nothing to say.

        >>> remarks = Remarks()
        >>> remarks.saw(("id", "question", "chosen", "rejected"))
        >>> remarks.use("question")
        >>> remarks.text("a.csv (train)")
        'a.csv: the prompt is read from question; not used: id.'
        """
        parts = []
        if any(name in QUESTIONS or name not in FIELDS for name in self.used):
            names = sorted(self.used, key=lambda name: name not in (*SYSTEM, HISTORY))
            parts.append(f"the prompt is read from {_and(names)}")
        if unused := self.unused():
            parts.append(f"not used: {', '.join(unused)}")
        for done, count in self.counts.items():
            parts.append(f"{done} ({count:,} row{'s' * (count > 1)})")
        name = re.sub(r" \([^()]*\)$", "", source)  # without the split
        return f"{name}: {'; '.join(parts)}." if parts else ""

    def __or__(self, other: "Remarks") -> "Remarks":
        return Remarks(
            {**self.layouts, **other.layouts},
            {**self.used, **other.used},
            {**self.ignored, **other.ignored},
            self.counts + other.counts,
        )


def _and(names: list[str]) -> str:
    return " and ".join([*filter(None, [", ".join(names[:-1])]), names[-1]])
