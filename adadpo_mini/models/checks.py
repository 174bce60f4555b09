"""Checks of a saved model, each with a clear error: its files, its weights, and how it predicts."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path

from adadpo_mini.errors import InputError, shown
from adadpo_mini.pairs.readers import check_is_file, not_read
from adadpo_mini.types import Model

SAVE_AGAIN = "save the model again with save_pretrained, or use another model"
LEFTOVERS = ("masked_bias", "inv_freq", "position_ids")  # buffers that old versions saved
JSON_FILES = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
LABELS = 100_000
LFS = b"version https://git-lfs.github.com/spec/"  # how a pointer file begins


def check_model_files(folder: Path) -> None:
    """Check that a folder has the files of a model, as far as possible without loading it.

    The messages of transformers for these mistakes are long and often misleading.

    Raises:
        InputError: a file is missing, is damaged, or has the wrong format.
    """
    files = {path.name: path for path in folder.iterdir()}
    for path in files.values():
        if path.is_file() and path.stat().st_size < 1024 and path.read_bytes().startswith(LFS):
            raise InputError(f"{path} is only a git-lfs pointer; download the file: git lfs pull.")
    if "adapter_config.json" in files:
        raise InputError(
            f"{folder} contains an adapter, not a whole model; merge it into its base model with "
            "peft's merge_and_unload, and use the folder where you save the result."
        )
    if "config.json" not in files:
        raise InputError(f"{folder} has no config.json; use the folder of a saved model.")
    found = {name: _read_object(files[name]) for name in JSON_FILES if name in files}
    labels = found["config.json"].get("num_labels", 2)
    if not isinstance(labels, int) or labels > LABELS:  # transformers makes a name for each
        raise InputError(f"{folder}: num_labels in config.json is {shown(labels)}; fix it.")
    _check_file_names(folder, files)


def _check_file_names(folder: Path, names: Collection[str]) -> None:
    if not {*names} & {*WEIGHTS}:
        if pickled := [name for name in names if name.endswith(PICKLES)]:
            raise InputError(
                f"{folder} has only pickled weights ({min(pickled)}), which are unsafe to load; "
                "save them as safetensors."
            )
        raise InputError(f"{folder} has no weights (model.safetensors); save them there too.")
    if not {*names} & {*TOKENIZERS}:
        raise InputError(f"{folder} has no tokenizer (tokenizer.json); save it there too.")


def _read_object(file: Path) -> dict:
    check_is_file(file, "a file that save_pretrained wrote")
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise not_read(str(file), error) from error
    if not isinstance(value, dict):
        raise InputError(f"{file} must be a JSON object, not {shown(value)}; save it again.")
    return value


def check_weights(model: Model, found: Mapping[str, Collection], source: str) -> None:
    """Check that the files had exactly the weights of the model, all finite.

    transformers would silently fill a missing weight with random numbers.

    Args:
        found: the `output_loading_info` of `from_pretrained`.

    Raises:
        InputError: a weight is missing, unexpected, not finite, or has the wrong shape.
    """
    for name, have, want in sorted(found["mismatched_keys"]):
        shapes = f"has shape {[*have]}, but config.json says {[*want]}"
        raise InputError(f"{source}: its weight {name} {shapes}; {SAVE_AGAIN}.")
    if missing := found["missing_keys"]:
        raise InputError(f"{source}: its weights lack {_first(missing)}; {SAVE_AGAIN}.")
    if extra := [name for name in found["unexpected_keys"] if not name.endswith(LEFTOVERS)]:
        raise InputError(
            f"{source}: its weights include {_first(extra)}, which config.json does not describe; "
            f"{SAVE_AGAIN}."
        )
    _check_finite(model, source)


def _first(names: Collection[str]) -> str:
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{min(names)}{more}"


def _check_finite(model: Model, source: str) -> None:
    import torch

    for name, weight in model.named_parameters():
        if weight.numel() and not all(end.isfinite() for end in torch.aminmax(weight.detach())):
            raise InputError(
                f"{source}: its weight {name} has values that are not finite, probably because "
                "training diverged; use another model."
            )


def check_causal(model: Model, source: str) -> None:
    """Check that no token sees a later one, and that the model accepts a key-value cache.

    Raises:
        InputError: the model fails the check.
    """
    import torch

    with torch.no_grad():
        # Low ids are often special tokens, and transformers warns about padding.
        one, other = (torch.tensor([[10, 11, 12, last]], device=model.device) for last in (13, 14))
        try:
            before = [model(ids, use_cache=False).logits[:, :-1] for ids in (one, other)]
            cache = model(one, use_cache=True, logits_to_keep=1).past_key_values
            model(other[:, -1:], past_key_values=cache, use_cache=True)
        except Exception as error:
            raise InputError(
                f"{source}: {type(model).__name__} cannot be trained here ({reason_of(error)}); "
                "use a causal language model that supports a key-value cache."
            ) from error
    if not torch.allclose(*before, rtol=1e-2, atol=1e-2):
        raise InputError(
            f"{source}: {type(model).__name__} looks ahead at later tokens, so its log-probs are "
            "not predictions; use a causal language model."
        )


def same_vocabulary(models: Mapping[str, Model], where: object) -> None:
    """Check that the models of a run, `where`, have vocabularies of the same size.

    Raises:
        InputError: the sizes differ.
    """
    sizes = {name: m.get_input_embeddings().num_embeddings for name, m in models.items()}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise InputError(
            f"{where}: its models have vocabularies of different sizes ({listed}); {SAVE_AGAIN}."
        )


def reason_of(error: BaseException) -> str:
    """Return the message of a library's error, on one line and shortened."""
    message = " ".join(" ".join(str(error).strip().split("\n")[:2]).split()).rstrip(".:")
    return f"{message[:300]}…" if len(message) > 300 else message or type(error).__name__
