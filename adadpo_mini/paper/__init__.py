"""The AdaDPO paper in miniature: many races, compared, and its claims tested.

Read `experiments.py` (what runs), `planned.py`, `sweep.py` and `workers.py` (how), `results.py` and
`results_writer.py`; then `comparisons.py`, `selection.py`, `intervals.py`, `verdict.py`,
`claims.py` and `ablation_claims.py`; then `tables.py`, `report.py`, `run_report.py`, `render.py`.
"""
