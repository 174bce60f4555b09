"""The reward model of RLHF: a score for every answer, fitted to the pairs. See `rlhf.py`."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor


def bradley_terry_loss(chosen_scores: Tensor, rejected_scores: Tensor) -> Tensor:
    """How surprised the reward model is by the preferences, averaged over pairs.

        L = −log σ(r(x, y_w) − r(x, y_l)),   as  P(y_w is preferred) = σ(r(x, y_w) − r(x, y_l))

    It is DPO's loss with a score in place of β·u. Shapes (batch,); the result is a scalar, nats.

    Source: Bradley & Terry 1952; as a loss on language models, arXiv:2203.02155, equation 1.

    >>> round(bradley_terry_loss(torch.tensor([1.0]), torch.tensor([0.0])).item(), 4)
    0.3133
    """
    return -F.logsigmoid(chosen_scores - rejected_scores).mean()


class RewardModel(torch.nn.Module):
    """A score for every answer: a copy of the language model with one number for its head.

        r(x, y) = w · h(last token of y)

    h is what the language model would predict the next token from; the last token has seen all
    others. w begins at zero, so an untrained reward model finds everything equally good.

    Args:
        reference: a causal language model of transformers; it is copied, not changed.

    Source: arXiv:2203.02155.
    """

    def __init__(self, reference) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(reference.base_model).requires_grad_(True)
        width = reference.get_output_embeddings().weight.shape[1]
        self.head = torch.nn.Parameter(torch.zeros(width))

    def forward(self, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
        """Scores, shape (rows,), of right-padded rows as `completion_logps` takes them."""
        hidden = self.backbone(input_ids=input_ids, use_cache=False).last_hidden_state
        positions = torch.arange(input_ids.shape[1])
        last = (completion_mask * positions).argmax(dim=1)
        return hidden[torch.arange(len(hidden)), last].float() @ self.head
