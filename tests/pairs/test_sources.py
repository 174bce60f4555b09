"""Data sets as others make them: files of every form, saved folders, the hub; what is dropped."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from adadpo_mini import InputError, load_pairs
from adadpo_mini.pairs import load as pairs
from adadpo_mini.pairs.load import load_splits, split_pairs
from adadpo_mini.pairs.screening import TOO_LONG, loading_note
from adadpo_mini.toyworld.sets import SETS

ROWS = [
    {"prompt": f"Why {n}?\n", "chosen": f"Because of {n};\n“it is”, so.", "rejected": f"No {n}."}
    for n in range(12)
]


def say(*contents):
    roles = ("user", "assistant")
    return [{"content": text, "role": roles[i % 2]} for i, text in enumerate(contents)]


def hh_row(n):
    """As in Anthropic's HH: two whole dialogues."""
    shared = f"\n\nHuman: Hi {n}.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    return {"chosen": f"{shared} Because.", "rejected": f"{shared} No."}


def ultrafeedback_row(n):
    """As in HuggingFaceH4/ultrafeedback_binarized: the prompt is text and in both sides, too."""
    return {
        "prompt": f"Why {n}?", "prompt_id": f"{n:x}",
        "chosen": say(f"Why {n}?", "Because."), "rejected": say(f"Why {n}?", "No."),
        "messages": say(f"Why {n}?", "Because."), "score_chosen": 8.5, "score_rejected": 5.0,
    }  # fmt: skip


def trl_row(n):
    """As in trl-lib/ultrafeedback_binarized: the prompt is the messages that both sides share."""
    row = ultrafeedback_row(n)
    return {name: row[name] for name in ("chosen", "rejected", "score_chosen", "score_rejected")}


def write_json(path, rows):
    path.write_text(json.dumps(rows, indent=1), encoding="utf-8")


def write_csv(path, rows, delimiter=","):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_parquet(path, rows):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def write_folder(path, rows):
    datasets.Dataset.from_list(rows).save_to_disk(path)


def write_lines(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))


WRITERS = {
    "pairs.jsonl": write_lines, "pairs.json": write_json, "pairs.csv": write_csv,
    "pairs.parquet": write_parquet, "folder": write_folder,
}  # fmt: skip


@pytest.fixture(params=WRITERS)
def written(request, tmp_path):
    """Writes rows as a file or folder of one form, and gives its path."""

    def write(rows, name=request.param):
        WRITERS[request.param](tmp_path / name, rows)
        return tmp_path / name

    write.name = request.param
    return write


@pytest.fixture(autouse=True)
def quiet(capfd):
    """The library prints nothing, whatever it is given."""
    datasets.disable_progress_bars()  # those of the tests' own writing
    yield
    datasets.enable_progress_bars()
    assert capfd.readouterr() == ("", "")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["in memory", "on the disk"])
def held(request, monkeypatch):
    """Loads pairs that are held in memory, or left on the disk as if they were too many."""
    if request.param == "on the disk":
        monkeypatch.setattr(pairs, "IN_MEMORY", 100)
    return request.param


def test_every_form_gives_the_same_pairs_and_ignores_other_columns(written, held):
    path = written([{"id": str(n), **row, "note": "x"} for n, row in enumerate(ROWS)])
    loaded = load_pairs(path)
    assert isinstance(loaded.rows, tuple) == (held == "in memory")
    assert list(loaded) == ROWS == [loaded[i] for i in range(12)]
    assert list(loaded[3:7]) == ROWS[3:7] and list(loaded.take([5, 2])) == [ROWS[5], ROWS[2]]
    assert list(loaded[3:][1:].take([1])) == [ROWS[5]], "a part of a part"
    unit = "line" if path.suffix == ".jsonl" else "row"
    assert loaded.where[4] == loaded[2:].where[2] == f"{path}, {unit} 5"
    assert list(loaded.take([11]).where) == [f"{path}, {unit} 12"]
    report = loaded.report
    assert (report.rows, report.kept, report.dropped, report.contradictory) == (12, 12, {}, 0)
    assert report.text == f"{path}: 12 of 12 rows kept."


def test_hh_rows_are_split_after_the_last_shared_assistant(written, held):
    loaded = load_pairs(written([hh_row(n) for n in range(3)]))
    prompt = "\n\nHuman: Hi 2.\n\nAssistant: Hello.\n\nHuman: Why?\n\nAssistant:"
    assert list(loaded)[2] == loaded[2] == {
        "prompt": prompt, "chosen": " Because.", "rejected": " No.",
        "messages": say("Hi 2.", "Hello.", "Why?"),
    }  # fmt: skip


@pytest.mark.parametrize("make", [ultrafeedback_row, trl_row])
def test_ultrafeedback_rows_of_both_shapes_keep_the_messages_of_the_prompt(written, held, make):
    if written.name == "pairs.csv":
        pytest.skip("a cell holds text only")
    loaded = load_pairs(written([make(n) for n in range(3)]))
    assert list(loaded)[1] == loaded[1] == {
        "prompt": "Why 1?\n", "chosen": "Because.", "rejected": "No.", "messages": say("Why 1?"),
    }  # fmt: skip


def test_a_text_prompt_before_answers_in_messages_is_the_users_message():
    row = {"prompt": "Why?", "chosen": say("", "So.")[1:], "rejected": say("", "No.")[1:]}
    [pair] = load_pairs([row])
    assert pair["messages"] == say("Why?") and pair["prompt"] == "Why?\n"
    assert (pair["chosen"], pair["rejected"]) == ("So.", "No.")


def test_a_text_prompt_that_ends_a_longer_conversation_does_not_shorten_it():
    talk = ("Hi.", "Hello.", "Why?")
    sides = {side: say(*talk, side) for side in ("chosen", "rejected")}
    [pair] = load_pairs([{"prompt": "Why?", **sides}])
    assert pair["messages"] == say(*talk) and pair["prompt"] == "Hi.\nHello.\nWhy?\n"


def test_messages_given_and_repeated_at_the_head_of_both_sides_are_taken_once():
    ask = say("Hi.", "Hello.", "Why?")
    answers = {side: [*ask, *say("", side)[1:]] for side in ("chosen", "rejected")}
    [pair] = load_pairs([{"prompt": ask, **answers}])
    assert pair == {
        "prompt": "Hi.\nHello.\nWhy?\n", "chosen": "chosen", "rejected": "rejected",
        "messages": ask,
    }  # fmt: skip


def test_loaded_pairs_may_be_given_as_rows_and_keep_their_messages():
    loaded = load_pairs([ultrafeedback_row(0), trl_row(1), hh_row(2)])
    assert list(load_pairs(list(loaded))) == list(loaded)
    [pair] = load_pairs([{**ROWS[0], "messages": say(ROWS[0]["prompt"], "Because.")}])
    assert pair == ROWS[0], "these messages are no prompt"


FAULTY = [
    ROWS[0],
    ROWS[1],
    ROWS[0],
    {**ROWS[2], "chosen": " "},
    {**ROWS[3], "rejected": ROWS[3]["chosen"]},
    {**ROWS[1], "chosen": ROWS[1]["rejected"], "rejected": ROWS[1]["chosen"]},
    {**ROWS[4], "rejected": ""},
    ROWS[0],
    ROWS[5],
]
KEPT = [FAULTY[i] for i in (0, 1, 5, 8)]


def test_what_others_made_loses_its_faulty_rows_and_the_report_says_which(written, held):
    path = written(FAULTY)
    if path.suffix == ".jsonl":
        with pytest.raises(InputError, match="line 4: chosen is empty"):
            load_pairs(path)
        return
    loaded = load_pairs(path)
    assert list(loaded) == KEPT
    assert [place.rpartition(" ")[2] for place in loaded.where] == ["1", "2", "6", "9"]
    report = loaded.report
    assert report.kept + sum(report.dropped.values()) == report.rows == 9
    assert report.text == (
        f"{path}: 4 of 9 rows kept; dropped 2 that repeat an earlier pair (first: row 3), "
        "2 with an empty side (first: row 4), 1 with chosen equal to rejected (first: row 5); "
        "1 contradicts an earlier pair (first: row 6) and is kept."
    )


def test_lines_of_ones_own_may_repeat_and_contradict_and_that_is_told(tmp_path):
    path = tmp_path / "mine.jsonl"
    write_lines(path, [ROWS[0], ROWS[1], ROWS[0], FAULTY[5]])
    loaded = load_pairs(path)
    assert list(loaded) == [ROWS[0], ROWS[1], FAULTY[5]]
    assert loaded.report.dropped == {"that repeat an earlier pair": 1}
    assert loaded.report.contradictory == 1 and "first: line 3" in loaded.report.text


@pytest.mark.parametrize("name", SETS)
def test_nothing_is_dropped_from_a_toy_set(name):
    for part in load_splits(name):
        assert part.report.kept == part.report.rows == len(part)


def test_texts_that_only_run_together_alike_are_no_repetition():
    rows = [
        {"prompt": "a", "chosen": "bc", "rejected": "d"},
        {"prompt": "ab", "chosen": "c", "rejected": "d"},
    ]
    assert list(load_pairs(rows)) == rows


def test_a_missing_cell_is_an_empty_side(tmp_path):
    path = tmp_path / "pairs.parquet"
    write_parquet(path, [ROWS[0], {**ROWS[1], "chosen": None}, {**ROWS[2], "prompt": None}])
    assert load_pairs(path).report.dropped == {"with an empty side": 2}


def test_a_data_set_without_a_usable_row_is_an_error_that_names_the_first(written):
    if written.name != "pairs.jsonl":
        with pytest.raises(InputError, match="none of its 2 rows .* row 1: rejected is empty"):
            load_pairs(written([{**row, "rejected": ""} for row in ROWS[:2]]))


def test_a_missing_column_is_told_with_those_there_are(written):
    path = written([{"prompt": "Why?", "good": "So.", "bad": "No."}])
    words = "good" if path.suffix in (".csv", ".parquet", "") else "row 1|line 1"
    with pytest.raises(InputError, match=f"'chosen'.*({words})|({words}).*'chosen'"):
        load_pairs(path)


def test_numbers_are_no_text(tmp_path):
    path = tmp_path / "pairs.parquet"
    write_parquet(path, [{"prompt": "a", "chosen": 1, "rejected": 2}])
    with pytest.raises(InputError, match="row 1: chosen is not text but int"):
        load_pairs(path)


BROKEN = {
    "no comma.json": ('[{"a": 1} {"a": 2}]', "row 1"),
    "cut short.json": ('[{"prompt": "a", "chosen": "b', "row 1: not valid JSON"),
    "no end.json": ('[\n{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "row 2: there is no"),
    "more.json": ('[{"prompt": "a", "chosen": "b", "rejected": "c"}] 3', "more after the end"),
    "number.json": ('[{"prompt": "a", "chosen": "b", "rejected": "c"}, 3]', "row 2: expected an"),
    "empty array.json": (" [ ]", "holds no pairs"),
    "too few.csv": ('prompt,chosen,rejected\n"a\nb",c,d\na,b\n', "row 2: has 2 cells .* has 3"),
    "too many.csv": ("prompt,chosen,rejected\na,b,c,d\n", "row 1: has 4 cells"),
    "open quote.csv": ('prompt,chosen,rejected\na,b,c\n"a,b,c\n', "row 2: not readable as CSV"),
    "empty.csv": ("", "no column 'chosen'"),
    "only a header.csv": ("prompt,chosen,rejected\n", "holds no pairs"),
    "text.parquet": ("prompt", "cannot be read"),
}


@pytest.mark.parametrize(("name", "text", "words"), [(n, *v) for n, v in BROKEN.items()])
def test_what_is_broken_is_named_by_file_row_and_fault(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words) as caught:
        load_pairs(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_other_encodings_are_told_wherever_in_the_file(tmp_path):
    for name, lead in (("a.csv", b"prompt,chosen,rejected\n"), ("b.json", b"[")):
        (tmp_path / name).write_bytes(lead + b'"Gr\xfc\xdfe"')
        with pytest.raises(InputError, match=f"{name}: not UTF-8"):
            load_pairs(tmp_path / name)


def test_a_csv_may_have_a_byte_order_mark_semicolons_tabs_or_no_prompt(tmp_path):
    path = tmp_path / "pairs.csv"
    write_csv(path, ROWS, delimiter=";")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(load_pairs(path)) == ROWS
    write_csv(tmp_path / "pairs.tsv", ROWS, delimiter="\t")
    assert list(load_pairs(tmp_path / "pairs.tsv")) == ROWS
    write_csv(path, [hh_row(n) for n in range(3)])
    assert [pair["chosen"] for pair in load_pairs(path)] == [" Because."] * 3


def test_words_that_stand_for_nothing_elsewhere_are_text_in_a_csv(tmp_path):
    row = {"prompt": "NA", "chosen": "null", "rejected": "1"}
    write_csv(tmp_path / "pairs.csv", [row])
    assert list(load_pairs(tmp_path / "pairs.csv")) == [row]


def test_a_json_file_may_hold_json_lines(tmp_path):
    write_lines(tmp_path / "pairs.json", ROWS)
    loaded = load_pairs(tmp_path / "pairs.json")
    assert list(loaded) == ROWS and loaded.where[1].endswith("line 2")


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_a_json_array_may_be_cut_anywhere_while_it_is_read(tmp_path, monkeypatch, size):
    monkeypatch.setattr("adadpo_mini.pairs.readers.READ_AT_ONCE", size)
    for indent in (None, 2):
        (tmp_path / "pairs.json").write_text(json.dumps(ROWS, indent=indent), encoding="utf-8")
        assert list(load_pairs(tmp_path / "pairs.json")) == ROWS


# Splits


def saved(path, **splits):
    sets = {name: datasets.Dataset.from_list(rows) for name, rows in splits.items()}
    datasets.DatasetDict(sets).save_to_disk(path)
    return path


def test_the_splits_of_a_saved_data_set_are_found_by_what_they_are_for(tmp_path):
    train, test = ROWS[:8], ROWS[8:]
    for n, names in enumerate(
        [("train", "test"), ("train_prefs", "test_prefs"), ("train", "validation")]
    ):
        other = {"train_sft": ROWS[:1], "test_gen": ROWS[:2]}
        path = saved(tmp_path / str(n), **dict(zip(names, (train, test), strict=True)), **other)
        assert list(load_pairs(path)) == train and list(load_pairs(path, "test")) == test
        assert list(load_pairs(str(path), names[1])) == test
        assert list(load_pairs(path, "test_gen")) == ROWS[:2], "by its own name"
        assert [list(part) for part in load_splits(path)] == [train, test]
        assert load_pairs(path, "test").where[1] == f"{path} ({names[1]}), row 2"


def test_a_missing_split_is_told_with_those_there_are(tmp_path):
    path = saved(tmp_path / "set", train=ROWS, extra=ROWS[:2])
    with pytest.raises(InputError, match="no split 'test'; its splits are train, extra"):
        load_pairs(path, "test")


def test_a_data_set_without_a_test_split_is_split_by_its_prompts(tmp_path):
    path = saved(tmp_path / "set", train=ROWS, train_sft=ROWS[:2])
    assert load_splits(path) == split_pairs(load_pairs(path))


def test_a_large_data_set_is_split_as_a_small_one(tmp_path, monkeypatch):
    path = tmp_path / "pairs.csv"
    write_csv(path, [{**row, "prompt": f"{n % 5}\n"} for n, row in enumerate(ROWS)])
    small = load_splits(path)
    monkeypatch.setattr(pairs, "IN_MEMORY", 0)
    assert [list(part) for part in load_splits(path)] == [list(part) for part in small]
    assert [list(p.where) for p in load_splits(path)] == [list(p.where) for p in small]


def test_a_dataset_and_a_dict_of_them_may_be_given_as_such(held):
    table = datasets.Dataset.from_list(FAULTY)
    assert list(load_pairs(table)) == KEPT
    assert list(load_pairs(table.select([8, 7, 6]))) == [ROWS[5], ROWS[0]]
    assert list(load_pairs(datasets.DatasetDict(a=table, test=table), "test")) == KEPT
    assert list(load_pairs(iter(ROWS))) == ROWS


def test_a_damaged_folder_is_told_in_a_sentence(tmp_path):
    write_folder(tmp_path / "set", ROWS)
    for file in (tmp_path / "set").glob("*.arrow"):
        file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="set: cannot be read") as caught:
        load_pairs(tmp_path / "set")
    assert "\n" not in str(caught.value)


# What is told of both sides


def test_a_held_out_pair_that_was_trained_on_is_dropped_and_told(tmp_path, held):
    path = saved(tmp_path / "set", train=ROWS[:6], test=[ROWS[7], *ROWS[4:7], ROWS[7]])
    train, test = load_splits(path)
    assert (list(train), list(test)) == (ROWS[:6], [ROWS[7], ROWS[6]])
    assert test.report.dropped == {
        "also in the training split": 2, "that repeat an earlier pair": 1,
    }  # fmt: skip
    assert loading_note(train.report, test.report) == (
        f"{path} (test): 2 of 5 rows kept; dropped 2 also in the training split (first: row 2), "
        "1 that repeat an earlier pair (first: row 5)."
    )
    assert list(load_pairs(path, "test")) == [ROWS[7], *ROWS[4:7]], "asked for by itself"


def test_a_held_out_pair_that_only_contradicts_the_training_split_stays(tmp_path):
    path = saved(tmp_path / "set", train=[ROWS[1]], test=[FAULTY[5]])
    train, test = load_splits(path)
    assert list(test) == [FAULTY[5]] and loading_note(train.report, test.report) is None


def test_a_test_split_that_is_the_training_split_is_told(tmp_path):
    path = saved(tmp_path / "set", train=ROWS, test=ROWS[:3])
    with pytest.raises(InputError, match="all of its 3 rows are also in the training split"):
        load_splits(path)


def test_both_sides_are_told_of_in_their_order_and_nothing_if_all_is_used(tmp_path):
    path = saved(tmp_path / "set", train=FAULTY, test=[*ROWS[6:], ROWS[6]])
    sentence = loading_note(*(part.report for part in load_splits(path)))
    assert 0 < sentence.index("(train): 4 of 9") < sentence.index("(test): 6 of 7")
    assert loading_note(*(part.report for part in load_splits(ROWS))) is None
    assert loading_note(None, None) is None


def test_what_was_parted_here_is_told_of_as_one():
    parts = split_pairs(load_pairs(datasets.Dataset.from_list([*FAULTY, *ROWS[6:]])))
    train, test = (part.report for part in parts)
    assert loading_note(train, test) == train.text
    too_long = (train.without(2, TOO_LONG, "row 7"), test.without(1, TOO_LONG, "row 5"))
    assert "7 of 15 rows kept" in loading_note(*too_long)
    assert "3 longer than the model reads (first: row 7)" in loading_note(*too_long)
    assert "9 of 15 rows kept" in loading_note(train, too_long[1]), "of the held-out side alone"
    assert loading_note(too_long[0], too_long[0]) == too_long[0].text, (
        "where both sides are the same"
    )


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache on this machine with one data set in it, as a download leaves it."""
    cache = tmp_path / "hub" / "datasets--someone--prefs"
    commit = "0" * 39 + "1"
    data = cache / "snapshots" / commit / "data"
    data.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    write_parquet(data / "train_prefs-00000-of-00001.parquet", [ultrafeedback_row(0)])
    write_parquet(data / "test_prefs-00000-of-00001.parquet", [ultrafeedback_row(1)])
    (data.parent / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train_prefs\n    path: data/train_prefs-*\n"
        "  - split: test_prefs\n    path: data/test_prefs-*\n"
        "- config_name: small\n  data_files:\n  - split: train\n    path: data/test_prefs-*\n---\n"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "prepared")
    datasets.enable_progress_bars()
    return commit


def test_a_data_set_in_the_hubs_cache_needs_no_network(hub, monkeypatch):
    import huggingface_hub

    asked, real = [], huggingface_hub.snapshot_download
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda *a, **how: asked.append(how) or real(*a, **how)
    )
    train, test = load_splits("someone/prefs")
    assert (train[0]["prompt"], test[0]["prompt"]) == ("Why 0?\n", "Why 1?\n")
    assert train.where == ("someone/prefs (train_prefs), row 1",)
    assert load_pairs("someone/prefs:small")[0] == test[0]
    assert list(load_pairs(f"someone/prefs@{hub}", "test_prefs")) == list(test)
    assert [how["local_files_only"] for how in asked] == [True] * 3


def test_a_configuration_or_a_revision_that_is_not_there_is_told(hub):
    with pytest.raises(InputError, match="'someone/prefs:tiny': .*default.*small") as caught:
        load_pairs("someone/prefs:tiny")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="hub's cache"):
        load_pairs("someone/prefs@other")


def test_a_data_set_that_cannot_be_had_is_told_in_a_sentence(hub, online, monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(InputError, match="could not be had from the hub .no route to host.") as it:
        load_pairs("someone/other")
    assert "\n" not in str(it.value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="'someone/other' is not on.*HF_HUB_OFFLINE is set"):
        load_pairs("someone/other")


@pytest.fixture
def online(monkeypatch):
    """The hub as it is asked for a commit: a list of what it was asked, and of what it answers."""
    asked, answers = [], []

    def dataset_info(_, name, revision=None, timeout=None):
        asked.append((name, revision, timeout))
        if not answers:
            raise ConnectionError("no network")
        return SimpleNamespace(sha=answers.pop())

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", dataset_info)
    return SimpleNamespace(asked=asked, answers=answers)


def test_the_hub_is_asked_before_a_copy_of_which_a_part_may_be_missing(hub, online, monkeypatch):
    whole = datasets.DatasetDict(
        {name: datasets.Dataset.from_list([*ROWS]) for name in ("train", "test")}
    )
    loaded = []
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *a, **how: loaded.append((a, how)) or whole
    )
    online.answers.append("a1b2")
    pairs = load_pairs("someone/prefs:small@v1")
    assert len(pairs) == 12 and pairs.report.note == ""
    [(name, revision, timeout)] = online.asked
    assert (name, revision) == ("someone/prefs", "v1") and 0 < timeout <= 10
    assert loaded == [(("someone/prefs", "small"), {"revision": "a1b2"})]


def test_where_the_hub_does_not_answer_the_copy_is_taken_and_that_is_told_once(hub, online):
    train, test = load_splits("someone/prefs")
    assert (train[0]["prompt"], test[0]["prompt"]) == ("Why 0?\n", "Why 1?\n")
    sentence = loading_note(train.report, test.report)
    assert sentence.startswith("someone/prefs: read from the copy on this machine, since the hub")
    assert sentence.count("copy") == 1 and len(online.asked) == 1


def test_a_copy_that_is_taken_because_the_hub_must_not_be_asked_is_told(hub, online, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    train, test = load_splits("someone/prefs")
    assert "on this machine, since HF_HUB_OFFLINE is set" in loading_note(train.report, test.report)
    assert not online.asked


def test_a_folder_of_the_same_name_goes_before_the_hub(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    datasets.disable_progress_bars()
    write_folder(Path("someone/prefs"), ROWS)
    assert list(load_pairs("someone/prefs")) == ROWS


@pytest.mark.parametrize("name", ["data/missing.jsonl", "a/b/c", "/a/b", "./a", "missing"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name):
    with pytest.raises(InputError, match="no such file"):
        load_pairs(name)


# Larger than memory

MEASURE = """
import re, sys, threading, time, datasets, pyarrow
from pathlib import Path
from adadpo_mini.pairs.load import load_pairs, split_pairs

def used():  # by the process itself, in MiB; pages of a mapped file can be dropped at any time
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def watch():
    global peak
    while True:
        peak = max(peak, used())
        time.sleep(0.005)

load_pairs("tone")
peak = before = used()
threading.Thread(target=watch, daemon=True).start()
train, test = split_pairs(load_pairs(sys.argv[1]))
print(len(train) + len(test), peak - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("form", ["parquet", "jsonl", "folder"])
def test_a_large_data_set_is_never_held_in_memory(tmp_path, form):
    count, size = 40_000, 4000
    path = tmp_path / f"pairs.{form}"
    table = pyarrow.table(
        {
            name: pyarrow.array([f"{name} {n} {size * letter}" for n in range(count)])
            for name, letter in (("prompt", ""), ("chosen", "c"), ("rejected", "r"))
        }
    )
    if form == "parquet":
        pyarrow.parquet.write_table(table, path, compression="none", row_group_size=count // 40)
    elif form == "jsonl":
        with path.open("w") as file:
            file.writelines(json.dumps(row) + "\n" for row in table.to_pylist())
    else:
        datasets.Dataset(table).save_to_disk(path)
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True
    )
    kept, grown = map(float, run.stdout.split())
    assert kept == count
    assert grown < table.nbytes / 2**20 / 2, run.stdout
