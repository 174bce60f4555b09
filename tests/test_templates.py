"""What a model reads for a prompt is the same in training and in chatting."""

import copy

import pytest

from adadpo_mini import load_model, load_pairs
from adadpo_mini.generate import stream_answers
from adadpo_mini.pairs import tokenize_pairs
from adadpo_mini.templates import AS_IS, HUMAN, LINE, encode_prompts, end_token, prompt_form

TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|pad|>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


@pytest.fixture
def chatty(toy):
    """The toy's tokenizer with a chat template that ends each turn with a token of its own."""
    tokenizer = copy.deepcopy(toy[1])
    tokenizer.chat_template = TEMPLATE
    return tokenizer


class Seen:
    """A model that notes the first token ids it is asked about and then gives up."""

    class Enough(Exception):
        pass

    def __init__(self, model):
        self.config, self.device, self.ids = model.config, model.device, None

    def __call__(self, input_ids, **_):
        self.ids = input_ids[0].tolist()
        raise Seen.Enough


def typed(toy, tokenizer, prompt, **how):
    model = Seen(toy[0])
    with pytest.raises(Seen.Enough):
        next(stream_answers({"seen": model}, tokenizer, prompt, **how))
    return model.ids


@pytest.mark.parametrize(
    ("prompt", "said", "form"),
    [
        ("Why?\n", "  Why? \n", LINE),
        ("\n\nHuman: Why?\n\nAssistant:", "Why?", HUMAN),
        ("Why? Because", "Why? Because", AS_IS),
        ("Use {braces}\n", "Use {braces}", LINE),
    ],
)
def test_what_is_trained_on_is_what_a_typed_prompt_becomes(toy, prompt, said, form):
    tokenizer = toy[1]
    pairs = load_pairs([{"prompt": prompt, "chosen": " Yes.", "rejected": " No."}])
    assert prompt_form([pair["prompt"] for pair in pairs]) == form
    trained = tokenize_pairs(pairs, tokenizer, 256)[0].prompt
    assert typed(toy, tokenizer, said, form=form) == trained


def test_a_chat_template_is_used_in_training_and_for_typed_prompts(toy, chatty):
    rows = [{"prompt": "Why?\n", "chosen": "Yes.", "rejected": "No."}]
    trained = tokenize_pairs(load_pairs(rows), chatty, 256)[0]
    assert chatty.decode(trained.prompt) == "[user]Why?<|pad|>[assistant]"
    assert typed(toy, chatty, " Why? ") == trained.prompt
    assert chatty.decode(trained.chosen[:-1]) == "Yes."


def test_a_conversation_keeps_its_roles_in_the_chat_template(chatty):
    talk = [
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "How?"},
    ]
    rows = [
        {
            "prompt": talk,
            "chosen": [{"role": "assistant", "content": "Thus."}],
            "rejected": [{"role": "assistant", "content": "Go."}],
        }
    ]
    text = chatty.decode(tokenize_pairs(load_pairs(rows), chatty, 256)[0].prompt)
    assert text == "[user]Why?<|pad|>[assistant]So.<|pad|>[user]How?<|pad|>[assistant]"


def test_a_refusing_chat_template_is_reported_in_one_sentence(chatty):
    from adadpo_mini import InputError

    chatty.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(InputError, match="chat template.*roles must alternate"):
        encode_prompts(["Why?"], chatty)


def test_an_answer_ends_with_the_templates_token_where_it_has_one(toy, chatty, tiny, tmp_path):
    assert end_token(toy[1]) == "<|endoftext|>"
    assert end_token(chatty) == "<|pad|>"
    chatty.chat_template = TEMPLATE.replace("<|pad|>", "")
    assert end_token(chatty) == "<|endoftext|>"
    chatty.chat_template = TEMPLATE
    model, _ = load_model(tiny)
    model.save_pretrained(tmp_path)
    chatty.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)[1]
    assert loaded.eos_token == "<|pad|>"
    rows = [{"prompt": "Why?\n", "chosen": "Yes.", "rejected": "No."}]
    assert tokenize_pairs(load_pairs(rows), loaded, 256)[0].chosen[-1] == loaded.pad_token_id
