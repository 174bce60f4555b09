"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table in GitHub's Markdown; a `|` inside a cell is escaped.

    >>> print(markdown_table(("loss", "form"), [("a", "|x|")]))
    | loss | form |
    | --- | --- |
    | a | \|x\| |
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (head, *rows)]
    cells.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
