"""A fast path: chosen and rejected share one row, so that their prompt is read once.

You do not need this file to understand DPO: `shared_logps` returns what `logprobs.completion_logps`
returns, with less work. A plain batch has two rows per pair,

    prompt chosen              prompt rejected

and this one has one. The tokens of the rejected do not see those of the chosen, and their positions
start at the end of the prompt:

    prompt chosen rejected     positions 0 … P−1, P … P+|y_w|−1, P … P+|y_l|−1

In addition, the logits, which take much of the time if the vocabulary is large, are computed only
at the positions that predict a completion's token.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adadpo_mini.logprobs import completion_logps
from adadpo_mini.types import Model

MORE_THAN_A_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Configuration fields that change the logits after the output layer's matrix product."""


@dataclass(frozen=True)
class MaskedRows:
    """Rows in which a mask decides what each token sees, padded on the right, with N targets.

    Attributes:
        input_ids: the tokens, shape (B, time).
        position_ids: the positions, same shape.
        visible: True where a query (third axis) may see a key (fourth), (B, 1, time, time).
        sources: index, in the flattened rows, of the position that predicts each target, (N,).
        targets: the predicted tokens, shape (N,).
    """

    input_ids: Tensor
    position_ids: Tensor
    visible: Tensor
    sources: Tensor
    targets: Tensor


@dataclass(frozen=True)
class SharedRows(MaskedRows):
    """B pairs as B rows: prompt, chosen, rejected. The targets are all N completion tokens.

    Attributes:
        owners: the completion of each token, 0 … B−1 chosen and B … 2B−1 rejected, shape (N,).
        places: the index of each token within its completion, shape (N,).
    """

    owners: Tensor
    places: Tensor


def share_prompts(input_ids: Tensor, completion_mask: Tensor) -> SharedRows:
    """Convert the 2B rows of a `PairBatch`, chosen first, to B shared rows.

    >>> ids = torch.tensor([[7, 1, 2], [7, 3, 0]])  # prompt 7, chosen 1 2, rejected 3
    >>> rows = share_prompts(ids, torch.tensor([[0, 1, 1], [0, 1, 0]]))
    >>> rows.input_ids.tolist(), rows.position_ids.tolist()
    ([[7, 1, 2, 3]], [[0, 1, 2, 1]])
    >>> rows.sources.tolist()  # the end of the prompt predicts both 1 and 3
    [0, 1, 0]
    """
    (w_ids, l_ids), (w_mask, l_mask) = input_ids.chunk(2), completion_mask.chunk(2)
    prompt = w_mask.argmax(dim=1, keepdim=True)  # its length, (B, 1)
    w_end = prompt + w_mask.sum(dim=1, keepdim=True)
    l_end = w_end + l_mask.sum(dim=1, keepdim=True)
    column = torch.arange(int(l_end.max()), device=input_ids.device).expand(len(w_ids), -1)
    is_rejected = column >= w_end
    position = torch.where(is_rejected, column - w_end + prompt, column)
    # Positions beyond the end of a row are padding, but must still be valid indices.
    position = position.clamp(max=input_ids.shape[1] - 1)
    ids = torch.where(is_rejected, l_ids.gather(1, position), w_ids.gather(1, position))

    is_chosen = (column >= prompt) & ~is_rejected
    causal = column[:, :, None] >= column[:, None, :]
    visible = causal & ~(is_rejected[:, :, None] & is_chosen[:, None, :])

    row, token = ((column >= prompt) & (column < l_end)).nonzero(as_tuple=True)
    starts_rejected = token == w_end[row, 0]
    before = torch.where(starts_rejected, prompt[row, 0], token) - 1
    return SharedRows(
        ids,
        position,
        visible[:, None],
        sources=row * column.shape[1] + before,
        targets=ids[row, token],
        owners=row + len(w_ids) * is_rejected[row, token],
        places=position[row, token] - prompt[row, 0],
    )


def shared_logps(model: Model, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """Return the same as `completion_logps` for the rows of a `PairBatch`, with shared prompts.

    Only valid for models that pass `can_share_prompts`.
    """
    rows = share_prompts(input_ids, completion_mask)
    logps = target_logps(model, rows)
    table = logps.new_zeros(len(input_ids), int(rows.places.max()) + 1)
    # Not index_add, whose sums differ from run to run on a GPU.
    return table.index_put((rows.owners, rows.places), logps).sum(dim=1)


def target_logps(model: Model, rows: MaskedRows) -> Tensor:
    """Return the log-prob of each target given what its source sees, nats, shape (N,)."""
    # An additive mask, which every implementation of attention accepts.
    mask = torch.zeros(rows.visible.shape, dtype=model.dtype, device=rows.visible.device)
    mask = mask.masked_fill(~rows.visible, torch.finfo(model.dtype).min)
    hidden = model.get_decoder()(
        input_ids=rows.input_ids,
        position_ids=rows.position_ids,
        attention_mask=mask,
        use_cache=False,
    ).last_hidden_state
    scores = model.get_output_embeddings()(hidden.flatten(0, 1)[rows.sources])
    if scores.dtype != torch.float64:
        scores = scores.float()
    # The same as `logprobs.token_logps`, in one pass over the logits.
    return -F.cross_entropy(scores, rows.targets, reduction="none")


@torch.no_grad()
def can_share_prompts(model: Model, input_ids: Tensor, completion_mask: Tensor) -> bool:
    """Return whether both ways agree on this batch, which should contain the longest pair.

    Some architectures do not support such a mask (ALiBi, recurrent models, a sliding window shorter
    than the row); others process the logits further (soft-capping, scaling). Only a trial covers
    them all. In bf16, however, correct results also differ by about 0.03 nats per token, and wrong
    ones sometimes by little more, so the configuration is checked first.
    """
    return agrees(
        model,
        input_ids,
        completion_mask,
        lambda: shared_logps(model, input_ids, completion_mask),
    )


@torch.no_grad()
def agrees(
    model: Model, input_ids: Tensor, completion_mask: Tensor, fast: Callable[[], Tensor]
) -> bool:
    """Return whether `fast`, a way of scoring that uses masks, agrees with `completion_logps`.

    See `can_share_prompts`.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or input_ids.shape[1]
    if window < input_ids.shape[1] or any(getattr(config, name, None) for name in MORE_THAN_A_HEAD):
        return False
    plain = completion_logps(model, input_ids, completion_mask)
    try:
        found = fast()
    except Exception:  # an unsupported architecture can raise anything
        return False
    off = (plain - found.to(plain)).abs() / completion_mask.sum(dim=1)  # nats per token
    return bool(off.mean() < 5e-2 if model.dtype == torch.bfloat16 else off.max() < 1e-4)
