"""A fast path: chosen and rejected in one row, so that their prompt is read once.

Nobody needs this page to understand DPO: `shared_logps` gives what `logprobs.completion_logps`
gives, with less work. A plain batch has two rows for a pair,

    prompt chosen              prompt rejected

and here it is one, in which the rejected's tokens do not see the chosen's and count their positions
from the end of the prompt:

    prompt chosen rejected     positions 0 … P−1, P … P+|y_w|−1, P … P+|y_l|−1

Besides, the scores of the vocabulary, which for a large one are a good part of all work, are
computed where a completion's token is predicted and nowhere else.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adadpo_mini.logprobs import completion_logps

MORE_THAN_A_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""What some configurations do to the vocabulary's scores besides one matrix product."""


@dataclass(frozen=True)
class SharedRows:
    """B pairs as B rows, padded on the right; N completion tokens in all.

    Attributes:
        input_ids: prompt, chosen, rejected, padding, shape (B, time).
        position_ids: of the same shape.
        visible: True where a query (third axis) may look at a key (fourth), (B, 1, time, time).
        sources: where in the flattened rows each completion token is predicted, shape (N,).
        targets: the tokens, shape (N,).
        owners: whose they are, 0 … B−1 for the chosen and B … 2B−1 for the rejected, shape (N,).
        places: which of its tokens each is, from 0, shape (N,).
    """

    input_ids: Tensor
    position_ids: Tensor
    visible: Tensor
    sources: Tensor
    targets: Tensor
    owners: Tensor
    places: Tensor


def share_prompts(input_ids: Tensor, completion_mask: Tensor) -> SharedRows:
    """Lay the 2B rows of a `PairBatch`, chosen first, out as B.

    >>> ids = torch.tensor([[7, 1, 2], [7, 3, 0]])  # prompt 7, chosen 1 2, rejected 3
    >>> rows = share_prompts(ids, torch.tensor([[0, 1, 1], [0, 1, 0]]))
    >>> rows.input_ids.tolist(), rows.position_ids.tolist()
    ([[7, 1, 2, 3]], [[0, 1, 2, 1]])
    >>> rows.sources.tolist()  # 1 and 3 are both predicted at the prompt's end
    [0, 1, 0]
    """
    (w_ids, l_ids), (w_mask, l_mask) = input_ids.chunk(2), completion_mask.chunk(2)
    prompt = w_mask.argmax(dim=1, keepdim=True)  # its length, (B, 1)
    w_end = prompt + w_mask.sum(dim=1, keepdim=True)
    l_end = w_end + l_mask.sum(dim=1, keepdim=True)
    column = torch.arange(int(l_end.max()), device=input_ids.device).expand(len(w_ids), -1)
    is_rejected = column >= w_end
    position = torch.where(is_rejected, column - w_end + prompt, column)
    # What lies beyond a row is padding, whatever its token; its position must exist, though.
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


def shared_logps(model, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """What `completion_logps` returns for the rows of a `PairBatch`, computed as described above.

    Only for models that pass `can_share_prompts`.
    """
    rows = share_prompts(input_ids, completion_mask)
    # Added to the attention scores: the form that all implementations of attention take.
    mask = torch.zeros(rows.visible.shape, dtype=model.dtype, device=input_ids.device)
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
    # What `logprobs.token_logps` computes, in one pass over the scores.
    logps = -F.cross_entropy(scores, rows.targets, reduction="none")
    table = logps.new_zeros(len(input_ids), int(rows.places.max()) + 1)
    # Not index_add: its sums differ from run to run on a GPU.
    return table.index_put((rows.owners, rows.places), logps).sum(dim=1)


@torch.no_grad()
def can_share_prompts(model, input_ids: Tensor, completion_mask: Tensor) -> bool:
    """Whether both ways agree on this batch, which should hold the longest pair there is.

    Some architectures take no such mask (ALiBi, recurrent ones, a sliding window shorter than the
    row), some do more between hidden state and score than one product (soft-capping, scaling).
    Trying is the only test that knows them all. In bf16 two ways of computing the same differ by
    about 0.03 nats a token, which a wrong way may not exceed by much; so what is known is asked
    first.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or input_ids.shape[1]
    if window < input_ids.shape[1] or any(getattr(config, name, None) for name in MORE_THAN_A_HEAD):
        return False
    plain = completion_logps(model, input_ids, completion_mask)
    try:
        shared = shared_logps(model, input_ids, completion_mask)
    except Exception:  # whatever an architecture that was not made for this may raise
        return False
    off = (plain - shared).abs() / completion_mask.sum(dim=1)  # nats a token
    return bool(off.mean() < 5e-2 if model.dtype == torch.bfloat16 else off.max() < 1e-4)
