"""The fast path returns the plain path's numbers and gradients wherever it is used."""

import copy

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    CohereConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    Qwen2Config,
)

from adadpo_mini import RaceConfig, completion_logps, load_pairs
from adadpo_mini.lockstep import Race
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.models.shared_prompt import can_share_prompts, share_prompts, shared_logps
from adadpo_mini.prepare import fastest_logps
from adadpo_mini.tokens.batch import TokenizedPair, make_batch
from adadpo_mini.tokens.table import TokenTable
from adadpo_mini.trainer import Trainer

SMALL = {
    "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0,
    "pad_token_id": 0,
}  # fmt: skip
ARCHITECTURES = {
    "gpt2": GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=64, attn_pdrop=0.0,
        resid_pdrop=0.0, embd_pdrop=0.0, bos_token_id=0, eos_token_id=0,
    ),
    "llama": LlamaConfig(**SMALL, num_key_value_heads=1),
    "qwen2": Qwen2Config(**SMALL, num_key_value_heads=1),
    "gpt_neox": GPTNeoXConfig(**SMALL),
}  # fmt: skip
# Pairs of uneven lengths: prompts of 1 to 9 tokens, completions of 1 to 7.
PAIRS = [
    TokenizedPair([3], [4, 5, 6, 0], [7, 0]),
    TokenizedPair([8, 9, 10, 11, 12, 13, 14, 15, 16], [0], [4, 9, 14, 19, 24, 29, 0]),
    TokenizedPair([20, 21, 22, 23], [24, 25, 0], [24, 26, 0]),
]


def new_model(config, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():  # far from zero, so that a wrong mask shows
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.to(dtype).eval()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_log_probs_and_gradients_equal_the_plain_ones(name):
    model = new_model(ARCHITECTURES[name], torch.float64)
    batch = make_batch(PAIRS)
    rows = (batch.input_ids, batch.completion_mask)
    assert can_share_prompts(model, *rows)
    weights = torch.linspace(-1, 1, len(batch.input_ids), dtype=torch.float64)
    found = {}
    for path in (completion_logps, shared_logps):
        logps = path(model, *rows)
        gradients = torch.autograd.grad((logps * weights).sum(), list(model.parameters()))
        found[path] = torch.cat([logps.detach(), *(g.flatten() for g in gradients)])
    # Some compute norms and rotations in fp32 whatever the weights are.
    torch.testing.assert_close(*found.values(), rtol=1e-3, atol=1e-5)


def test_in_fp32_they_agree_to_a_hundred_thousandth(toy):
    contest = Race(RaceConfig(steps=1, methods=("dpo",), measure_every=0), start=toy)
    rows = contest.prepared.train.batch(range(16)).rows
    plain, shared = (
        path(toy[0], rows.input_ids, rows.completion_mask)
        for path in (completion_logps, shared_logps)
    )
    torch.testing.assert_close(shared, plain, rtol=1e-5, atol=1e-5)


def test_the_rejected_sees_nothing_of_the_chosen_and_the_chosen_nothing_behind_it():
    batch = make_batch(PAIRS)
    rows = share_prompts(batch.input_ids, batch.completion_mask)
    for i, pair in enumerate(PAIRS):
        p, w = len(pair.prompt), len(pair.chosen)
        l_end = p + w + len(pair.rejected)
        assert rows.input_ids[i, :l_end].tolist() == pair.prompt + pair.chosen + pair.rejected
        visible = rows.visible[i, 0]
        assert not visible[p + w : l_end, p : p + w].any()
        assert visible[p + w : l_end, :p].all() and not visible.triu(1).any()
    assert len(rows.targets) == int(batch.completion_mask.sum())
    assert rows.position_ids.max() < batch.input_ids.shape[1], "padding has a position, too"


def test_a_short_pair_beside_one_that_fills_the_context_takes_the_fast_path(toy):
    long = TokenizedPair([5] * 90, [6] * 166, [7] * 160)
    batch = make_batch([long, TokenizedPair([3], [4, 0], [5, 0])])
    assert can_share_prompts(toy[0], batch.input_ids, batch.completion_mask)


@pytest.mark.parametrize(
    "config",
    [
        MistralConfig(**SMALL, num_key_value_heads=1, sliding_window=12),
        GPTNeoConfig(
            vocab_size=50, hidden_size=32, num_layers=2, num_heads=2, window_size=12,
            attention_types=[[["global", "local"], 1]], max_position_embeddings=64,
        ),
    ],
    ids=["mistral", "gpt_neo"],
)  # fmt: skip
def test_a_race_tries_the_fast_path_on_the_longest_pair_there_is(config, toy):
    """Shorter pairs fit into the window, and there both ways agree."""
    model = new_model(config)
    short, long = make_batch(PAIRS[::2]), TokenizedPair([3] * 6, [4, 8, 5, 7] * 4, [6, 9] * 8)
    assert can_share_prompts(model, short.input_ids, short.completion_mask)
    few, all_of_them = TokenTable.of(PAIRS[::2]), TokenTable.of([*PAIRS[::2], long])
    assert fastest_logps(model, few) is shared_logps
    assert fastest_logps(model, few, all_of_them) is completion_logps


def test_the_longest_pair_may_be_a_held_out_one(toy):
    rows = [{"prompt": f"Why {n}?\n", "chosen": "So.", "rejected": "No."} for n in range(4)]
    short, long = (load_pairs(each) for each in (rows, [{**rows[0], "chosen": "So what? " * 4}]))
    model = new_model(
        MistralConfig(**{**SMALL, "vocab_size": 900}, num_key_value_heads=1, sliding_window=25)
    )
    for held_out, path in ((short, shared_logps), (long, completion_logps)):
        contest = Race(RaceConfig(steps=1), splits=(short, held_out), start=(model, toy[1]))
        assert contest.prepared.scoring["logps"] is path


@pytest.mark.parametrize(
    "config",
    [
        BloomConfig(vocab_size=50, hidden_size=32, n_layer=2, n_head=2),
        MambaConfig(vocab_size=50, hidden_size=32, num_hidden_layers=2, state_size=4),
        Gemma2Config(**SMALL, num_key_value_heads=1, head_dim=16, final_logit_softcapping=2.0),
        Qwen2Config(
            **SMALL, num_key_value_heads=1, use_sliding_window=True, sliding_window=3,
            max_window_layers=0,
        ),
    ],
    ids=["alibi", "recurrent", "soft-capped scores", "sliding window"],
)  # fmt: skip
def test_a_model_that_cannot_take_such_rows_keeps_the_plain_path(config):
    model, batch = new_model(config), make_batch(PAIRS)
    assert not can_share_prompts(model, batch.input_ids, batch.completion_mask)


def nats_a_token_apart(model, rows):
    plain, shared = (path(model, *rows) for path in (completion_logps, shared_logps))
    return (plain - shared).abs() / rows[1].sum(dim=1)


def skewed(model, by):
    """The model with scores that are off by a part of themselves where they are few, as they are
    on the fast path: it stands for an architecture that the fast path does not quite fit."""

    def skew(_, inputs, scores):
        return scores.float() * (1 + by) if inputs[0].ndim == 2 else scores

    return model.get_output_embeddings().register_forward_hook(skew)


# (nats a token, how those of a batch are summed up): four times less is let through, and four
# times more is refused.
BOUNDS = {torch.float32: (1e-4, torch.max), torch.bfloat16: (5e-2, torch.mean)}


@pytest.mark.parametrize("dtype", BOUNDS, ids=str)
@pytest.mark.parametrize("factor", [0.25, 4.0])
@torch.no_grad()
def test_a_model_that_is_off_by_more_than_rounding_keeps_the_plain_path(dtype, factor):
    bound, summed_up = BOUNDS[dtype]
    model, batch = new_model(ARCHITECTURES["llama"], dtype), make_batch(PAIRS)
    rows = (batch.input_ids, batch.completion_mask)
    with skewed(model, 0.1):
        per_skew = 10 * summed_up(nats_a_token_apart(model, rows)).item()
    with skewed(model, factor * bound / per_skew):
        apart = summed_up(nats_a_token_apart(model, rows)).item()
        assert 0.5 < apart / (factor * bound) < 1.5
        assert can_share_prompts(model, *rows) == (factor < 1)


MILD = {
    "soft cap": Gemma2Config(
        **SMALL, num_key_value_heads=1, head_dim=16, final_logit_softcapping=1000.0,
        attn_logit_softcapping=None,
    ),
    "scale": CohereConfig(**SMALL, num_key_value_heads=1, logit_scale=0.9999),
    "scaling": GraniteConfig(**SMALL, num_key_value_heads=1, logits_scaling=1.0001),
}  # fmt: skip


@pytest.mark.parametrize("config", MILD.values(), ids=MILD)
def test_scores_that_are_more_than_one_product_are_refused_even_if_that_hardly_shows(config):
    """In bf16 the difference is smaller than the rounding."""
    model, batch = new_model(config, torch.bfloat16), make_batch(PAIRS)
    rows = (batch.input_ids, batch.completion_mask)
    assert nats_a_token_apart(model, rows).mean() < 5e-2
    assert not can_share_prompts(model, *rows)


def test_a_race_trains_alike_on_either_path(toy):
    ends = []
    for possible in (True, False):
        model = copy.deepcopy(toy[0])
        model.config.logit_scale = None if possible else 1.0  # GPT-2 does nothing with it
        settings = RaceConfig(steps=4, batch_size=4, eval_pairs=4, measure_every=0)
        contest = Race(settings, start=(model, toy[1]))
        assert (contest.prepared.scoring["logps"] is shared_logps) == possible
        ends.append([event for _, event in contest.events()])
    for shared, plain in zip(*ends, strict=True):
        for name in ("loss", "grad_norm", "logps/chosen", "eval_shift/rejected"):
            if name in plain:
                assert shared[name] == pytest.approx(plain[name], rel=1e-3, abs=1e-3), name


def test_a_batch_read_in_parts_gives_the_same_step(toy):
    steps = {}
    for size in (None, 1, 2):
        reference = new_model(ARCHITECTURES["gpt2"])
        scoring = {"logps": shared_logps, "pairs_at_once": size}
        trainer = Trainer(
            copy.deepcopy(reference), "adadpo", learning_rate=1e-2, knobs={"beta": 0.3}, **scoring
        )
        pairs = ScoredPairs(reference, PAIRS, **scoring)
        steps[size] = [trainer.step(pairs.batch(range(3))) for _ in range(3)]
    events = steps.pop(None)
    for other_events in steps.values():
        assert other_events[0] == pytest.approx(events[0], rel=1e-4, abs=1e-5)
        for theirs, mine in zip(other_events, events, strict=True):
            assert theirs == pytest.approx(mine, rel=0.02, abs=0.02)
