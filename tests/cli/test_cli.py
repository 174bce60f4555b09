"""The command line: what it writes, what it says, and its exit codes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from adadpo_mini.cli.console import closing_table
from adadpo_mini.cli.entry import main
from adadpo_mini.doctor.presets import PRESETS

QUICK = ["--steps", "2", "--batch-size", "2", "--measure-every", "0"]


def test_bad_input_gives_exit_code_2_and_one_line(bad_file, capsys, transformers_says):
    path, words = bad_file
    assert main(["race", "--data", str(path), *QUICK]) == 2
    said = capsys.readouterr()
    lines = [*said.err.splitlines(), *transformers_says]
    assert len(lines) == 1 and lines[0].startswith("adadpo-mini: "), lines
    assert all(word in lines[0] for word in words)
    assert said.out == ""


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (
            ["--methods", "dpo,ppo"],
            "there is no method 'ppo'; did you mean 'rpo'? The methods are dpo, ",
        ),
        (["--methods", "dpo,simpo,dpo"], "'dpo' is listed twice"),
        (["--methods", ","], "methods must be one or more of dpo, "),
        (["--steps", "0"], "steps"),
        (["--beta", "-1"], "beta"),
        (["--seed", "99999999999999999999999"], "seed"),
        (["--seed", "-1"], "seed"),
        (["--beta", "inf"], "beta"),
        (["--beta", "nan"], "beta"),
        (["--methods", "fixed_ratio", "--ratio", "1e30"], "ratio"),
        (["--model", "/nowhere/at/all"], "no such folder"),
        (["--model", "gpt2"], "HF_HUB_OFFLINE"),
    ],
)
def test_bad_arguments_give_exit_code_2_and_say_which(arguments, word, capsys):
    assert main(["race", *QUICK, *arguments]) == 2
    assert word in capsys.readouterr().err


def test_race_writes_the_run_folder_and_prints_the_closing_table(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--data", "swap", "--methods", "dpo,adadpo", "--seed", "0", "--out", str(out)]
    assert main(["race", *QUICK, *arguments]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Δchosen", "Δrejected", "Win rate", "adadpo"))
    assert json.loads((out / "config.json").read_text())["data"] == "swap"
    assert main(["race", *QUICK, *arguments]) == 2
    assert "already contains a run" in capsys.readouterr().err

    assert main(["chat", str(out), "--prompt", "How do I stir the vegan pasta?", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert set(answers) == {"reference", "dpo", "adadpo"} and all(answers.values())


def test_a_preset_sets_what_is_not_said(tmp_path):
    out = tmp_path / "run"
    said = ["--steps", "1", "--methods", "adadpo", "--measure-every", "0"]
    assert main(["race", "--preset", "both_sink", *said, "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    settings = PRESETS["both_sink"].settings
    assert config["data"] == settings["data"] and config["batch_size"] == settings["batch_size"]
    assert config["steps"] == 1 and config["methods"] == ["adadpo"]
    assert main(["race", "--preset", "nonsense"]) == 2


def test_the_closing_table_has_each_number_in_its_column(capsys):
    row = {
        "steps": 9, "delta_chosen": -1.25, "delta_rejected": -20.5, "accuracy": 0.75,
        "ranking_accuracy": 0.25, "margin": 3.5, "win_rate": 0.625, "win_rate_at_1": 0.375,
        "seconds": 1.0,
    }  # fmt: skip
    summary = {"data": "my[x].jsonl", "seed": 4, "status": "finished", "trained_on_held_out": True}
    closing_table({**summary, "methods": {"dpo": row, "adadpo": {"steps": 0}}}, None)
    printed = capsys.readouterr().out
    assert "my[x].jsonl, seed 4: finished" in printed and "same prompt" in printed
    titles = next(line for line in printed.splitlines() if line.startswith("method")).split()
    assert titles[:7] == [
        "method", "steps", "Δchosen", "Δrejected", "accuracy", "ranking", "margin"
    ]  # fmt: skip
    numbers = ["9", "-1.2", "-20.5", "0.75", "0.25", "3.50", "0.62", "0.38"]
    assert row_of("dpo", printed) == numbers


def row_of(method, printed):
    [line] = [line for line in printed.splitlines() if line.startswith(f"{method} ")]
    return line.split()[1:]


def test_every_win_rate_is_shown_with_its_temperature(capsys):
    row = {"steps": 9, "win_rate": 0.11, "win_rate_at_1": 0.99}
    summary = {"data": "tone", "seed": 0, "status": "finished", "trained_on_held_out": False}
    closing_table({**summary, "methods": {"dpo": row}}, None)
    lines = capsys.readouterr().out.splitlines()
    [cells] = [line for line in lines if "0.11" in line]
    title_of = {}
    for number in ("0.11", "0.99"):
        here = slice(cells.index(number) - 5, cells.index(number) + 4)
        title_of[number] = " ".join(line[here] for line in lines[1 : lines.index(cells)])
    assert "T 0.7" in title_of["0.11"] and "T 1" in title_of["0.99"]
    assert "temperature T" in " ".join(lines)


def test_what_was_no_number_is_a_dash_in_the_closing_table(capsys):
    """As in a summary that was read from a file, where JSON has null."""
    row = {"steps": 9, "delta_chosen": None, "delta_rejected": -1.0, "win_rate": None}
    summary = {"data": "tone", "seed": 0, "status": "finished", "trained_on_held_out": False}
    closing_table({**summary, "methods": {"dpo": row}}, None)
    assert row_of("dpo", capsys.readouterr().out) == ["9", "–", "-1.0", *"–––––"]


def test_no_method_that_there_is_resembles_this_one(capsys):
    assert main(["race", *QUICK, "--methods", "zzz"]) == 2
    assert "there is no method 'zzz'. The methods are dpo, " in capsys.readouterr().err


def test_brackets_in_a_prompt_are_text_and_a_pipe_gets_whole_lines(tiny, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps({"model": str(tiny), "methods": []}))
    assert main(["chat", str(tmp_path), "--prompt", "[/b] [red]hi"]) == 0
    printed = capsys.readouterr().out
    assert "[/b] [red]hi" in printed and printed.endswith("┘\n") and printed.count("reference") == 1


def test_json_is_all_that_is_printed_when_asked_for(capsys):
    assert main(["train", "--method", "adadpo", *QUICK, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["status"] == "finished"
    assert set(summary["methods"]["adadpo"]) == {
        "steps", "delta_chosen", "delta_rejected", "accuracy", "ranking_accuracy", "margin",
        "win_rate", "win_rate_at_1", "seconds",
    }  # fmt: skip


def test_a_users_own_file_can_be_raced(tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    row = {"prompt": "Why?\n", "chosen": "Because.", "rejected": "No."}
    path.write_text("".join(json.dumps({**row, "prompt": f"Why {i}?\n"}) + "\n" for i in range(30)))
    assert main(["race", "--data", str(path), *QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"]["dpo"]["win_rate"] is None


def test_a_chat_with_no_run_is_refused(tmp_path, capsys):
    assert main(["chat", str(tmp_path), "--prompt", "Hello"]) == 2
    assert "does not contain a run" in capsys.readouterr().err


def test_a_chat_with_a_broken_or_half_written_run_is_refused(tmp_path, capsys):
    settings = tmp_path / "config.json"
    for content, word in (('{"model": "toy", "methods": ["dpo"]}', "dpo"), ("{", "config.json")):
        settings.write_text(content)
        assert main(["chat", str(tmp_path), "--prompt", "Hello"]) == 2
        assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "code"), [(["Hello", ""], 0), (["Hello", EOFError], 0), ([KeyboardInterrupt], 130)]
)
def test_a_chat_goes_on_until_it_is_left(typed, code, tiny, tmp_path, capsys, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model": str(tiny), "methods": []}))
    lines = iter(typed)

    def type_next(prompt):
        line = next(lines)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", type_next)
    assert main(["chat", str(tmp_path)]) == code
    said = capsys.readouterr()
    assert ("reference" in said.out) == ("Hello" in said.out) == ("Hello" in typed)
    assert ("interrupted" in said.err) == (code == 130)


def test_a_divergent_race_gives_exit_code_2_and_its_summary(tiny, capsys):
    arguments = ["--model", str(tiny), "--lr", "1e6", "--steps", "9", "--batch-size", "2", "--json"]
    assert main(["race", *arguments]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["status"] == "diverged"
    assert "lower the learning rate" in said.err.splitlines()[-1]


def results(rows: str) -> str:
    """A sweep's file with these rows of experiment, data, method, seed, shifts and win rate."""
    from adadpo_mini.paper.results import COLUMNS

    names = ("experiment", "data", "method", "seed", "shift_chosen", "shift_rejected", "win_rate")
    same = {"steps": 120, "batch_size": 16, "beta": 0.1, "learning_rate": 2e-4, "step": 120}
    same |= {"prompts": 100, "win_rate_at_1": 0.25, "perfect_win_rate": 0.9, "mean_rho": 1.5}
    lines = [",".join(COLUMNS)]
    for row in rows.split():
        values = {**same, **dict(zip(names, row.split(","), strict=True))}
        lines.append(",".join(str(values.get(name, "")) for name in COLUMNS))
    return "\n".join(lines) + "\n"


RUNS = ("sets,swap,dpo", "sets,swap,adadpo", "sets,swap,rpo", "matched,swap,fixed_ratio")
SETS_ROWS = " ".join(f"{run},0,-1.0,-5.0,0.25 {run},1,-3.0,-7.0,0.75" for run in RUNS)


def test_table_prints_a_sweeps_results_or_writes_them_into_a_document(tmp_path, capsys):
    file, document = tmp_path / "results.csv", tmp_path / "page.md"
    file.write_text(results(SETS_ROWS))
    assert main(["table", "sets", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "−2.0 ± 12.7 / −6.0 ± 12.7" in printed  # t(0.975, 1) = 12.706, s/√n = 1
    assert "0.50 ± 3.18; T 1: 0.25 ± 0.00" in printed and "2 seeds" in printed
    document.write_text("<!-- sets:begin -->\n<!-- sets:end -->\n")
    assert main(["table", "sets", str(file), "--into", str(document)]) == 0
    assert printed.strip() in document.read_text()


def test_table_refuses_what_it_cannot_read_or_write(tmp_path, capsys):
    header, half, whole = (tmp_path / f"{name}.csv" for name in ("header", "half", "whole"))
    header.write_text(results(""))
    half.write_text(results(SETS_ROWS + " sets,tone,dpo,0,-1.0,-5.0,0.25"))
    whole.write_text(results(SETS_ROWS))
    for arguments in (
        [str(tmp_path / "none.csv")],
        [str(header)],
        [str(half)],
        [str(whole), "--into", str(tmp_path / "none.md")],
    ):
        assert main(["table", "sets", *arguments]) == 2
        assert capsys.readouterr().err.startswith("adadpo-mini: ")


def test_losses_prints_the_table_or_the_same_as_json(capsys):
    assert main(["losses"]) == 0
    printed = capsys.readouterr().out
    assert "AdaDPO" in printed and "arXiv:2305.18290" in printed
    assert main(["losses", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows["adadpo"]["source"] == "arXiv:2605.28440" and len(rows) >= 14


LONG = [
    "--data", "refusal", "--steps", "100000", "--batch-size", "2", "--measure-every", "0",
]  # fmt: skip


def wait_for_events(out):
    metrics = out / "adadpo" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def assert_whole(out):
    assert json.loads((out / "summary.json").read_text())["status"] == "interrupted"
    for method in ("dpo", "adadpo"):
        lines = (out / method / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["step"] for line in lines] == list(range(len(lines)))
        assert (out / method / "model" / "model.safetensors").is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT to send")
def test_an_interrupted_race_exits_with_130_and_leaves_a_whole_folder(tmp_path, tiny):
    out = tmp_path / "run"
    running = subprocess.Popen(
        [sys.executable, "-m", "adadpo_mini", "race", *LONG, "--model", tiny, "--out", out],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        wait_for_events(out)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    finally:
        running.kill()
    assert running.returncode == 130, said
    assert "Traceback" not in said
    assert_whole(out)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals to send")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_terminated_race_leaves_a_whole_folder_too(name, tmp_path, tiny, capsys):
    """In this process; should the command not catch the signal, `unheard` does."""
    out, number = tmp_path / "run", getattr(signal, name, None)

    def unheard(signum, frame):
        raise RuntimeError(f"the command did not catch {name}")

    def terminate():
        wait_for_events(out)
        os.kill(os.getpid(), number)

    before = signal.signal(number, unheard)
    try:
        threading.Thread(target=terminate, daemon=True).start()
        assert main(["race", *LONG, "--model", str(tiny), "--out", str(out)]) == 130
    finally:
        assert signal.signal(number, before) is unheard, "put back"
    assert_whole(out)
