"""The doctor reads the log of a run, ours or TRL's, and says what is going on.

`logs.py` reads, `series.py` finds the numbers, `rules.py` judges them, `presets.py` reproduces what
each rule is about.
"""

from adadpo_mini.doctor.diagnose import Diagnosis, as_dict, diagnose, diagnose_all, report

__all__ = ["Diagnosis", "as_dict", "diagnose", "diagnose_all", "report"]
