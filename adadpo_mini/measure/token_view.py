"""One pair token by token: how each log-prob changed, and how hard the loss pushes on it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from adadpo_mini.logprobs import token_logps
from adadpo_mini.measure.forces import forces
from adadpo_mini.methods import BoundLoss
from adadpo_mini.tokens.batch import TokenizedPair, make_batch
from adadpo_mini.types import Model, Tokenizer


@dataclass(frozen=True)
class TokenView:
    """One completion, token by token. All tensors have shape (|y|,).

    Attributes:
        tokens: the text of each token; the last is the end token.
        policy_logps: log π_θ(y_t|x, y_<t), nats.
        ref_logps: the same under the reference.
        gradient_weight: how hard the loss pushes on the token's logit, c·(1 − π_θ(y_t|x, y_<t)),
            where c = |∂L/∂ log π_θ(y|x)| is the same for all tokens of a completion. The loss
            hardly pushes on a token that is already certain.
    """

    tokens: list[str]
    policy_logps: Tensor
    ref_logps: Tensor
    gradient_weight: Tensor

    @property
    def change(self) -> Tensor:
        """log π_θ − log π_ref of each token, nats; the sum is u."""
        return self.policy_logps - self.ref_logps


def token_views(
    model: Model, reference: Model, tokenizer: Tokenizer, pair: TokenizedPair, loss: BoundLoss
) -> tuple[TokenView, TokenView]:
    """Return the views of the chosen and the rejected completion of one pair.

    Args:
        loss: the loss that weights the two sides: `METHODS[name].bind(knobs)`, or a trainer's
            `loss`.
    """
    rows = make_batch([pair]).to(model.device)
    with torch.no_grad():
        policy, ref = (
            token_logps(one(input_ids=rows.input_ids, use_cache=False).logits, rows.input_ids)
            for one in (model, reference)
        )
    mask = rows.completion_mask[:, 1:]
    forces = pair_forces(loss, *(policy * mask).sum(1), *(ref * mask).sum(1), *rows.lengths)

    def view(side: int, completion: list[int]) -> TokenView:
        here = mask[side].bool()
        texts = [tokenizer.decode([token]) for token in completion]
        mine, theirs = policy[side][here].cpu(), ref[side][here].cpu()
        return TokenView(texts, mine, theirs, forces[side] * (1 - mine.exp()))

    return view(0, pair.chosen), view(1, pair.rejected)


def pair_forces(
    loss: BoundLoss,
    chosen_logp: Tensor,
    rejected_logp: Tensor,
    ref_chosen_logp: Tensor,
    ref_rejected_logp: Tensor,
    chosen_length: Tensor,
    rejected_length: Tensor,
) -> tuple[float, float]:
    """Return `forces` of a single pair, as numbers.

    >>> from adadpo_mini.methods.registry import METHODS
    >>> zero, one = torch.tensor(0.0), torch.tensor(1)
    >>> pair_forces(METHODS["dpo"].bind({"beta": 0.1}), zero, zero, zero, zero, one, one)  # β/2
    (0.05..., 0.05...)
    """
    logps = (chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp)
    lengths = {
        "chosen_lengths": chosen_length.view(1), "rejected_lengths": rejected_length.view(1)
    }  # fmt: skip
    on_chosen, on_rejected = forces(loss, *(logp.view(1) for logp in logps), **lengths)
    return on_chosen.item(), on_rejected.item()
