"""The run folder, which stores the events, models and summary of a race.

`folder.py` reads it, `writer.py` writes it, `keeper.py` decides when to take snapshots,
`summary.py` computes the closing table, `records.py` reads and writes JSON.
"""

from adadpo_mini.store.folder import RunFolder, list_runs

__all__ = ["RunFolder", "list_runs"]
