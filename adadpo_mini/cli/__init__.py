"""The command line: `entry.py` is where it begins, `commands.py` does what is asked for."""

from adadpo_mini.cli.entry import main

__all__ = ["main"]
