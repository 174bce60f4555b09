"""Token ids of a data set: the same as without the cache, and computed once."""

import copy

import pytest
import torch
from transformers.utils import chat_template_utils

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.load import load_splits
from adadpo_mini.pairs.screening import LoadReport
from adadpo_mini.system.cache import keep_tensors, kept_tensors
from adadpo_mini.tokens.batch import tokenize_pairs
from adadpo_mini.tokens.fitting import fit_pairs
from adadpo_mini.tokens.table import TokenTable

CONTEXT = 256


def cached_tokens(pairs, tokenizer, context):
    """The tokens of pairs that all fit, from the cache if they are there."""
    return fit_pairs(pairs, tokenizer, context)[1]


def test_cached_tokens_are_those_of_tokenize_pairs(some, toy):
    plain = tokenize_pairs(some, toy[1], CONTEXT)
    for tokens in (cached_tokens(some, toy[1], CONTEXT), cached_tokens(some, toy[1], CONTEXT)):
        assert list(tokens) == plain and len(tokens) == 20
        assert (tokens[-1], tokens[3:6], tokens[0]) == (plain[-1], plain[3:6], plain[0])
        assert tokens.lengths.tolist() == [
            [len(p.prompt), len(p.chosen), len(p.rejected)] for p in plain
        ]
        with pytest.raises(IndexError):
            tokens[20]


def test_a_large_set_is_tokenised_like_its_parts(toy):
    pairs = load_pairs([*load_pairs("tone"), *load_pairs("tone", "test")])
    assert len(pairs) > 1000, "so many are tokenised at once"
    parts = [tokenize_pairs(pairs[i : i + 300], toy[1], CONTEXT) for i in range(0, 1200, 300)]
    assert tokenize_pairs(pairs, toy[1], CONTEXT) == sum(parts, [])


def test_a_second_time_nothing_is_tokenised(some, toy, tokenised):
    first = cached_tokens(some, toy[1], CONTEXT)
    assert tokenised()
    again = cached_tokens(load_pairs("refusal")[:20], copy.deepcopy(toy[1]), CONTEXT)
    assert list(again) == list(first) and not tokenised()


def test_how_the_tokenizer_was_last_called_does_not_matter(some, toy, tokenised):
    tokenizer = copy.deepcopy(toy[1])
    for n, change in enumerate(
        [tokenizer.backend_tokenizer.no_padding, lambda: tokenizer("a", padding=True)]
    ):
        change()
        tokenizer.backend_tokenizer.enable_truncation(9 + n)
        tokenised()
        cached_tokens(some, tokenizer, CONTEXT)
        assert tokenised() == (n == 0)


def with_end(tokenizer):
    tokenizer.eos_token = tokenizer.pad_token


def with_template(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}?{% endfor %}"


def with_word(tokenizer):
    tokenizer.add_tokens(["soup"])


@pytest.mark.parametrize("change", [with_end, with_template, with_word])
def test_another_tokenizer_tokenises_anew(some, toy, tokenised, change):
    cached_tokens(some, toy[1], CONTEXT)
    tokenizer = copy.deepcopy(toy[1])
    change(tokenizer)
    tokenised()
    tokens = cached_tokens(some, tokenizer, CONTEXT)
    assert tokenised()
    assert list(tokens) == tokenize_pairs(some, tokenizer, CONTEXT)


WHAT_A_TEMPLATE_ASKS = (
    "{{ bos_token }}{{ strftime_now('%d %B %Y') }}"
    "{% for m in messages %}{{ m.content }}{% endfor %}"
)


@pytest.mark.parametrize("what", ["first token", "day", "transformers", "tokenizers"])
def test_what_a_template_or_a_library_adds_tokenises_anew(some, toy, tokenised, monkeypatch, what):
    tokenizer = copy.deepcopy(toy[1])
    tokenizer.chat_template = WHAT_A_TEMPLATE_ASKS
    monkeypatch.setattr(chat_template_utils, "datetime", Day("1 May 2030"))
    for n in range(2):
        cached_tokens(some, tokenizer, CONTEXT)
        assert tokenised() == (n == 0)
    if what == "first token":
        tokenizer.bos_token = tokenizer.pad_token
    elif what == "day":
        monkeypatch.setattr(chat_template_utils, "datetime", Day("2 May 2030"))
    else:
        monkeypatch.setattr(f"{what}.__version__", "0.0")
    tokens = cached_tokens(some, tokenizer, CONTEXT)
    assert tokenised()
    assert list(tokens) == tokenize_pairs(some, tokenizer, CONTEXT)


class Day:
    """Stands for the class `datetime` on a certain day."""

    def __init__(self, text):
        self.now, self.strftime = lambda: self, lambda form: text


def test_if_a_template_rejects_a_plain_question_nothing_is_kept(some, toy, tokenised):
    tokenizer = copy.deepcopy(toy[1])
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    pairs = load_pairs([{**some[0], "prompt": talk}])
    plain = tokenize_pairs(pairs, tokenizer, CONTEXT)
    for _ in range(2):
        tokenised()
        assert list(cached_tokens(pairs, tokenizer, CONTEXT)) == plain and tokenised()


def test_other_pairs_another_order_and_another_context_tokenise_anew(some, toy, tokenised):
    talk = [{"role": "user", "content": line} for line in ("Hi.", "Why?")]
    once = [{"role": "user", "content": "Hi.\nWhy?"}]
    chats = [load_pairs([{**some[0], "prompt": prompt}]) for prompt in (talk, once)]
    assert chats[0][0]["prompt"] == chats[1][0]["prompt"], "they differ only in the messages"
    for pairs, context in [
        (some, CONTEXT), (some[:-1], CONTEXT), (some.take(range(19, -1, -1)), CONTEXT),
        (some, CONTEXT + 1), (chats[0], CONTEXT), (chats[1], CONTEXT),
    ]:  # fmt: skip
        cached_tokens(pairs, toy[1], context)
        assert tokenised()


def test_a_tokenizer_without_a_backend_is_called_each_time(some, toy, tokenised):
    class Slow:
        eos_token_id, chat_template = toy[1].eos_token_id, None

        def __call__(self, *args, **kwargs):
            return toy[1](*args, **kwargs)

    plain = tokenize_pairs(some, toy[1], CONTEXT)
    for _ in range(2):
        tokenised()
        assert list(cached_tokens(some, Slow(), CONTEXT)) == plain and tokenised()


def test_a_pair_that_is_too_long_is_an_error_each_time(some, toy):
    longest = max(p.length for p in tokenize_pairs(some, toy[1], CONTEXT))
    for _ in range(2):
        with pytest.raises(InputError, match=f"line .* {longest} tokens long"):
            cached_tokens(some, toy[1], longest - 1)
    assert len(cached_tokens(some, toy[1], longest)) == 20


def test_pairs_of_others_that_are_too_long_are_dropped_and_counted(toy, tokenised):
    from datasets import Dataset

    rows = [{**pair} for pair in load_pairs("refusal")[:6]]
    rows[2]["chosen"] = rows[4]["rejected"] = "word " * 300
    pairs = load_pairs(Dataset.from_list(rows))
    for n in range(2):
        kept, tokens = fit_pairs(pairs, toy[1], CONTEXT)
        assert tokenised() == (n == 0)
        assert list(kept) == [rows[i] for i in (0, 1, 3, 5)]
        assert list(tokens) == tokenize_pairs(kept, toy[1], CONTEXT) and tokenised()
        assert kept.report.kept == 4 and kept.report.rows == 6
        assert "2 longer than the model reads (first: row 3)" in kept.report.text
    with pytest.raises(InputError, match="none of its 6 pairs.*row 1: .*28 tokens"):
        fit_pairs(pairs, toy[1], 3)
    with pytest.raises(InputError, match="pair 3: the pair is"):
        fit_pairs(load_pairs(rows), toy[1], CONTEXT)


def test_pairs_that_all_fit_are_given_back_as_they_are(toy, some):
    kept, tokens = fit_pairs(some, toy[1], CONTEXT)
    assert kept is some and list(tokens) == tokenize_pairs(some, toy[1], CONTEXT)


def test_the_last_pairs_may_be_the_ones_that_do_not_fit(toy):
    from datasets import Dataset

    rows = [{**pair} for pair in load_pairs("refusal")[:2]]
    rows[1]["chosen"] = "word " * 300
    kept, _ = fit_pairs(load_pairs(Dataset.from_list(rows)), toy[1], CONTEXT)
    assert len(kept) == 1 and "row 2" in kept.report.text


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty"])
def test_a_damaged_or_foreign_file_is_ignored_and_replaced(some, toy, folder, tokenised, damage):
    plain = list(cached_tokens(some, toy[1], CONTEXT))
    (path,) = folder.iterdir()
    good = path.read_bytes()
    flipped = good[:-40] + bytes([good[-40] ^ 1]) + good[-39:]
    bad = {"cut": good[:-9], "flipped": flipped, "foreign": b"\x80\x04pickle", "empty": b""}
    path.write_bytes(bad[damage])
    tokenised()
    assert list(cached_tokens(some, toy[1], CONTEXT)) == plain and tokenised()
    assert path.read_bytes() == good and list(folder.iterdir()) == [path]


OTHER = {
    "a tensor is missing": lambda kept: kept.pop("states"),
    "another type": lambda kept: kept.update(ids=kept["ids"].long()),
    "fewer tokens": lambda kept: kept.update(ids=kept["ids"][:-1]),
    "fewer pairs": lambda kept: kept.update(
        ids=kept["ids"][: kept["ends"][9, 2]], ends=kept["ends"][:10], states=kept["states"][:10]
    ),
    "more pairs": lambda kept: kept.update(
        ids=kept["ids"].repeat(2), ends=torch.cat([kept["ends"], kept["ends"] + len(kept["ids"])]),
        states=kept["states"].repeat(2),
    ),
    "another shape": lambda kept: kept.update(ends=kept["ends"].flatten()),
    "more ends": lambda kept: kept.update(states=kept["states"][1:]),
    "a reason that is not given": lambda kept: kept["states"].fill_(2),
}  # fmt: skip


@pytest.mark.parametrize("change", OTHER.values(), ids=OTHER)
def test_tensors_that_cannot_be_these_pairs_tokens_are_not_taken(some, toy, folder, change):
    plain = cached_tokens(some, toy[1], CONTEXT)
    (path,) = folder.iterdir()
    kept = {k: t.clone() for k, t in kept_tensors(path.stem, lambda tensors: True).items()}
    change(kept)
    keep_tensors(path.stem, kept)
    again = cached_tokens(some, toy[1], CONTEXT)
    assert list(again) == list(plain)
    assert torch.equal(again.ids, plain.ids) and again.ids.dtype == plain.ids.dtype


def test_large_pairs_are_tokenised_from_disk_and_their_file_goes_with_them(toy, folder):
    large = load_splits("refusal", in_memory=100)[0]
    assert not isinstance(large.rows, tuple) and len(list(folder.glob("tmp-*"))) >= 1
    part = large[:30]
    del large
    tokens = list(cached_tokens(part, toy[1], CONTEXT))
    assert list(folder.glob("tmp-*")), "a part of them is still in use"
    del part
    assert tokens == tokenize_pairs(load_pairs("refusal")[:30], toy[1], CONTEXT)
    assert not list(folder.glob("tmp-*"))


def test_no_pairs_pack_into_nothing():
    assert list(TokenTable.of([])) == []
    assert "0 of 0 rows" in LoadReport("x", 0, 0).text
