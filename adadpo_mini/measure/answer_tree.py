"""A fast path: many answers to a prompt share their beginnings, so that each is read once.

You do not need this file to understand the mass ledger: `tree_logps` returns what
`mass.answer_logps` returns, with 40 % of the work. The toy world's answers to one prompt are
187 rows but only a few beginnings, friendly or rude, short or detailed. Sorted, they form a tree,

    prompt Sure! You can warm the soup with a pot.
                                           └ box.
           Of course! You can …

and one row contains a whole branch of it. A token sees exactly the tokens on its path from the
prompt, as in the answer itself, and has the position that it has there. See also
`models/shared_prompt.py`, where the branches of the tree are the two answers of a pair.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from os.path import commonprefix

import torch
from torch import Tensor

from adadpo_mini.models.shared_prompt import MaskedRows, agrees, target_logps
from adadpo_mini.tokens.batch import stack_rows
from adadpo_mini.types import Model

ROW_TOKENS = 128  # of a row, if no answer is longer: a wide row wastes time in attention
TOKENS_AT_ONCE = 1024

Completion = tuple[list[int], list[int]]
"""The token ids of a prompt and of an answer to it."""


@dataclass
class _Branch:
    """One row: a prompt and answers to it, added in sorted order.

    Attributes:
        ids, positions: of the tokens that are read.
        ends: for each token, the end of its subtree: the first later token that does not see it.
        sources, targets: for each edge of the tree, the token that predicts and what it predicts.
        edges: for each answer, its edges from the prompt on.
    """

    prompt: list[int]
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    edges: list[list[int]] = field(default_factory=list)
    _path: list[int] = field(default_factory=list)  # the tokens read for the last answer
    _answer: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for position, token in enumerate(self.prompt):
            self._read(token, position)

    def new_tokens(self, answer: list[int]) -> int:
        """Return how many tokens of this answer are not in the row yet."""
        return len(answer) - self._shared(answer)

    def _shared(self, answer: list[int]) -> int:
        """Return how many tokens this answer shares with what was read of the last one."""
        return len(commonprefix([self._answer[:-1], answer]))

    def add(self, answer: list[int]) -> None:
        """Add an answer that comes after the last one in sorted order."""
        shared = self._shared(answer)
        start = len(self.prompt)
        for token in self._path[start + shared :]:
            self.ends[token] = len(self.ids)
        self._path = self._path[: start + shared]
        edges = self.edges[-1][:shared] if self.edges else []
        for place in range(shared, len(answer)):
            edges.append(len(self.targets))
            self.sources.append(self._path[start + place - 1])
            self.targets.append(answer[place])
            if place + 1 < len(answer):  # nothing follows the last token, so it is not read
                self._read(answer[place], start + place)
        self.edges.append(edges)
        self._answer = answer

    def _read(self, token: int, position: int) -> None:
        self._path.append(len(self.ids))
        self.ids.append(token)
        self.positions.append(position)
        self.ends.append(1 << 30)


@dataclass(frozen=True)
class AnswerTree:
    """Answers to prompts, ready to be scored by `tree_logps`.

    Attributes:
        parts: the rows of the tree, a few at a time.
        edges: for each answer, its edges among the targets of all parts, padded with the index
            after the last one, shape (answers, longest).
    """

    parts: list[MaskedRows]
    edges: Tensor

    @classmethod
    def grow(cls, completions: Sequence[Completion], row_tokens: int = ROW_TOKENS) -> "AnswerTree":
        """Return the tree of these answers, of one prompt or several.

        Args:
            row_tokens: a branch with more tokens is spread over several rows.
        """
        order = sorted(range(len(completions)), key=completions.__getitem__)
        branches = _branches((completions[i] for i in order), row_tokens)
        edges, count = [], 0
        for branch in branches:
            edges += [torch.tensor(path) + count for path in branch.edges]
            count += len(branch.targets)
        table = torch.nn.utils.rnn.pad_sequence(edges, batch_first=True, padding_value=count)
        return cls(list(_parts(branches)), table[torch.tensor(order).argsort()])


def _branches(completions: Iterable[Completion], row_tokens: int) -> list[_Branch]:
    branches: list[_Branch] = []
    for prompt, answer in completions:
        last = branches[-1] if branches and branches[-1].prompt == prompt else None
        if last is None or len(last.ids) + last.new_tokens(answer) > row_tokens:
            branches.append(_Branch(prompt))
        branches[-1].add(answer)
    return branches


def _parts(branches: Sequence[_Branch]) -> Iterator[MaskedRows]:
    """Yield the rows in parts of about TOKENS_AT_ONCE tokens."""
    start = 0
    while start < len(branches):
        end, width = start, 0
        while end < len(branches):
            width = max(width, len(branches[end].ids))
            if end > start and width * (end + 1 - start) > TOKENS_AT_ONCE:
                break
            end += 1
        yield _stack(branches[start:end])
        start = end


def _stack(branches: Sequence[_Branch]) -> MaskedRows:
    width = max(len(branch.ids) for branch in branches)

    def padded(name: str) -> Tensor:
        rows = [getattr(branch, name) for branch in branches]
        return torch.tensor([row + [0] * (width - len(row)) for row in rows])

    column = torch.arange(width)
    earlier = column[:, None] >= column  # (query, key)
    visible = earlier & (column[:, None] < padded("ends")[:, None, :])
    visible |= torch.eye(width, dtype=torch.bool)  # padding sees itself, or it would see nothing
    sources = [
        row * width + source for row, branch in enumerate(branches) for source in branch.sources
    ]
    return MaskedRows(
        padded("ids"),
        padded("positions"),
        visible[:, None],
        torch.tensor(sources),
        torch.tensor([target for branch in branches for target in branch.targets]),
    )


@torch.no_grad()
def tree_logps(model: Model, tree: AnswerTree) -> Tensor:
    """Return log π(y|x) of each answer of a tree, nats, shape (answers,).

    Only valid for models that pass `can_use_tree`.
    """
    parts = [target_logps(model, part).cpu() for part in (_to(model, p) for p in tree.parts)]
    return torch.cat([*parts, torch.zeros(1)])[tree.edges].sum(dim=1)


def can_use_tree(model: Model, completions: Sequence[Completion]) -> bool:
    """Return whether a model gives these answers the same log-probs in a tree and one by one."""
    rows = (tensor.to(model.device) for tensor in stack_rows(completions))
    return agrees(model, *rows, lambda: tree_logps(model, AnswerTree.grow(completions)))


def _to(model: Model, rows: MaskedRows) -> MaskedRows:
    return MaskedRows(*(tensor.to(model.device) for tensor in vars(rows).values()))
