"""Where to compute, and whether it fits: answered before any work starts."""

from pathlib import Path
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.rows import shown

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
DTYPES = ("float32", "bfloat16")
SMALL = 10_000_000  # parameters; with fewer, handing work to a GPU takes longer than the work
REMEDY = (
    "take fewer methods or pairs at once, bfloat16, LoRA (--lora-rank) or --checkpointing, or a "
    "smaller model"
)
SIZES = {  # of a configuration, and how large they may be
    "vocab_size": 100_000_000,
    "hidden_size": 1_000_000,
    "num_hidden_layers": 1000,
    "num_attention_heads": 100_000,
    "num_key_value_heads": 100_000,
    "num_experts": 10_000,
    "num_local_experts": 10_000,
    "n_routed_experts": 10_000,
    "max_position_embeddings": 1_000_000_000,
    "max_seq_len": 1_000_000_000,
}
CGROUP = Path("/sys/fs/cgroup")
KEPT = 17  # numbers a layer, token and width keeps for the backward pass, arXiv:2205.05198


def pick_device(name: str, parameters: int) -> str:
    """The device that `name` means: for "auto" a GPU if there is one and the model is not small.

    Raises:
        InputError: torch sees no such device here.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        found = [device for device, available in here.items() if available]
        return found[0] if found and parameters >= SMALL else "cpu"
    if not here.get(name, name == "cpu"):
        raise InputError(f"device {name!r}: torch finds none on this machine; leave it out.")
    return name


def check_sizes(config) -> None:
    """Raise InputError if a configuration has sizes that no model has."""
    text = config.get_text_config()
    for name, most in SIZES.items():
        value = getattr(text, name, None)
        if value is None or isinstance(value, list):  # of each layer
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            said = getattr(text, "attribute_map", {}).get(name, name)
            raise InputError(
                f"{config.name_or_path}: {said} in config.json must be a whole number from 1 to "
                f"{most:,}, not {shown(value)}; mend it, or take another model."
            )


def count_parameters(config) -> int:
    """How many weights a model of this configuration has; tied ones count once. No memory is
    taken for them.

    Raises:
        InputError: it has sizes that no model has.
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_sizes(config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def available_memory(device: str) -> int:
    """Bytes that can still be had on a device."""
    import torch

    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    import psutil

    available = psutil.virtual_memory().available
    try:  # a container may have less than its machine
        limit = int((CGROUP / "memory.max").read_text())
        held = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        # Not memory.current: that counts cached files, too, which give way.
        return min(available, limit - int(held["anon"]))
    except (OSError, ValueError, KeyError):
        return available


def check_fits(what: str, needed: int, device: str, remedy: str = "take a smaller model") -> None:
    """Raise InputError if more is needed, in bytes, than a device has left."""
    available = available_memory(device)
    if needed > available:
        raise InputError(
            f"{what} needs about {_gigabytes(needed)} of memory, but {device} has only "
            f"{_gigabytes(available)} left; {remedy}."
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def training_memory(
    model, *, policies: int, pairs_at_once: int, longest: int, lora_rank: int, checkpointing: bool
) -> int:
    """Bytes that training takes on top of the reference, roughly.

        for each policy and weight   weights w + gradients 2·w (displacement has two at a time) +
                                     AdamW's moments 8 (+ fp32 copy 4), w = 2 in bf16 and 4 in fp32;
                                     with LoRA the weights are shared, and an adapter needs little
        for each token in a pass     17 numbers a layer and width for the backward pass (one, with
                                     checkpointing), and 3 for each word of the vocabulary

    Args:
        policies: how many are trained at the same time.
        pairs_at_once: in one forward pass.
        longest: tokens of the longest pair, its prompt counted once.
    """
    weights = model.num_parameters()
    width = model.dtype.itemsize
    config = model.config.get_text_config()
    layers, hidden, words = config.num_hidden_layers, config.hidden_size, config.vocab_size
    state = 3 * width + 8 + (4 if width < 4 else 0)
    if lora_rank:
        # Per layer about 7 matrices of two sides each, all of it fp32 with gradients and moments.
        trained, state = 14 * layers * hidden * lora_rank, 16
    else:
        trained = weights
    kept = 1 if checkpointing else KEPT
    tokens = pairs_at_once * longest
    passes = tokens * (kept * layers * hidden * width + 3 * words * 4)
    return policies * (trained * state + passes)


def check_training_fits(model, device: "torch.device", **settings) -> None:
    """Raise InputError if `training_memory` is more than the device has left."""
    check_fits("training", training_memory(model, **settings), device.type, REMEDY)
