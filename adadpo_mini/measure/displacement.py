"""Will the chosen fall? Two measurements on single pairs: displacement and CHES.

Neither changes the model. `batch.py` measures every step's batch, including the force balance;
`mass.py` measures where the probability goes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adadpo_mini.logprobs import completion_logps
from adadpo_mini.measure.batch import BatchLoss
from adadpo_mini.tokens.batch import TokenizedPair, make_batch
from adadpo_mini.types import Model


@dataclass(frozen=True)
class Displacement:
    """Whether a step on this pair alone would raise or lower its chosen, to first order.

    With g = ∇_θ log π(y|x), and c_w = −∂L/∂log π_w and c_l = ∂L/∂log π_l as in `forces`, a step of
    gradient descent on the pair changes log π_w in proportion to c_w·‖g_w‖² − c_l·⟨g_w, g_l⟩. So
    the chosen falls exactly when the meter ⟨g_w, g_l⟩/‖g_w‖² exceeds c_w/c_l, see `thresholds`.

    It does not predict a training run, in which the other pairs of the batch and AdamW move the
    chosen as well; `SlowMeasurements.watch` measures what they do.

    Attributes:
        meter: ⟨g_w, g_l⟩/‖g_w‖², dimensionless.
        cosine: the cosine of the angle between the two gradients.
        norm_ratio: ‖g_l‖/‖g_w‖; the meter is cosine × norm_ratio.
    """

    meter: float
    cosine: float
    norm_ratio: float


def displacement(model: Model, pair: TokenizedPair) -> Displacement:
    """Measure `Displacement` on one pair with two backward passes.

    The parameters must require gradients; their `.grad` does not change.
    """
    batch = make_batch([pair]).to(model.device)
    logps = completion_logps(model, batch.input_ids, batch.completion_mask)
    parameters = [p for p in model.parameters() if p.requires_grad]
    g_w, g_l = (torch.autograd.grad(logp, parameters, retain_graph=True) for logp in logps)

    def dot_product(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
        return sum((a.float() * b.float()).sum() for a, b in zip(one, other, strict=True)).item()

    dot = dot_product(g_w, g_l)
    norm_w, norm_l = dot_product(g_w, g_w) ** 0.5, dot_product(g_l, g_l) ** 0.5
    return Displacement(dot / norm_w**2, dot / (norm_w * norm_l), norm_l / norm_w)


def thresholds(result: BatchLoss) -> list[float]:
    """Return c_w/c_l of each pair: above it, the meter of `Displacement` means a falling chosen.

    It is 1 for DPO, ρ (at most C) for AdaDPO, and ρ·|y_l|/|y_w| for Ada-SimPO, whose log-probs are
    per token; imitation adds to it. Where the rejected is not pushed at all it is infinite. If the
    loss pushes both sides the other way, as IPO does beyond its target, the chosen falls below it.

    Args:
        result: the loss on the pairs.
    """
    return (result.chosen_force / result.rejected_force).tolist()


@dataclass(frozen=True)
class Ches:
    """Centred hidden embedding similarity: how similar two answers look to a model.

    With h_t the last hidden state that predicts token t, and H = Σ_t h_t over an answer's tokens,

        ches = ⟨H_w, H_l⟩ − ‖H_w‖²          normalised = ⟨H_w, H_l⟩/(|y_w|·|y_l|) − ‖H_w‖²/|y_w|²

    The higher the score, the more the rejected is expected to drag the chosen down with it.

    Source: Razin et al. 2024, arXiv:2410.08847; checked against the authors' code,
    `ches/ches.py` in princeton-nlp/unintentional-unalignment.
    """

    ches: float
    normalised: float


@torch.no_grad()
def ches(model: Model, pair: TokenizedPair) -> Ches:
    """Measure `Ches` on one pair with one forward pass."""
    batch = make_batch([pair]).to(model.device)
    output = model(input_ids=batch.input_ids, use_cache=False, output_hidden_states=True)
    hidden = output.hidden_states[-1][:, :-1].float()  # position i predicts the token at i + 1
    sums = (hidden * batch.completion_mask[:, 1:, None]).sum(1)
    (h_w, h_l), (n_w, n_l) = sums, batch.lengths.tolist()
    dot, square = (h_w @ h_l).item(), (h_w @ h_w).item()
    return Ches(dot - square, dot / (n_w * n_l) - square / n_w**2)
