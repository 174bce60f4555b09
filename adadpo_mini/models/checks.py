"""Checks of a loaded model, each with a clear error: its weights, and how it predicts."""

from collections.abc import Collection, Mapping

from adadpo_mini.errors import InputError
from adadpo_mini.types import Model

SAVE_AGAIN = "save the model again with save_pretrained, or use another model"
LEFTOVERS = ("masked_bias", "inv_freq", "position_ids")  # buffers that old versions saved


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
