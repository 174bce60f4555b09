"""Help, version, examples and suggestions; and that none of these waits for torch."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import fields

import pytest

from adadpo_mini import InputError, RaceConfig, load_pairs, race
from adadpo_mini.cli.entry import main
from adadpo_mini.cli.parser import build_parser
from adadpo_mini.doctor.presets import find_preset
from adadpo_mini.errors import did_you_mean
from adadpo_mini.methods import ALL_METHODS

COMMANDS = (
    "race", "train", "resume", "chat", "inspect", "doctor", "losses", "sweep", "table", "report",
    "data", "pretrain", "app", "lessons",
)  # fmt: skip
QUICK = ("--steps", "1", "--batch-size", "2", "--measure-every", "0")


def help_of(capsys, *command):
    with pytest.raises(SystemExit) as done:
        main([*command, "--help"])
    assert done.value.code == 0
    return " ".join(capsys.readouterr().out.split())


# Flags, from the fields of RaceConfig

VALUES = {
    "data": ("swap", "swap"), "model": ("toy", "toy"), "steps": ("1", 1),
    "methods": ("adadpo, fixed_ratio", ["adadpo", "fixed_ratio"]), "batch_size": ("3", 3),
    "beta": ("0.2", 0.2), "learning_rate": ("0.003", 0.003), "seed": ("7", 7),
    "eval_every": ("2", 2), "eval_pairs": ("3", 3), "measure_every": ("0", 0),
    "threads": ("1", 1), "snapshot_every": ("1", 1), "snapshot_gb": ("2.5", 2.5),
    "device": ("cpu", "cpu"), "dtype": ("bfloat16", "bfloat16"), "pairs_at_once": ("2", 2),
    "checkpointing": (None, True), "lora_rank": ("2", 2), "ceiling": ("3", 3.0),
    "space": ("policy", "policy"), "length_normalize": (None, False), "k": ("1.5", 1.5),
    "floor": ("0.5", 0.5), "ratio": ("4", 4.0), "gamma": ("0.7", 0.7), "alpha": ("0.03", 0.03),
    "nll_weight": ("0.4", 0.4), "penalty": ("9", 9.0), "per_token": (None, True),
    "simpo_beta": ("3", 3.0), "match_ratio": (None, True),
}  # fmt: skip
FLAGS = {name: f"--{name.replace('_', '-')}" for name in VALUES}
FLAGS |= {"learning_rate": "--lr", "length_normalize": "--raw"}


def test_every_setting_has_a_flag_that_reaches_the_race(tmp_path):
    out = tmp_path / "run"
    said = [(FLAGS[name], word) for name, (word, _) in VALUES.items()]
    flags = [word for pair in said for word in pair if word is not None]
    assert main(["race", *flags, "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    wanted = {name: value for name, (_, value) in VALUES.items()}
    # match_ratio replaces the ratio by AdaDPO's, which the floor, k and the ceiling decide.
    assert 0.5 <= config["ratio"] <= 3 and config["ratio"] != wanted["ratio"]
    found = {one.name: config[one.name] for one in fields(RaceConfig)}
    assert {**found, "ratio": wanted["ratio"]} == wanted
    assert all(wanted[one.name] != one.default for one in fields(RaceConfig) if one.name != "model")


@pytest.mark.parametrize("command", ["race", "train"])
def test_help_shows_the_default_that_a_race_has(command, capsys):
    """Against the settings of a race without arguments, not against the text of the field."""
    told, config = help_of(capsys, command).partition("options:")[2], RaceConfig().as_dict()
    in_words = {"threads": "chosen by model size", "pairs_at_once": "the whole batch"}
    for name, (word, _) in VALUES.items():
        if name == "methods" and command == "train":
            assert "--methods" not in told
            continue
        if word is None:  # a flag without a value: that it is off is plain
            assert re.search(rf"{FLAGS[name]} (?!\(default)", told), name
            continue
        default = ",".join(config[name]) if name == "methods" else config[name]
        shown = f"{default:g}" if isinstance(default, float) else str(default).lower()
        said = re.search(rf" {FLAGS[name]} .*?\(default: (.*?)\)", told)[1]
        assert said.lower() == in_words.get(name, shown), name


# Help, version, examples


def test_every_command_is_in_the_help_and_has_one(capsys):
    told = help_of(capsys)
    for command in COMMANDS:
        assert f" {command} " in told
        assert f"usage: adadpo-mini {command} " in help_of(capsys, command)
    names = build_parser().format_usage() + told
    assert "inspect" in names and len(COMMANDS) == 14


def example_of(capsys, *command):
    return shlex.split(help_of(capsys, *command).partition("Example: adadpo-mini ")[2])


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_the_help_of_every_command_has_an_example_that_is_understood(command, capsys):
    example = example_of(capsys, *command)
    assert example[:1] == [*command] or (not command and example[0] == "race")
    assert build_parser().parse_args(example).run


def test_the_examples_of_the_commands_about_a_run_work(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = ["--steps", "1", "--batch-size", "2", "--threads", "1"]
    assert main([*example_of(capsys, "race"), *small]) == 0
    for command in ("resume", "chat", "doctor", "inspect", "report", "losses", "data", "lessons"):
        more = ["--no-open"] if command == "lessons" else []
        assert main([*example_of(capsys, command), *more]) == 0, command
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "toy-data", "lessons"}
    assert (tmp_path / "runs" / "swap" / "report.html").is_file()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_says_what_it_is_besides_its_default(command, capsys):
    told = help_of(capsys, command).partition("options:")[2]
    told = told.partition("Example:")[0]
    bare = re.findall(r"(--[a-z-]+)(?: [A-Z_]+| \{\S+\})? (?:\(default|--[a-z]|$)", told)
    assert "--help" in told and bare == []


def test_version_is_that_of_the_package(capsys):
    from importlib.metadata import version

    with pytest.raises(SystemExit) as done:
        main(["--version"])
    assert done.value.code == 0
    assert capsys.readouterr().out == f"adadpo-mini {version('adadpo-mini')}\n"


def test_python_dash_m_is_the_same_command():
    run = subprocess.run(
        [sys.executable, "-m", "adadpo_mini", "--help"], capture_output=True, text=True, check=True
    )
    assert all(command in run.stdout for command in COMMANDS)


# Suggestions

TYPOS = {
    "command": (["rase"], "did you mean 'race'?"),
    "data set": (["race", *QUICK, "--data", "tne"], "did you mean 'tone'?"),
    "method": (["race", *QUICK, "--methods", "dpo,adpo"], "did you mean 'adadpo'?"),
    "one method": (["train", *QUICK, "--method", "simpoo"], "did you mean 'simpo'?"),
    "preset": (["race", "--preset", "helthy"], "did you mean 'healthy'?"),
    "engine": (["train", "--engine", "trll"], "did you mean 'trl'?"),
    "space": (["race", "--space", "ration"], "did you mean 'ratio'?"),
    "flag": (["train", "--methods", "dpo"], "'--method'? See `adadpo-mini train --help`."),
    "flag with =": (["race", "--stepz=3"], "did you mean '--steps'?"),
    "flag by its field": (["race", "--learning_rate", "1"], "did you mean '--lr'?"),
    "flag of all commands": (["--versoin", "losses"], "did you mean '--version'?"),
    "kind of table": (["table", "claim", "x.csv"], "did you mean 'claims'?"),
}


@pytest.mark.parametrize(("arguments", "guess"), TYPOS.values(), ids=TYPOS)
def test_a_mistyped_name_is_answered_with_the_one_meant(arguments, guess, capsys):
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = leaving.code
    said = capsys.readouterr()
    assert code == 2 and said.out == ""
    assert guess in said.err and len(said.err.splitlines()) == 1


def test_from_python_too():
    for wrong, guess in (
        (lambda: race(data="tne"), "tone"),
        (lambda: load_pairs("swp"), "swap"),
        (lambda: RaceConfig(methods=("adpo",)), "adadpo"),
        (lambda: RaceConfig(space="polcy"), "policy"),
        (lambda: race(engine="onw"), "own"),
        (lambda: find_preset("saturate"), "saturated"),
    ):
        with pytest.raises(InputError, match=rf"; did you mean '{guess}'\?( The methods are |$)"):
            wrong()


@pytest.mark.parametrize("word", ["ppo!", "", "x" * 9999, 5, None, ["dpo"]])
def test_nothing_is_suggested_for_a_word_like_no_other(word):
    assert did_you_mean(word, ALL_METHODS) == "."


# Nothing of this loads torch


LIGHT = (
    "--help", "--version", "race --help", "rase", "race --steps x", "race --steps 0",
    "race --preset nothing", "race --space x",
    "resume {no}", "doctor {run}", "doctor {no}", "data build --out {no}/x", "app --port x",
)  # fmt: skip


@pytest.mark.parametrize("command", LIGHT)
def test_help_and_refusals_do_not_load_torch(command, tmp_path):
    (tmp_path / "torch.py").write_text("import os\nos._exit(99)\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 0, "loss": 0.69}\n')
    words = command.format(run=tmp_path / "run", no=tmp_path / "none").split()
    found = subprocess.run(
        [sys.executable, "-m", "adadpo_mini", *words],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    fine = command.startswith(("doctor {run}", "data")) or "--help" in words or "--version" in words
    assert found.returncode == (0 if fine else 2), found.stderr


# What is written where


def test_sets_and_models_are_written_here_and_not_into_the_package(tmp_path, monkeypatch, capsys):
    from adadpo_mini.toyworld import data_dir

    before = {path: path.stat().st_mtime_ns for path in data_dir().rglob("*.json*")}
    monkeypatch.chdir(tmp_path)
    assert main(["data", "build"]) == 0
    assert "toy-data/tone/train.jsonl" in capsys.readouterr().out
    made = (tmp_path / "toy-data" / "tone" / "train.jsonl").read_bytes()
    assert made == (data_dir() / "tone" / "train.jsonl").read_bytes()
    assert main(["pretrain", "--steps", "1", "--threads", "1"]) == 0
    assert capsys.readouterr().out == "toy-gpt2\n"
    assert (tmp_path / "toy-gpt2" / "model.safetensors").is_file()
    assert before == {path: path.stat().st_mtime_ns for path in data_dir().rglob("*.json*")}
    assert main(["race", *QUICK, "--model", "./toy-gpt2"]) == 0


def test_the_package_is_written_only_when_asked(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("adadpo_mini.toyworld.data_dir", lambda: tmp_path / "installed")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "build", "--in-package"]) == 0
    assert main(["pretrain", "--in-package", "--steps", "1", "--threads", "1"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["installed"]
    assert (tmp_path / "installed" / "models" / "toy-gpt2" / "config.json").is_file()
    for command in (["data", "build"], ["pretrain"]):
        with pytest.raises(SystemExit):
            main([*command, "--in-package", "--out", "x"])
        assert "not allowed with" in capsys.readouterr().err
