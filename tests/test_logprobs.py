"""Completion log-probs, against a loop over tokens."""

import pytest
import torch

from adadpo_mini import completion_logps
from adadpo_mini.logprobs import token_logps


@pytest.fixture(scope="module", params=["toy", "llama"])
def model(request, toy):
    if request.param == "toy":
        return toy[0]
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(1)
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=120, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                num_attention_heads=4, num_key_value_heads=2, initializer_range=0.5,
            )
        ).eval()  # fmt: skip


def batch(prompts=(4, 2, 7), completions=(5, 3, 1), vocabulary=120, seed=0):
    """Random rows with prompts and completions of these lengths, padded on the right with 0."""
    generator = torch.Generator().manual_seed(seed)
    width = max(p + c for p, c in zip(prompts, completions, strict=True))
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for row, (p, c) in enumerate(zip(prompts, completions, strict=True)):
        input_ids[row, : p + c] = torch.randint(1, vocabulary, (p + c,), generator=generator)
        mask[row, p : p + c] = 1
    return input_ids, mask


@torch.no_grad()
def one_by_one(model, input_ids, mask):
    """Each row alone, without padding; each token alone, by softmax, in float64."""
    sums = []
    for row, on in zip(input_ids, mask, strict=True):
        end = int(on.nonzero().max()) + 1
        logits = model(input_ids=row[:end].unsqueeze(0)).logits[0].double()
        tokens = range(int(on.nonzero().min()), end)
        sums.append(sum(logits[t - 1].softmax(-1)[row[t]].log().item() for t in tokens))
    return torch.tensor(sums)


def test_completion_logps_equal_a_loop_over_the_tokens_of_unpadded_rows(model):
    input_ids, mask = batch()
    with torch.no_grad():
        logps = completion_logps(model, input_ids, mask)
    assert logps.shape == (3,)
    torch.testing.assert_close(logps, one_by_one(model, input_ids, mask), rtol=1e-5, atol=1e-4)


def test_the_tokens_in_the_padding_do_not_matter(model):
    input_ids, mask = batch()
    other = input_ids.clone()
    other[1, 5:] = torch.tensor([9, 99, 3, 7])
    with torch.no_grad():
        logps = completion_logps(model, input_ids, mask)
        assert torch.equal(completion_logps(model, other, mask), logps)


def test_a_wider_batch_gives_the_same_log_probs(model):
    input_ids, mask = batch()
    wider = [torch.nn.functional.pad(t, (0, 6)) for t in (input_ids, mask)]
    with torch.no_grad():
        torch.testing.assert_close(
            completion_logps(model, *wider), completion_logps(model, input_ids, mask)
        )


def test_only_the_completions_tokens_count(model):
    """Removing the first completion token from the mask removes exactly its log-prob."""
    input_ids, mask = batch()
    shorter = mask.clone()
    shorter[0, 4] = 0
    with torch.no_grad():
        log_softmax = model(input_ids=input_ids[:1, :4]).logits[0, -1].double().log_softmax(-1)
        difference = completion_logps(model, input_ids, mask) - completion_logps(
            model, input_ids, shorter
        )
    expected = torch.tensor([log_softmax[input_ids[0, 4]].item(), 0.0, 0.0])
    torch.testing.assert_close(difference, expected, rtol=1e-5, atol=1e-4)


def test_the_end_token_counts(toy):
    from adadpo_mini.pairs.load import load_pairs
    from adadpo_mini.tokens.batch import make_batch, tokenize_pairs

    model, tokenizer = toy
    rows = make_batch(tokenize_pairs(load_pairs("tone")[:1], tokenizer, 256))
    last = rows.lengths + rows.completion_mask.int().argmax(dim=1) - 1
    assert (rows.input_ids[[0, 1], last] == tokenizer.eos_token_id).all()
    without = rows.completion_mask.clone()
    without[[0, 1], last] = 0
    with torch.no_grad():
        logps = completion_logps(model, rows.input_ids, rows.completion_mask)
        ended = logps - completion_logps(model, rows.input_ids, without)
        scores = model(input_ids=rows.input_ids).logits[[0, 1], last - 1].log_softmax(-1)
    torch.testing.assert_close(ended, scores[:, tokenizer.eos_token_id], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        logps, one_by_one(model, rows.input_ids, rows.completion_mask), rtol=1e-5, atol=1e-3
    )


def test_gradients_reach_the_model_and_only_through_the_completion():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=8, n_layer=1, n_head=1)).eval()
    input_ids, mask = batch(prompts=(3,), completions=(2,), vocabulary=50)
    completion_logps(model, input_ids, mask).sum().backward()
    positions = model.transformer.wpe.weight.grad.abs().sum(dim=1)
    assert (positions[:4] > 0).all(), "all that the last token sees"
    assert (positions[4:] == 0).all(), "nothing follows the last token, so it is not looked at"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_log_probs_are_fp32_at_least(dtype):
    logits = torch.randn(2, 4, 9, generator=torch.Generator().manual_seed(0)).to(dtype)
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    logps = token_logps(logits, ids)
    assert logps.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    expected = logits[:, :-1].double().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    torch.testing.assert_close(logps.double(), expected, rtol=0, atol=1e-5)


def test_fewer_logits_than_tokens_are_those_of_the_last_positions():
    logits = torch.randn(1, 5, 9, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3, 4, 5]])
    assert torch.equal(token_logps(logits[:, -3:], ids), token_logps(logits, ids)[:, -2:])


def test_shapes_that_differ_are_an_error(toy):
    input_ids, mask = batch()
    with pytest.raises(ValueError, match="shapes differ"):
        completion_logps(toy[0], input_ids, mask[:, :-1])


def test_a_completion_without_a_prompt_is_an_error(toy):
    input_ids, mask = batch(prompts=(4, 0), completions=(3, 3))
    with pytest.raises(ValueError, match="prompt"):
        completion_logps(toy[0], input_ids, mask)
