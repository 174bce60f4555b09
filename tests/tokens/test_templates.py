"""What a model reads for a prompt is the same in training and in chatting."""

import copy

import pytest

from adadpo_mini import load_model, load_pairs
from adadpo_mini.models.generate import stream_answers
from adadpo_mini.tokens.batch import tokenize_pairs
from adadpo_mini.tokens.templates import AS_IS, HUMAN, LINE, encode_prompts, end_token, prompt_form

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


DIALOGUE = "\n\nHuman: Why?\n\nAssistant: So.\n\nHuman: How?\n\nAssistant:"


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": DIALOGUE, "chosen": " Thus.", "rejected": " Go."},
        {"chosen": f"{DIALOGUE} Thus.", "rejected": f"{DIALOGUE} Go."},
    ],
)
def test_a_dialogue_in_text_has_its_roles_in_the_chat_template_and_no_space_first(chatty, row):
    (ids,) = tokenize_pairs(load_pairs([row]), chatty, 256)
    text = "[user]Why?<|pad|>[assistant]So.<|pad|>[user]How?<|pad|>[assistant]"
    assert chatty.decode(ids.prompt) == text
    assert [chatty.decode(side[:-1]) for side in (ids.chosen, ids.rejected)] == ["Thus.", "Go."]
    assert encode_prompts([DIALOGUE], chatty) == [ids.prompt], "asked as it was trained"


def test_what_is_typed_to_a_model_of_dialogues_is_read_as_in_training(toy, chatty):
    row = {"prompt": HUMAN.format("Why?"), "chosen": " Yes.", "rejected": " No."}
    (ids,) = tokenize_pairs(load_pairs([row]), chatty, 256)
    assert chatty.decode(ids.prompt) == "[user]Why?<|pad|>[assistant]"
    assert typed(toy, chatty, "Why?", form=HUMAN) == ids.prompt


def test_the_first_space_of_an_answer_stays_where_no_dialogue_puts_it(toy, chatty):
    for tokenizer, prompt in ((toy[1], DIALOGUE), (chatty, "Why?\n")):
        row = {"prompt": prompt, "chosen": " Thus.", "rejected": " Go."}
        (ids,) = tokenize_pairs(load_pairs([row]), tokenizer, 256)
        assert tokenizer.decode(ids.chosen[:-1]) == " Thus."


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


def test_a_token_that_was_added_as_special_ends_an_answer_when_loaded_again(chatty, tmp_path):
    from tokenizers import AddedToken
    from transformers import AutoTokenizer

    chatty.add_tokens([AddedToken("<|end|>", special=True), AddedToken("plain")])
    for token, end in (("<|end|>", "<|end|>"), ("plain", "<|endoftext|>")):
        chatty.chat_template = TEMPLATE.replace("<|pad|>", token)
        chatty.save_pretrained(tmp_path)
        loaded = AutoTokenizer.from_pretrained(tmp_path)
        assert loaded.convert_tokens_to_ids(token) not in loaded.all_special_ids
        assert end_token(loaded) == end


def test_a_template_that_refuses_a_question_and_answer_leaves_the_end_token(chatty):
    chatty.chat_template = (
        "{% if messages[0].role != 'system' %}{{ raise_exception('no system') }}{% endif %}"
    )
    assert end_token(chatty) == "<|endoftext|>"
