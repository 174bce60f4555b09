"""Data of many kinds, raced on from the command line: what is said of it, or why it is refused."""

import gzip
import json
import re
import shutil

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from adadpo_mini import InputError, RaceConfig, load_pairs, race
from adadpo_mini.cli.entry import main
from adadpo_mini.pairs.cautions import FEW_HELD_OUT, FEW_TRAINED
from adadpo_mini.prepare import prepare
from adadpo_mini.toyworld.sets import SETS

QUICK = ("--steps", "1", "--batch-size", "2", "--measure-every", "0")
HEAD = "\n\nHuman: Where is the pan?\n\nAssistant:"


def run(path, capfd, *more):
    """The exit code, and what is written to stderr."""
    try:
        code = main(["race", "--data", str(path), *QUICK, *more])
    except SystemExit as leaving:
        code = leaving.code
    said = capfd.readouterr()
    assert "Traceback" not in said.err
    return code, said.err


def rows(count=3, **more):
    return [{"chosen": f"In the box {n}.", "rejected": f"No {n}.", **more} for n in range(count)]


SAID = {
    "instruction and input": (
        [{"instruction": f"Find {n}.", "input": "A pan", "output": "x", **row}
         for n, row in enumerate(rows())],
        "the prompt is read from instruction and input; not used: output",
    ),
    "question": (
        [{"question": f"Where is {n}?", **row} for n, row in enumerate(rows())],
        "the prompt is read from question",
    ),
    "system": (rows(system="Be kind.", prompt="Where?"), "the prompt is read from system and pr"),
    "unused columns": (rows(prompt="Where?\n", id="a", score=3), "not used: id, score"),
    "repeated prompts": (
        [{"prompt": "Where is it?", "chosen": f"Where is it? In box {n}.",
          "rejected": f"Where is it? No {n}."} for n in range(3)],
        "both answers begin with the prompt, which is removed from them (3 rows)",
    ),
    "messages in text": (
        [{"chosen": json.dumps([{"role": "user", "content": "Where?"},
                                {"role": "assistant", "content": f"Here {n}."}]),
          "rejected": json.dumps([{"role": "user", "content": "Where?"},
                                  {"role": "assistant", "content": f"No {n}."}])}
         for n in range(3)],
        "messages stored as text are decoded (3 rows)",
    ),
    "line ends of Windows": (
        [{side: f"{HEAD} {side} {n}".replace("\n", "\r\n") for side in ("chosen", "rejected")}
         for n in range(3)],
        "line ends \\r\\n are read as \\n (3 rows)",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "words"), SAID.values(), ids=SAID)
def test_a_race_says_how_its_rows_are_read(given, words, tmp_path, capfd):
    path = tmp_path / "pairs.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, given)).encode()))
    code, said = run(path, capfd)
    assert code == 0 and said.count(f"{path}: ") == 1
    assert words in said


def test_what_is_said_of_the_data_comes_before_the_training():
    heard = []
    settings = {"steps": 1, "batch_size": 2, "measure_every": 0, "methods": ("dpo",)}
    result = race(toy_rows(9), note=heard.append, on_event=lambda *_: heard.append(1), **settings)
    assert heard == [result.summary["report"], 1, 1]


REFUSED = {
    "plain text without a prompt": (rows(), "so the prompt would be a guess; add the prompt"),
    "pictures": (rows(prompt="What?", images=["x.png"]), "images, video and audio are not read"),
    "tools": (rows(prompt="What?", tools=[{"type": "function"}]), "tool calls are not read"),
    "reasoning": (
        rows(prompt=[{"role": "user", "content": "What?", "thinking": "Hm."}]), "most chat templ",
    ),
    "two prompts": (rows(prompt="What?", question="Where?"), "contain different prompts"),
    "labels": ([{"prompt": "What?", "completion": "a", "label": True}], "the form of KTO"),
}  # fmt: skip


@pytest.mark.parametrize("ending", ["jsonl", "json"])
@pytest.mark.parametrize(("given", "words"), REFUSED.values(), ids=REFUSED)
def test_what_would_change_the_meaning_is_refused_in_one_line(
    given, words, ending, tmp_path, capfd
):
    path = tmp_path / f"pairs.{ending}"
    good = {"prompt": "Why?\n", "chosen": "a", "rejected": "b"}
    lines = [good, *given]
    text = "\n".join(map(json.dumps, lines)) if ending == "jsonl" else json.dumps(lines)
    path.write_text(text)
    code, said = run(path, capfd)
    [line] = said.splitlines()
    assert code == 2 and words in line and line.endswith(".")
    assert re.search(rf"{path}, (line|row) 2: ", line)


@pytest.mark.parametrize("data", SETS)
def test_nothing_is_said_of_a_toy_set(data):
    assert prepare(RaceConfig(data=data, eval_pairs=8)).report is None


def toy_rows(count):
    """Rows that the toy knows, each with its own prompt."""
    return list(load_pairs("tone"))[:count]


def test_too_few_pairs_are_said_to_allow_no_conclusion():
    report = prepare(RaceConfig(data="rows"), toy_rows(10)).report
    assert report.startswith("9 to train on, 1 held out: no conclusion possible")
    enough = max(FEW_TRAINED, 10 * FEW_HELD_OUT)
    assert prepare(RaceConfig(data="rows"), toy_rows(enough)).report is None
    one = [{**row, "prompt": "How do I warm the soup?\n"} for row in toy_rows(10)]
    assert prepare(RaceConfig(data="rows"), one).report.startswith("10 to train on, 0 held out: no")


FOREIGN = [
    ("Where is Rome?", "Rome is the capital of Italy, in the middle of the country.", "No idea."),
    ("Was ist eine Katze?", "Eine Katze ist ein kleines Raubtier.", "Ein Fahrzeug."),
    ("Write a loop in C.", "for (int i = 0; i < 9; i++) { sum += i; }", "loop sum"),
]


@pytest.mark.parametrize(("prompt", "chosen", "rejected"), FOREIGN)
def test_text_that_is_foreign_to_the_toy_is_warned_of_with_a_way_out(
    prompt, chosen, rejected, tmp_path, capfd, tiny
):
    path = tmp_path / "my pairs.jsonl"
    path.write_text(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}))
    code, said = run(path, capfd)
    assert code == 0 and "foreign to the toy model, which gives it -1" in said
    assert f"race --model HuggingFaceTB/SmolLM2-135M-Instruct --data '{path}'" in said
    _, said = run(path, capfd, "--model", str(tiny))
    assert "foreign" not in said, "another model may know it"


def test_a_streamed_data_set_can_be_raced_on(tmp_path):
    stream = datasets.Dataset.from_list(toy_rows(20)).to_iterable_dataset()
    for given in (stream, datasets.IterableDatasetDict(train=stream)):
        result = race(given, steps=1, batch_size=2, measure_every=0, out=tmp_path / "run")
        assert result.summary["status"] == "finished"
        assert len(list((tmp_path / "run" / "pairs").iterdir())) == 2
        shutil.rmtree(tmp_path / "run")


def test_a_split_is_named_after_a_colon(capfd, tmp_path):
    code, said = run("tone:test", capfd, "--out", str(tmp_path / "run"))
    assert code == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == "tone:test"
    assert main(["resume", str(tmp_path / "run")]) == 0
    code, said = run("tone:dev", capfd)
    assert code == 2 and "tone has no split 'dev'; its splits are train, test." in said


def test_a_row_too_long_stops_a_file_of_any_format(tmp_path):
    long = {"prompt": "Why?\n", "chosen": "x " * 600, "rejected": "No."}
    good = {"prompt": "How?\n", "chosen": "So.", "rejected": "No."}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [good, long])))
    (tmp_path / "a.json").write_text(json.dumps([good, long]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([good, long]), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.json", "a.parquet"):
        with pytest.raises(InputError, match=f"{name}, (line|row) 2: the pair is .* tokens long"):
            race(tmp_path / name, steps=1)
