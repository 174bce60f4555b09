"""The losses inside TRL's `DPOTrainer`, for models and machines that outgrow this package.

    trainer = AdaDPOTrainer(model, args=AdaDPOConfig(output_dir="out"), train_dataset=pairs)

Everything but the loss of a pair is TRL's: data, LoRA (`peft_config`), precomputed reference,
gradient accumulation, DDP, FSDP, DeepSpeed, checkpoints, logs. Needs `adadpo-mini[trl]`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from packaging.version import Version
from torch import Tensor
from trl import DPOConfig, DPOTrainer
from trl import __version__ as trl_version

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.trainer import BatchLoss, describe

OLDEST_TRL = "1.16"  # what is overridden here is private to TRL, and was not tried with older ones
WITH_REFERENCE = tuple(name for name, row in METHODS.items() if row.needs_reference)
"""The methods whose loss is one of the log-probs under policy and reference, as DPO's is."""

OUR_KNOBS = (
    "ceiling", "space", "length_normalize", "k", "floor", "ratio", "alpha", "penalty", "per_token",
)  # fmt: skip
OUR_METRICS = ("ada/rho", "ada/ceiling_share", "balance/ratio", "shift/chosen", "shift/rejected")

# Options that change TRL's loss of a pair, with the value at which they do not.
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
    """Raise InputError if this method cannot be trained inside TRL's DPO trainer."""
    if name not in WITH_REFERENCE:
        raise InputError(
            f"method must be one of {', '.join(WITH_REFERENCE)} inside TRL's DPO trainer, not "
            f"{name!r}."
        )


def _knob(default: object, help: str):
    return field(default=default, metadata={"help": help})


def in_fp32(model: Callable) -> Callable:
    """The model, giving the tokens' log-probs in fp32, so that their sum is in fp32, too.

    They are computed so, but with mixed precision FSDP2 hands every output out in bf16, in which
    the log-prob of a long answer, -300 nats, is rounded to a multiple of 2.
    """

    def call(**arguments):
        outputs = model(**arguments)
        if getattr(outputs, "log_probs", None) is not None:
            outputs.log_probs = outputs.log_probs.float()
        return outputs

    return call


@dataclass
class AdaDPOConfig(DPOConfig):
    """TRL's `DPOConfig` with the method and its knobs, by the names they have in `losses.py`.

    Attributes:
        method: one of `WITH_REFERENCE`; with "dpo" the loss is TRL's own, to the last bit
            (of log-probs that are summed in fp32, see `in_fp32`).
        ceiling, space, length_normalize, k, floor: of AdaDPO and its kin.
        ratio: c of the fixed ratio. alpha: α of R-DPO. penalty: λ of DPOP. per_token: IPO with
            u/|y|, as TRL has it.

    Raises:
        InputError: a knob is out of range, or an option is set that would change TRL's loss of a
            pair (`PLAIN`) and so be lost, since the loss is ours.
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
        return {name: getattr(self, name) for name in ("beta", *OUR_KNOBS)}


class AdaDPOTrainer(DPOTrainer):
    """TRL's `DPOTrainer` with the loss of `args.method`; arguments as there, `args` ours.

    To TRL's metrics, whose names and meaning stay as they are (`rewards/…` are the raw β·u), it
    adds ours, see `trainer.describe`: `ada/rho`, `ada/ceiling_share`, `balance/ratio` and
    `shift/…`, over the pairs of all processes. As TRL does, it averages a metric over the batches
    between two logs, so that with gradient accumulation `balance/ratio` is an average of
    averages.

    Raises:
        InputError: `args` is not an `AdaDPOConfig`, or TRL is older than `OLDEST_TRL`.
    """

    _tag_names = ["trl", "dpo", "adadpo"]

    def __init__(
        self, model, ref_model=None, args: AdaDPOConfig | None = None, *rest, **options
    ) -> None:
        args = AdaDPOConfig() if args is None else args
        if not isinstance(args, AdaDPOConfig):
            raise InputError(f"args must be an AdaDPOConfig, not a {type(args).__name__}.")
        if Version(trl_version) < Version(OLDEST_TRL):
            raise InputError(f"TRL is {trl_version}: pip install 'trl>={OLDEST_TRL},<2'.")
        # A model card names the method; only of DPO itself does TRL know what to cite.
        self._name = METHODS[args.method].title
        self._paper = type(self)._paper if args.method == "dpo" else {}
        super().__init__(model, ref_model, args, *rest, **options)
        method = METHODS[args.method]
        self._loss_of_pairs = method.bind(args.knobs())
        self._ceiling = method.knobs(args.knobs()).get("ceiling")

    def _send_telemetry(self) -> None:
        """Nothing: this package tells nobody what is trained with it."""

    def compute_ref_log_probs(self, model, inputs) -> tuple[Tensor, Tensor]:
        """TRL's, of which only the sum is in fp32 everywhere."""
        return super().compute_ref_log_probs(in_fp32(model), inputs)

    def _compute_loss(self, model, inputs, return_outputs):
        """TRL's, with the loss of our method in place of the one it computed.

        TRL computes loss and metrics in one piece, so it is let do all of that, with two things
        under our eyes: it is given the reference's log-probs as if they had been precomputed, and
        a policy that notes what it returned. From these follow the four log-probs of each pair.
        """
        if not self.precompute_ref_logps:
            reference = self.model if self.ref_model is None else self.ref_model
            chosen, rejected = self.compute_ref_log_probs(reference, inputs)
            inputs = {**inputs, "ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
        noted, policy = [], in_fp32(model)

        def noting(**arguments):
            noted.append(policy(**arguments))
            return noted[-1]

        before, self.precompute_ref_logps = self.precompute_ref_logps, True
        try:
            result = super()._compute_loss(noting, inputs, return_outputs)
        finally:
            self.precompute_ref_logps = before
        mask = inputs["completion_mask"][:, 1:]  # position i scores the token at i + 1
        logps = noted[0].log_probs[:, -mask.shape[1] :].sum(dim=1)
        # An answer of which `max_length` left nothing has u = 0, whatever its length.
        lengths = mask.sum(dim=1).clamp_min(1)
        references = inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]
        pairs = (*logps.chunk(2), *references, *lengths.chunk(2))
        self._note_our_metrics(pairs)
        if self.args.method == "dpo":
            return result
        loss = self._batch_loss(pairs).loss.loss
        if self.aux_loss_enabled:  # a mixture of experts balances its load, whatever the method
            loss = loss + self.router_aux_loss_coef * noted[0].aux_loss
        return (loss, result[1]) if return_outputs else loss

    def _batch_loss(self, pairs: tuple[Tensor, ...]) -> BatchLoss:
        """Of the policy's and the reference's log-probs and the lengths, chosen before rejected."""
        chosen, rejected, ref_chosen, ref_rejected, chosen_lengths, rejected_lengths = pairs
        lengths = {"chosen_lengths": chosen_lengths, "rejected_lengths": rejected_lengths}
        loss = self._loss_of_pairs(chosen, rejected, ref_chosen, ref_rejected, **lengths)
        shifts = chosen - ref_chosen, rejected - ref_rejected
        return BatchLoss(loss, chosen, rejected, *shifts, **lengths)

    @torch.no_grad()
    def _note_our_metrics(self, pairs: tuple[Tensor, ...]) -> None:
        rows = torch.stack([each.detach().float() for each in pairs], dim=1)
        everywhere = self.accelerator.gather(rows).unbind(dim=1)
        measured = describe(self._batch_loss(everywhere), self._ceiling)
        notes = self._metrics["train" if self.model.training else "eval"]
        for name in OUR_METRICS:
            notes[name].append(measured[name])
