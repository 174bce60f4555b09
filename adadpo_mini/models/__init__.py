"""Models: loaded, checked against the memory, copied as policies, and asked for answers."""

from adadpo_mini.models.load import TOY, context_length, load_model

__all__ = ["TOY", "context_length", "load_model"]
