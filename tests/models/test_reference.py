"""Pairs scored by the reference: parts of a batch, and when saved scores are reused."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config

from adadpo_mini.models.reference import RefScores, ScoredPairs, model_key, take_pairs
from adadpo_mini.system.cache import keep_tensors
from adadpo_mini.tokens.batch import TokenizedPair, make_batch

CONFIG = GPT2Config(
    vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32, attn_pdrop=0.0, resid_pdrop=0.0,
    embd_pdrop=0.0, bos_token_id=0, eos_token_id=0,
)  # fmt: skip
PAIRS = [
    TokenizedPair([3], [4, 5, 6, 0], [7, 0]),
    TokenizedPair([8, 9, 10, 11, 12, 13], [0], [4, 9, 14, 19, 24, 29, 0]),
    TokenizedPair([20, 21, 22, 23], [24, 25, 0], [24, 26, 0]),
    TokenizedPair([30, 31], [32, 0], [33, 0]),
]


def new_model(attention="sdpa", **changes):
    config = copy.deepcopy(CONFIG)
    for name, value in changes.items():
        setattr(config, name, value)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The scores of the pairs, kept in an empty cache."""
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path))
    kept = RefScores(PAIRS, new_model())
    kept.save(torch.arange(8.0).view(2, 4))
    return kept


def with_another_last_bit(model):
    with torch.no_grad():
        model.lm_head.weight.view(torch.int32)[0, 0] ^= 1
    return model


OTHERS = {
    "attention": lambda: new_model("eager"),
    "configuration": lambda: new_model(layer_norm_epsilon=1e-6),
    "bit of a weight": lambda: with_another_last_bit(new_model()),
    "type": lambda: new_model().to(torch.bfloat16),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_another_model_has_another_key_and_does_not_find_the_scores(other, kept):
    assert model_key(new_model()) == model_key(new_model())
    assert RefScores(PAIRS, new_model()).load() is not None
    assert model_key(other()) != model_key(new_model())
    assert RefScores(PAIRS, other()).load() is None


def test_a_model_of_another_class_has_another_key():
    class Other(type(new_model())):
        """Computes something else from the same weights."""

    other = new_model()
    other.__class__ = Other
    assert model_key(other) != model_key(new_model())


@pytest.mark.parametrize("wrong", [
    {"scores": torch.zeros(2, 3)}, {"scores": torch.zeros(8)},
    {"scores": torch.zeros(2, 4, dtype=torch.float64)}, {"others": torch.zeros(2, 4)},
], ids=["pairs", "flat", "type", "name"])  # fmt: skip
def test_scores_of_another_shape_type_or_name_are_not_taken(wrong, kept):
    keep_tensors(kept.name, wrong)
    assert kept.load() is None


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, None])
def test_the_parts_of_a_batch_are_batches_of_their_pairs(size):
    scored = ScoredPairs(new_model(), PAIRS)
    whole, places = scored.batch(range(4)), list(range(4))
    parts = list(whole.parts(size))
    assert [len(part) for part in parts] == [
        len(places[i : i + (size or 4)]) for i in range(0, 4, size or 4)
    ]
    for part in parts:
        here, places = places[: len(part)], places[len(part) :]
        alone = make_batch([PAIRS[i] for i in here])
        assert torch.equal(part.rows.input_ids, alone.input_ids)
        assert torch.equal(part.rows.completion_mask, alone.completion_mask)
        assert part.rows.num_tokens == alone.num_tokens
        assert torch.equal(part.ref_chosen_logps, whole.ref_chosen_logps[here])
        assert torch.equal(part.ref_rejected_logps, whole.ref_rejected_logps[here])


def test_a_pair_in_the_middle_is_taken_without_the_padding_of_its_mates():
    rows = take_pairs(make_batch(PAIRS), slice(3, 4))
    assert rows.input_ids.tolist() == [[30, 31, 32, 0], [30, 31, 33, 0]] and rows.num_tokens == 8
