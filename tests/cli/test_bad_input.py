"""Bad input of every kind: one line that says what is wrong, exit code 2, and no traceback.

A case is the arguments, what must be in the line, and the files that there are; "@" stands for the
folder they are in.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from adadpo_mini import InputError, RaceConfig, load_model, load_pairs, race
from adadpo_mini.cli.entry import main

QUICK = ("--steps", "1", "--batch-size", "2", "--measure-every", "0")
DEEP = 99_999 * b"["
DIGITS = 5000 * b"9"  # more than Python makes a number of
FIFO = getattr(os, "mkfifo", None)
PAIR = b'{"prompt": "Why?\\n", "chosen": "Because.", "rejected": "No."}\n'


def refuse(arguments, capfd, prefix="adadpo-mini"):
    """The one line that these arguments are refused with."""
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    said = capfd.readouterr()
    assert code == 2, said
    assert said.out == "" and "Traceback" not in said.err
    lines = said.err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(prefix), lines
    assert lines[0].endswith((".", "?")), "a sentence"
    return lines[0]


def make(folder, files):
    """Write these files; None makes a folder, and a function what it makes."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        elif callable(content):
            content(path)
        else:
            path.write_bytes(content)


# Whatever is a path or a name

PLACES = {
    "race --data": ["race", *QUICK, "--data"],
    "race --model": ["race", *QUICK, "--model"],
    "race --out": ["race", *QUICK, "--out"],
    "train --out": ["train", *QUICK, "--out"],
    "resume": ["resume"],
    "chat": ["chat", "--prompt", "Hello", "--"],
    "doctor": ["doctor"],
    "losses --into": ["losses", "--into"],
    "data --out": ["data", "build", "--out"],
    "pretrain --out": ["pretrain", "--steps", "1", "--out"],
    "sweep --out": ["sweep", "sets", "--out"],
    "table": ["table", "sets"],
    "table --into": ["table", "sets", "none.csv", "--into"],
    "report": ["report"],
    "report --out": ["report", "none.csv", "--out"],
    "inspect": ["inspect"],
}
NAMES = {
    "empty": ("", "empty"),
    "nobody's home": ("~nobody-at-all/x", "no such user"),
    "not UTF-8": ("a\udcff", "not valid UTF-8"),
    "null character": ("a\0b", "null character"),
}


@pytest.mark.parametrize(("name", "word"), NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_path_that_can_be_none_is_refused_wherever_one_is_given(place, name, word, capfd):
    line = refuse([*place, name], capfd, f"adadpo-mini {place[0]}: argument ")
    assert word in line and f"see `adadpo-mini {place[0]} --help`." in line


@pytest.mark.parametrize("length", [256, 5000])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_name_too_long_is_refused_wherever_one_is_given(place, length, capfd):
    line = refuse([*place, "x" * length], capfd)
    assert len(line) < 1000, "the name is not shown in full"


@pytest.mark.parametrize(
    "name", ["two words", "..", "a//b", "a:b", "a/..", "-", ".", "/", "a\nb", "\x1b[31m", "é?", "*"]
)
@pytest.mark.parametrize("option", ["--data", "--model"])
def test_what_is_no_name_on_the_hub_is_told(option, name, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = refuse(["race", *QUICK, f"{option}={name}"], capfd)
    assert any(word in line for word in ("no such file", "folder", "data set")), line


# Arguments

ARGUMENTS = {
    "no command": ([], "required: COMMAND"),
    "unknown command": (["rase"], "'rase'"),
    "unknown option": (["race", "--stepz", "3"], "--stepz 3"),
    "no whole number": (["race", "--steps", "x"], "argument --steps: invalid int value: 'x'"),
    "too many digits": (["race", "--steps", "9" * 5000], "argument --steps: invalid int value"),
    "no number": (["race", "--beta", "1,5"], "argument --beta: invalid float value: '1,5'"),
    "no value": (["race", "--seed"], "argument --seed: expected one argument"),
    "another choice": (["race", "--space", "x"], "argument --space: invalid choice: 'x'"),
    "line break": (["race", "--steps", "1\n2"], r"1\n2"),
    "nothing to build": (["data"], "required: action"),
    "no folder": (["chat"], "required: folder"),
}


@pytest.mark.parametrize(("arguments", "word"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_are_not_understood_are_refused_in_one_line(arguments, word, capfd):
    line = refuse(arguments, capfd)
    command = " ".join(["adadpo-mini", *arguments[:1]]) if arguments and arguments[0] in (
        "race", "data", "chat",
    ) else "adadpo-mini"  # fmt: skip
    assert line.startswith(f"{command}: ") and line.endswith(f"ee `{command} --help`.")
    assert word in line


# What there is, but not what it should be


def huge(path):
    path.symlink_to("/dev/zero")


KINDS = {
    "data is no file but null": (["race", "--data", "/dev/null"], "not a regular file", {}),
    "data never ends": (["race", "--data", "@z.jsonl"], "not a regular file", {"z.jsonl": huge}),
    "data is a pipe": (["race", "--data", "@p"], "not a regular file", {"p": FIFO}),
    "data is a folder": (["race", "--data", "@d"], "is a folder", {"d": None}),
    "data is below a file": (["race", "--data", "@f/x"], "no such file", {"f": b""}),
    "data goes in circles": (
        ["race", "--data", "@l"],
        "symbolic links",
        {"l": lambda path: path.symlink_to(path)},
    ),
    "model is a file": (["race", "--model", "@f"], "is not a folder", {"f": b""}),
    "model is a device": (["race", "--model", "/dev/null"], "is not a folder", {}),
    "model is below a file": (["race", "--model", "@f/x"], "no such folder", {"f": b""}),
    "out is a file": (["race", "--out", "@f"], "cannot be written", {"f": b""}),
    "out is below a file": (["race", "--out", "@f/x"], "not a folder", {"f": b""}),
    "log is null": (["doctor", "/dev/null"], "not a regular file", {}),
    "log never ends": (["doctor", "@z.jsonl"], "not a regular file", {"z.jsonl": huge}),
    "log is a pipe": (["doctor", "@p"], "not a regular file", {"p": FIFO}),
    "log is binary": (["doctor", "@b"], "not UTF-8", {"b": b"\0\xff\n\0"}),
    "log is zeros": (["doctor", "@b"], "line 1: not valid JSON", {"b": bytes(99) + b"\n"}),
    "log is an empty folder": (["doctor", "@d"], "has no log", {"d": None}),
    "metrics are a folder": (["doctor", "@d"], "is a folder", {"d/metrics.jsonl": None}),
    "metrics are a pipe": (["doctor", "@d"], "not a regular file", {"d/metrics.jsonl": FIFO}),
    "run is a file": (["chat", "@f"], "does not contain a run", {"f": b""}),
    "run is a device": (["chat", "/dev/zero"], "does not contain a run", {}),
    "run's config is a folder": (["chat", "@d"], "does not contain a run", {"d/config.json": None}),
    "run's config never ends": (["chat", "@d"], "does not contain a run", {"d/config.json": huge}),
    "resumed run is a file": (["resume", "@f"], "does not contain a run", {"f": b""}),
    "results are a folder": (["table", "sets", "@d"], "is a folder", {"d": None}),
    "inspected run is a file": (["inspect", "@f"], "does not contain a run", {"f": b""}),
    "reported run is no run": (["report", "@d"], "does not contain a run", {"d": None}),
    "reported is not there": (["report", "@none"], "give a run folder or the CSV file", {}),
    "results are null": (["report", "/dev/null"], "regular file", {}),
    "document is a folder": (["losses", "--into", "@d"], "is a folder", {"d": None}),
    "data is below a file, to build": (["data", "build", "--out", "@f/x"], "folder", {"f": b""}),
}


def at(folder, arguments):
    return [f"{folder}/{word[1:]}" if word[:1] == "@" else word for word in arguments]


@pytest.mark.skipif(FIFO is None, reason="Windows has no such files")
@pytest.mark.parametrize(("arguments", "word", "files"), KINDS.values(), ids=KINDS)
def test_another_kind_of_file_is_refused(arguments, word, files, tmp_path, capfd):
    make(tmp_path, files)
    assert word in refuse(at(tmp_path, arguments), capfd)


# Preference pairs


def table(path, *columns, name="chosen"):
    """A Parquet file, or a folder as `datasets` saves it, of these columns."""
    import pyarrow
    import pyarrow.parquet

    found = pyarrow.table(dict(zip(("prompt", name, "rejected"), columns, strict=True)))
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(found, path)
    else:
        import datasets

        datasets.disable_progress_bars()
        datasets.Dataset(found).save_to_disk(path)
        datasets.enable_progress_bars()


def not_utf8():
    """Two texts, of which the second is none."""
    import pyarrow

    offsets = pyarrow.py_buffer(b"\0\0\0\0\1\0\0\0\3\0\0\0")
    return pyarrow.StringArray.from_buffers(2, offsets, pyarrow.py_buffer(b"a\xff\xfe"))


def beside(path):
    """A folder whose offsets point beside its text."""
    table(path, ["why", "how"], ["xyz", "uvw"], ["c", "d"])
    [file] = path.glob("*.arrow")
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 3, 6))
    content = file.read_bytes()
    assert offsets in content
    file.write_bytes(content.replace(offsets, offsets[:8] + b"\xff\xff\xff\x7f"))


def cut(path):
    table(path, ["a"] * 99, ["b"] * 99, ["c"] * 99)
    path.write_bytes(path.read_bytes()[:-100])


def damaged(name, content):
    def write(path):
        table(path, ["a"], ["b"], ["c"])
        (path / name).write_bytes(content)

    return write


ROLE = '[{"prompt": "Why?", "chosen": [{"role": %s, "content": "So."}], "rejected": "No."}]'
ASKED = r'[{"prompt": [{"role": "\ud800", "content": "Why?"}], "chosen": "a", "rejected": "b"}]'
PAIRS = {
    "too deep": ("a.jsonl", PAIR + DEEP, "line 2: JSON that cannot be read"),
    "too deep an object": ("a.jsonl", 99_999 * b'{"a":', "line 1: JSON that cannot be read"),
    "too deep an array": ("a.json", b"[" + DEEP, "row 1: not valid JSON"),
    "too many digits": ("a.jsonl", b'{"chosen": %s}' % DIGITS, "line 1: JSON that cannot be read"),
    "a huge number": ("a.jsonl", b'{"chosen": %s, "rejected": 2}' % DIGITS[:999], "but int"),
    "half a character": (
        "a.json",
        rb'[{"prompt": "\ud800", "chosen": "a", "rejected": "b"}]',
        "half",
    ),
    "half a character in a role": ("a.json", ASKED.encode(), r"prompt has the role '\ud800'"),
    "a role that is a number": ("a.json", (ROLE % 5).encode(), "message 1 of chosen has no role"),
    "nothing but null": ("a.jsonl", b"null\n", "line 1: expected an object"),
    "no text of UTF-8 in a CSV": ("a.csv", b"prompt,chosen,rejected\n\xff,b,c\n", "not UTF-8"),
    "null characters": ("a.jsonl", PAIR + b"\0\0\0\n", "line 2: not valid JSON"),
    "no UTF-8 in Parquet": (
        "a.parquet",
        lambda path: table(path, ["a", "b"], not_utf8(), ["c", "d"]),
        "a.parquet, row 2: not UTF-8",
    ),
    "no UTF-8 in Arrow": (
        "set",
        lambda path: table(path, ["a", "b"], not_utf8(), ["c", "d"]),
        "set, row 2",
    ),
    "offsets beside the text": ("set", beside, "set cannot be read"),
    "numbers in Parquet": ("a.parquet", lambda p: table(p, ["a"], [1], [2]), "but int"),
    "numbers in Arrow": ("set", lambda p: table(p, ["a"], [1.5], [2.5]), "but float"),
    "bytes in Parquet": ("a.parquet", lambda p: table(p, ["a"], [b"b"], [b"c"]), "but bytes"),
    "another column": ("set", lambda p: table(p, ["a"], ["b"], ["c"], name="good"), "no column"),
    "cut Parquet": ("a.parquet", cut, "cannot be read"),
    "empty Parquet": ("a.parquet", b"", "cannot be read"),
    "no Parquet": ("a.parquet", b"PAR1" + bytes(99) + b"PAR1", "cannot be read"),
    "damaged state.json": ("set", damaged("state.json", b"[]"), "cannot be read"),
    "state.json too deep": ("set", damaged("state.json", DEEP), "cannot be read"),
    "damaged dataset_info.json": ("set", damaged("dataset_info.json", b"{"), "cannot be read"),
    "nothing but dataset_dict.json": ("set/dataset_dict.json", b"5", "set cannot be read"),
    "damaged Arrow": ("set", damaged("data-00000-of-00001.arrow", b"x"), "cannot be read"),
}


@pytest.mark.parametrize(("name", "content", "word"), PAIRS.values(), ids=PAIRS)
def test_damaged_pairs_are_refused(name, content, word, tmp_path, capfd):
    make(tmp_path, {name: content})
    path = tmp_path / name.removesuffix("/dataset_dict.json")
    line = refuse(["race", *QUICK, "--data", str(path)], capfd)
    assert word in line and str(path) in line


class Frame:
    """What pandas' data frames have, as far as it is needed."""

    columns = ("prompt", "chosen", "rejected")

    def to_dict(self, orient):
        assert orient == "records"
        return [json.loads(PAIR)]


def test_columns_and_frames_are_understood_as_rows():
    rows = [json.loads(PAIR), {"prompt": "How?\n", "chosen": "So.", "rejected": "Not."}]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    assert list(load_pairs(columns)) == rows == list(load_pairs(row for row in rows))
    assert list(load_pairs(Frame())) == rows[:1]


def test_streamed_data_sets_are_understood():
    import datasets

    stream = datasets.Dataset.from_list([json.loads(PAIR)]).to_iterable_dataset()
    assert list(load_pairs(stream)) == [json.loads(PAIR)]
    assert list(load_pairs(datasets.IterableDatasetDict(test=stream), "test")) == list(stream)


GIVEN = {
    "a number": (5, "not 5"),
    "bytes": (b"tone", "not b'tone'"),
    "an object": (object(), "not <object"),
    "a name in a list": (["tone"], "pair 1: expected an object .* got 'tone'"),
    "numbers": ([1, 2], "pair 1: expected an object"),
    "a huge number": ([10**5000], "pair 1: expected an object .* got an int"),
    "one pair": (json.loads(PAIR), "put it in a list"),
    "no columns": ({}, "no column 'chosen'"),
    "other columns": ({"good": ["a"]}, "no column 'chosen'"),
    "uneven columns": ({"chosen": ["a"], "rejected": ["b", "c"]}, "chosen 1, rejected 2"),
    "columns of numbers": ({"chosen": 5, "rejected": ["a"]}, "not of lists"),
    "nothing": ([], "has no pairs"),
}


@pytest.mark.parametrize(("data", "words"), GIVEN.values(), ids=GIVEN)
def test_what_is_given_as_rows_but_is_none_is_refused(data, words):
    with pytest.raises(InputError, match=words):
        race(data=data, steps=1)


# Models


def edit(name, **changes):
    """Changes fields of a JSON file of a model."""

    def change(folder):
        fields = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**fields, **changes}), encoding="utf-8")

    return change


def put(name, content):
    """Puts another file in place of one of a model's."""
    return lambda folder: (folder / name).write_bytes(content)


def lose(*names):
    """Takes files away from a model."""
    return lambda folder: [(folder / name).unlink() for name in names]


def weigh(change):
    """Changes a model's weights, which it gets by name."""

    def rewrite(folder):
        from safetensors.torch import load_file, save_file

        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return rewrite


def shorten(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def pickle(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapt(folder):
    (folder / "config.json").rename(folder / "adapter_config.json")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def no_words(folder):
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    edit("tokenizer.json", model={**model, "vocab": {}, "merges": []})(folder)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
WIDTH, BIAS = "transformer.wpe.weight", "transformer.ln_f.bias"
MODELS = {
    "config.json is a list": (put("config.json", b"[1]"), "config.json must be a JSON object"),
    "config.json is a number": (put("config.json", b"5"), "config.json must be a JSON object"),
    "config.json is too deep": (put("config.json", DEEP), "config.json cannot be read"),
    "config.json is empty": (put("config.json", b""), "config.json cannot be read"),
    "config.json has many digits": (put("config.json", b'{"a": %s}' % DIGITS), "config.json"),
    "config.json is not UTF-8": (put("config.json", b'"\xff"'), "config.json: not UTF-8"),
    "config.json has no type": (put("config.json", b"{}"), "model_type"),
    "config.json is missing": (lose("config.json"), "no config.json"),
    "another architecture": (edit("config.json", model_type="bert"), "its weights lack bert"),
    "no causal model": (edit("config.json", model_type="t5"), "its config.json cannot be used"),
    "an unknown architecture": (edit("config.json", model_type="x"), "model type `x`"),
    "no room": (edit("config.json", n_positions=0), "n_positions in config.json"),
    "room below 0": (edit("config.json", n_positions=-1), "n_positions in config.json"),
    "no layers": (edit("config.json", n_layer=0), "n_layer in config.json"),
    "layers below 0": (edit("config.json", n_layer=-1), "n_layer in config.json"),
    "absurdly many layers": (edit("config.json", n_layer=10**9), "n_layer in config.json"),
    "fewer layers": (edit("config.json", n_layer=1), "which config.json does not describe"),
    "more layers": (edit("config.json", n_layer=3), "its weights lack transformer.h.2"),
    "no width": (edit("config.json", n_embd=0), "n_embd in config.json"),
    "absurd width": (edit("config.json", n_embd=10**30), "n_embd in config.json"),
    "another width": (edit("config.json", n_embd=16), "has shape"),
    "no words": (edit("config.json", vocab_size=0), "vocab_size in config.json"),
    "absurdly many words": (edit("config.json", vocab_size=10**15), "vocab_size in config.json"),
    "too large for memory": (edit("config.json", vocab_size=99_999_999, n_embd=9990), "memory"),
    "no heads": (edit("config.json", n_head=0), "n_head in config.json"),
    "heads that do not divide": (edit("config.json", n_head=3), "its config.json cannot be used"),
    "a size in words": (edit("config.json", n_layer="two"), "its config.json cannot be used"),
    "a size that is a list": (edit("config.json", n_layer=[2]), "its config.json cannot be used"),
    "an unknown activation": (edit("config.json", activation_function="x"), "its config.json"),
    "absurdly many labels": (edit("config.json", num_labels=10**12), "num_labels in config.json"),
    "no weights": (lose("model.safetensors"), "has no weights"),
    "empty weights": (put("model.safetensors", b""), "not a whole safetensors file"),
    "weights cut short": (shorten, "is incomplete, 250,"),
    "weights that are none": (put("model.safetensors", 99 * b"\xff"), "not a whole safetensors"),
    "weights in git-lfs": (put("model.safetensors", LFS), "model.safetensors is only a git-lfs"),
    "pickled weights": (pickle, "only pickled weights (pytorch_model.bin)"),
    "an adapter": (adapt, "is an adapter"),
    "a missing weight": (weigh(lambda w: w.pop(BIAS)), f"its weights lack {BIAS};"),
    "missing weights": (
        weigh(lambda w: [w.pop(name) for name in list(w) if "mlp" in name]),
        "its weights lack transformer.h.0.mlp.c_fc.bias and 7 more",
    ),
    "no weight at all": (weigh(lambda w: w.clear()), "its weights lack"),
    "one weight too many": (
        weigh(lambda w: w.update(more=w[BIAS] + 1)),
        "config.json does not describe",
    ),
    "a weight of another shape": (
        weigh(lambda w: w.update({WIDTH: w[WIDTH][:9].clone()})),
        f"its weight {WIDTH} has shape [9, 32], but config.json says [256, 32]",
    ),
    "a weight that is no number": (
        weigh(lambda w: w[WIDTH][-1, -1:].fill_(float("nan"))),
        f"its weight {WIDTH} has values that are not finite",
    ),
    "an infinite weight": (weigh(lambda w: w[BIAS].fill_(float("-inf"))), "not finite"),
    "no tokenizer": (lose("tokenizer.json"), "has no tokenizer"),
    "an empty tokenizer": (put("tokenizer.json", b""), "tokenizer.json cannot be read"),
    "a tokenizer that is a list": (put("tokenizer.json", b"[]"), "must be a JSON object"),
    "a tokenizer without anything": (put("tokenizer.json", b"{}"), "its tokenizer cannot be used"),
    "a tokenizer without a model": (edit("tokenizer.json", model=None), "its tokenizer cannot"),
    "a tokenizer without words": (no_words, "returns no tokens for a text"),
    "a tokenizer in git-lfs": (put("tokenizer.json", LFS), "tokenizer.json is only a git-lfs"),
    "a damaged tokenizer_config": (put("tokenizer_config.json", b"{"), "tokenizer_config.json"),
    "an end token that is a list": (edit("tokenizer_config.json", eos_token=[1]), "its tokenizer"),
    "an unknown end token": (edit("tokenizer_config.json", eos_token="<?>"), "885"),
    "a damaged generation_config": (put("generation_config.json", b"{"), "generation_config.json"),
    "a generation_config too deep": (put("generation_config.json", DEEP), "generation_config.json"),
    "a generation_config that is a list": (put("generation_config.json", b"[]"), "JSON object"),
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def hangups_are_heard():
    """Under nohup they are ignored, by what is started here, too."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("spoil", "word"), MODELS.values(), ids=MODELS)
def test_a_spoiled_model_is_refused(spoil, word, tiny, tmp_path, capfd, transformers_says):
    folder = shutil.copytree(tiny, tmp_path / "model")
    spoil(folder)
    line = refuse(["race", *QUICK, "--model", str(folder)], capfd)
    assert word in line and str(folder) in line, line
    assert transformers_says == []


@pytest.mark.parametrize("name", [None, 5, b"toy", ["toy"], ""])
def test_what_is_no_name_of_a_model_is_refused(name):
    with pytest.raises(InputError):
        load_model(name)


@pytest.mark.parametrize("how", [{"dtype": "float8"}, {"dtype": None}, {"device": ["cpu"]}])
def test_an_unknown_type_or_device_is_refused_before_anything_is_loaded(how):
    with pytest.raises(InputError, match="must be one of"):
        load_model("toy", **how)


# Runs to chat with

RUN = {"model": "toy", "methods": []}
HELLO = ("--prompt", "Hello")
RUNS = {
    "a list": (b"[]", HELLO, "not a JSON object"),
    "too deep": (DEEP, HELLO, "is damaged"),
    "not UTF-8": (b"\xff", HELLO, "is damaged"),
    "no model": ({"methods": []}, HELLO, "does not name a model"),
    "no methods": ({"model": "toy"}, HELLO, "methods must be a list of names"),
    "methods in a text": ({**RUN, "methods": "dpo"}, HELLO, "methods must be a list of names"),
    "methods that are numbers": ({**RUN, "methods": [1]}, HELLO, "methods must be a list"),
    "a method that is a path": ({**RUN, "methods": ["../x"]}, HELLO, "methods must be a list"),
    "a method without a model": ({**RUN, "methods": ["dpo"]}, HELLO, "dpo"),
    "a model that is a number": ({**RUN, "model": 5}, HELLO, "does not name a model"),
    "a model too long": ({**RUN, "model": "x" * 5000}, HELLO, "…"),
    "a model that is not UTF-8": ({**RUN, "model": "\udcff"}, HELLO, "not valid UTF-8"),
    "a type that is unknown": ({**RUN, "dtype": ["x"]}, HELLO, "dtype must be one of"),
    "a device that is a number": ({**RUN, "device": 5}, HELLO, "device must be one of"),
    "a form that is a number": ({**RUN, "prompt_form": 5}, HELLO, "prompt_form must be text"),
    "a form without a place": ({**RUN, "prompt_form": "x"}, HELLO, "one {} for the prompt"),
    "a form with two": ({**RUN, "prompt_form": "{}{}"}, HELLO, "one {} for the prompt"),
    "a form with a name": ({**RUN, "prompt_form": "{x} {}"}, HELLO, "one {} for the prompt"),
    "a form that is open": ({**RUN, "prompt_form": "{} {"}, HELLO, "one {} for the prompt"),
    "a form that is null": ({**RUN, "prompt_form": None}, HELLO, "one {} for the prompt"),
    "temperature nan": (RUN, (*HELLO, "--temperature", "nan"), "temperature must be 0 or more"),
    "temperature below 0": (RUN, (*HELLO, "--temperature", "-1"), "not -1"),
    "temperature infinite": (RUN, (*HELLO, "--temperature", "1e400"), "not inf"),
    "seed below 0": (RUN, (*HELLO, "--seed", "-1"), "seed must be"),
    "seed too large": (RUN, (*HELLO, "--seed", str(2**63)), "seed must be"),
    "seed absurd": (RUN, (*HELLO, "--seed", "9" * 999), "seed must be"),
    "a prompt that is not UTF-8": (RUN, ("--prompt", "a\udcff"), "prompt 'a"),
    "nothing asked": ({**RUN, "prompt_form": "{}"}, ("--prompt", ""), "the prompt ''"),
}


@pytest.mark.parametrize(("config", "arguments", "word"), RUNS.values(), ids=RUNS)
def test_a_chat_with_what_is_no_run_or_no_question_is_refused(
    config, arguments, word, tmp_path, capfd
):
    content = config if isinstance(config, bytes) else json.dumps(config).encode()
    make(tmp_path, {"config.json": content})
    line = refuse(["chat", str(tmp_path), *arguments], capfd)
    assert word in line, line


@pytest.mark.parametrize(
    "prompt", ["{braces} {}", "%s {0.__class__}", "long " * 9999, "\x1b[2J[/b]"]
)
@pytest.mark.parametrize("heat", ["1e-300", "1e300"])
def test_any_other_prompt_is_answered_at_any_temperature(prompt, heat, tiny, tmp_path, capfd):
    make(tmp_path, {"config.json": json.dumps({**RUN, "model": str(tiny)}).encode()})
    arguments = ["--prompt", prompt, "--temperature", heat, "--json"]
    assert main(["chat", str(tmp_path), *arguments]) == 0
    assert json.loads(capfd.readouterr().out).keys() == {"reference"}


def test_what_cannot_be_asked_is_refused_before_anything_is_loaded(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("adadpo_mini.models.load.load_model", None)
    make(tmp_path, {"config.json": json.dumps(RUN).encode()})
    for option in ("--temperature", "--seed"):
        refuse(["chat", str(tmp_path), *HELLO, option, "-1"], capfd)


def test_a_model_of_another_vocabulary_than_its_runs_is_refused(tiny, tmp_path, capfd):
    make(tmp_path, {"config.json": json.dumps({**RUN, "methods": ["dpo"]}).encode()})
    folder = shutil.copytree(tiny, tmp_path / "dpo" / "model")
    edit("config.json", vocab_size=900)(folder)

    def widen(weights):
        for name in ("transformer.wte.weight", "lm_head.weight"):
            if name in weights:
                weights[name] = weights[name].repeat(2, 1)[:900].clone()

    weigh(widen)(folder)
    line = refuse(["chat", str(tmp_path), *HELLO], capfd)
    assert "reference 885, dpo 900" in line


# Logs

GOOD = b'{"step": 0, "loss": 0.69}\n'
LOGS = {
    "a list": (GOOD + b"[1]\n", "line 2: expected an object"),
    "too deep": (DEEP + b"\n", "line 1: JSON that cannot be read"),
    "too many digits": (b'{"step": %s}\n' % DIGITS, "line 1: JSON that cannot be read"),
    "damaged in its middle": (b'{"step": 0, "lo\n' + GOOD, "line 1: not valid JSON"),
    "zeros in its middle": (GOOD + bytes(9) + b"\n" + GOOD, "line 2: not valid JSON"),
    "a step below 0": (b'{"step": -1}\n', "line 1: its step must be"),
    "half a step": (GOOD + b'{"step": 0.5}\n', "line 2: its step must be"),
    "a step that is true": (b'{"step": true}\n', "not True"),
    "a step in words": (b'{"step": "one"}\n', "not 'one'"),
    "a step that is a list": (b'{"step": [1]}\n', "not [1]"),
    "a step that is no number": (b'{"step": NaN}\n', "not nan"),
    "a huge step": (b'{"step": 1e300}\n', "not 1e+300"),
    "no step": (b"{}\n", "has no step"),
    "only a torn line": (b'{"step": 0, "lo', "line 1: not valid JSON"),
}


@pytest.mark.parametrize(("content", "word"), LOGS.values(), ids=LOGS)
def test_a_damaged_log_is_refused(content, word, tmp_path, capfd):
    make(tmp_path, {"metrics.jsonl": content})
    line = refuse(["doctor", str(tmp_path)], capfd)
    assert word in line and "metrics.jsonl" in line


@pytest.mark.parametrize("content", [b"[]", b"{", DEEP, b'{"problem": [1]}', b"\xff"])
def test_a_log_with_a_damaged_summary_is_refused(content, tmp_path, capfd):
    files = {"config.json": json.dumps({**RUN, "methods": ["dpo"]}).encode()}
    make(tmp_path, {**files, "dpo/metrics.jsonl": GOOD, "summary.json": content})
    assert "summary.json" in refuse(["doctor", str(tmp_path)], capfd)


@pytest.mark.parametrize("end", [b'{"step": 1, "lo', bytes(4096), b'{"st\xc3', b'{"step": 1\0\0'])
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_a_torn_last_line_is_left_out_and_told_beside_the_report(end, option, tmp_path, capfd):
    make(tmp_path, {"metrics.jsonl": 3 * GOOD + end})
    assert main(["doctor", str(tmp_path), *option]) == 0
    said = capfd.readouterr()
    assert said.err == (
        f"adadpo-mini: the last line of {tmp_path / 'metrics.jsonl'} is incomplete and was left "
        "out.\n"
    )
    assert said.out and (not option or list(json.loads(said.out)) == [tmp_path.name])


# Settings

VALUES = (
    None, True, "x", "", [1], {}, float("nan"), float("inf"), -1, -0.0, 10**400, 10**5000, 1.5,
    object(), b"x", [[]],
)  # fmt: skip
FITS = {
    "data": ("x",), "model": ("x",), "threads": (None,), "pairs_at_once": (None,),
    "floor": (None, 1.5), "length_normalize": (True,), "checkpointing": (True,),
    "per_token": (True,), "snapshot_gb": (-0.0, 1.5), "gamma": (-0.0, 1.5), "alpha": (-0.0, 1.5),
    "nll_weight": (-0.0, 1.5), "penalty": (-0.0, 1.5), "beta": (1.5,), "learning_rate": (1.5,),
    "ceiling": (1.5,), "k": (1.5,), "ratio": (1.5,), "simpo_beta": (1.5,), "match_ratio": (True,),
}  # fmt: skip
NEEDS = {"match_ratio": {"methods": ("fixed_ratio",)}}


@pytest.mark.parametrize("name", RaceConfig.__dataclass_fields__)
def test_a_setting_of_a_wrong_type_is_refused_by_its_name(name):
    for value in VALUES:
        if any(value is fits for fits in FITS.get(name, ())):
            RaceConfig(**{name: value, **NEEDS.get(name, {})})
            continue
        words = rf"^({name} must be |there is no method 'x')"
        with pytest.raises(InputError, match=words) as caught:
            RaceConfig(**{name: value})
        assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_numbers_of_numpy_are_refused_unless_they_are_pythons_too():
    numpy = pytest.importorskip("numpy")
    for settings in (
        {"steps": numpy.int64(3)},
        {"beta": numpy.float32(1)},
        {"beta": numpy.ones(2)},
    ):
        [name] = settings
        with pytest.raises(InputError, match=name):
            RaceConfig(**settings)
    assert RaceConfig(beta=numpy.float64(0.5)).beta == 0.5


def test_one_method_or_several_may_be_given_as_a_text():
    assert RaceConfig(methods="dpo").methods == ("dpo",)
    assert RaceConfig(methods="dpo, ipo").methods == ("dpo", "ipo")


# Streams and signals, which only a process of its own has

COMMAND = f"{sys.executable} -m adadpo_mini"
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has no such shell")
full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk is /dev/full here")
STREAMS = {
    "closed output": ("losses >&-", 2, "standard output is closed"),
    "closed output and errors": ("losses >&- 2>&-", 2, ""),
    "closed input": ("chat {run} <&-", 2, "standard input is closed"),
    "input that is no text": ("chat {run} < {junk} > /dev/null", 2, "UTF-8"),
    "nobody reads": ("losses | true", 141, ""),
    "nobody reads the errors": ("race --steps x 2>&1 | true", 2, ""),
    "nobody reads anything": ("race {quick} 2>&1 | head -c 1", 141, ""),
    "nobody reads the help": ("race --help | true", 141, ""),
}


def sh(command):
    script = f"set -o pipefail; {COMMAND} {command}"
    environment = {**os.environ, "PYTHONUNBUFFERED": ""}  # so that there is something left to flush
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=60, env=environment
    )


@posix
@pytest.mark.parametrize(("command", "code", "word"), STREAMS.values(), ids=STREAMS)
def test_a_stream_that_is_closed_or_broken_is_told_or_borne(command, code, word, tiny, tmp_path):
    config = json.dumps({**RUN, "model": str(tiny)}).encode()
    make(tmp_path, {"run/config.json": config, "junk": b"\xff\n"})
    places = {"run": tmp_path / "run", "junk": tmp_path / "junk"}
    found = sh(command.format(**places, quick=" ".join([*QUICK, "--model", str(tiny)])))
    assert found.returncode == code, found
    assert len(found.stderr.splitlines()) == (1 if word else 0) and word in found.stderr, found


@posix
@full
@pytest.mark.parametrize("command", ["losses", "losses --json", "doctor --help", "doctor {log}"])
def test_output_onto_a_full_disk_is_told(command, tmp_path):
    make(tmp_path, {"log.jsonl": GOOD})
    found = sh(f"{command.format(log=tmp_path / 'log.jsonl')} > /dev/full")
    assert found.returncode == 2
    [line] = found.stderr.splitlines()
    assert line.startswith("adadpo-mini: standard output cannot be written (the disk is full")


IMPORTING = """
import os, signal, sys
from adadpo_mini.cli import entry as cli
from adadpo_mini.cli import makers

def listen(arguments):
    import slow

sys.path.insert(0, sys.argv[1])
makers.losses = listen
sys.argv = ["adadpo-mini", "losses"]
sys.exit(cli.main())
"""
SLOW = """
import os, signal
try:
    os.kill(os.getpid(), signal.{name})
    import time
    time.sleep(30)
except BaseException:  # as many a library does
    raise ImportError("not what it was")
"""


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_something_is_imported_ends_it_with_one_line(name, tmp_path):
    make(tmp_path, {"slow.py": SLOW.format(name=name).encode()})
    found = subprocess.run(
        [sys.executable, "-c", IMPORTING, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert (found.returncode, found.stderr) == (130, "adadpo-mini: interrupted.\n"), found


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_the_package_is_imported_ends_the_command_with_one_line(name, tmp_path):
    make(tmp_path, {"torch.py": SLOW.format(name=name).encode()})
    found = subprocess.run(
        [sys.executable, "-m", "adadpo_mini", "losses"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (found.returncode, found.stderr) == (130, "adadpo-mini: interrupted.\n"), found


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_while_a_model_is_loaded_is_an_interruption(name, tmp_path, capfd, monkeypatch):
    def load(*_, **__):
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(30)

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)]
    monkeypatch.setattr("adadpo_mini.models.load.load_model", load)
    make(tmp_path, {"config.json": json.dumps(RUN).encode()})
    assert main(["chat", str(tmp_path), *HELLO]) == 130
    assert capfd.readouterr().err == "adadpo-mini: interrupted.\n"
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)]


@posix
def test_a_signal_that_is_ignored_stays_ignored(tmp_path, capfd, monkeypatch):
    """As nohup does it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(
            "adadpo_mini.doctor.logs.read_log",
            lambda path: os.kill(os.getpid(), signal.SIGHUP) or 1 / 0,
        )
        with pytest.raises(ZeroDivisionError):
            main(["doctor", str(tmp_path)])
    finally:
        signal.signal(signal.SIGHUP, before)


# The page

SERVE = [sys.executable, "-m", "app"]
PORTS = {
    "too large a port": (["--port", "80000"], "not a port from 0 to 65535: '80000'"),
    "a port below 0": (["--port", "-1"], "not a port from 0 to 65535: '-1'"),
    "a port in words": (["--port", "http"], "not a port from 0 to 65535: 'http'"),
    "no host": (["--host", ""], "argument --host: it is empty"),
    "nobody's host": (["--host", "no host"], "--host 'no host' is not a known address"),
    "another machine": (["--host", "192.0.2.1"], "--host '192.0.2.1' is not an address of this"),
    "no folder for runs": (["--runs", ""], "argument --runs: it is empty"),
    "unknown": (["--prot", "1"], "--prot 1"),
}


@pytest.mark.parametrize(("arguments", "word"), PORTS.values(), ids=PORTS)
def test_the_page_refuses_where_it_cannot_be_served(arguments, word):
    found = subprocess.run([*SERVE, *arguments], capture_output=True, text=True, timeout=60)
    assert found.returncode == 2 and found.stdout == ""
    [line] = found.stderr.splitlines()
    assert line.startswith("python -m app: ") and word in line and line.endswith(".")


def test_the_page_refuses_a_port_that_is_taken():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [*SERVE, "--port", port]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert found.returncode == 2
    assert found.stderr.splitlines() == [
        f"python -m app: cannot listen on 127.0.0.1:{port}; if something runs there already, give "
        "another port with --port."
    ]


@posix
@pytest.mark.parametrize("host", ["::1", "127.0.0.1"])
def test_the_page_finds_a_free_port_tells_it_and_ends_with_one_line(host, tmp_path):
    pytest.importorskip("gradio")
    if host == "::1" and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    server = subprocess.Popen(
        [*SERVE, "--host", host, "--port", "0", "--runs", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        told = server.stdout.readline()
        url = re.search(r"http://\S+:\d+", told)[0]
        assert url.startswith("http://[::1]:" if host == "::1" else f"http://{host}:")
        assert urllib.request.urlopen(url, timeout=30).status == 200
        server.send_signal(signal.SIGTERM)
        out, err = server.communicate(timeout=60)
        loading, interrupted = err.splitlines()
        assert out == "" and interrupted == "python -m app: interrupted."
        assert loading == "python -m app: loading the dashboard …"
    finally:
        server.kill()
    assert server.returncode == 130
