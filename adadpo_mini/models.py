"""A causal language model and its tokenizer: the bundled toy, a local folder, or a hub name."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError, is_offline, not_had
from adadpo_mini.memory import check_fits, count_parameters, pick_device
from adadpo_mini.templates import end_token
from adadpo_mini.toyworld import data_dir

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOY = "toy"


def load_model(
    name: str | Path = TOY, *, device: str = "auto", dtype: str = "float32"
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """Load a causal language model with dropout off, and its tokenizer.

    What lies on this machine is tried first (the bundled toy, a folder, the hub's cache); only
    then, unless HF_HUB_OFFLINE is set, the hub. Only safetensors weights are read and no code
    that comes with a model is run.

    Args:
        name: "toy", a folder that `save_pretrained` wrote, or a hub name such as "gpt2".
        device: "cpu", "cuda", "mps", or "auto"; see `pick_device`.
        dtype: of the weights, "float32" or "bfloat16".

    Returns:
        (model, tokenizer). The tokenizer's end-of-sequence token is the one that ends an answer
        (see `templates.end_token`), and it always has a pad token: where the model's own has none,
        the end token, which is masked wherever it pads.

    Raises:
        InputError: nothing loadable under that name, or it does not fit this machine's memory or
            its own vocabulary, with the reason in one sentence.
    """
    source = str(data_dir() / "models" / "toy-gpt2") if str(name) == TOY else str(name)
    source = os.path.expanduser(source)  # noqa: PTH111 (a hub name must stay as it is)
    if not Path(source).is_dir() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise InputError(f"{source}: there is no such folder; give a folder with a saved model.")
    from safetensors import SafetensorError

    try:
        return _load(source, device, dtype, offline=True)
    except InputError:
        raise
    except (OSError, ValueError, ImportError, SafetensorError) as problem:
        # transformers says with an OSError that something is not there, and a download may help.
        if Path(source).is_dir() or not isinstance(problem, OSError):
            raise InputError(f"{source}: {_first_line(problem)}") from problem
    if is_offline():
        raise not_had("model", source, "a local folder (or 'toy')")
    try:
        return _load(source, device, dtype, offline=False)
    except InputError:
        raise
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        reason = _first_line(error)
        raise not_had("model", source, "a local folder (or 'toy')", reason) from error


def _load(
    source: str, device: str, dtype: str, offline: bool
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import logging as python_logging

    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    python_logging.getLogger("huggingface_hub").setLevel(python_logging.ERROR)  # its retries
    logging.disable_progress_bar()  # one for reading 50 tensors and one for writing them
    options = {"local_files_only": offline, "trust_remote_code": False}
    tokenizer = _load_tokenizer(AutoTokenizer, source, options)
    parameters = count_parameters(AutoConfig.from_pretrained(source, **options))
    place = pick_device(device, parameters)
    check_fits(f"loading {source}", parameters * getattr(torch, dtype).itemsize, place)
    model = AutoModelForCausalLM.from_pretrained(
        source, use_safetensors=True, dtype=getattr(torch, dtype), **options
    ).to(place)
    room = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > room:
        raise InputError(
            f"{source}: its tokenizer knows {len(tokenizer)} tokens but the model only {room}; "
            "take the tokenizer that the model was trained with."
        )
    switch_dropout_off(model)
    fuse_gelu(model)
    _check_causal(model.eval(), source)
    return model, tokenizer


def _check_causal(model, source: str) -> None:
    """Raise InputError unless the model reads from left to right, and goes on from a cache."""
    import torch

    with torch.no_grad():
        # Low ids are often special; of padding transformers would warn.
        one, other = (torch.tensor([[10, 11, 12, last]], device=model.device) for last in (13, 14))
        try:
            before = [model(ids, use_cache=False).logits[:, :-1] for ids in (one, other)]
            cache = model(one, use_cache=True, logits_to_keep=1).past_key_values
            model(other[:, -1:], past_key_values=cache, use_cache=True)
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"{source}: {type(model).__name__} cannot be trained here ({_first_line(error)}); "
                "take a causal language model that answers from a key-value cache."
            ) from error
    if not torch.allclose(*before, rtol=1e-2, atol=1e-2):
        raise InputError(
            f"{source}: {type(model).__name__} looks ahead, so its log-probs would be no "
            "predictions; take a causal language model."
        )


def _load_tokenizer(auto, source: str, options: dict) -> "PreTrainedTokenizerBase":
    tokenizer = auto.from_pretrained(source, **options)
    end = end_token(tokenizer)
    if end is None:
        raise InputError(
            f"{source}: its tokenizer has no end-of-sequence token, so a completion cannot be "
            "ended; set eos_token in its tokenizer_config.json."
        )
    tokenizer.eos_token = end
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = end
    return tokenizer


def switch_dropout_off(model) -> None:
    """Set every dropout to 0: with the same weights, policy and reference must agree exactly."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():  # some pass a number to F.dropout instead
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def fuse_gelu(model) -> None:
    """Compute GPT-2's activation, 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), in one operation;
    transformers does it in eight, each with a tensor of its own to be kept for the backward pass.
    The saved configuration stays as it is."""
    import torch
    from transformers.activations import NewGELUActivation

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))


def context_length(model) -> int:
    """The longest sequence, in tokens, that the model takes."""
    config = model.config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len")
    return next((known for name in names if (known := getattr(config, name, None))), 1 << 30)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
