"""The command line. It begins in `entry.py`; `parser.py` and `flags.py` read the arguments.

`commands.py`, `makers.py`, `inspection.py` and `serve.py` carry the commands out; `console.py`,
`progress.py` and `status.py` print.
"""

from adadpo_mini.cli.entry import main

__all__ = ["main"]
