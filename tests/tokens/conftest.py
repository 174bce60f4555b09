"""A cache folder for each test, whether a tokenizer was called, and tokenizers with templates."""

import copy

import pytest
from tokenizers import AddedToken
from tokenizers.processors import TemplateProcessing

from adadpo_mini import load_pairs


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def some():
    return load_pairs("refusal")[:20]


@pytest.fixture
def tokenised(toy, monkeypatch):
    """Returns whether a tokenizer has been called since the last call of this function."""
    kind, calls = type(toy[1]), []
    real = kind.__call__
    monkeypatch.setattr(kind, "__call__", lambda *a, **how: calls.append(a) or real(*a, **how))

    def since_last_time():
        some = bool(calls)
        calls.clear()
        return some

    return since_last_time


@pytest.fixture
def instruct(toy):
    """Returns the toy's tokenizer with a chat template and <s>, <turn>, </turn> as special tokens.

    Without a template, it puts <s> before a text.
    """

    def make(template=None, after=""):
        tokenizer = copy.deepcopy(toy[1])
        tokenizer.add_tokens([AddedToken(t, special=True) for t in ("<s>", "<turn>", "</turn>")])
        tokenizer.bos_token = "<s>"
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"<s> $A {after}".strip(),
            special_tokens=[(t, tokenizer.convert_tokens_to_ids(t)) for t in ("<s>", "</turn>")],
        )
        tokenizer.chat_template = template
        tokenizer.eos_token = "</turn>"
        return tokenizer

    return make
