"""Every method a race can run: `registry.py` lists them, with the losses in the other files."""

from adadpo_mini.methods.method import BoundLoss, Method
from adadpo_mini.methods.registry import ALL_METHODS, METHODS, RLHF, methods_table

__all__ = ["ALL_METHODS", "METHODS", "RLHF", "BoundLoss", "Method", "methods_table"]
