"""Short names for the types of models and tokenizers, without importing transformers."""

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Model: TypeAlias = PreTrainedModel | PeftModel
    Tokenizer: TypeAlias = PreTrainedTokenizerBase
else:  # the import of transformers takes seconds, and peft is optional
    Model = Tokenizer = Any
