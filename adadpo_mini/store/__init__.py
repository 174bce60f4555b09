"""The run folder, the one place where events are kept.

`folder.py` reads it, `writer.py` writes it, `keeper.py` decides when snapshots are taken.
"""

from adadpo_mini.store.folder import RunFolder, list_runs

__all__ = ["RunFolder", "list_runs"]
