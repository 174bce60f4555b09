"""Preference pairs: what is read, what is refused and with which words, and the batch."""

import json

import pytest
import torch

from adadpo_mini import InputError, load_pairs
from adadpo_mini.models.load import context_length
from adadpo_mini.pairs.load import Pairs, load_splits, split_pairs
from adadpo_mini.tokens.batch import make_batch, tokenize_pairs
from adadpo_mini.toyworld.sets import SETS

PAIR = {"prompt": "Why?\n", "chosen": "Because.", "rejected": "No."}


def write(folder, *lines):
    path = folder / "pairs.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def pairs_of(*prompts):
    return load_pairs(
        [{**PAIR, "prompt": p, "chosen": f"Because {i}."} for i, p in enumerate(prompts)]
    )


@pytest.mark.parametrize("name", SETS)
def test_a_toy_set_is_known_by_its_name(name):
    train, test = load_pairs(name), load_pairs(name, split="test")
    assert len(train) >= 1000 and len(test) >= 200
    for pair in (train[0], test[-1]):
        assert list(pair) == ["prompt", "chosen", "rejected"]
    assert load_splits(name) == (train, test)


def test_a_list_of_dicts_a_dataset_and_a_file_give_the_same_pairs(tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = [PAIR, {**PAIR, "chosen": "Since.", "score": 3}]
    from_list = load_pairs(rows)
    from_dataset = load_pairs(datasets.Dataset.from_list([PAIR, {**PAIR, "chosen": "Since."}]))
    from_file = load_pairs(write(tmp_path, *map(json.dumps, rows)))
    assert list(from_list) == [PAIR, {**PAIR, "chosen": "Since."}]
    assert from_list.rows == from_dataset.rows == from_file.rows


def test_a_path_may_be_text_and_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_pairs(str(write(tmp_path, json.dumps(PAIR)))).rows == (PAIR,)
    assert load_pairs("~/pairs.jsonl").rows == (PAIR,)


def test_the_implicit_form_of_anthropic_hh_is_split_after_the_last_shared_assistant():
    prompt = "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Why is it so?\n\nAssistant:"
    (pair,) = load_pairs([{"chosen": f"{prompt} I will tell.", "rejected": f"{prompt} I won't."}])
    assert (pair["prompt"], pair["chosen"], pair["rejected"]) == (
        prompt, " I will tell.", " I won't.",
    )  # fmt: skip


@pytest.mark.parametrize(
    "shared",
    ["Q: a b?\nThe ", "what is it? The ", "A play.\n\nAssistant: ", "Human: a\nAssistant: "],
)
def test_a_shared_beginning_of_plain_texts_is_not_taken_for_the_prompt(shared):
    with pytest.raises(InputError, match="prompt would be a guess; add the prompt"):
        load_pairs([{"chosen": f"{shared}x", "rejected": f"{shared}y"}])


def test_the_implicit_form_without_a_shared_beginning_is_an_error():
    with pytest.raises(InputError, match="'prompt' is missing"):
        load_pairs([{"chosen": "yes", "rejected": "no"}])


def test_the_conversational_form_is_converted():
    def say(role, content):
        return [{"role": role, "content": content}]

    explicit = {
        "prompt": say("user", "Why?"),
        "chosen": say("assistant", "Because."),
        "rejected": say("assistant", "No."),
    }
    implicit = {side: explicit["prompt"] + explicit[side] for side in ("chosen", "rejected")}
    kept = {**PAIR, "messages": explicit["prompt"]}
    assert [*load_pairs([explicit]), *load_pairs([implicit])] == [kept, kept]


def test_bad_input_is_named_by_file_line_and_fault(bad_file, toy):
    path, words = bad_file
    with pytest.raises(InputError) as caught:
        model, tokenizer = toy
        tokenize_pairs(load_pairs(path), tokenizer, context_length(model))
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_bad_row_of_a_list_is_named_by_its_number():
    with pytest.raises(InputError, match="pair 2.*'chosen'"):
        load_pairs([PAIR, {"prompt": "Why?\n", "rejected": "No."}])


def test_blank_lines_are_skipped_but_counted(tmp_path):
    other = {**PAIR, "chosen": "Since."}
    pairs = load_pairs(write(tmp_path, "", json.dumps(PAIR), "  ", "", json.dumps(other)))
    assert len(pairs) == 2
    assert [where.rpartition(" ")[2] for where in pairs.where] == ["2", "5"]


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1e"])
def test_a_character_that_ends_lines_elsewhere_does_not_break_a_line(tmp_path, character):
    pair = {**PAIR, "chosen": f"one{character}two"}
    # JSON must escape control characters
    lines = [json.dumps(p, ensure_ascii=character < " ") for p in (pair, PAIR)]
    assert list(load_pairs(write(tmp_path, *lines))) == [pair, PAIR]


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b""])
def test_a_byte_order_mark_and_any_line_ending_are_accepted(tmp_path, ending):
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(PAIR).encode() + ending)
    assert list(load_pairs(path)) == [PAIR]


def test_a_slice_remembers_where_its_pairs_came_from():
    pairs = pairs_of("a", "b", "c", "d")
    assert isinstance(pairs[1:3], Pairs)
    assert pairs[1:3].where == ("pair 2", "pair 3")
    assert pairs.take([3, 0]).where == ("pair 4", "pair 1")


def test_split_pairs_keeps_equal_prompts_on_one_side():
    pairs = pairs_of(*(f"question {i % 40}?\n" for i in range(120)))
    train, held_out = split_pairs(pairs, every=4)
    assert len(train) + len(held_out) == 120 and min(len(train), len(held_out)) > 0
    assert not {pair["prompt"] for pair in train} & {pair["prompt"] for pair in held_out}
    assert 0.1 < len(held_out) / 120 < 0.5
    assert split_pairs(pairs, every=4) == (train, held_out), "always the same"


def test_any_file_with_two_prompts_has_pairs_held_out():
    pairs = load_pairs(
        [{"prompt": f"{i % 2}\n", "chosen": f"a{i}", "rejected": "b"} for i in range(9)]
    )
    train, held_out = split_pairs(pairs)
    assert {p["prompt"] for p in train}.isdisjoint(p["prompt"] for p in held_out)
    assert len(train) + len(held_out) == 9 and min(len(train), len(held_out)) >= 4


def test_a_conversation_without_a_prompt_is_parted_between_messages():
    ask = {"role": "user", "content": "Why?"}
    sides = {
        side: [ask, {"role": "assistant", "content": f"It is good\nand {word}."}]
        for side, word in (("chosen", "fine"), ("rejected", "bad"))
    }
    [pair] = load_pairs([sides])
    assert pair == {
        "prompt": "Why?\n", "chosen": "It is good\nand fine.", "rejected": "It is good\nand bad.",
        "messages": [ask],
    }  # fmt: skip


def test_a_folder_or_a_name_too_long_is_told(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        load_pairs(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        load_pairs("x" * 400)


def test_split_pairs_with_too_few_prompts_gives_all_pairs_to_both_sides():
    pairs = pairs_of("the only question\n", "the only question\n")
    assert split_pairs(pairs) == (pairs, pairs)


def test_tokens_decode_back_to_the_text_and_end_with_the_end_token(toy):
    tokenizer = toy[1]
    odd = {"prompt": "Grüße, 世界: ", "chosen": "🙂 ok", "rejected": " \n x"}
    pairs = load_pairs([*load_pairs("refusal")[:3], odd])
    for pair, ids in zip(pairs, tokenize_pairs(pairs, tokenizer, 256), strict=True):
        assert tokenizer.decode(ids.prompt) == pair["prompt"]
        for side in ("chosen", "rejected"):
            completion = getattr(ids, side)
            assert completion[-1] == tokenizer.eos_token_id
            assert completion.count(tokenizer.eos_token_id) == 1
            assert tokenizer.decode(ids.prompt + completion[:-1]) == pair["prompt"] + pair[side]


def test_a_token_that_would_span_the_border_is_not_used(toy):
    """The prompt's tokens are what the model is asked with, whatever follows."""
    tokenizer = toy[1]
    pairs = load_pairs([{"prompt": "How do I wa", "chosen": "rm the soup?", "rejected": "x"}])
    whole = tokenizer("How do I warm the soup?")["input_ids"]
    (ids,) = tokenize_pairs(pairs, tokenizer, 256)
    assert ids.prompt == tokenizer("How do I wa")["input_ids"]
    assert whole[: len(ids.prompt)] != ids.prompt, "the example should merge across the border"
    assert tokenizer.decode(ids.prompt + ids.chosen[:-1]) == "How do I warm the soup?"


def test_a_pair_may_be_exactly_as_long_as_the_context(toy):
    pairs = load_pairs("tone")[:1]
    (ids,) = tokenize_pairs(pairs, toy[1], 256)
    longest = len(ids.prompt) + max(len(ids.chosen), len(ids.rejected))
    assert tokenize_pairs(pairs, toy[1], longest) == [ids]
    with pytest.raises(InputError, match=f"line 1: the pair is {longest} tokens"):
        tokenize_pairs(pairs, toy[1], longest - 1)


def test_a_batch_is_all_chosen_then_all_rejected_padded_on_the_right(toy):
    tokenized = tokenize_pairs(load_pairs("tone")[:3], toy[1], 256)
    batch = make_batch(tokenized)
    rows = [(ids.prompt, ids.chosen) for ids in tokenized]
    rows += [(ids.prompt, ids.rejected) for ids in tokenized]
    longest = max(len(prompt) + len(completion) for prompt, completion in rows)
    assert batch.input_ids.shape == batch.completion_mask.shape == (6, longest)
    for row, (prompt, completion) in enumerate(rows):
        start, end = len(prompt), len(prompt) + len(completion)
        assert batch.input_ids[row, :end].tolist() == prompt + completion
        expected = start * [0] + (end - start) * [1] + (longest - end) * [0]
        assert batch.completion_mask[row].tolist() == expected
    assert batch.lengths.tolist() == [len(completion) for _, completion in rows]
    assert batch.num_tokens == sum(len(prompt) + len(completion) for prompt, completion in rows)
    assert batch.input_ids.dtype == torch.long
