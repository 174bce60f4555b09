"""The methods a race can run: `registry.py` lists them, the other files define their losses."""

from adadpo_mini.methods.method import BoundLoss, Method
from adadpo_mini.methods.registry import ALL_METHODS, EVERY_METHOD, METHODS, RLHF, methods_table

__all__ = ["ALL_METHODS", "EVERY_METHOD", "METHODS", "RLHF", "BoundLoss", "Method", "methods_table"]
