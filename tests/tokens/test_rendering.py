"""Training reads what the chat template writes, and a pair that it does not write is refused."""

import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.tokens.batch import tokenize_pairs
from adadpo_mini.tokens.fitting import fit_pairs, fit_splits
from adadpo_mini.tokens.rendering import ChatTemplate
from adadpo_mini.tokens.templates import encode_prompts, end_token

TURN = "<turn>{{ m.role }}\n{{ m.content }}</turn>\n"
PLAIN = (
    "{{ bos_token }}{% for m in messages %}" + TURN + "{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant\n{% endif %}"
)
OPENS = PLAIN.replace("<turn>assistant\n{%", "<turn>assistant\n<think>\n{%")
STRIPS = OPENS.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
INSERTS = PLAIN.replace(
    "{{ m.content }}",
    "{% if m.role == 'assistant' and '<think>' not in m.content %}"
    "<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}",
)
PARTS = PLAIN.replace(
    "{{ m.content }}", "{% for p in m.content if p.type == 'text' %}{{ p.text }}{% endfor %}"
)
ONLY_PARTS = (
    "{% if messages[0].content is string %}{{ raise_exception('give parts') }}{% endif %}" + PARTS
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    + PLAIN
)
WITHOUT_SYSTEM = PLAIN.replace("in messages %}", "in messages if m.role != 'system' %}")
WITHOUT_QUESTION = PLAIN.replace("m.content", "m.text")
LAST_ALONE = PLAIN.replace("in messages %}", "in messages[-1:] %}")

USER, SYSTEM = {"role": "user", "content": "Why?"}, {"role": "system", "content": "Be kind."}
ASKED = "<s><turn>user\nWhy?</turn>\n<turn>assistant\n"


def row(chosen="Because.", rejected="No idea.", prompt=(USER,)):
    chosen, rejected = ([{"role": "assistant", "content": text}] for text in (chosen, rejected))
    return {"prompt": list(prompt), "chosen": chosen, "rejected": rejected}


def texts(tokenizer, *rows):
    """(prompt, chosen, rejected) of the first row as the model reads them."""
    ids = tokenize_pairs(load_pairs(list(rows)), tokenizer, 256)[0]
    return tuple(tokenizer.decode(part) for part in (ids.prompt, ids.chosen, ids.rejected))


EMPTY = "<think>\n\n</think>\n\n"
THOUGHT = ("<think>\nHm.\n</think>\n\nBecause.", "<think>\nEh.\n</think>\n\nNo idea.")
READ = {
    "as they are": (PLAIN, row(), (ASKED, "Because.</turn>", "No idea.</turn>")),
    "reasoning as text": (PLAIN, row(*THOUGHT), (ASKED, *(f"{t}</turn>" for t in THOUGHT))),
    "the question opens the reasoning, the answer has none": (
        OPENS, row(), (ASKED, "Because.</turn>", "No idea.</turn>"),
    ),
    "the question opens the reasoning of both answers": (
        OPENS, row(*THOUGHT), (
            f"{ASKED}<think>\n", *(f"{t.removeprefix('<think>')[1:]}</turn>" for t in THOUGHT),
        ),
    ),
    "the question opens the reasoning of one answer": (
        OPENS, row(THOUGHT[0]), (ASKED, f"{THOUGHT[0]}</turn>", "No idea.</turn>"),
    ),
    "an answer that begins like a tag": (
        OPENS, row("<b>So</b>", "<i>No</i>"), (ASKED, "<b>So</b></turn>", "<i>No</i></turn>"),
    ),
    "the reasoning is left out": (
        STRIPS, row(*THOUGHT), (ASKED, "\n\nBecause.</turn>", "\n\nNo idea.</turn>"),
    ),
    "empty reasoning is put in": (
        INSERTS, row(), (
            ASKED, f"{EMPTY}Because.</turn>", f"{EMPTY}No idea.</turn>",
        ),
    ),
    "text that is to be in parts": (PARTS, row(), (ASKED, "Because.</turn>", "No idea.</turn>")),
    "a template that takes parts alone": (
        ONLY_PARTS, row(), (ASKED, "Because.</turn>", "No idea.</turn>"),
    ),
    "two end tokens at the end": (
        PLAIN.replace("{% if add", "{% if not add_generation_prompt %}</turn>{% endif %}{% if add"),
        row(), (ASKED, "Because.</turn>", "No idea.</turn>"),
    ),
    "something between answer and end token": (
        PLAIN.replace("{{ m.content }}", "«{{ m.content }}»"), row(),
        (ASKED.replace("Why?", "«Why?»"), "«Because.»</turn>", "«No idea.»</turn>"),
    ),
    "white space is trimmed": (
        PLAIN.replace("m.content", "m.content | trim"), row(" Because. "),
        (ASKED, "Because.</turn>", "No idea.</turn>"),
    ),
    "line breaks are replaced": (
        PLAIN.replace("m.content", "m.content.replace('\n', ' ')"), row("So.\nYes."),
        (ASKED, "So. Yes.</turn>", "No idea.</turn>"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("template", "pair", "read"), READ.values(), ids=READ)
def test_a_pair_is_read_as_the_template_writes_it(instruct, template, pair, read):
    assert texts(instruct(template), pair) == read


@pytest.mark.parametrize("template", [PLAIN, OPENS, STRIPS, INSERTS, PARTS, ONLY_PARTS])
def test_what_is_asked_in_a_chat_is_what_was_trained_on(instruct, template):
    tokenizer = instruct(template)
    for talk in ([USER], [SYSTEM, USER], [USER, {"role": "assistant", "content": "So."}, USER]):
        pair = row(prompt=talk)
        trained = tokenize_pairs(load_pairs([pair]), tokenizer, 256)[0].prompt
        assert encode_prompts([""], tokenizer, [talk]) == [trained]


@pytest.mark.parametrize("template", [PLAIN, OPENS, STRIPS, INSERTS])
def test_the_prompt_is_the_one_of_trl(instruct, template):
    """TRL: the tokens that the prompt shares with both conversations."""
    data_utils = pytest.importorskip("trl.data_utils")
    tokenizer = instruct(template)
    for pair in (row(), row(*THOUGHT), row(prompt=[SYSTEM, USER])):
        ours = tokenize_pairs(load_pairs([pair]), tokenizer, 256)[0]
        prompt, chosen, rejected = (
            tokenizer.apply_chat_template(
                pair["prompt"] + more, tokenize=True, add_generation_prompt=not more
            )["input_ids"]
            for more in ([], pair["chosen"], pair["rejected"])
        )
        ends = [data_utils.common_prefix_length(prompt, side) for side in (chosen, rejected)]
        assert ours.prompt == prompt[: min(ends)]
        for side, ids in ((chosen, ours.chosen), (rejected, ours.rejected)):
            assert side[min(ends) :][: len(ids)] == ids


def test_the_end_token_is_found_whatever_form_a_message_must_have(instruct):
    for template in (PLAIN, OPENS, PARTS, ONLY_PARTS, NO_SYSTEM):
        tokenizer = instruct(template)
        tokenizer.eos_token = "<|endoftext|>"
        assert end_token(tokenizer) == "</turn>"
    tokenizer.chat_template = WITHOUT_QUESTION
    assert end_token(tokenizer) == "<|endoftext|>", "and not the first token of a turn"


def test_a_template_that_takes_text_gets_text_even_if_it_could_take_parts(instruct):
    both = "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}"
    assert not ChatTemplate(instruct(PLAIN.replace("{{ m.content }}", both))).in_parts
    assert ChatTemplate(instruct(PARTS)).in_parts


REFUSED = {
    "a system message": (NO_SYSTEM, row(prompt=[SYSTEM, USER]), "rejects the prompt 'Why.*no sys"),
    "a system message in silence": (
        WITHOUT_SYSTEM, row(prompt=[SYSTEM, USER]), "leaves out the system message, 'Be kind",
    ),
    "the question": (WITHOUT_QUESTION, row(), "leaves out the question, 'Why"),
    "all but the last": (LAST_ALONE, row(), "leaves out the question"),
    "the whole answer": (
        PLAIN.replace("m.content", "m.content if 'Bec' not in m.content else ''"), row(),
        "leaves out a part of the answer, 'Because",
    ),
    "the end of an answer": (
        PLAIN.replace("m.content", "m.content[:9]"), row("Because it is so."),
        "leaves out a part of the answer",
    ),
    "all that differs": (
        STRIPS, row("<think>a</think>So.", "<think>b</think>So."), "as the same tokens",
    ),
    "all but the reasoning": (STRIPS, row("<think>So.</think>"), "leaves out a part of the answer"),
}  # fmt: skip


@pytest.mark.parametrize(("template", "bad", "words"), REFUSED.values(), ids=REFUSED)
def test_a_pair_that_the_template_does_not_write_is_named_or_dropped(
    instruct, template, bad, words
):
    from datasets import Dataset

    tokenizer = instruct(template)
    good = row("Sure.", prompt=[{"role": "user", "content": "How?"}])
    mine = load_pairs([good, bad])
    with pytest.raises(InputError, match=f"^pair 2: .*{words}") as caught:
        fit_pairs(mine[1:] if "question" in words else mine, tokenizer, 256)
    assert "\n" not in str(caught.value)
    others = load_pairs(Dataset.from_list([bad, good]))
    if "question" in words:  # of every pair
        with pytest.raises(InputError, match=f"none of its 2 pairs.*row 1: .*{words}"):
            fit_pairs(others, tokenizer, 256)
        return
    for _ in range(2):  # and again from the cache
        kept, tokens = fit_pairs(others, tokenizer, 256)
        assert len(kept) == len(tokens) == 1 and kept.where[0].endswith("row 2")
        assert kept.report.kept == 1 and "(first: row 1)" in kept.report.text


def test_that_reasoning_is_left_out_is_said_and_counted_in_both_splits_once(instruct):
    tokenizer = instruct(STRIPS)
    rows = [row(*THOUGHT), row(), row(THOUGHT[0])]
    for n, pair in enumerate(rows):
        pair["prompt"] = [{"role": "user", "content": f"Why {n}?"}]
    pairs = load_pairs(rows)
    for _ in range(2):
        said = fit_pairs(pairs, tokenizer, 256)[0].report.remarks.text("here")
        assert "leaves the reasoning out of an answer" in said and "(2 rows)" in said
    (train, _), (held_out, _) = fit_splits(pairs[:2], pairs[2:], tokenizer, 256)
    assert train.report == held_out.report and "(2 rows)" in train.report.remarks.text("here")
    nothing = fit_pairs(pairs[1:2], tokenizer, 256)[0].report.remarks.text("here")
    assert "reasoning" not in nothing


def others_pairs(*refused):
    """Six pairs of somebody else's; those with these numbers have a system message."""
    from datasets import Dataset

    def talk(n):
        asked = {"role": "user", "content": f"Why {n}?"}
        return [SYSTEM, asked] if n in refused else [asked]

    return load_pairs(Dataset.from_list([row(f"So {n}.", prompt=talk(n)) for n in range(6)]))


@pytest.mark.parametrize("refused", [(4, 5), (0, 1, 2, 3)], ids=["held out", "training"])
def test_if_no_pair_of_one_split_can_be_used_the_others_are_split_anew(instruct, refused):
    tokenizer, pairs = instruct(NO_SYSTEM), others_pairs(*refused)
    (train, ids), (held_out, held_ids) = fit_splits(pairs[:4], pairs[4:], tokenizer, 256)
    used = {*train.where, *held_out.where}
    assert used == {pairs.where[n] for n in range(6) if n not in refused}
    assert not {*train.where} & {*held_out.where} and len(train) and len(held_out)
    assert list(ids) == tokenize_pairs(train, tokenizer, 256)
    assert list(held_ids) == tokenize_pairs(held_out, tokenizer, 256)
    assert train.report == held_out.report and train.report.kept == len(used)
    assert f"dropped {len(refused)} that the chat template rejects" in train.report.text


def test_if_one_pair_is_left_it_is_on_both_sides_and_if_none_is_left_that_is_an_error(instruct):
    tokenizer = instruct(NO_SYSTEM)
    pairs = others_pairs(1, 2, 3, 4, 5)
    train, held_out = fit_splits(pairs[:4], pairs[4:], tokenizer, 256)
    assert train[0] is held_out[0] and train[0].where == (pairs.where[0],)
    none = others_pairs(*range(6))
    with pytest.raises(InputError, match="none of its .* pairs can be used.*no system role"):
        fit_splits(none[:4], none[4:], tokenizer, 256)


def test_splits_of_their_own_keep_their_own_reports(instruct):
    tokenizer = instruct(NO_SYSTEM)
    train, held_out = others_pairs(1), others_pairs(2, 3)
    fitted = fit_splits(train, held_out, tokenizer, 256)
    assert [part.report.kept for part, _ in fitted] == [5, 4]
