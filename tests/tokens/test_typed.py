"""A question that is too long leaves room for the answer and keeps what is around it."""

import pytest

from adadpo_mini.tokens.templates import AS_IS, HUMAN, LINE, encode_prompts
from adadpo_mini.tokens.typed import typed_ids
from tests.tokens.test_rendering import ONLY_PARTS, OPENS, PLAIN

LONG = f"First, {'a long 🍲🍲🍲 middle, ' * 100}and 🍲 the last."
SYSTEM = "{{ bos_token }}<turn>system\nBe kind.</turn>\n" + PLAIN.removeprefix("{{ bos_token }}")


@pytest.mark.parametrize("form", [LINE, HUMAN, AS_IS])
@pytest.mark.parametrize("template", [None, SYSTEM])
def test_a_question_that_fits_is_not_changed(instruct, template, form):
    tokenizer = instruct(template)
    whole = encode_prompts([form.format("Why?")], tokenizer)[0]
    assert typed_ids("Why?", form, tokenizer, len(whole)) == whole


@pytest.mark.parametrize("room", [50, 51, 77, 120])
@pytest.mark.parametrize("form", [LINE, HUMAN])
@pytest.mark.parametrize("template", [SYSTEM, PLAIN, OPENS, ONLY_PARTS])
def test_with_a_template_the_middle_of_the_question_is_cut_out(instruct, template, form, room):
    tokenizer = instruct(template)
    ids = typed_ids(LONG, form, tokenizer, room)
    text = tokenizer.decode(ids)
    head, tail = tokenizer.decode(encode_prompts(["Xy"], tokenizer)[0]).split("Xy")
    assert text.startswith(f"{head}First, a") and text.endswith(f"the last.{tail}")
    assert room - 20 <= len(ids) <= room and "…" in text and "\ufffd" not in text


@pytest.mark.parametrize(("form", "head"), [(LINE, ""), (HUMAN, "\n\nHuman:"), (AS_IS, "")])
def test_without_a_template_the_beginning_of_the_question_is_cut_off(toy, instruct, form, head):
    for tokenizer, first in ((toy[1], ""), (instruct(), "<s>")):
        ids = typed_ids(LONG, form, tokenizer, 30)
        text = tokenizer.decode(ids)
        assert text.startswith(first + head) and "First" not in text
        assert text.endswith("the last." + form.partition("{}")[2]) and len(ids) == 30


@pytest.mark.parametrize("template", [None, SYSTEM])
@pytest.mark.parametrize("room", [1, 2, 9])
def test_if_there_is_hardly_any_room_the_end_is_kept(instruct, template, room):
    tokenizer = instruct(template)
    ids = typed_ids(LONG, HUMAN, tokenizer, room)
    assert len(ids) == room and ids == encode_prompts([HUMAN.format(LONG)], tokenizer)[0][-room:]
