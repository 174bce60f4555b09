"""The figures of the report on a sweep.

Read `quantities.py` (what is shown, and as what text), `heat_maps.py`, `curves.py`, `controls.py`,
`ablations.py`; `layout.py` has what the figures share.
"""

from adadpo_mini.paper.report_figures.ablations import VARIED, ablation_figure
from adadpo_mini.paper.report_figures.controls import control_figure
from adadpo_mini.paper.report_figures.curves import curve_figure
from adadpo_mini.paper.report_figures.heat_maps import ceiling_panels, grid_panels, heat_map
from adadpo_mini.paper.report_figures.quantities import (
    CEILING_SHARE,
    LC,
    LC_AT_1,
    SHIFT,
    WIN_RATE,
    WIN_RATE_AT_1,
    Quantity,
    rate_text,
)

__all__ = [
    "CEILING_SHARE",
    "LC",
    "LC_AT_1",
    "SHIFT",
    "VARIED",
    "WIN_RATE",
    "WIN_RATE_AT_1",
    "Quantity",
    "ablation_figure",
    "ceiling_panels",
    "control_figure",
    "curve_figure",
    "grid_panels",
    "heat_map",
    "rate_text",
]
