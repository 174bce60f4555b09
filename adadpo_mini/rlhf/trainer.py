"""RLHF in miniature, the thing that DPO replaced: a reward model, then a policy gradient.

DPO needs one loss on the pairs. Before it, the same wish (more of what was preferred, not too far
from the reference) took two stages and three models:

    1. a reward model r(x, y) is fitted to the pairs:  −log σ(r(x, y_w) − r(x, y_l))
    2. the policy samples answers of its own, and climbs
           J(θ) = E_{y ~ π_θ}[ r(x, y) − β·(log π_θ(y|x) − log π_ref(y|x)) ]

J's best policy is the one that DPO's loss aims at too (arXiv:2305.18290, section 4), so the two
can run in one race. What differs: here the policy is corrected on what it writes itself, and
pays for the writing; DPO only ever sees the texts of the pairs.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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
    leave_one_out,
    policy_gradient_loss,
    prompts_of,
    sample_completions,
)
from adadpo_mini.rlhf.reward_model import RewardModel, bradley_terry_loss
from adadpo_mini.trainer import check_finite, counters, restore_counters

UNIT_BATCHES = 8  # the unit of the rewards is measured on this many batches of pairs


@dataclass(frozen=True)
class SampleLoss:
    """The policy gradient on sampled answers; all but `loss` of shape (prompts, samples).

    Attributes:
        loss: the surrogate, scalar; call `backward()` on it.
        rewards: the reward model's scores, in units.
        log_ratios: log π_θ(y|x) − log π_ref(y|x), nats; their mean estimates the KL divergence.
        returns: rewards − β·log_ratios, what J averages.
        advantages: returns against those of the other answers to the prompt.
        num_tokens: in all prompts and answers.
    """

    loss: Tensor
    rewards: Tensor
    log_ratios: Tensor
    returns: Tensor
    advantages: Tensor
    num_tokens: int


class RlhfTrainer:
    """RLHF with the surface of `Trainer`, so that it can run in the same race.

    Args:
        model: the policy; it is updated in place and starts equal to the reference.
        reference: never trained; the reward model starts as its copy.
        tokenizer: says which token ends an answer.
        learning_rate: AdamW's, constant, of the policy and of the reward model.
        beta: β, units of reward (see `fit_reward_model`) that one nat of KL costs.
        seed: of the sampling; nothing else is random.
        max_grad_norm: gradients are scaled down to this norm.
        samples_per_prompt: answers to each prompt in each step, at least 2.
        max_new_tokens: an answer is cut off after so many tokens and judged as it stands. If left
            out, the length of the longest completion that the reward model was fitted to.
        **scoring: how pairs are scored, `logps` and `pairs_at_once`, as for `Trainer`.

    Attributes:
        loss: DPO's, with which the policy is measured on the pairs; nothing here lowers it.
    """

    method = "rlhf"

    def __init__(
        self,
        model,
        reference,
        tokenizer,
        *,
        learning_rate: float,
        beta: float,
        seed: int,
        max_grad_norm: float = 1.0,
        samples_per_prompt: int = 2,
        max_new_tokens: int | None = None,
        **scoring,
    ) -> None:
        if samples_per_prompt < 2:
            raise InputError(
                f"samples_per_prompt must be at least 2, not {samples_per_prompt}: an answer is "
                "measured against the others to its prompt."
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
        """Stage 1 on these batches, unless it was done already."""
        if not self.is_fitted:
            self.fit_reward_model(list(batches))  # scoring the pairs is no cost of RLHF's alone

    def fit_reward_model(self, batches: Iterable[ScoredBatch]) -> None:
        """Stage 1: train the reward model on these batches once, in this order; then freeze it.

        Bradley and Terry's loss fixes r only up to a constant for each prompt, and on pairs that
        can be told apart it lets r grow for as long as it is trained. So that β means the same
        however long that was, scores are given as (r − center)/unit: center is the mean of r over
        the last batches, unit the root mean square of half a pair's difference, (r_w − r_l)/2.
        A typical chosen completion then scores about +1, a typical rejected one about −1, and what
        β was to r itself is β·unit. The unit is 1 at least: a reward model that has learned little
        is not made to sound sure.

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
            raise InputError("the reward model needs at least one batch of pairs to be fitted to.")
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
        """Rewards in units, shape (rows,); see `fit_reward_model`."""
        self._check_fitted()
        return (self.reward_model(input_ids, completion_mask) - self._center) / self._unit

    def compute_loss(self, prompts: Sequence[Sequence[int]]) -> SampleLoss:
        """Answers sampled to the prompts, their returns, and the policy gradient from them.

        The same step samples the same answers, however often it is asked.
        """
        each = [prompt for prompt in prompts for _ in range(self.samples_per_prompt)]
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.steps) % 2**63)
        rows = sample_completions(
            self.model,
            each,
            end_token=self._end_token,
            max_new_tokens=self.max_new_tokens,
            generator=generator,
        )
        with torch.no_grad():
            reference_logps = completion_logps(self.reference, *rows)
        logps = completion_logps(self.model, *rows)

        # The four lines that are RLHF. Nothing but log π_θ carries a gradient: the reward came
        # from sampled text, and text cannot be differentiated.
        rewards = self.score(*rows).view(-1, self.samples_per_prompt)
        log_ratios = (logps.detach() - reference_logps).view_as(rewards)
        returns = rewards - self.beta * log_ratios
        advantages = leave_one_out(returns)

        loss = policy_gradient_loss(logps.view_as(advantages), advantages)
        num_tokens = sum(map(len, each)) + int(rows[1].sum())
        return SampleLoss(loss, rewards, log_ratios, returns, advantages, num_tokens)

    def step(self, batch: ScoredBatch, *, update: bool = True) -> Event:
        """Measure the policy on the batch's pairs, then train it on answers of its own.

        The event describes the policy as it was before this update, as `Trainer.step`'s does.

        Returns:
            loss: −J as estimated from the sampled answers, in units of reward: what is being
                minimised. Not the surrogate, whose value says nothing; and no loss on the pairs.
            grad_norm: of the surrogate's gradient, before clipping.
            num_tokens: tokens of prompts and sampled answers in the updates so far; the reward
                model's are not counted.
            rlhf/reward: mean reward of the sampled answers, in units.
            rlhf/kl: their mean log π_θ − log π_ref, nats per answer.
            rlhf/reward_accuracy: share of the batch's pairs that the reward model tells apart.
            rlhf/samples: number of sampled answers.
            All else as in `trainer.describe`, measured on the pairs as for DPO.

        Raises:
            InputError: the reward model was not fitted.
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
        """What can be said of held-out pairs without sampling, each name with the prefix `eval_`.

        So `eval_loss` is DPO's loss, a thermometer that nobody here tries to lower; `loss` is −J.
        """
        began = time.perf_counter()
        measured = self._measure(batch)
        self.seconds += time.perf_counter() - began
        return {f"eval_{name}": value for name, value in measured.items()}

    def state(self) -> TrainingState:
        """What `restore` needs to go on from here, the reward model included.

        Raises:
            InputError: the reward model was not fitted.
        """
        self._check_fitted()
        tensors = {**trained_weights(self.model), **adamw_state(self._optimizer)}
        tensors |= {
            f"reward/{name}": p.detach() for name, p in self.reward_model.state_dict().items()
        }
        scale = {"center": self._center, "unit": self._unit, "longest": self.max_new_tokens}
        return TrainingState(tensors, {**counters(self), **scale})

    def restore(self, state: TrainingState) -> None:
        """Go on where a trainer of the same model was; the reward model is then fitted.

        Raises:
            InputError: the state is that of another model.
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
        """Whether there is a reward model yet."""
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
