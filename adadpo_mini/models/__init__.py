"""Models: loading them, checking their memory, copying them as policies, and sampling answers."""

from adadpo_mini.models.load import TOY, context_length, load_model

__all__ = ["TOY", "context_length", "load_model"]
