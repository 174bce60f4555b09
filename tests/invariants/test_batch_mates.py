"""A row's numbers do not depend on the other rows of its batch."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

from adadpo_mini import completion_logps
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.models.shared_prompt import can_share_prompts, shared_logps
from adadpo_mini.tokens.batch import TokenizedPair, make_batch
from adadpo_mini.trainer import Trainer
from tests.invariants.shared import KNOBS

OTHER_SHAPE = 1e-5  # nats a token; the largest difference seen was 1.3e-6
LONG = TokenizedPair([9] * 60, [*range(100, 170), 0], [*range(300, 380), 0])
LIKE_LLAMA = {
    "vocab_size": 900, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "intermediate_size": 64, "max_position_embeddings": 256,
    "initializer_range": 0.2, "bos_token_id": 0, "eos_token_id": 0,
}  # fmt: skip
WINDOW = "llama with a window"  # too short to read a prompt once for both completions
CONFIGS = {
    "llama": LlamaConfig(**LIKE_LLAMA),
    WINDOW: MistralConfig(**LIKE_LLAMA, sliding_window=8),
}


@pytest.fixture(scope="module")
def models(start):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        others = {
            name: AutoModelForCausalLM.from_config(config) for name, config in CONFIGS.items()
        }
    for model in others.values():
        model.eval().requires_grad_(False)
    return {"gpt2": start[0], **others}


WAYS = [
    (name, logps)
    for name in ("gpt2", *CONFIGS)
    for logps in (completion_logps, shared_logps)
    if (name, logps) != (WINDOW, shared_logps)
]


@pytest.fixture(params=WAYS, ids=lambda way: f"{way[0]}, {way[1].__name__}")
def way(request, models):
    """(model, how it scores), the fast way where the model can do it."""
    name, logps = request.param
    return models[name], logps


def test_only_the_model_with_the_window_cannot_be_scored_the_fast_way(models, pairs):
    batch = make_batch([*pairs, LONG])
    can = {
        n: can_share_prompts(m, batch.input_ids, batch.completion_mask) for n, m in models.items()
    }
    assert can == {"gpt2": True, "llama": True, WINDOW: False}


@torch.no_grad()
def score(model, logps, pairs):
    """Log-probs of chosen and rejected, shape (2, pairs)."""
    batch = make_batch(pairs)
    return logps(model, batch.input_ids, batch.completion_mask).view(2, -1)


def lengths_of(pairs):
    return torch.tensor([[len(p.chosen) for p in pairs], [len(p.rejected) for p in pairs]])


def test_permuting_a_batch_permutes_its_log_probs_to_the_last_bit(way, pairs):
    plain = score(*way, pairs)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        order = torch.randperm(len(pairs), generator=generator)
        assert torch.equal(score(*way, [pairs[i] for i in order]), plain[:, order])


def test_other_tokens_in_the_other_rows_change_no_bit_of_a_row(way, pairs):
    plain = score(*way, pairs)

    def other(ids):
        return [token % 800 + 7 for token in ids]

    others = [TokenizedPair(other(p.prompt), other(p.chosen), other(p.rejected)) for p in pairs]
    mixed = score(*way, [*pairs[:4], *others[4:]])
    assert torch.equal(mixed[:, :4], plain[:, :4])
    assert not torch.isclose(mixed[:, 4:], plain[:, 4:], atol=1e-2).any()


def test_a_longer_mate_or_none_at_all_changes_a_row_by_rounding_only(way, pairs):
    plain, lengths = score(*way, pairs), lengths_of(pairs)
    padded = score(*way, [*pairs, LONG])[:, :-1]
    alone = torch.cat([score(*way, [pair]) for pair in pairs], dim=1)
    for found in (padded, alone):
        assert ((found - plain).abs() / lengths).max() < OTHER_SHAPE


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].couples_pairs])
def test_a_pairs_loss_is_its_own_wherever_in_the_batch_it_stands(name, way, pairs):
    model, logps = way
    trainer = Trainer(moved(model), name, learning_rate=1e-3, knobs=KNOBS, logps=logps)
    scored = ScoredPairs(model, pairs, logps=logps)
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    scored.batch(range(8))

    def losses(indices):
        return trainer.compute_loss(scored.batch(indices)).loss.per_pair.detach()

    plain = losses(range(8))
    assert len(plain.unique()) == 8
    assert torch.equal(losses(order), plain[order])
    torch.testing.assert_close(losses([5, 2]), plain[[5, 2]], rtol=1e-4, atol=1e-4)


def moved(model):
    """A policy that is a little way off its reference."""
    policy = copy.deepcopy(model).requires_grad_(True)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in policy.parameters():
            weight += 0.01 * torch.randn(weight.shape, generator=generator)
    return policy


def test_the_gradient_is_the_sum_over_pairs_however_they_are_batched(way, pairs):
    model, logps = way
    policy, scored = moved(model), ScoredPairs(model, pairs, logps=logps)
    scored.batch(range(8))
    trainer = Trainer(policy, "adadpo", learning_rate=1e-3, knobs=KNOBS, logps=logps)

    def gradient(*batches):
        policy.zero_grad()
        for indices in batches:
            trainer.compute_loss(scored.batch(indices)).loss.per_pair.sum().backward()
        return torch.cat([weight.grad.flatten() for weight in policy.parameters()])

    whole = gradient(range(8))
    for batches in ([[5, 2, 7, 0, 1, 6, 3, 4]], [range(3), range(3, 8)], [[i] for i in range(8)]):
        apart = (gradient(*batches) - whole).norm() / whole.norm()
        assert apart < 1e-5, batches  # seen: 7e-7
