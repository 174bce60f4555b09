"""The ledgers of several prompts, and the tree of answers that makes them cheap."""

import pytest
import torch
from transformers import BloomConfig, GPT2Config, LlamaConfig

from adadpo_mini import completion_logps, load_pairs
from adadpo_mini.measure import answer_logps, mass_accounts
from adadpo_mini.measure.answer_tree import AnswerTree, can_use_tree, tree_logps
from adadpo_mini.measure.ledgers import Ledgers
from adadpo_mini.tokens.batch import stack_rows, tokenize_completions
from adadpo_mini.toyworld.grammar import find_topic, well_formed_answers
from tests.known_models import Parrot
from tests.models.test_shared_prompt import ARCHITECTURES, SMALL, new_model

# Shared beginnings of all lengths, one answer the beginning of another, one twice, two prompts.
COMPLETIONS = [
    ([3, 4], [5, 6, 7, 0]), ([3, 4], [5, 6, 8, 9, 0]), ([3, 4], [5, 0]), ([3, 4], [9, 0]),
    ([3, 4], [5, 6, 7, 7, 0]), ([3, 4], [5, 6, 7, 0]), ([3, 4], [0]), ([8], [5, 6, 7, 0]),
    ([8], [*range(10, 40), 0]), ([8], [*range(10, 39), 1, 0]), ([8, 3, 4], [5, 6, 0]),
    ([3, 4], [5, 6]), ([3, 4], [5, 0, 9]), ([3, 4], [5]),
]  # fmt: skip


@torch.no_grad()
def one_by_one(model, completions):
    return torch.cat([completion_logps(model, *stack_rows([row])) for row in completions])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_in_a_tree_every_answer_has_the_log_prob_that_it_has_alone(name):
    model = new_model(ARCHITECTURES[name])
    assert can_use_tree(model, COMPLETIONS)
    for row_tokens in (4, 12, 500):  # an answer a row, several, all
        tree = AnswerTree.grow(COMPLETIONS, row_tokens)
        found = tree_logps(model, tree)
        torch.testing.assert_close(found, one_by_one(model, COMPLETIONS), atol=1e-4, rtol=0)
    assert len(tree.parts[0].input_ids) == 3, "one row for each prompt"


def test_on_the_toy_the_tree_agrees_with_the_plain_way_to_a_ten_thousandth_of_a_nat(toy):
    model, tokenizer = toy
    for name in ("tone", "refusal", "length_bias"):
        prompt = load_pairs(name, "test")[0]["prompt"]
        answers = [answer.text for answer in well_formed_answers(find_topic(prompt))]
        rows = tokenize_completions([prompt] * len(answers), answers, tokenizer)
        tree = AnswerTree.grow(rows)
        plain = answer_logps(model, tokenizer, prompt, answers)
        torch.testing.assert_close(tree_logps(model, tree), plain, atol=1e-4, rtol=0)
        read = sum(part.input_ids.numel() for part in tree.parts)
        assert read < 0.55 * sum(len(prompt) + len(answer) for prompt, answer in rows)


UNFIT = {
    "positions by distance": BloomConfig(
        vocab_size=50, hidden_size=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    ),
    "scaled scores": GPT2Config(
        vocab_size=50, n_embd=32, n_layer=2, n_head=2, n_positions=64, logit_scale=0.5
    ),
    "a short window": LlamaConfig(**SMALL, num_key_value_heads=1, sliding_window=4),
}


@pytest.mark.parametrize("config", UNFIT.values(), ids=UNFIT)
def test_a_model_whose_answers_cannot_share_a_row_is_recognised(config):
    assert not can_use_tree(new_model(config), COMPLETIONS)


def distinct(pairs, count):
    return list({pair["prompt"]: pair for pair in reversed(pairs)}.values())[::-1][:count]


@pytest.fixture(scope="module")
def pairs():
    return load_pairs("tone", "test")[:40]


def test_the_event_has_mean_and_range_of_the_ledgers_of_eight_prompts(toy, pairs):
    ledgers = Ledgers(*toy, pairs)
    assert ledgers.tree is not None
    event = ledgers.read(toy[0])
    eight = distinct(pairs, 8)
    assert ledgers.pairs == eight and event["mass/prompts"] == 8
    each = [mass_accounts(*toy, pair) for pair in eight]
    for account in ("chosen", "rejected", "well_formed", "else"):
        values = [ledger[account] for ledger in each]
        name = f"mass/{account}"
        assert event[name] == pytest.approx(sum(values) / 8, abs=1e-5)
        assert event[f"{name}/low"] == pytest.approx(min(values), abs=1e-5)
        assert event[f"{name}/high"] == pytest.approx(max(values), abs=1e-5)
        assert event[f"{name}/low"] < event[name] < event[f"{name}/high"]


def test_a_model_whose_answers_cannot_share_a_row_has_the_same_ledgers(toy, pairs):
    """The parrot is not a transformer, so its answers are scored one by one."""
    texts = [pairs[0]["chosen"], pairs[0]["rejected"]]
    parrot = Parrot(toy[1], dict(zip(texts, (0.5, 0.25), strict=True)))
    ledgers = Ledgers(parrot, toy[1], pairs[:1])
    assert ledgers.tree is None
    event = ledgers.read(parrot)
    assert event["mass/chosen"] == event["mass/chosen/low"] == pytest.approx(0.5, abs=1e-3)
    assert event["mass/rejected"] == pytest.approx(0.25, abs=1e-3)
    assert event["mass/prompts"] == 1


def test_pairs_that_cannot_be_counted_are_passed_over(toy, pairs):
    stranger = {"prompt": "Why?\n", "chosen": "Yes.", "rejected": "No."}
    blur = {**pairs[0], "chosen": "Blah."}
    ledgers = Ledgers(*toy, [stranger, blur, *pairs[:1], *pairs[:1]])
    assert ledgers.pairs == list(pairs[:1])
    assert Ledgers(*toy, [stranger]).read(toy[0]) == {}
