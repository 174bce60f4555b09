"""`Inspection`: what is known about one held-out pair of a run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Side:
    """One completion, token by token.

    Attributes:
        text: the completion.
        tokens: their texts; the last is the end token.
        reference_logps: log π_ref of each token, nats.
        change: by method, log π_θ − log π_ref of each token, nats.
        gradient_weight: by method, how hard its loss pushes on each token's logit.
    """

    text: str
    tokens: list[str]
    reference_logps: list[float]
    change: dict[str, list[float]]
    gradient_weight: dict[str, list[float]]


@dataclass(frozen=True)
class ModelView:
    """What is measured on the pair under one model.

    Attributes:
        chosen_logp, rejected_logp: log π(y|x), nats.
        forces: (chosen, rejected), how hard the method's loss pushes each side; None for the
            reference and for rlhf, which have no loss on pairs.
        forces_at_start: the same before the first update.
        meter, cosine, norm_ratio: see `measure.Displacement`.
        threshold: to first order, a step on this pair alone lowers the chosen if the meter exceeds
            this ratio of the two forces.
        ches, normalised_ches: see `measure.Ches`.
        mass: the accounts of `measure.MassLedger`, of the answers to this prompt; None outside the
            toy world, like the rest.
        mass_by_kind: the well-formed mass by kind of answer to this prompt.
        most_likely, most_likely_mass: the most likely answer that was found, and its probability.
        probe: log π of each answer of the probe set, nats.
        kl: KL(π_θ‖π_ref) over the well-formed answers, nats; 0 for the reference.
    """

    chosen_logp: float
    rejected_logp: float
    forces: tuple[float, float] | None
    forces_at_start: tuple[float, float] | None
    meter: float
    cosine: float
    norm_ratio: float
    threshold: float | None
    ches: float
    normalised_ches: float
    mass: dict[str, float] | None = None
    mass_by_kind: dict[str, float] | None = None
    most_likely: str | None = None
    most_likely_mass: float | None = None
    probe: dict[str, float] | None = None
    kl: float | None = None


@dataclass(frozen=True)
class Inspection:
    """One held-out pair of a run under the reference and each method.

    Attributes:
        run: the folder. pair: the number of the pair, of so many `pairs`.
        step: the snapshots' step; None for the models at the end of training.
        prompt: the pair's prompt.
        models: what is measured, by model; the first is the reference.
        notes: what was left out, and why.
    """

    run: str
    pair: int
    pairs: int
    step: int | None
    prompt: str
    chosen: Side
    rejected: Side
    models: dict[str, ModelView]
    notes: list[str]
