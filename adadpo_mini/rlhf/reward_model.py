"""The reward model of RLHF: a score for every answer, fitted to the pairs."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from adadpo_mini.types import Model


def bradley_terry_loss(chosen_scores: Tensor, rejected_scores: Tensor) -> Tensor:
    """Return the negative log-likelihood of the preferences, averaged over pairs: a scalar, nats.

        L = −log σ(r(x, y_w) − r(x, y_l)),   since P(y_w is preferred) = σ(r(x, y_w) − r(x, y_l))

    This is DPO's loss with a score in place of β·u. Both arguments have shape (batch,).

    Source: Bradley & Terry 1952; as a loss on language models, arXiv:2203.02155, equation 1.

    >>> round(bradley_terry_loss(torch.tensor([1.0]), torch.tensor([0.0])).item(), 4)
    0.3133
    """
    return -F.logsigmoid(chosen_scores - rejected_scores).mean()


class RewardModel(torch.nn.Module):
    """A score for every answer: a copy of the language model with a scalar head.

        r(x, y) = w · h(last token of y)

    h is the last hidden state, which has seen all tokens up to this one. w starts at zero, so an
    untrained reward model scores all answers equally.

    Args:
        reference: a causal language model of transformers. It is copied and does not change.

    Source: arXiv:2203.02155.
    """

    def __init__(self, reference: Model) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(reference.base_model).requires_grad_(True)
        width = reference.get_output_embeddings().weight.shape[1]
        self.head = torch.nn.Parameter(torch.zeros(width))

    def forward(self, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
        """Return the scores of right-padded rows, as in `completion_logps`; shape (rows,)."""
        hidden = self.backbone(input_ids=input_ids, use_cache=False).last_hidden_state
        positions = torch.arange(input_ids.shape[1])
        last = (completion_mask * positions).argmax(dim=1)
        return hidden[torch.arange(len(hidden)), last].float() @ self.head
