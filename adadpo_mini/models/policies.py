"""The policy of a method: a copy of the reference to be trained, whole or as an adapter."""

import copy
import warnings

import torch

from adadpo_mini.errors import InputError


def new_policy(reference, *, lora_rank: int = 0, checkpointing: bool = False, seed: int = 0):
    """A model that starts equal to the reference and can be trained.

    Args:
        reference: is not changed.
        lora_rank: 0 trains every weight of a full copy. More trains a low-rank adapter of that rank
            on every linear layer; all other weights are the reference's own, in one copy.
        checkpointing: forget activations in the forward pass and compute them again in the
            backward pass: less memory, about a third more time.
        seed: of an adapter's first weights, half of which are random.

    Source of LoRA: Hu et al. 2021, arXiv:2106.09685.

    Raises:
        InputError: LoRA is wanted, but peft is not installed; or the model has no checkpointing.
    """
    if lora_rank:
        policy = _with_adapter(reference, lora_rank, seed)
    else:
        policy = copy.deepcopy(reference).requires_grad_(True)
    if checkpointing:
        if not policy.supports_gradient_checkpointing:
            raise InputError(f"{type(policy).__name__} has no checkpointing; leave it out.")
        # "gradient" was its name in transformers until 5.22.
        kind = "activation" if hasattr(policy, "activation_checkpointing_enable") else "gradient"
        getattr(policy, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    return policy


def _with_adapter(reference, rank: int, seed: int):
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise InputError("LoRA needs peft: pip install 'adadpo-mini[lora]'.") from error
    # A copy of the modules around the same tensors: each policy has an adapter of its own, and the
    # reference is what is left with the adapter off.
    shared = {id(t): t for t in (*reference.parameters(), *reference.buffers())}
    base = copy.deepcopy(reference, shared).requires_grad_(False)
    adapter = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        fan_in_fan_out=base.config.model_type == "gpt2",  # its layers are stored transposed
    )
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft uses a name that transformers renames
        torch.manual_seed(seed)
        return get_peft_model(base, adapter)


def whole_model(policy):
    """The policy as a plain model of transformers; an adapter is added into a copy of the weights.

    So what is saved loads without peft. The copy is fp32: in bf16 most of what a small adapter adds
    would be rounded away, as `optimizer.MasterAdamW` explains.
    """
    if not hasattr(policy, "merge_and_unload"):
        return policy
    return copy.deepcopy(policy).float().merge_and_unload()
