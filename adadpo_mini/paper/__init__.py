"""The AdaDPO paper in miniature: many races, compared, and its claims tested.

Read `experiments.py` (what is run), `sweep.py` (how), `results.py`, `comparisons.py`, `claims.py`,
`tables.py`, `report.py`.
"""
