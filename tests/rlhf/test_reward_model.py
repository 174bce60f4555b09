"""Stage 1 of RLHF: the reward model, its loss and its unit."""

import copy
import math

import pytest
import torch

from adadpo_mini.rlhf.reward_model import RewardModel, bradley_terry_loss
from adadpo_mini.tokens.batch import make_batch
from tests.rlhf.trainers import generator, new_trainer


def test_the_bradley_terry_loss_is_minus_the_log_of_the_preferences_probability():
    chosen, rejected = torch.tensor([2.0, -1.0, 0.0]), torch.tensor([0.5, 1.0, 0.0])
    odds = [
        math.exp(c) / (math.exp(c) + math.exp(r)) for c, r in zip(chosen, rejected, strict=True)
    ]
    expected = -sum(math.log(p) for p in odds) / 3
    assert bradley_terry_loss(chosen, rejected).item() == pytest.approx(expected, rel=1e-6)
    assert bradley_terry_loss(chosen + 7, rejected + 7).item() == pytest.approx(expected, rel=1e-5)


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=885, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, initializer_range=0.5,
            )
        ).eval()  # fmt: skip


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@torch.no_grad()
def test_a_score_is_read_at_the_last_token_whatever_is_padded_after_it(
    reference, tokenized, architecture
):
    model = reference if architecture == "gpt2" else llama()
    rewards = RewardModel(model)
    rows = make_batch(tokenized[:4])
    assert (rewards(rows.input_ids, rows.completion_mask) == 0).all(), "nothing is better yet"
    rewards.head += torch.randn(rewards.head.shape, generator=generator())
    together = rewards(rows.input_ids, rows.completion_mask)
    lasts = []
    for ids, mask in zip(rows.input_ids, rows.completion_mask, strict=True):
        end = int(mask.nonzero().max()) + 1
        hidden = model(ids[None, :end], output_hidden_states=True).hidden_states[-1]
        lasts.append(hidden[0, -1] @ rewards.head)
    assert len({round(score.item(), 3) for score in lasts}) == 8
    torch.testing.assert_close(together, torch.stack(lasts), rtol=1e-4, atol=1e-4)


def test_the_reward_model_learns_to_tell_pairs_apart_and_leaves_the_reference(
    reference, scored, toy
):
    before = copy.deepcopy(reference.state_dict())
    train, held_out = scored.batch(range(16)), scored.batch(range(16, 24))
    trainer = new_trainer(reference, toy[1])
    rows = train.rows
    first = trainer.reward_model(rows.input_ids, rows.completion_mask).view(2, -1)
    assert (first[0] > first[1]).float().mean() == 0
    trainer.fit_reward_model([train] * 12)
    assert trainer.evaluate(train)["eval_rlhf/reward_accuracy"] == 1.0
    assert trainer.evaluate(held_out)["eval_rlhf/reward_accuracy"] >= 0.75
    assert all(torch.equal(reference.state_dict()[n], weight) for n, weight in before.items())
    assert all(torch.equal(trainer.model.state_dict()[n], w) for n, w in before.items())


def test_a_typical_chosen_scores_plus_one_and_a_typical_rejected_minus_one(reference, scored, toy):
    batches = [scored.batch(range(i, i + 8)) for i in (0, 8, 16)]
    differences = []
    for repeats in (7, 14):  # the longer the fit, the larger r, but not a score in units
        trainer = new_trainer(reference, toy[1], fit_to=batches * repeats, learning_rate=3e-3)
        # The unit is that of the last eight batches, repeats counted.
        rows = [batch.rows for batch in (batches * repeats)[-8:]]
        scores = [trainer.score(r.input_ids, r.completion_mask).view(2, -1) for r in rows]
        chosen, rejected = torch.cat(scores, dim=1)
        assert (chosen + rejected).mean().item() == pytest.approx(0, abs=1e-4)
        half = (chosen - rejected) / 2
        assert half.square().mean().sqrt().item() == pytest.approx(1, rel=1e-4)
        assert chosen.mean() > 0.7 and rejected.mean() < -0.7
        raw = trainer.reward_model(rows[0].input_ids, rows[0].completion_mask).view(2, -1)
        differences.append((raw[0] - raw[1]).mean().item())
    assert differences[1] > 1.3 * differences[0] > 2


def test_a_reward_model_that_has_learned_little_is_not_made_to_sound_sure(reference, scored, toy):
    rows = scored.batch(range(8)).rows
    trainer = new_trainer(reference, toy[1], fit_to=[scored.batch(range(8))])
    raw = trainer.reward_model(rows.input_ids, rows.completion_mask)
    scores = trainer.score(rows.input_ids, rows.completion_mask)
    torch.testing.assert_close(scores, raw - raw.mean())
    assert 0 < scores.view(2, -1)[0].mean() < 0.5


def test_the_reward_models_gradient_is_scaled_down_to_the_norm(reference, scored, toy):
    """Scaled down to far below AdamW's ε, it teaches the model nothing."""
    batches = [scored.batch(range(8))] * 3
    rows = batches[0].rows
    learned, still = (
        new_trainer(reference, toy[1], fit_to=batches, max_grad_norm=norm) for norm in (1.0, 1e-14)
    )
    for trainer, moves in ((learned, True), (still, False)):
        scores = trainer.reward_model(rows.input_ids, rows.completion_mask)
        assert (scores.abs().max().item() > 1e-4) == moves


def test_a_fitted_reward_model_is_frozen(reference, scored, toy):
    batch = scored.batch(range(4))
    trainer = new_trainer(reference, toy[1], fit_to=[batch])
    before = copy.deepcopy(trainer.reward_model.state_dict())
    assert not any(weight.requires_grad for weight in trainer.reward_model.parameters())
    for _ in range(2):
        trainer.step(batch)
    after = trainer.reward_model.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
