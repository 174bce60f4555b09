"""What the report's figures share: size, margins, and a name at the end of each line."""

from collections.abc import Sequence

import plotly.graph_objects as go

INK = "#80868f"  # legible on white and on black
LINE_HEIGHT = 16.0  # pixels, of the names at the ends of lines


def finish(figure: go.Figure, height: int, left: int, right: int) -> go.Figure:
    """Set size and margins; return the figure. `figures.js` adds the colours of text and grid."""
    return figure.update_layout(
        template=None,
        height=height,
        margin={"l": left, "r": right, "t": 8, "b": 46},
        showlegend=False,
        dragmode=False,
    )


def swatch(colour: str, line: str = "━━") -> str:
    """Return a piece of a line in its colour, for the text of a label."""
    return f'<span style="color:{colour}">{line}</span>'


def label_ends(
    figure: go.Figure, ends: Sequence[tuple[float, str]], low: float, high: float
) -> None:
    """Show y from low to high, and name each line at its end; names that would overlap move apart.

    Args:
        ends: (y, label) of each line's right end.
    """
    height = figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    room = 0.05 * ((high - low) or max(1, abs(high)))
    low, high = low - room, high + room
    figure.update_yaxes(range=[low, high])
    ends = sorted(ends, key=lambda end: -end[0])
    wanted = [(high - value) / (high - low) * height for value, _ in ends]  # pixels from the top
    for (value, name), at, placed in zip(ends, wanted, _apart(wanted, height), strict=True):
        figure.add_annotation(
            x=1, xref="paper", y=value, yshift=at - placed, text=name,
            showarrow=False, xanchor="left", xshift=4, font={"size": 12},
        )  # fmt: skip


def _apart(places: Sequence[float], height: float, line: float = LINE_HEIGHT) -> list[float]:
    """Return rising places at least a line apart: moved down, then up if below the picture.

    >>> _apart([10, 12, 50, 99], 100), _apart([70, 95, 97], 100)
    ([10, 26.0, 50, 99], [68.0, 84.0, 100.0])
    """
    placed: list[float] = []
    for place in places:
        placed.append(max(place, placed[-1] + line) if placed else place)
    below = height + line
    for i in reversed(range(len(placed))):
        below = placed[i] = min(placed[i], below - line)
    return placed
