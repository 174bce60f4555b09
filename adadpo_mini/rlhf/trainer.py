"""RLHF in miniature, the method that DPO replaced: a reward model, then a policy gradient.

DPO needs one loss on the pairs. RLHF has the same goal, more of what was preferred but not
too far from the reference, in two stages with three models:

    1. a reward model r(x, y) is fitted to the pairs:  −log σ(r(x, y_w) − r(x, y_l))
    2. the policy samples answers and climbs
           J(θ) = E_{y ~ π_θ}[ r(x, y) − β·(log π_θ(y|x) − log π_ref(y|x)) ]

DPO's loss has the same optimal policy as J (arXiv:2305.18290, section 4), so the two can run in one
race. The difference: RLHF corrects the policy on answers that it samples itself, which takes time;
DPO sees only the texts of the pairs.
"""

import time
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from adadpo_mini.errors import InputError
from adadpo_mini.event import Event
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.measure.batch import measure_batch
from adadpo_mini.methods import METHODS
from adadpo_mini.models.reference import ScoredBatch
from adadpo_mini.models.state import (
    TrainingState,
    adamw_state,
    restore_adamw,
    restore_weights,
    trained_weights,
)
from adadpo_mini.rlhf.policy_gradient import (
    SampleLoss,
    leave_one_out,
    policy_gradient_loss,
    prompts_of,
    sample_completions,
)
from adadpo_mini.rlhf.reward_model import RewardModel, bradley_terry_loss
from adadpo_mini.trainer import check_finite, counters, restore_counters
from adadpo_mini.types import Model, Tokenizer

UNIT_BATCHES = 8  # the unit of the rewards is measured on this many batches of pairs


class RlhfTrainer:
    """Trains a policy with RLHF; it has the methods of `Trainer`, so it runs in the same race.

    Args:
        model: the policy. It starts equal to the reference and is updated in place.
        reference: never trained; the reward model starts as a copy of it.
        tokenizer: decides which token ends an answer.
        learning_rate: constant, for AdamW on the policy and on the reward model.
        beta: β, the price of one nat of KL in units of reward (see `fit_reward_model`).
        seed: of the sampling; nothing else is random.
        max_grad_norm: gradients are scaled down to this norm.
        samples_per_prompt: answers to each prompt in each step, at least 2.
        max_new_tokens: answers are cut off after this many tokens and judged as they are. The
            default is the length of the longest completion that the reward model was fitted to.
        **scoring: how pairs are scored, `logps` and `pairs_at_once`, as for `Trainer`.

    Attributes:
        loss: DPO's loss, which measures the policy on the pairs. RLHF does not minimise it.
    """

    method = "rlhf"

    def __init__(
        self,
        model: Model,
        reference: Model,
        tokenizer: Tokenizer,
        *,
        learning_rate: float,
        beta: float,
        seed: int,
        max_grad_norm: float = 1.0,
        samples_per_prompt: int = 2,
        max_new_tokens: int | None = None,
        **scoring: object,
    ) -> None:
        if samples_per_prompt < 2:
            raise InputError(
                f"samples_per_prompt must be at least 2, not {samples_per_prompt}: each answer is "
                "compared with the others to its prompt."
            )
        self.model, self.reference = model, reference
        self.reward_model = RewardModel(reference)
        self.learning_rate, self.beta, self.seed = learning_rate, beta, seed
        self.max_grad_norm = max_grad_norm
        self.samples_per_prompt = samples_per_prompt
        self.max_new_tokens = max_new_tokens
        self._end_token = tokenizer.eos_token_id
        self.loss = METHODS["dpo"].bind({"beta": beta})
        self._scoring = scoring
        self._optimizer = self._adamw(model)
        self._center, self._unit = 0.0, None
        self.steps = 0
        self.tokens = 0
        self.seconds = 0.0

    def prepare(self, batches: Iterable[ScoredBatch]) -> None:
        """Fit the reward model to these batches, unless it is fitted already."""
        if not self.is_fitted:
            self.fit_reward_model(list(batches))  # the other methods need these scores as well

    def fit_reward_model(self, batches: Iterable[ScoredBatch]) -> None:
        """Stage 1: train the reward model once on these batches, in this order, then freeze it.

        The Bradley–Terry loss determines r only up to a constant for each prompt, and if the pairs
        can be told apart, r grows as long as training goes on. To give β the same meaning however
        long that was, scores are scaled to (r − center)/unit: center is the mean of r over the last
        batches, unit the root mean square of half the difference of a pair, (r_w − r_l)/2. A
        typical chosen completion then scores about +1, a typical rejected one about −1. The unit is
        at least 1, so a reward model that has learned little does not look certain.

        Raises:
            InputError: there are no batches.
            FloatingPointError: the loss is not a finite number.
        """
        began = time.perf_counter()
        optimizer, recent, longest = self._adamw(self.reward_model), [], 0
        for batch in batches:
            rows = batch.rows
            scores = self.reward_model(rows.input_ids, rows.completion_mask)
            loss = bradley_terry_loss(*scores.chunk(2))
            check_finite(self, loss.item(), "the reward model's loss")
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.reward_model.parameters(), self.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            recent = [*recent, rows][-UNIT_BATCHES:]
            longest = max(longest, int(rows.lengths.max()))
        if not recent:
            raise InputError("the reward model needs at least one batch of pairs.")
        self.reward_model.requires_grad_(False)
        pairs = [self.reward_model(r.input_ids, r.completion_mask).view(2, -1) for r in recent]
        chosen, rejected = torch.cat(pairs, dim=1)
        self._center = ((chosen + rejected) / 2).mean().item()
        self._unit = ((chosen - rejected) / 2).square().mean().sqrt().clamp(min=1.0).item()
        check_finite(self, self._unit, "the unit of the rewards")
        self.max_new_tokens = self.max_new_tokens or longest
        self.seconds += time.perf_counter() - began

    @torch.no_grad()
    def score(self, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
        """Return rewards in units, shape (rows,); see `fit_reward_model`."""
        self._check_fitted()
        return (self.reward_model(input_ids, completion_mask) - self._center) / self._unit

    def compute_loss(self, prompts: Sequence[Sequence[int]]) -> SampleLoss:
        """Sample answers to the prompts and return their policy gradient.

        The same step samples the same answers, however often this is called.
        """
        each = [prompt for prompt in prompts for _ in range(self.samples_per_prompt)]
        rows = self._sample(each)
        with torch.no_grad():
            reference_logps = completion_logps(self.reference, *rows)
        logps = completion_logps(self.model, *rows)

        # RLHF is these four lines. Only log π_θ carries a gradient: the reward comes from sampled
        # text, which cannot be differentiated.
        rewards = self.score(*rows).view(-1, self.samples_per_prompt)
        log_ratios = (logps.detach() - reference_logps).view_as(rewards)
        returns = rewards - self.beta * log_ratios
        advantages = leave_one_out(returns)

        loss = policy_gradient_loss(logps.view_as(advantages), advantages)
        num_tokens = sum(map(len, each)) + int(rows[1].sum())
        return SampleLoss(loss, rewards, log_ratios, returns, advantages, num_tokens)

    def _sample(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Sample answers of the policy; the step and the seed decide the noise."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.steps) % 2**63)
        try:
            return sample_completions(
                self.model,
                prompts,
                end_token=self._end_token,
                max_new_tokens=self.max_new_tokens,
                generator=generator,
            )
        except FloatingPointError as error:
            raise FloatingPointError(f"{self.method}: {error}") from error

    def step(self, batch: ScoredBatch, *, update: bool = True) -> Event:
        """Measure the policy on the batch's pairs, then train it on answers that it samples.

        The event describes the policy before this update, as in `Trainer.step`.

        Returns:
            loss: −J estimated from the sampled answers, in units of reward. This is what RLHF
                minimises; it is neither the surrogate nor a loss on the pairs.
            grad_norm: of the surrogate's gradient, before clipping.
            num_tokens: tokens of prompts and sampled answers in the updates so far, without those
                of the reward model.
            rlhf/reward: mean reward of the sampled answers, in units.
            rlhf/kl: their mean log π_θ − log π_ref, nats per answer.
            rlhf/reward_accuracy: share of the batch's pairs that the reward model tells apart. On
                held-out pairs, `evaluate` measures it as eval_rlhf/reward_accuracy: below 0.8 the
                policy learns the reward model's mistakes (see `store.summary.reward_notes`).
            rlhf/samples: number of sampled answers.
            Everything else as in `measure.batch.describe`, measured on the pairs as for DPO.

        Raises:
            InputError: the reward model is not fitted.
            FloatingPointError: training has diverged; the model was not updated.
        """
        began = time.perf_counter()
        measured = self._measure(batch)
        check_finite(self, measured["loss"], "DPO's loss on the pairs")
        sampled = self.compute_loss(prompts_of(batch.rows))
        sampled.loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        check_finite(self, grad_norm.item(), "the norm of the gradient")
        event = {
            "step": self.steps,
            "learning_rate": self.learning_rate,
            "grad_norm": grad_norm.item(),
            "num_tokens": self.tokens,
            **measured,
            "loss": -sampled.returns.mean().item(),
            "rlhf/reward": sampled.rewards.mean().item(),
            "rlhf/kl": sampled.log_ratios.mean().item(),
            "rlhf/samples": sampled.rewards.numel(),
        }
        if update:
            self._optimizer.step()
            self.steps += 1
            self.tokens += sampled.num_tokens
        self._optimizer.zero_grad()
        self.seconds += time.perf_counter() - began
        return event

    def evaluate(self, batch: ScoredBatch) -> Event:
        """Measure held-out pairs without sampling; each name gets the prefix `eval_`.

        `eval_loss` is DPO's loss, which RLHF does not minimise; `loss` is −J.
        """
        began = time.perf_counter()
        measured = self._measure(batch)
        self.seconds += time.perf_counter() - began
        return {f"eval_{name}": value for name, value in measured.items()}

    def state(self) -> TrainingState:
        """Return what `restore` needs to continue, including the reward model.

        Raises:
            InputError: the reward model is not fitted.
        """
        self._check_fitted()
        tensors = {**trained_weights(self.model), **adamw_state(self._optimizer)}
        tensors |= {
            f"reward/{name}": p.detach() for name, p in self.reward_model.state_dict().items()
        }
        scale = {"center": self._center, "unit": self._unit, "longest": self.max_new_tokens}
        return TrainingState(tensors, {**counters(self), **scale})

    def restore(self, state: TrainingState) -> None:
        """Continue from the state of a trainer of the same model, including its reward model.

        Raises:
            InputError: the state belongs to another model.
        """
        restore_weights(self.model, state.tensors)
        restore_adamw(self._optimizer, state.tensors)
        self.reward_model.load_state_dict(state.part("reward").tensors)
        self.reward_model.requires_grad_(False)
        self._center, self._unit = state.numbers["center"], state.numbers["unit"]
        self.max_new_tokens = state.numbers["longest"]
        restore_counters(self, state)

    @property
    def is_fitted(self) -> bool:
        """Whether the reward model is fitted."""
        return self._unit is not None

    def _check_fitted(self) -> None:
        if not self.is_fitted:
            raise InputError("rlhf has no reward model yet; call fit_reward_model first.")

    @torch.no_grad()
    def _measure(self, batch: ScoredBatch) -> Event:
        chosen, rejected = self.score(batch.rows.input_ids, batch.rows.completion_mask).chunk(2)
        accuracy = (chosen > rejected).float().mean().item()
        pairs = measure_batch(self.model, self.loss, batch, **self._scoring)
        return {**pairs, "rlhf/reward_accuracy": accuracy}

    def _adamw(self, model: torch.nn.Module) -> torch.optim.Optimizer:
        return torch.optim.AdamW(model.parameters(), lr=self.learning_rate, weight_decay=0.0)
