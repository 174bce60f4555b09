"""What was computed once is found again, and only by what it was computed from."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from transformers.utils import chat_template_utils

from adadpo_mini import InputError, load_pairs
from adadpo_mini.models.reference import RefScores, model_key
from adadpo_mini.pairs.load import load_splits
from adadpo_mini.pairs.screening import LoadReport
from adadpo_mini.system.cache import cache_folder, keep_tensors, kept_tensors, scratch_folder
from adadpo_mini.tokens import tokenized as packed
from adadpo_mini.tokens.batch import tokenize_pairs
from adadpo_mini.tokens.tokenized import TokenTable, cached_tokens, fit_pairs

CONTEXT = 256


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def some():
    return load_pairs("refusal")[:20]


@pytest.fixture
def counted(monkeypatch):
    """Counts how often pairs are tokenised."""
    calls, real = [], packed.iter_tokenized
    monkeypatch.setattr(packed, "iter_tokenized", lambda *a: calls.append(a) or real(*a))
    return calls


def model_of(toy):
    return copy.deepcopy(toy[0])


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


def test_more_pairs_than_are_tokenised_at_once_are_tokenised_alike(toy, monkeypatch):
    pairs = load_pairs("tone")[:25]
    whole = tokenize_pairs(pairs, toy[1], CONTEXT)
    monkeypatch.setattr("adadpo_mini.tokens.batch.AT_ONCE", 7)
    assert tokenize_pairs(pairs, toy[1], CONTEXT) == whole


def test_a_second_time_nothing_is_tokenised(some, toy, counted):
    first = cached_tokens(some, toy[1], CONTEXT)
    again = cached_tokens(load_pairs("refusal")[:20], copy.deepcopy(toy[1]), CONTEXT)
    assert len(counted) == 1
    assert list(again) == list(first)


def test_how_the_tokenizer_was_last_called_is_no_matter(some, toy, counted):
    tokenizer = copy.deepcopy(toy[1])
    for change in (tokenizer.backend_tokenizer.no_padding, lambda: tokenizer("a", padding=True)):
        change()
        tokenizer.backend_tokenizer.enable_truncation(9 + len(counted))
        cached_tokens(some, tokenizer, CONTEXT)
    assert len(counted) == 1


def with_end(tokenizer):
    tokenizer.eos_token = tokenizer.pad_token


def with_template(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }}?{% endfor %}"


def with_word(tokenizer):
    tokenizer.add_tokens(["soup"])


@pytest.mark.parametrize("change", [with_end, with_template, with_word])
def test_another_tokenizer_tokenises_anew(some, toy, counted, change):
    cached_tokens(some, toy[1], CONTEXT)
    tokenizer = copy.deepcopy(toy[1])
    change(tokenizer)
    tokens = cached_tokens(some, tokenizer, CONTEXT)
    assert len(counted) == 2
    assert list(tokens) == tokenize_pairs(some, tokenizer, CONTEXT)


WHAT_A_TEMPLATE_ASKS = "{{ bos_token }}{{ strftime_now('%d %B %Y') }}{{ messages[0].content }}"


@pytest.mark.parametrize("what", ["first token", "day", "transformers", "tokenizers"])
def test_what_a_template_or_a_library_adds_of_its_own_tokenises_anew(
    some, toy, counted, monkeypatch, what
):
    tokenizer = copy.deepcopy(toy[1])
    tokenizer.chat_template = WHAT_A_TEMPLATE_ASKS
    monkeypatch.setattr(chat_template_utils, "datetime", Day("1 May 2030"))
    for _ in range(2):
        cached_tokens(some, tokenizer, CONTEXT)
    assert len(counted) == 1
    if what == "first token":
        tokenizer.bos_token = tokenizer.pad_token
    elif what == "day":
        monkeypatch.setattr(chat_template_utils, "datetime", Day("2 May 2030"))
    else:
        monkeypatch.setattr(f"{what}.__version__", "0.0")
    tokens = cached_tokens(some, tokenizer, CONTEXT)
    assert len(counted) == 2
    assert list(tokens) == tokenize_pairs(some, tokenizer, CONTEXT)


class Day:
    """Stands for the class `datetime` on a certain day."""

    def __init__(self, text):
        self.now, self.strftime = lambda: self, lambda form: text


def test_where_a_template_refuses_a_plain_question_nothing_is_kept(some, toy, counted):
    tokenizer = copy.deepcopy(toy[1])
    tokenizer.chat_template = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Why?"}]
    pairs = load_pairs([{**some[0], "prompt": talk}])
    for _ in range(2):
        assert list(cached_tokens(pairs, tokenizer, CONTEXT)) == tokenize_pairs(
            pairs, tokenizer, CONTEXT
        )
    assert len(counted) == 2


def test_other_pairs_another_order_and_another_context_tokenise_anew(some, toy, counted):
    talk = [{"role": "user", "content": line} for line in ("Hi.", "Why?")]
    once = [{"role": "user", "content": "Hi.\nWhy?"}]
    chats = [load_pairs([{**some[0], "prompt": prompt}]) for prompt in (talk, once)]
    assert chats[0][0]["prompt"] == chats[1][0]["prompt"], "they differ in the messages alone"
    for n, (pairs, context) in enumerate(
        [
            (some, CONTEXT), (some[:-1], CONTEXT), (some.take(range(19, -1, -1)), CONTEXT),
            (some, CONTEXT + 1), (chats[0], CONTEXT), (chats[1], CONTEXT),
        ]
    ):  # fmt: skip
        cached_tokens(pairs, toy[1], context)
        assert len(counted) == n + 1


def test_a_tokenizer_that_cannot_say_what_it_is_is_asked_each_time(some, toy, counted):
    class Slow:
        eos_token_id, chat_template = toy[1].eos_token_id, None

        def __call__(self, *args, **kwargs):
            return toy[1](*args, **kwargs)

    plain = tokenize_pairs(some, toy[1], CONTEXT)
    assert list(cached_tokens(some, Slow(), CONTEXT)) == plain
    assert list(cached_tokens(some, Slow(), CONTEXT)) == plain and len(counted) == 2


def test_a_pair_that_is_too_long_is_an_error_each_time(some, toy):
    longest = max(p.length for p in tokenize_pairs(some, toy[1], CONTEXT))
    for _ in range(2):
        with pytest.raises(InputError, match=f"line .* {longest} tokens long"):
            cached_tokens(some, toy[1], longest - 1)
    assert len(cached_tokens(some, toy[1], longest)) == 20


def test_pairs_of_others_that_are_too_long_are_dropped_and_counted(toy, tmp_path, counted):
    from datasets import Dataset

    rows = [{**pair} for pair in load_pairs("refusal")[:6]]
    rows[2]["chosen"] = rows[4]["rejected"] = "word " * 300
    pairs = load_pairs(Dataset.from_list(rows))
    for _ in range(2):
        kept, tokens = fit_pairs(pairs, toy[1], CONTEXT)
        assert list(kept) == [rows[i] for i in (0, 1, 3, 5)]
        assert list(tokens) == tokenize_pairs(kept, toy[1], CONTEXT)
        assert kept.report.kept == 4 and kept.report.rows == 6
        assert "2 longer than the model reads (first: row 3)" in kept.report.text
    assert len(counted) == 1
    with pytest.raises(InputError, match="all pairs are longer than the 3 tokens.*row 1"):
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


@pytest.mark.parametrize("damage", ["cut", "flipped", "foreign", "empty", "other tensors"])
def test_a_damaged_or_foreign_file_is_ignored_and_written_anew(some, toy, folder, counted, damage):
    plain = list(cached_tokens(some, toy[1], CONTEXT))
    (path,) = folder.iterdir()
    good = path.read_bytes()
    flipped = good[:-40] + bytes([good[-40] ^ 1]) + good[-39:]
    bad = {"cut": good[:-9], "flipped": flipped, "foreign": b"\x80\x04pickle", "empty": b""}
    if damage == "other tensors":
        keep_tensors(path.stem, {"ids": torch.zeros(3)})
    else:
        path.write_bytes(bad[damage])
    assert list(cached_tokens(some, toy[1], CONTEXT)) == plain
    assert len(counted) == 2
    assert path.read_bytes() == good and list(folder.iterdir()) == [path]


@pytest.mark.parametrize("blocked", ["a file", "no home"])
def test_where_nothing_can_be_written_all_works_without(some, toy, monkeypatch, blocked, tmp_path):
    if blocked == "a file":
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path / "file" / "cache"))
    else:
        monkeypatch.setattr("adadpo_mini.system.cache.cache_folder", lambda: None)
    for _ in range(2):
        assert list(cached_tokens(some, toy[1], CONTEXT)) == tokenize_pairs(some, toy[1], CONTEXT)
    scores = RefScores(cached_tokens(some, toy[1], CONTEXT), toy[0])
    scores.save(torch.zeros(2, 20))
    assert scores.load() is None
    with scratch_folder() as scratch:
        assert os.path.isdir(scratch)  # noqa: PTH112


def test_a_failing_write_leaves_nothing_behind(folder, monkeypatch):
    def fail(*_):
        raise OSError("no space")

    monkeypatch.setattr(os, "replace", fail)
    keep_tensors("a", {"x": torch.zeros(3)})
    assert list(folder.iterdir()) == []


def test_the_folder_is_the_users_cache_unless_another_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("ADADPO_MINI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "adadpo_mini"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "adadpo_mini"
    monkeypatch.setattr("pathlib.Path.home", lambda: (_ for _ in ()).throw(RuntimeError()))
    assert cache_folder() is None


def test_large_pairs_are_tokenised_from_the_disk_and_their_file_goes_with_them(
    toy, tmp_path, monkeypatch, folder
):
    monkeypatch.setattr("adadpo_mini.pairs.load.IN_MEMORY", 100)
    large = load_splits("refusal")[0]
    assert not isinstance(large.rows, tuple) and len(list(folder.glob("tmp-*"))) >= 1
    tokens = list(cached_tokens(large[:30], toy[1], CONTEXT))
    del large
    monkeypatch.undo()
    assert tokens == tokenize_pairs(load_pairs("refusal")[:30], toy[1], CONTEXT)
    assert not list(folder.glob("tmp-*"))


# Scores of the reference


def test_scores_are_found_again_with_gaps_filled_by_either_run(some, toy):
    tokens = cached_tokens(some, toy[1], CONTEXT)
    first = torch.randn(2, 20)
    first[:, 5:] = torch.nan
    assert RefScores(tokens, toy[0], seed=1).load() is None
    RefScores(tokens, toy[0], seed=1).save(first)
    found = RefScores(list(tokens), model_of(toy), seed=1).load()
    assert torch.equal(found.nan_to_num(7), first.nan_to_num(7)), "to the last bit"
    second = torch.randn(2, 20)
    second[:, :5] = torch.nan
    RefScores(tokens, toy[0], seed=1).save(second)
    both = RefScores(tokens, toy[0], seed=1).load()
    assert torch.equal(both, torch.where(second.isnan(), first, second))


def with_one_bit(model):
    weight = next(model.parameters()).data.view(torch.int32)
    weight[0, 0] ^= 1
    return model


CHANGES = {
    "one bit of a weight": with_one_bit,
    "the type": lambda model: model.to(torch.bfloat16),
    "the configuration": lambda model: setattr(model.config, "layer_norm_epsilon", 0.1) or model,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_scores_of_another_reference_are_not_found(some, toy, change):
    tokens = cached_tokens(some, toy[1], CONTEXT)
    RefScores(tokens, toy[0]).save(torch.zeros(2, 20))
    assert RefScores(tokens, model_of(toy)).load() is not None
    assert RefScores(tokens, change(model_of(toy))).load() is None


def test_scores_of_other_pairs_or_made_in_another_way_are_not_found(some, toy):
    tokens = cached_tokens(some, toy[1], CONTEXT)
    RefScores(tokens, toy[0], batch=4).save(torch.zeros(2, 20))
    assert RefScores(tokens, toy[0], batch=4).load() is not None
    assert RefScores(tokens, toy[0], batch=8).load() is None
    assert RefScores(tokens[:19], toy[0], batch=4).load() is None
    assert RefScores([*tokens[1:], tokens[0]], toy[0], batch=4).load() is None


def test_where_a_model_was_loaded_from_is_no_matter(toy):
    moved = model_of(toy)
    moved.config._name_or_path = "elsewhere"
    assert model_key(moved) == model_key(toy[0])


def test_what_was_kept_in_another_shape_is_not_taken(some, toy):
    scores = RefScores(tokenize_pairs(some, toy[1], CONTEXT), toy[0])
    keep_tensors(scores.name, {"scores": torch.zeros(2, 19)})
    assert scores.load() is None
    scores.save(torch.ones(2, 20))
    assert scores.load().eq(1).all()


WRITE = """
import sys, torch
from adadpo_mini.system.cache import keep_tensors, kept_tensors
for n in range(60):
    keep_tensors("same", {"x": torch.full((20_000,), float(sys.argv[1]))})
    found = kept_tensors("same", lambda tensors: True)
    # What was replaced while it was being read may be missed, but is never taken for whole.
    assert found is None or found["x"].unique().numel() == 1, found
"""


def test_two_processes_may_write_the_same_file_and_never_read_a_mixture(folder):
    runs = [subprocess.Popen([sys.executable, "-c", WRITE, str(n)]) for n in (1, 2)]
    assert [run.wait(timeout=120) for run in runs] == [0, 0]
    assert [path.name for path in folder.iterdir()] == ["same.safetensors"]
    assert kept_tensors("same", lambda tensors: True) is not None


def test_no_pairs_pack_into_nothing():
    assert list(TokenTable.of([])) == []
    assert "0 of 0 rows" in LoadReport("x", 0, 0).text
