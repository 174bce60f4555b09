"""A causal language model and its tokenizer: the bundled toy, a local folder, or a hub name."""

import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError, is_offline, not_available
from adadpo_mini.models.memory import DEVICES, DTYPES, check_fits, count_parameters, pick_device
from adadpo_mini.pairs.readers import check_is_file, not_read
from adadpo_mini.pairs.rows import shown
from adadpo_mini.system.files import user_path
from adadpo_mini.tokens.templates import end_token
from adadpo_mini.toyworld import data_dir

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOY = "toy"
MEND = "save the model anew with save_pretrained, or take another"
HUB_NAME = re.compile(r"(\w[\w.-]{0,95}/)?\w[\w.-]{0,95}")
LEFTOVERS = ("masked_bias", "inv_freq", "position_ids")  # buffers of old versions, no weights
JSON_FILES = (
    "config.json", "generation_config.json", "model.safetensors.index.json", "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
LABELS = 100_000
LFS = b"version https://git-lfs.github.com/spec/"  # what git puts in place of a large file


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
    for what, given, known in (("device", device, DEVICES), ("dtype", dtype, DTYPES)):
        if given not in known:
            raise InputError(f"{what} must be one of {', '.join(known)}, not {shown(given)}.")
    source = _find(name)
    is_here = os.path.isdir(source)  # noqa: PTH112 (Path's own raises where a name is too long)
    if is_here:
        check_model_files(Path(source))
    try:
        return _load(source, device, dtype, offline=True)
    except OSError as problem:  # something is not there, and a download may help
        if is_here:
            reason = f"{source}: cannot be loaded ({_reason(problem)}); {MEND}."
            raise InputError(reason) from problem
    if is_offline():
        raise not_available("model", source, "a local folder (or 'toy')")
    try:
        return _load(source, device, dtype, offline=False)
    except OSError as error:
        raise not_available("model", source, "a local folder (or 'toy')", _reason(error)) from error


def _find(name: object) -> str:
    """The folder of a model, or its name on the hub; an InputError if it can be neither."""
    if not isinstance(name, (str, os.PathLike)):
        raise InputError(f"model must be a folder or a name on the hub, not {shown(name)}.")
    if str(name) == TOY:
        return str(data_dir() / "models" / "toy-gpt2")
    path = user_path(name)
    source = str(path) if str(name).startswith("~") else str(name)  # a hub name stays as it is
    if os.path.isdir(path):  # noqa: PTH112
        return source
    if os.path.exists(path):  # noqa: PTH110
        raise InputError(f"{source}: is no folder; give the folder that holds the saved model.")
    if source.startswith((".", "/")) or source.count("/") > 1:
        raise InputError(f"{source}: there is no such folder; give a folder with a saved model.")
    if not HUB_NAME.fullmatch(source) or ".." in source or "--" in source:
        raise InputError(
            f"model {shown(source)} is no folder, and the hub has no such names; give 'toy', a "
            "folder with a saved model, or a name such as 'gpt2' or 'owner/name'."
        )
    return source


def check_model_files(folder: Path) -> None:
    """Raise InputError unless a folder has what a model needs, as far as that is seen without
    loading it; what transformers says instead is long, and often beside the point."""
    names = {path.name: path for path in folder.iterdir()}
    for path in names.values():
        if path.is_file() and path.stat().st_size < 1024 and path.read_bytes().startswith(LFS):
            raise InputError(f"{path}: is only a git-lfs pointer; fetch the file: git lfs pull.")
    if "adapter_config.json" in names:
        raise InputError(
            f"{folder}: holds an adapter, not a whole model; merge it into its base model with "
            "peft's merge_and_unload, and give the folder in which you save that."
        )
    if "config.json" not in names:
        raise InputError(f"{folder}: holds no config.json; give a folder with a saved model.")
    found = {name: _read_object(names[name]) for name in JSON_FILES if name in names}
    labels = found["config.json"].get("num_labels", 2)
    if not isinstance(labels, int) or labels > LABELS:  # transformers makes a name for each
        raise InputError(f"{folder}: num_labels in config.json is {shown(labels)}; mend it.")
    if not names.keys() & {*WEIGHTS}:
        pickled = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        what = f"no weights but {min(pickled)}, and" if pickled else "no weights;"
        raise InputError(f"{folder}: has {what} only safetensors are loaded; save them as such.")
    if not names.keys() & {*TOKENIZERS}:
        raise InputError(f"{folder}: has no tokenizer (tokenizer.json); save it there, too.")


def _read_object(file: Path) -> dict:
    check_is_file(file, "a file that save_pretrained wrote")
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise not_read(str(file), error) from error
    if not isinstance(value, dict):
        raise InputError(f"{file}: must hold a JSON object, not {shown(value)}; save it anew.")
    return value


def _load(
    source: str, device: str, dtype: str, offline: bool
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    options = {"local_files_only": offline, "trust_remote_code": False}
    with _reading(f"{source}: its config.json"):
        parameters = count_parameters(AutoConfig.from_pretrained(source, **options))
    with _reading(f"{source}: its tokenizer"):
        tokenizer = _load_tokenizer(AutoTokenizer, source, options)
    place = pick_device(device, parameters)
    check_fits(f"loading {source}", parameters * getattr(torch, dtype).itemsize, place)
    how = {"use_safetensors": True, "dtype": getattr(torch, dtype), "output_loading_info": True}
    how["ignore_mismatched_sizes"] = True  # they are refused here, in a sentence
    with _reading(f"{source}: its model"):
        model, found = AutoModelForCausalLM.from_pretrained(source, **how, **options)
    _check_weights(model, found, source)
    room = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > room:
        raise InputError(
            f"{source}: its tokenizer knows {len(tokenizer)} tokens but the model only {room}; "
            "take the tokenizer that the model was trained with."
        )
    switch_dropout_off(model)
    fuse_gelu(model)
    model = model.to(place)
    _check_causal(model.eval(), source)
    return model, tokenizer


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Tell what is wrong with a part of a model in one sentence, and let nobody log it as well.

    An OSError, which is a part that is not there, passes.
    """
    import logging as python_logging

    from transformers.utils import logging

    python_logging.getLogger("huggingface_hub").setLevel(python_logging.ERROR)  # its retries
    logging.disable_progress_bar()  # one for reading 50 tensors and one for writing them
    before = logging.get_verbosity()
    logging.set_verbosity(python_logging.CRITICAL)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except (InputError, OSError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a library's own, and even a panic of tokenizers
        raise InputError(f"{what} cannot be used ({_reason(error)}); {MEND}.") from error
    finally:
        logging.set_verbosity(before)


def _check_weights(model, found: Mapping[str, Iterable], source: str) -> None:
    """Raise InputError unless the model's weights, and nothing else, were in its files, of which
    transformers has `found` so much; a weight that was not there would be random."""
    import torch

    for name, have, want in sorted(found["mismatched_keys"]):
        shapes = f"of shape {[*have]} but of shape {[*want]} by its config.json"
        raise InputError(f"{source}: its weight {name} is {shapes}; {MEND}.")
    extra = [name for name in found["unexpected_keys"] if not name.endswith(LEFTOVERS)]
    for names, what in ((found["missing_keys"], "lack"), (extra, "hold, but its config.json not,")):
        if names:
            more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
            raise InputError(f"{source}: its weights {what} {min(names)}{more}; {MEND}.")
    for name, weight in model.named_parameters():
        if weight.numel() and not all(end.isfinite() for end in torch.aminmax(weight.detach())):
            raise InputError(
                f"{source}: its weight {name} has values that are no finite numbers, as after "
                "training that has diverged; take another model."
            )


def same_vocabulary(models: Mapping[str, object], where: object) -> None:
    """Raise InputError unless these models, of the run `where`, know equally many tokens."""
    rooms = {name: m.get_input_embeddings().num_embeddings for name, m in models.items()}
    if len(set(rooms.values())) > 1:
        told = ", ".join(f"{name} {room:,}" for name, room in rooms.items())
        raise InputError(f"{where}: its models know different numbers of tokens ({told}); {MEND}.")


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
        except Exception as error:
            raise InputError(
                f"{source}: {type(model).__name__} cannot be trained here ({_reason(error)}); "
                "take a causal language model that answers from a key-value cache."
            ) from error
    if not torch.allclose(*before, rtol=1e-2, atol=1e-2):
        raise InputError(
            f"{source}: {type(model).__name__} looks ahead, so its log-probs would be no "
            "predictions; take a causal language model."
        )


def _load_tokenizer(auto, source: str, options: dict) -> "PreTrainedTokenizerBase":
    tokenizer = auto.from_pretrained(source, **options)
    if not tokenizer("Why is that so?")["input_ids"]:
        raise InputError(f"{source}: its tokenizer makes no tokens of a text; {MEND}.")
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


def _reason(error: BaseException) -> str:
    """What a library says of a failure, in one line that is not too long."""
    said = " ".join(" ".join(str(error).strip().split("\n")[:2]).split()).rstrip(".:")
    return f"{said[:300]}…" if len(said) > 300 else said or type(error).__name__
