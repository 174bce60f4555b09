"""The error for a row that can be left out."""

from adadpo_mini.errors import InputError


class UnusableRow(InputError):
    """Raised for a row that can be left out without affecting the others.

    Attributes:
        reason: what is wrong, in the same few words for all rows with that fault.
    """

    def __init__(self, sentence: str, reason: str) -> None:
        super().__init__(sentence)
        self.reason = reason
