"""Loading a causal language model and its tokenizer: the bundled toy, a folder, or a hub name."""

import os
import re
from pathlib import Path

from adadpo_mini.config import DEVICES, DTYPES, TOY
from adadpo_mini.errors import InputError, is_offline, not_available, shown
from adadpo_mini.models.checks import (
    SAVE_AGAIN,
    check_causal,
    check_weights,
    reason_of,
    same_vocabulary,
)
from adadpo_mini.models.files import check_model_files
from adadpo_mini.models.memory import check_fits, count_parameters, pick_device
from adadpo_mini.models.tokenizers import load_tokenizer, reading
from adadpo_mini.system.files import user_path
from adadpo_mini.toyworld import data_dir
from adadpo_mini.types import Model, Tokenizer

__all__ = [
    "TOY",
    "context_length",
    "fuse_gelu",
    "load_model",
    "same_vocabulary",
    "switch_dropout_off",
]

WARNS = "warn_if_padding_and_no_attention_mask"
HUB_NAME = re.compile(r"(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}")


def load_model(
    name: str | Path = TOY, *, device: str = "auto", dtype: str = "float32"
) -> tuple[Model, Tokenizer]:
    """Load a causal language model, with dropout off, and its tokenizer.

    The model is looked up on this machine first (the bundled toy, a folder, the hub's cache) and
    then, unless HF_HUB_OFFLINE is set, on the hub. Only safetensors weights are read, and code that
    comes with a model is never run.

    Args:
        name: "toy", a folder that `save_pretrained` wrote, or a hub name such as "gpt2".
        device: "cpu", "cuda", "mps", or "auto"; see `pick_device`.
        dtype: the type of the weights, "float32" or "bfloat16".

    Returns:
        (model, tokenizer). The tokenizer's end-of-sequence token is the one that ends an answer,
        see `templates.end_token`. If the tokenizer has no pad token, the end token takes its place;
        padding is always masked.

    Raises:
        InputError: the model is not found, is damaged, cannot be trained here, or does not fit
            into memory.
    """
    for what, given, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES)):
        if given not in known:
            raise InputError(f"{what} must be one of {', '.join(known)}, not {shown(given)}.")
    source = _find(name)
    if os.path.isdir(source):  # noqa: PTH112 (Path.is_dir raises if a name is too long)
        return _load_folder(source, device, dtype)
    return _load_from_hub(source, device, dtype)


def _find(name: object) -> str:
    """Return the folder of a model, or its hub name.

    Raises:
        InputError: the name can be neither.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"model must be a folder or a hub name, not {shown(name)}.")
    if str(name) == TOY:
        return str(data_dir() / "models" / "toy-gpt2")
    path = user_path(name)
    source = str(path) if str(name).startswith("~") else str(name)  # a hub name is not changed
    if os.path.isdir(path):  # noqa: PTH112
        return source
    if os.path.exists(path):  # noqa: PTH110
        raise InputError(
            f"{source} is not a folder but a file; use the folder that the whole model is in, with "
            "its config.json and tokenizer."
        )
    if source.startswith((".", "/")) or source.count("/") > 1:
        raise InputError(f"{source}: no such folder; use the folder of a saved model.")
    if not HUB_NAME.fullmatch(source) or ".." in source or "--" in source:
        raise InputError(
            f"model {shown(source)} is neither a folder nor a valid hub name; use 'toy', the "
            "folder of a saved model, or a name such as 'gpt2' or 'owner/name'."
        )
    return source


def _load_folder(source: str, device: str, dtype: str) -> tuple[Model, Tokenizer]:
    check_model_files(Path(source))
    try:
        return _load(source, device, dtype, offline=True)
    except OSError as error:
        reason = f"{source} cannot be loaded ({reason_of(error)}); {SAVE_AGAIN}."
        raise InputError(reason) from error


def _load_from_hub(source: str, device: str, dtype: str) -> tuple[Model, Tokenizer]:
    """Load a model from the hub's cache, or download it."""
    instead = "a local folder (or 'toy')"
    try:
        return _load(source, device, dtype, offline=True)
    except OSError:  # it is not in the cache, or not all of it
        if is_offline():
            raise not_available("model", source, instead) from None
    try:
        return _load(source, device, dtype, offline=False)
    except OSError as error:
        raise not_available("model", source, instead, reason_of(error)) from error


def _load(source: str, device: str, dtype: str, offline: bool) -> tuple[Model, Tokenizer]:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    options = {"local_files_only": offline, "trust_remote_code": False}
    with reading(f"{source}: its config.json"):
        config = AutoConfig.from_pretrained(source, **options)
        parameters = count_parameters(config)
    # Only plain weights are read. A model restored from a GGUF file still says that it is quantised
    # and could not be saved.
    vars(config).pop("quantization_config", None)
    copy = "copy the tokenizer.json of the original model into its folder"
    with reading(f"{source}: its tokenizer", copy):
        tokenizer = load_tokenizer(source, options)
    place = pick_device(device, parameters)
    check_fits(f"loading {source}", parameters * getattr(torch, dtype).itemsize, place)
    how = {"use_safetensors": True, "dtype": getattr(torch, dtype), "output_loading_info": True}
    how["ignore_mismatched_sizes"] = True  # `check_weights` refuses them with a clear message
    with reading(f"{source}: its model"):
        model, found = AutoModelForCausalLM.from_pretrained(source, config=config, **how, **options)
    check_weights(model, found, source)
    size = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > size:
        raise InputError(
            f"{source}: its tokenizer has {len(tokenizer)} tokens but the model has only {size}; "
            "use the tokenizer that the model was trained with."
        )
    switch_dropout_off(model)
    fuse_gelu(model)
    silence_padding(model)
    model = model.to(place)
    check_causal(model.eval(), source)
    return model, tokenizer


def switch_dropout_off(model: Model) -> None:
    """Set every dropout to 0, so that policy and reference agree exactly if their weights do."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in vars(module).items():  # some modules pass a number to F.dropout
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)


def fuse_gelu(model: Model) -> None:
    """Compute GPT-2's activation, 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))), in one operation.

    transformers uses eight, each of which keeps a tensor for the backward pass. The configuration
    that is saved with the model does not change.
    """
    import torch
    from transformers.activations import NewGELUActivation

    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))


def silence_padding(model: Model) -> None:
    """Keep transformers from warning that a prompt with the pad token in it may be padded.

    Our rows are padded on the right only, where a causal model never looks.
    """
    for module in model.modules():
        if hasattr(module, WARNS):
            setattr(module, WARNS, _be_silent)


def _be_silent(*_: object) -> None:
    """Do nothing, in place of a warning. A function of the module, because models are pickled."""


def context_length(model: Model) -> int:
    """Return the longest sequence that the model takes, in tokens."""
    config = model.config.get_text_config()
    names = ("max_position_embeddings", "max_seq_len")
    return next((known for name in names if (known := getattr(config, name, None))), 1 << 30)
