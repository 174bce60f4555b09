"""Messages in every form in which they are stored, and what is refused in them."""

import json

import numpy
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.screening import loading_note
from tests.pairs.shared import say, write_csv, write_parquet

pytestmark = pytest.mark.usefixtures("quiet")

CHOSEN, REJECTED = say("A fish?", "A trout."), say("A fish?", "A cow.")
PAIR = {
    "prompt": "A fish?\n", "chosen": "A trout.", "rejected": "A cow.", "messages": say("A fish?"),
}  # fmt: skip


def sharegpt(talk):
    names = {"user": "human", "assistant": "gpt"}
    return [{"from": names[m["role"]], "value": m["content"]} for m in talk]


def columns(talk):
    return {key: [message[key] for message in talk] for key in ("role", "content")}


def parts(talk):
    return [{**m, "content": [{"type": "text", "text": m["content"], "image": None}]} for m in talk]


FORMS = {
    "from and value": sharegpt,
    "an object of lists": columns,
    "text parts": parts,
    "a list of texts": lambda talk: [{**m, "content": [m["content"]]} for m in talk],
    "roles in capitals": lambda talk: [{**m, "role": m["role"].title()} for m in talk],
    "keys that are null": lambda talk: [{**m, "tool_calls": None, "thinking": ""} for m in talk],
    "a tuple": tuple,
    "an array": lambda talk: numpy.array(talk, dtype=object),
    "JSON": json.dumps,
    "Python": str,
    "an array's text": lambda talk: str(numpy.array(talk)).replace("} {", "}\n {"),
}


@pytest.mark.parametrize("store", FORMS.values(), ids=FORMS)
def test_messages_are_read_however_they_are_stored(store):
    loaded = load_pairs([{"chosen": store(CHOSEN), "rejected": store(REJECTED)}])
    assert list(loaded) == [PAIR]
    assert list(
        load_pairs([{"prompt": None, "chosen": store(CHOSEN), "rejected": store(REJECTED)}])
    )
    as_text = isinstance(store(CHOSEN), str)
    assert (
        "messages stored as text are decoded" in str(loading_note(loaded.report, None))
    ) == as_text


@pytest.mark.parametrize("store", [list, columns, sharegpt])
def test_answers_may_be_single_messages_and_the_prompt_apart(store):
    prompt = store(say("A fish?"))
    sides = {"chosen": {"role": "assistant", "content": "A trout."}, "rejected": CHOSEN[:0]}
    sides["rejected"] = {"from": "gpt", "value": "A cow."}
    assert list(load_pairs([{"prompt": prompt, **sides}])) == [PAIR]


def test_lists_of_parquet_and_cells_of_csv_are_decoded(tmp_path):
    write_parquet(
        tmp_path / "a.parquet", [{"chosen": columns(CHOSEN), "rejected": columns(REJECTED)}]
    )
    write_csv(tmp_path / "a.csv", [{"chosen": str(CHOSEN), "rejected": json.dumps(REJECTED)}])
    assert (
        list(load_pairs(tmp_path / "a.parquet")) == list(load_pairs(tmp_path / "a.csv")) == [PAIR]
    )


@pytest.mark.parametrize(
    ("chosen", "rejected"),
    [
        ('{"role": "admin", "content": "x"}', '{"role": "guest"}'),
        ('[{"value": 3}]', '[{"value": 4}]'),
        (json.dumps(CHOSEN), "I cannot do that."),
        ("[1, 2]", "[3]"),
        ('{"role": "assistant"', "{"),
    ],
)
def test_an_answer_that_is_json_itself_stays_text(chosen, rejected):
    row = {"prompt": "Answer in JSON.\n", "chosen": chosen, "rejected": rejected}
    assert list(load_pairs([row])) == [row]


def test_messages_in_text_that_cannot_be_decoded_are_refused():
    cut = json.dumps(CHOSEN)[:-5]
    with pytest.raises(InputError, match="pair 1: chosen is a list of messages stored as text"):
        load_pairs([{"prompt": "A fish?", "chosen": cut, "rejected": cut.replace("trout", "cow")}])


def with_key(**more):
    return [CHOSEN[0], {**CHOSEN[1], **more}]


BAD = {
    "reasoning_content": (with_key(reasoning_content="Hm."), "message 2 of chosen has 'reaso"),
    "thinking": (with_key(thinking="Hm."), "write the reasoning into the content, or remove it"),
    "tool calls": (with_key(tool_calls=[{"type": "function"}]), "tool calls are not read"),
    "tool calls and no content": (
        [CHOSEN[0], {"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}],
        "message 2 of chosen has 'tool_calls'; tool calls are not read",
    ),
    "a tool's answer": (
        [CHOSEN[0], {"role": "tool", "content": "21"}, CHOSEN[1]], "message 2 .* role 'tool'; tool",
    ),
    "pictures": (with_key(images=["x.png"]), "message 2 of chosen has 'images'; images, video"),
    "a part with a picture": (
        [{**CHOSEN[0], "content": [{"type": "image_url", "image_url": "x"}]}, CHOSEN[1]],
        "message 1 of chosen has a part of the type 'image_url'; images, video and audio are not",
    ),
    "another role": ([{**CHOSEN[0], "role": "narrator"}, CHOSEN[1]], "the role 'narrator'; use"),
    "no role": ([{"content": "A fish?"}, CHOSEN[1]], "message 1 of chosen has no role .* 'cont"),
    "no content": ([{"role": "user", "text": "A"}, CHOSEN[1]], "no text as its.* 'role, te"),
    "content of null": ([CHOSEN[0], {**CHOSEN[1], "content": None}], "message 2 .* has no text"),
    "not an object": ([CHOSEN[0], "A trout."], "message 2 .* is not an object but 'A"),
    "a late system message": (
        [CHOSEN[0], {"role": "system", "content": "Be brief."}, CHOSEN[1]], "system message comes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("talk", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_in_a_message_is_named(talk, words):
    rejected = [*talk[:-1], {"role": "assistant", "content": "A cow."}]
    with pytest.raises(InputError, match=f"pair 1: .*{words}") as caught:
        load_pairs([{"chosen": talk, "rejected": rejected}])
    assert "\n" not in str(caught.value)


def test_other_keys_of_messages_are_named_as_not_used():
    talk = with_key(weight=1)
    loaded = load_pairs([{"chosen": talk, "rejected": REJECTED}])
    assert list(loaded) == [PAIR]
    assert loading_note(loaded.report, None) == "the given data: not used: weight of messages."
