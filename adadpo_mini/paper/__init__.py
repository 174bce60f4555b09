"""The AdaDPO paper in miniature: many races, compared, and its claims tested.

Read `experiments.py` (what runs), `planned.py` and `sweep.py` (how), `results.py`,
`comparisons.py`, `verdict.py`, `claims.py`, `tables.py`, `report.py`.
"""
