"""Creating a policy: a trainable copy of the reference, or a LoRA adapter on it."""

import copy
import warnings

import torch

from adadpo_mini.errors import InputError
from adadpo_mini.types import Model


def new_policy(
    reference: Model, *, lora_rank: int = 0, checkpointing: bool = False, seed: int = 0
) -> Model:
    """Return a trainable model that starts equal to the reference.

    Args:
        reference: the model to copy. It does not change.
        lora_rank: 0 trains every weight of a full copy. A higher value trains an adapter of this
            rank on every linear layer and shares all other weights with the reference.
        checkpointing: drop activations in the forward pass and recompute them in the backward
            pass: less memory, about a third more time.
        seed: seed of the adapter's random initial weights.

    Source of LoRA: Hu et al. 2021, arXiv:2106.09685.

    Raises:
        InputError: peft is not installed (for LoRA), or the model does not support checkpointing.
    """
    if lora_rank:
        policy = _with_adapter(reference, lora_rank, seed)
    else:
        policy = copy.deepcopy(reference).requires_grad_(True)
    if checkpointing:
        if not policy.supports_gradient_checkpointing:
            name = type(policy).__name__
            raise InputError(f"{name} does not support checkpointing; leave out --checkpointing.")
        # Until transformers 5.22 the method was called gradient_checkpointing_enable.
        kind = "activation" if hasattr(policy, "activation_checkpointing_enable") else "gradient"
        getattr(policy, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    return policy


def _with_adapter(reference: Model, rank: int, seed: int) -> Model:
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("LoRA needs peft: pip install peft.") from error
    # Copy the modules but share the tensors: each policy gets its own adapter around the weights of
    # the reference.
    shared = {id(t): t for t in (*reference.parameters(), *reference.buffers())}
    base = copy.deepcopy(reference, shared).requires_grad_(False)
    adapter = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        fan_in_fan_out=base.config.model_type == "gpt2",  # GPT-2 stores its layers transposed
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft still uses an old name
        torch.manual_seed(seed)
        return get_peft_model(base, adapter)


def whole_model(policy: Model) -> Model:
    """Return the policy as a plain transformers model, which loads without peft.

    An adapter is merged into an fp32 copy of the weights. In bf16 most of a small adapter's changes
    would be rounded away, as `optimizer.MasterAdamW` explains.
    """
    if not hasattr(policy, "merge_and_unload"):
        return policy
    return copy.deepcopy(policy).float().merge_and_unload()
