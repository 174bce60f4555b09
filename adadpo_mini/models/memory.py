"""Choosing the device, and checking that model and training fit into memory before they start."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from adadpo_mini.errors import InputError, shown
from adadpo_mini.types import Model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

SMALL = 10_000_000  # parameters; smaller models run faster without a GPU
REMEDY = (
    "use fewer methods or pairs at once, bfloat16, LoRA (--lora-rank), --checkpointing, or a "
    "smaller model"
)
SIZES = {  # settings of a configuration, with the largest values that make sense
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
KEPT = 17  # numbers kept for the backward pass, per layer, token and width; arXiv:2205.05198


def pick_device(name: str, parameters: int) -> str:
    """Return the device for a name; "auto" picks a GPU if there is one and the model is not small.

    Raises:
        InputError: torch does not find the device.
    """
    import torch

    here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        found = [device for device, available in here.items() if available]
        return found[0] if found and parameters >= SMALL else "cpu"
    if not here.get(name, name == "cpu"):
        raise InputError(
            f"device {name!r}: torch does not find one on this machine; leave out --device."
        )
    return name


def check_sizes(config: "PreTrainedConfig") -> None:
    """Check the sizes in a configuration, so that a damaged one cannot exhaust the memory.

    Raises:
        InputError: a size is not a whole number in the range of `SIZES`.
    """
    text = config.get_text_config()
    for name, most in SIZES.items():
        value = getattr(text, name, None)
        if value is None or isinstance(value, list):  # a list has one value per layer
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            in_file = getattr(text, "attribute_map", {}).get(name, name)
            raise InputError(
                f"{config.name_or_path}: {in_file} in config.json must be a whole number from 1 to "
                f"{most:,}, not {shown(value)}; fix it, or use another model."
            )


def count_parameters(config: "PreTrainedConfig") -> int:
    """Return the number of weights of a model, counting tied ones once, without allocating them.

    Raises:
        InputError: as in `check_sizes`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_sizes(config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    model.tie_weights()
    return sum(parameter.numel() for parameter in model.parameters())


def available_memory(device: str) -> int:
    """Return the free memory of a device, in bytes."""
    import torch

    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    import psutil

    available = psutil.virtual_memory().available
    try:  # a container may have less memory than its machine
        limit = int((CGROUP / "memory.max").read_text())
        used = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
        # Not memory.current, which includes cached files that the system drops when needed.
        return min(available, limit - int(used["anon"]))
    except (OSError, ValueError, KeyError):
        return available


def check_fits(what: str, needed: int, device: str, remedy: str = "use a smaller model") -> None:
    """Check that a device has the memory that is needed, in bytes.

    Raises:
        InputError: the device has less.
    """
    available = available_memory(device)
    if needed > available:
        raise InputError(
            f"{what} needs about {_gigabytes(needed)} of memory, but {device} has only "
            f"{_gigabytes(available)} free; {remedy}."
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def training_memory(
    model: Model,
    *,
    policies: int,
    pairs_at_once: int,
    longest: int,
    lora_rank: int,
    checkpointing: bool,
) -> int:
    """Estimate the memory that training needs on top of the reference, in bytes.

        per policy and weight    weight w + gradients 2·w (displacement holds two at a time) +
                                 AdamW's moments 8 (+ fp32 copy 4), where w = 2 in bf16 and 4 in
                                 fp32; with LoRA, only an adapter's weights count
        per token in a pass      17 numbers per layer and width for the backward pass (1 with
                                 checkpointing), and 3 per vocabulary entry

    Args:
        policies: the number of policies trained at the same time.
        pairs_at_once: pairs in one forward pass.
        longest: tokens of the longest pair, counting its prompt once.
    """
    weights = model.num_parameters()
    width = model.dtype.itemsize
    config = model.config.get_text_config()
    layers, hidden, words = config.num_hidden_layers, config.hidden_size, config.vocab_size
    state = 3 * width + 8 + (4 if width < 4 else 0)
    if lora_rank:
        # About 7 matrices per layer, each with two factors; fp32 with gradients and moments.
        trained, state = 14 * layers * hidden * lora_rank, 16
    else:
        trained = weights
    kept = 1 if checkpointing else KEPT
    tokens = pairs_at_once * longest
    passes = tokens * (kept * layers * hidden * width + 3 * words * 4)
    return policies * (trained * state + passes)


def check_training_fits(model: Model, device: "torch.device", **settings: Any) -> None:
    """Check that `training_memory(model, **settings)` fits on the device.

    Raises:
        InputError: it does not fit.
    """
    check_fits("training", training_memory(model, **settings), device.type, REMEDY)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory has run out; torch raises different errors for a GPU and for the CPU."""
    import torch

    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or "allocate memory" in str(error)
