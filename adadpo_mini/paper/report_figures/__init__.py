"""The figures of the report on a sweep.

Read `quantities.py` (what is shown, and as what text), `heat_maps.py`, `curves.py`, `ablations.py`;
`layout.py` has what the figures share.
"""

from adadpo_mini.paper.report_figures.ablations import VARIED, ablation_figure
from adadpo_mini.paper.report_figures.curves import curve_figure
from adadpo_mini.paper.report_figures.heat_maps import ceiling_panels, grid_panels, heat_map
from adadpo_mini.paper.report_figures.quantities import (
    CEILING_SHARE,
    LC,
    SHIFT,
    WIN_RATE,
    Quantity,
    rate_text,
)

__all__ = [
    "CEILING_SHARE",
    "LC",
    "SHIFT",
    "VARIED",
    "WIN_RATE",
    "Quantity",
    "ablation_figure",
    "ceiling_panels",
    "curve_figure",
    "grid_panels",
    "heat_map",
    "rate_text",
]
