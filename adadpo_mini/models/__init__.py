"""Models, from loading to answering.

`load.py` loads one, with the checks of `checks.py` and `memory.py`. `reference.py` scores pairs,
`policies.py` copies the reference to be trained, `optimizer.py` and `state.py` update and restore
it, `generate.py` samples answers. `shared_prompt.py` is the fast path of `logprobs.py`.
"""

from adadpo_mini.models.load import TOY, context_length, load_model

__all__ = ["TOY", "context_length", "load_model"]
