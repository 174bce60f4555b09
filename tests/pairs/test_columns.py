"""Which columns are the prompt, which are refused, and which are named as not used."""

import datasets
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs.screening import loading_note
from tests.pairs.shared import ROWS, say, ultrafeedback_row, write_parquet

pytestmark = pytest.mark.usefixtures("quiet")

ANSWERS = {"chosen": "A trout.", "rejected": "A cow."}
SYSTEM = {"role": "system", "content": "Be brief."}


def read(**columns):
    """The pair in a row with these columns, and the note about them."""
    loaded = load_pairs([{**ANSWERS, **columns}])
    assert list(load_pairs(list(loaded))) == list(loaded), "a pair is a row, too"
    return loaded[0], loading_note(loaded.report, None)


def refused(**columns):
    with pytest.raises(InputError, match="pair 1: ") as caught:
        load_pairs([{**ANSWERS, **columns}])
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("columns", "prompt", "named"),
    [
        ({"instruction": "Name a fish.", "input": ""}, "Name a fish.\n", "instruction and input"),
        ({"instruction": "Name one.", "input": "Fish"}, "Name one.\nFish\n", "instruction and inp"),
        ({"instruction": "Name a fish.", "input": None}, "Name a fish.\n", "instruction and input"),
        ({"question": "Which fish?"}, "Which fish?\n", "question"),
        ({"query": "Which fish?"}, "Which fish?\n", "query"),
        ({"input": "Which fish?"}, "Which fish?\n", "input"),
        ({"prompt": None, "question": "Which fish?"}, "Which fish?\n", "question"),
        ({"prompt": float("nan"), "question": "Which fish?"}, "Which fish?\n", "question"),
        ({"prompt": "", "instruction": "Which?", "input": "Fish"}, "Which?\nFish\n", "instruction"),
    ],
)
def test_a_question_in_another_column_is_the_prompt_and_the_note_says_so(columns, prompt, named):
    pair, note = read(**columns)
    assert pair == {"prompt": prompt, **ANSWERS}
    assert f"the prompt is read from {named}" in note


def test_a_system_message_in_a_column_comes_first():
    pair, note = read(system="Be brief.", prompt="Name a fish.")
    assert pair["messages"] == [SYSTEM, *say("Name a fish.")]
    assert pair["prompt"] == "Be brief.\nName a fish."
    assert "the prompt is read from system and prompt" in note
    for nothing in ("", None, float("nan")):
        assert read(system=nothing, prompt="Name a fish.")[0] == {
            "prompt": "Name a fish.", **ANSWERS,
        }  # fmt: skip


def test_a_system_message_that_the_conversation_has_already_is_taken_once():
    pair, _ = read(system="Be brief.", prompt=[SYSTEM, *say("Name a fish.")])
    assert pair["messages"] == [SYSTEM, *say("Name a fish.")]
    words = refused(system="Be kind.", prompt=[SYSTEM, *say("Name a fish.")])
    assert "two different system messages" in words


def test_a_system_message_before_a_dialogue_of_hh_is_kept():
    head = "\n\nHuman: Fish?\n\nAssistant:"
    pair, _ = read(system="Be brief.", chosen=f"{head} Trout.", rejected=f"{head} Cow.")
    assert pair["messages"] == [SYSTEM, *say("Fish?")]
    assert pair["prompt"] == f"Be brief.{head}" and pair["chosen"] == " Trout."


@pytest.mark.parametrize("history", [[["Hi.", "Hello."]], say("Hi.", "Hello.")])
def test_earlier_turns_in_a_column_come_before_the_question(history):
    pair, note = read(system="Be brief.", instruction="A fish?", input="", history=history)
    assert pair["messages"] == [SYSTEM, *say("Hi.", "Hello.", "A fish?")]
    assert "system, history, instruction and input" in note
    assert "history is neither" in refused(prompt="A fish?", history="Hi. Hello.")
    assert read(prompt="A fish?", history=[])[0]["prompt"] == "A fish?"


def test_messages_are_the_prompt_and_are_never_split():
    talk = [SYSTEM, *say("Name a fish.")]
    sides = {name: say("", text)[1:] for name, text in ANSWERS.items()}
    pair, note = read(messages=talk, **sides)
    assert pair == {"prompt": "Be brief.\nName a fish.\n", **ANSWERS, "messages": talk}
    assert "the prompt is read from messages" in note
    assert read(messages=talk)[0] == pair, "with answers as text"
    assert read(conversations=talk)[0] == pair, "under another name"


def test_messages_that_end_with_an_answer_of_the_pair_are_the_prompt_without_it():
    assert read(messages=say("A fish?", "A trout."))[0]["messages"] == say("A fish?")
    assert "ends with an assistant message" in refused(messages=say("A fish?", "A pike."))
    assert "ends with an assistant message" in refused(prompt=say("A fish?", "It is"))


def test_messages_that_say_more_than_the_prompt_are_taken():
    pair, note = read(prompt="Name a fish.", messages=[SYSTEM, *say("Name a fish.")])
    assert pair["messages"] == [SYSTEM, *say("Name a fish.")]
    assert "not used: prompt" not in note


@pytest.mark.parametrize(
    "columns",
    [
        {"prompt": "A fish?", "question": "A tree?"},
        {"prompt": "Translate.", "input": "Good morning"},
        {"prompt": "A fish?", "messages": say("A tree?")},
        {"prompt": "A fish?", "chosen": say("A tree?", "Elm."), "rejected": say("A tree?", "Cow.")},
        {"prompt": say("Fish?"), "chosen": say("A tree?", "Elm."), "rejected": say("A tree?", "x")},
        {"prompt": "Zebra", "chosen": "\n\nHuman: A\n\nAssistant: b",
         "rejected": "\n\nHuman: A\n\nAssistant: c"},
    ],
)  # fmt: skip
def test_two_different_prompts_are_refused(columns):
    assert "contain different prompts" in refused(**columns)


def test_a_question_that_is_part_of_the_prompt_is_not_used():
    pair, note = read(prompt="### Question:\nA fish?\n### Answer:\n", question="A fish?")
    assert pair["prompt"] == "### Question:\nA fish?\n### Answer:\n" and "not used: quest" in note


@pytest.mark.parametrize("name", ["images", "image", "video", "audio", "prompt_image"])
def test_pictures_and_the_like_are_refused_and_nothing_in_their_column_is_nothing(name):
    assert f"the field '{name}' is not empty" in refused(prompt="What is it?", **{name: ["x.png"]})
    for nothing in (None, [], "", "[]"):
        pair, note = read(prompt="What is it?", **{name: nothing})
        assert pair["prompt"] == "What is it?" and note is None


def test_a_placeholder_for_a_picture_is_refused_and_html_is_not():
    assert "placeholder <image>" in refused(prompt="<image>\nWhat is it?")
    assert "placeholder <image>" in refused(prompt="What is it? <image>")
    html = "What is wrong?\n<video>\n</video>"
    assert read(prompt=html)[0]["prompt"] == html
    assert read(prompt="Is List<image> a type?")[0]["prompt"] == "Is List<image> a type?"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("tools", [{"type": "function"}], "tool calls are not read"),
        ("tools", '[{"type": "function"}]', "tool calls are not read"),
        ("context", "Fish live in water.", "write it into the prompt"),
        ("documents", [{"text": "Fish live in water."}], "write it into the prompt"),
    ],
)
def test_what_the_answers_may_be_about_is_refused_unless_it_is_empty(name, value, words):
    assert words in refused(prompt="A fish?", **{name: value})
    assert read(prompt="A fish?", **{name: None})[1] is None
    assert read(prompt="A fish?", **{name: "[]"})[1] is None


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "completion": "b", "label": True}, "form of KTO"),
        ({"prompt": "a", "responses": ["b", "c"], "scores": [1, 2]}, "the better of 'responses'"),
        ({"prompt": "a", "chosen_response": "b", "rejected_response": "c"},
         "rename 'chosen_response' to 'chosen'"),
        ({"prompt": "a", "chosen": "b", "reject": "c"}, "rename 'reject' to 'rejected'"),
        ({"prompt": "a", "winner": "b", "loser": "c"}, "rename 'winner' to 'chosen'"),
        ({"prompt": "a", "x": "b", "y": "c"}, "fields are 'prompt, x, y'; rename the one with"),
    ],
)  # fmt: skip
def test_rows_of_another_kind_are_told_what_to_do(row, words, tmp_path):
    with pytest.raises(InputError, match=words):
        load_pairs([row])
    write_parquet(tmp_path / "a.parquet", [row])
    with pytest.raises(
        InputError, match=words.replace("fields are 'prompt, x, y'", "prompt, x, y")
    ):
        load_pairs(tmp_path / "a.parquet")


def test_columns_that_are_not_used_are_named_once_in_every_form(written, held):
    path = written([{"id": str(n), **row, "score_chosen": n} for n, row in enumerate(ROWS)])
    report = load_pairs(path, **held).report
    note = loading_note(report, report)
    assert note == f"{path}: not used: id, score_chosen."


def test_the_columns_of_ultrafeedback_are_named(tmp_path):
    report = load_pairs([ultrafeedback_row(n) for n in range(3)]).report
    assert loading_note(report, None) == (
        "the given data: not used: messages, prompt_id, score_chosen, score_rejected."
    )


def test_the_splits_of_a_data_set_have_one_note_on_their_columns(tmp_path):
    sets = {
        "train": datasets.Dataset.from_list([{"id": 1, **row} for row in ROWS[:6]]),
        "test": datasets.Dataset.from_list([{"id": 1, "by": "x", **row} for row in ROWS[6:]]),
    }
    train, test = (load_pairs(datasets.DatasetDict(sets), name).report for name in sets)
    assert loading_note(train, test) == "the given data: not used: id, by."


def test_columns_passed_as_a_dict_of_lists_are_read_the_same():
    rows = load_pairs({"question": ["A?", "B?"], "chosen": ["a", "b"], "rejected": ["c", "d"],
                       "source": "x"})  # fmt: skip
    assert [pair["prompt"] for pair in rows] == ["A?\n", "B?\n"]
    assert "not used: source" in loading_note(rows.report, None)


def test_rows_with_a_picture_are_dropped_from_a_data_set_and_no_picture_is_opened(held, tmp_path):
    picture = {"bytes": b"not a picture", "path": "x.png"}
    features = datasets.Features(
        {name: datasets.Value("string") for name in ROWS[0]}
        | {"jpg": datasets.Image(), "images": datasets.List(datasets.Image())}
    )
    rows = [{**row, "jpg": None, "images": []} for row in ROWS[:4]]
    rows[1]["jpg"], rows[2]["images"] = picture, [picture]
    table = datasets.Dataset.from_list(rows, features=features)
    for given in (table, table.to_iterable_dataset()):
        loaded = load_pairs(given, **held)
        assert list(loaded) == [ROWS[0], ROWS[3]] == [loaded[0], loaded[1]]
        assert loaded.report.dropped == {"with pictures": 2}
    write_parquet(path := tmp_path / "a.parquet", rows[2:3])
    with pytest.raises(InputError, match="row 1: the field 'images' is not empty"):
        load_pairs(path)
