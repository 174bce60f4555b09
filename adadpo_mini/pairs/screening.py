"""Decide which rows of a data set are used, and count those that are not."""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.remarks import Remarks
from adadpo_mini.pairs.rows import Pair, UnusableRow, read_row

REPEATED = "that repeat an earlier pair"
IN_TRAINING = "also in the training split"
TOO_LONG = "longer than the model reads"
CONTRADICTORY = "contradictory"


@dataclass(frozen=True)
class LoadReport:
    """How many rows of a data set were kept, and why the others were not.

    Attributes:
        source: the name of the file or data set.
        rows: the number of rows.
        kept: the number of rows that became a pair.
        dropped: the number of other rows, by reason.
        first: the first place of each reason, and of a contradiction.
        contradictory: the number of kept pairs whose opposite is an earlier pair.
        strict: whether a faulty row is an error instead of being dropped.
        note: a sentence about where the rows are from, if it matters.
        remarks: how the rows were read: the columns of the prompt, and those that are not used.
    """

    source: str
    rows: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    first: Mapping[str, str] = field(default_factory=dict)
    contradictory: int = 0
    strict: bool = False
    note: str = ""
    remarks: Remarks = field(default_factory=Remarks)

    @property
    def text(self) -> str:
        """The report in one sentence, without the note.

        >>> print(LoadReport("a.csv", 9, 8, {"without a prompt": 1}, {}, 2).text)
        a.csv: 8 of 9 rows kept; dropped 1 without a prompt; 2 contradict an earlier pair and are
        kept.
        """
        parts = [f"{self.source}: {self.kept:,} of {self.rows:,} rows kept"]
        if self.dropped:
            counts = (f"{n:,} {why}{self._place(why)}" for why, n in self.dropped.items())
            parts.append(f"dropped {', '.join(counts)}")
        if self.contradictory:
            plural = "contradicts" if self.contradictory == 1 else "contradict"
            place = self._place(CONTRADICTORY)
            parts.append(
                f"{self.contradictory:,} {plural} an earlier pair{place} and "
                f"{'is' if self.contradictory == 1 else 'are'} kept"
            )
        return "; ".join(parts) + "."

    def without(self, count: int, reason: str, where: str) -> "LoadReport":
        """Return the report after `count` more pairs were dropped, the first at `where`."""
        return replace(
            self,
            kept=self.kept - count,
            dropped={**self.dropped, reason: self.dropped.get(reason, 0) + count},
            first={reason: where, **self.first},
        )

    def _place(self, reason: str) -> str:
        where = self.first.get(reason, "").removeprefix(f"{self.source}, ")
        return f" (first: {where})" if where else ""


def loading_note(train: LoadReport | None, held_out: LoadReport | None) -> str | None:
    """Return what to tell the user about the rows of both splits.

    None if every row and column was used, the prompt is in its own column, no pair contradicts
    another, and there is no note.

    Args:
        train, held_out: `report` of both splits.

    >>> train = LoadReport("a (train)", 9, 9)
    >>> print(loading_note(train, LoadReport("a (test)", 4, 3, {IN_TRAINING: 1})))
    a (test): 3 of 4 rows kept; dropped 1 also in the training split.
    """
    reports = [report for report in (train, held_out) if report]
    if len(reports) == 2 and train.source == held_out.source:
        reports = [_together(train, held_out)]
    notes = dict.fromkeys(report.note for report in reports)
    if reports:
        remarks = reduce(or_, (report.remarks for report in reports))
        notes[remarks.text(reports[0].source)] = None
    texts = [report.text for report in reports if report.dropped or report.contradictory]
    return " ".join(filter(None, [*notes, *texts])) or None


def _together(train: LoadReport, held_out: LoadReport) -> LoadReport:
    """Merge the reports of one data set that was split: only `TOO_LONG` is counted afterwards."""
    lost = held_out.dropped.get(TOO_LONG, 0)
    if not lost or train == held_out:  # equal if both splits are all the pairs
        return train
    return train.without(lost, TOO_LONG, held_out.first[TOO_LONG])


class Screen:
    """Checks rows one by one, and remembers only a digest of each pair.

    A pair that repeats an earlier one is dropped: it would count twice, and a copy of it might be
    held out. A pair that prefers the opposite of an earlier one is kept and counted: people do
    disagree, and noisy labels are part of real data.

    Args:
        source: the name of the file or data set.
        strict: whether a faulty row is an error, because its author can fix it; if not, it is
            dropped, because nobody can fix a row in someone else's data set.
        trained: `seen` of the training split, if the rows are held out from it: a pair that was
            trained on cannot measure what was learned, and is dropped.

    Attributes:
        seen: the digests of the pairs that were kept.
        remarks: how the rows were read.
    """

    def __init__(self, source: str, strict: bool, trained: Set[bytes] = frozenset()) -> None:
        self.source, self.strict, self._trained = source, strict, trained
        self.rows = self.kept = self.contradictory = 0
        self.dropped: dict[str, int] = {}
        self.first: dict[str, str] = {}
        self.first_fault: UnusableRow | None = None
        self.seen: set[bytes] = set()
        self.remarks = Remarks()

    def check(self, where: str, row: object) -> Pair | None:
        """Return the row's pair, or None if the row is dropped.

        Raises:
            InputError: as `read_row`; an `UnusableRow` only if strict.
        """
        self.rows += 1
        try:
            pair = read_row(where, row, self.remarks)
        except UnusableRow as fault:
            if self.strict:
                raise
            self.first_fault = self.first_fault or fault
            return self._drop(fault.reason, where)
        digest = _digest(pair["prompt"], pair["chosen"], pair["rejected"])
        if digest in self._trained:
            return self._drop(IN_TRAINING, where)
        if digest in self.seen:
            return self._drop(REPEATED, where)
        self.seen.add(digest)
        if _digest(pair["prompt"], pair["rejected"], pair["chosen"]) in self.seen:
            self.contradictory += 1
            self.first.setdefault(CONTRADICTORY, where)
        self.kept += 1
        return pair

    def report(self, note: str = "") -> LoadReport:
        """Return the report on all rows so far.

        Raises:
            InputError: there were rows, but none can be used.
        """
        if self.rows and not self.kept:
            if self.first_fault is None:
                raise InputError(
                    f"{self.source}: all of its {self.rows:,} rows are also in the training split, "
                    "so none is held out; name one split (DATA:SPLIT) and a part of it is held out."
                )
            raise InputError(
                f"{self.source}: none of its {self.rows:,} rows can be used; the first error: "
                f"{self.first_fault}"
            )
        return LoadReport(
            self.source,
            self.rows,
            self.kept,
            self.dropped,
            self.first,
            self.contradictory,
            self.strict,
            note,
            self.remarks,
        )

    def _drop(self, reason: str, where: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        self.first.setdefault(reason, where)


def _digest(*texts: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for text in texts:
        encoded = text.encode()
        digest.update(len(encoded).to_bytes(8, "little"))  # or "a", "bc" would equal "ab", "c"
        digest.update(encoded)
    return digest.digest()
