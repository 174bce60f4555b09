"""The doctor reads the log of a run, ours or TRL's, and says what is going on.

`logs.py` reads, `series.py` finds the numbers, `rules.py` judges them, `presets.py` reproduces
each rule's problem.
"""

from adadpo_mini.doctor.diagnose import (
    NOTHING,
    Diagnosis,
    as_dict,
    diagnose,
    diagnose_all,
    report,
)

__all__ = ["NOTHING", "Diagnosis", "as_dict", "diagnose", "diagnose_all", "report"]
