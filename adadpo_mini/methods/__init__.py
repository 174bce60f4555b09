"""The methods a race can run: `registry.py` lists them, the other files define their losses."""

from adadpo_mini.methods.method import BoundLoss, Method
from adadpo_mini.methods.registry import ALL_METHODS, METHODS, RLHF, methods_table

__all__ = ["ALL_METHODS", "METHODS", "RLHF", "BoundLoss", "Method", "methods_table"]
