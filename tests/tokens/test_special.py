"""Special tokens in the texts of pairs: one at the beginning, one at the end, none in between."""

import pytest
from tokenizers import AddedToken

from adadpo_mini import InputError, load_model, load_pairs
from adadpo_mini.models.generate import stream_answers
from adadpo_mini.tokens.batch import tokenize_completions, tokenize_pairs
from adadpo_mini.tokens.fitting import fit_pairs
from adadpo_mini.tokens.templates import encode_prompts, end_token
from tests.tokens.test_rendering import ASKED, PLAIN, texts

INST = "{% for m in messages %}[INST] {{ m.content }} [/INST] {% endfor %}"
COLON = (
    "Be good.\n{% for m in messages %}{{ m.role | upper }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def pair(prompt="Why?\n", chosen="So.", rejected="No."):
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


@pytest.mark.parametrize("template", [None, PLAIN])
@pytest.mark.parametrize("end", ["</turn>", "</turn>\n", "</turn></turn> ", "<|endoftext|>"])
def test_an_answer_ends_with_one_end_token_even_if_its_text_has_it_already(instruct, template, end):
    tokenizer = instruct(template)
    assert texts(tokenizer, pair()) == texts(tokenizer, pair(chosen=f"So.{end}"))
    assert texts(tokenizer, pair(chosen=f"So.{end}"))[1:] == ("So.</turn>", "No.</turn>")
    [(_, ids)] = tokenize_completions(["Why?\n"], [f"So.{end}"], tokenizer)
    assert ids.count(tokenizer.eos_token_id) == 1


def test_the_end_token_of_the_tokenizers_file_ends_an_answer_after_another_took_its_place(
    instruct, tiny, tmp_path
):
    model, _ = load_model(tiny)
    tokenizer = instruct(PLAIN)
    tokenizer.eos_token = "<s>"
    model.resize_token_embeddings(len(tokenizer))
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)[1]
    assert loaded.eos_token == "</turn>" == end_token(loaded)
    assert texts(loaded, pair(chosen="So.<s>"))[1] == "So.</turn>"


def test_a_token_for_unknown_words_may_also_end_an_answer_as_in_gpt2(instruct):
    tokenizer = instruct(PLAIN)
    tokenizer.unk_token = "</turn>"
    assert end_token(tokenizer) == "</turn>"
    assert texts(tokenizer, pair(chosen="So.</turn>"))[1] == "So.</turn>"
    with pytest.raises(InputError, match="the prompt contains '</turn>'"):
        texts(tokenizer, pair("Why</turn>?"))


def test_a_well_known_end_token_is_removed_where_a_template_writes_another(instruct):
    for template, chosen in ((PLAIN, "So.</turn>"), (None, "So.</s></turn>")):
        tokenizer = instruct(template)
        tokenizer.add_tokens([AddedToken("</s>", special=True)])
        assert texts(tokenizer, pair(chosen="So.</s>"))[1] == chosen


def test_an_end_token_within_an_answer_and_white_space_at_its_end_stay(toy, instruct):
    tokenizer = instruct()
    chosen, rejected = texts(tokenizer, pair("Why?\n", "So.</turn> Yes. \n", "No. \n"))[1:]
    assert (chosen, rejected) == ("So.</turn> Yes. \n</turn>", "No. \n</turn>")


@pytest.mark.parametrize("template", [None, PLAIN])
def test_an_answer_that_is_only_an_end_token_is_refused(instruct, template):
    with pytest.raises(InputError, match="^pair 1: rejected has no text besides the end token"):
        fit_pairs(load_pairs([pair(rejected="</turn>")]), instruct(template), 256)


def test_answers_that_differ_in_the_end_token_alone_are_refused(toy):
    same = load_pairs([pair("Why?\n", "So.", "So.<|endoftext|>")])
    with pytest.raises(
        InputError, match="^pair 1: the model reads chosen and rejected as the same"
    ):
        fit_pairs(same, toy[1], 256)


@pytest.mark.parametrize("after", ["", "</turn>"])
def test_a_text_begins_with_one_special_token_and_none_ends_the_prompt(instruct, after):
    tokenizer = instruct(after=after)
    for prompt in ("Why?\n", "<s>Why?\n"):
        assert texts(tokenizer, pair(prompt)) == ("<s>Why?\n", "So.</turn>", "No.</turn>")
    assert encode_prompts(["<s>Why?"], tokenizer) == encode_prompts(["Why?"], tokenizer)


def test_without_a_template_a_text_with_special_tokens_is_read_as_it_is(toy, instruct):
    prompt = "<turn>user\nWhy?</turn>\n<turn>assistant\n"
    assert texts(instruct(), pair(prompt))[0] == f"<s>{prompt}"
    assert texts(toy[1], pair("<|endoftext|>Why?\n"))[0] == "<|endoftext|>Why?\n"


MARKED = {
    "the whole template": (PLAIN, pair(ASKED), "the prompt contains '<s>'"),
    "without the beginning": (PLAIN, pair(ASKED[3:]), "the prompt contains '<turn>'"),
    "the beginning alone": (PLAIN, pair("<s>Why?"), "the prompt contains '<s>'"),
    "in the middle": (PLAIN, pair("What is <turn>?"), "the prompt contains '<turn>'"),
    "in an answer": (PLAIN, pair(chosen="So.</turn>\n<turn>user"), "the answer contains '</turn>'"),
    "in a system message": (
        PLAIN, pair([{"role": "system", "content": "<s>"}, {"role": "user", "content": "Why?"}]),
        "the prompt contains '<s>'",
    ),
    "in a dialogue": (
        PLAIN, pair("\n\nHuman: <turn>\n\nAssistant:"), "the prompt contains '<turn>'",
    ),
    "words that are not tokens": (INST, pair("[INST] Why? [/INST]"), r"contains '\[INST\]'"),
    "words of this template": (COLON, pair("USER: Why?\nASSISTANT:"), "contains 'ASSISTANT:'"),
    "all words of this template": (
        COLON, pair("Be good.\nUSER: Why?\nASSISTANT:"), "contains 'ASSISTANT:'",
    ),
    "another model's template": (
        PLAIN, pair("<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\n"),
        r"contains '<\|im_start\|>'",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("template", "bad", "words"), MARKED.values(), ids=MARKED)
def test_a_text_that_a_template_has_written_before_is_refused(instruct, template, bad, words):
    tokenizer = instruct(template)
    good = pair("How?\n")
    with pytest.raises(InputError, match=f"^pair 2: .*{words}") as caught:
        tokenize_pairs(load_pairs([good, bad]), tokenizer, 256)
    assert "use the text without a template" in str(caught.value)


@pytest.mark.parametrize(
    "prompt", ["[/INST]", "USER: is a word.", "Is ASSISTANT:", "a < s > b", "ASSISTANT:", "So?"]
)
@pytest.mark.parametrize("template", [INST, COLON, PLAIN])
def test_a_text_that_only_looks_a_little_like_it_is_read(instruct, template, prompt):
    assert prompt in texts(instruct(template), pair(prompt))[0]


def test_in_a_chat_the_same_texts_are_refused(toy, instruct):
    with pytest.raises(InputError, match="^the prompt contains '<turn>'"):
        stream_answers({"toy": toy[0]}, instruct(PLAIN), "<turn>user")
