"""The doctor reads the log of a run, ours or another trainer's, and says what is going on.

`logs.py` reads (with `tables.py` and `names.py`), `moves.py` finds where chosen and rejected went
(with the test of `trend.py`), `rules.py` lists the rules, `missing.py` says what a log lacks, and
`presets.py` reproduces the problems that a race can have.
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
