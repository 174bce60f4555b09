"""The losses inside TRL's `DPOTrainer`, for models and machines too large for this package.

    trainer = AdaDPOTrainer(model, args=AdaDPOConfig(output_dir="out"), train_dataset=pairs)

Only the loss of a pair is ours. TRL does everything else: data, LoRA (`peft_config`), precomputed
reference, gradient accumulation, DDP, FSDP, DeepSpeed, checkpoints, logs.
Needs `pip install 'trl>=1.16,<1.17'`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from packaging.version import Version
from torch import Tensor
from trl import DPOConfig, DPOTrainer
from trl import __version__ as trl_version

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.measure.batch import BatchLoss, describe
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.types import Model

OLDEST_TRL = "1.16"  # this file overrides private methods, and older versions were not tested
WITH_REFERENCE = tuple(
    name for name, row in METHODS.items() if row.needs_reference and row.trained_by == "pairs"
)
"""The methods that differ from DPO only in the loss of a batch."""

OUR_KNOBS = (
    "ceiling", "space", "length_normalize", "k", "floor", "ratio", "alpha", "penalty", "per_token",
    "nll_weight",
)  # fmt: skip
OUR_METRICS = (
    "ada/rho", "ada/ceiling_share", "balance/ratio", "ranking_accuracy", "shift/chosen",
    "shift/rejected",
)  # fmt: skip

# The options that change TRL's loss of a pair, with the values that leave it unchanged.
PLAIN = {
    "loss_type": ["sigmoid"],
    "loss_weights": None,
    "label_smoothing": 0.0,
    "f_divergence_type": "reverse_kl",
    "use_weighting": False,
    "ld_alpha": None,
    "padding_free": False,
}


def check_method(name: str) -> None:
    """Check that TRL's DPO trainer can train a method.

    Raises:
        InputError: it cannot.
    """
    if name not in WITH_REFERENCE:
        raise InputError(
            f"method must be one of {', '.join(WITH_REFERENCE)} inside TRL's DPO trainer, not "
            f"{name!r}."
        )


def _knob(default: object, help: str) -> Any:
    return field(default=default, metadata={"help": help})


def in_fp32(model: Callable) -> Callable:
    """Wrap a model so that it returns the tokens' log-probs, and hence their sum, in fp32.

    With mixed precision, FSDP2 casts every output to bf16, which rounds the log-prob of a long
    answer, -300 nats, to a multiple of 2.
    """

    def call(**arguments: Any) -> Any:
        outputs = model(**arguments)
        if getattr(outputs, "log_probs", None) is not None:
            outputs.log_probs = outputs.log_probs.float()
        return outputs

    return call


@dataclass
class AdaDPOConfig(DPOConfig):
    """TRL's `DPOConfig` plus the method and its knobs, named as in `losses.py`.

    Attributes:
        method: one of `WITH_REFERENCE`; with "dpo" the loss is TRL's own, bit for bit (of log-probs
            summed in fp32, see `in_fp32`).
        ceiling, space, length_normalize, k, floor: knobs of AdaDPO and the other Ada losses.
        ratio: c of the fixed ratio. alpha: α of R-DPO. penalty: λ of DPOP. per_token: IPO with
            u/|y|, as in TRL. nll_weight: α of RPO. `adadpo_batch` takes the mean over each
            device's part of a batch.

    Raises:
        InputError: a knob is out of range, or an option changes TRL's loss of a pair (`PLAIN`).
            Such an option would be ignored, because the loss is ours.
    """

    method: str = _knob("adadpo", "the loss, as `adadpo-mini losses` lists them")
    ceiling: float = _knob(RaceConfig.ceiling, "C, the largest weight of the chosen side over β")
    space: str = _knob(RaceConfig.space, "what ρ compares: 'ratio' or 'policy'")
    length_normalize: bool = _knob(RaceConfig.length_normalize, "ρ per token")
    k: float = _knob(RaceConfig.k, "aim for |∂w| = k·|∂l|")
    floor: float | None = _knob(RaceConfig.floor, "the smallest weight over β")
    ratio: float = _knob(RaceConfig.ratio, "c of fixed_ratio")
    alpha: float = _knob(RaceConfig.alpha, "α of rdpo")
    penalty: float = _knob(RaceConfig.penalty, "λ of dpop")
    per_token: bool = _knob(RaceConfig.per_token, "ipo with u/|y|")
    nll_weight: float = _knob(RaceConfig.nll_weight, "α of rpo")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_method(self.method)
        RaceConfig(methods=(self.method,), **self.knobs())  # raises InputError
        for name, plain in PLAIN.items():
            if getattr(self, name) not in (plain, [1.0] if name == "loss_weights" else plain):
                raise InputError(
                    f"{name}={getattr(self, name)!r} would have no effect on the loss of "
                    f"{self.method}; leave it out, or use TRL's own DPOTrainer."
                )

    def knobs(self) -> dict[str, object]:
        """Return β and the other knobs of the losses."""
        return {name: getattr(self, name) for name in ("beta", *OUR_KNOBS)}


class AdaDPOTrainer(DPOTrainer):
    """TRL's `DPOTrainer` with the loss of `args.method`. Its arguments are the same, except `args`.

    TRL's metrics keep their names and meaning (`rewards/…` are the raw β·u). The trainer adds
    `ada/rho`, `ada/ceiling_share`, `balance/ratio` and `shift/…`, over the pairs of all processes;
    see `describe`. Like TRL, it averages a metric over the batches between two logs, so with
    gradient accumulation `balance/ratio` is an average of averages.

    Raises:
        InputError: `args` is not an `AdaDPOConfig`, or TRL is older than `OLDEST_TRL`.
    """

    _tag_names = ["trl", "dpo", "adadpo"]

    def __init__(
        self,
        model: Model | str,
        ref_model: Model | str | None = None,
        args: AdaDPOConfig | None = None,
        *rest: Any,
        **options: Any,
    ) -> None:
        args = AdaDPOConfig() if args is None else args
        if not isinstance(args, AdaDPOConfig):
            raise InputError(f"args must be an AdaDPOConfig, not a {type(args).__name__}.")
        if Version(trl_version) < Version(OLDEST_TRL):
            raise InputError(
                f"TRL {trl_version} is too old; install the tested version: "
                "pip install 'trl>=1.16,<1.17'."
            )
        # For the model card: its title, and TRL's citation, which fits DPO only.
        self._name = METHODS[args.method].title
        self._paper = type(self)._paper if args.method == "dpo" else {}
        super().__init__(model, ref_model, args, *rest, **options)
        method = METHODS[args.method]
        self._loss_of_pairs = method.bind(args.knobs())
        self._ceiling = method.knobs(args.knobs()).get("ceiling")

    def _send_telemetry(self) -> None:
        """Do nothing: this package sends no telemetry."""

    def compute_ref_log_probs(self, model: Model, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return TRL's log-probs under the reference, summed in fp32."""
        return super().compute_ref_log_probs(in_fp32(model), inputs)

    def _compute_loss(self, model: Model, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """Run TRL's computation, then replace its loss with ours.

        TRL computes loss and metrics in one method. To get the four log-probs of each pair, this
        override passes it the reference's log-probs as if they were precomputed, and a policy that
        records its output.
        """
        if not self.precompute_ref_logps:
            reference = self.model if self.ref_model is None else self.ref_model
            chosen, rejected = self.compute_ref_log_probs(reference, inputs)
            inputs = {**inputs, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        noted, policy = [], in_fp32(model)

        def noting(**arguments: Any) -> Any:
            noted.append(policy(**arguments))
            return noted[-1]

        before, self.precompute_ref_logps = self.precompute_ref_logps, True
        try:
            result = super()._compute_loss(noting, inputs, return_outputs)
        finally:
            self.precompute_ref_logps = before
        mask = inputs["completion_mask"][:, 1:]  # position i scores the token at i + 1
        logps = noted[0].log_probs[:, -mask.shape[1] :].sum(dim=1)
        # If `max_length` cuts off the whole answer, u = 0 for any length.
        lengths = mask.sum(dim=1).clamp_min(1)
        references = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        pairs = (*logps.chunk(2), *references, *lengths.chunk(2))
        self._note_our_metrics(pairs)
        if self.args.method == "dpo":
            return result
        loss = self._batch_loss(pairs).loss.loss
        if self.aux_loss_enabled:  # the load balancing of a mixture of experts
            loss = loss + self.router_aux_loss_coef * noted[0].aux_loss
        return (loss, result[1]) if return_outputs else loss

    def _batch_loss(self, pairs: tuple[Tensor, ...]) -> BatchLoss:
        """Return the loss of log-probs and lengths: policy, reference, lengths; chosen first."""
        *logps, chosen_lengths, rejected_lengths = pairs
        lengths = {"chosen_lengths": chosen_lengths, "rejected_lengths": rejected_lengths}
        return BatchLoss.of(self._loss_of_pairs, *logps, **lengths)

    @torch.no_grad()
    def _note_our_metrics(self, pairs: tuple[Tensor, ...]) -> None:
        rows = torch.stack([each.detach().float() for each in pairs], dim=1)
        everywhere = self.accelerator.gather(rows).unbind(dim=1)
        measured = describe(self._batch_loss(everywhere), self._ceiling)
        notes = self._metrics["train" if self.model.training else "eval"]
        for name in OUR_METRICS:
            notes[name].append(measured[name])
