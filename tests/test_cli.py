"""The command line: what it writes, what it says, and its exit codes."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from adadpo_mini.cli import main

QUICK = ["--steps", "2", "--batch-size", "2"]
COMMANDS = ("race", "train", "chat", "data", "pretrain", "sweep", "table")


@pytest.fixture
def transformers_says():
    """What transformers logs. It writes to the stderr of the process, which capsys does not see;
    caplog would see it, but also what any other library says meanwhile."""
    messages = []
    listener = logging.Handler()
    listener.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("transformers").addHandler(listener)
    yield messages
    logging.getLogger("transformers").removeHandler(listener)


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
        (["--methods", "dpo,ppo"], "ppo"),
        (["--steps", "0"], "steps"),
        (["--beta", "-1"], "beta"),
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
    assert all(word in printed for word in ("Δchosen", "Δrejected", "win rate", "adadpo"))
    assert json.loads((out / "config.json").read_text())["data"] == "swap"
    assert main(["race", *QUICK, *arguments]) == 2
    assert "already holds a run" in capsys.readouterr().err

    assert main(["chat", str(out), "--prompt", "How do I stir the vegan pasta?", "--json"]) == 0
    answers = json.loads(capsys.readouterr().out)
    assert set(answers) == {"reference", "dpo", "adadpo"} and all(answers.values())


def test_json_is_all_that_is_printed_when_asked_for(capsys):
    assert main(["train", "--method", "adadpo", *QUICK, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["status"] == "finished"
    assert set(summary["methods"]["adadpo"]) == {
        "steps", "delta_chosen", "delta_rejected", "accuracy", "margin", "win_rate", "seconds",
    }  # fmt: skip


def test_a_users_own_file_can_be_raced(tmp_path, capsys):
    path = tmp_path / "mine.jsonl"
    row = {"prompt": "Why?\n", "chosen": "Because.", "rejected": "No."}
    path.write_text("".join(json.dumps({**row, "prompt": f"Why {i}?\n"}) + "\n" for i in range(30)))
    assert main(["race", "--data", str(path), *QUICK, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["methods"]["dpo"]["win_rate"] is None


def test_a_chat_with_no_run_is_refused(tmp_path, capsys):
    assert main(["chat", str(tmp_path), "--prompt", "Hello"]) == 2
    assert "holds no run" in capsys.readouterr().err


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


RESULTS = """\
data,seed,method,steps,batch_size,beta,learning_rate,delta_chosen,delta_rejected,accuracy,margin,win_rate
swap,0,dpo,120,16,0.1,0.0002,-1.0,-5.0,1.0,0.4,0.25
swap,1,dpo,120,16,0.1,0.0002,-3.0,-7.0,1.0,0.4,0.75
"""  # noqa: E501


def test_table_prints_a_sweeps_results_or_writes_them_into_a_document(tmp_path, capsys):
    results, document = tmp_path / "results.csv", tmp_path / "page.md"
    results.write_text(RESULTS)
    assert main(["table", str(results)]) == 0
    printed = capsys.readouterr().out
    assert "−2.0 ± 12.7 / −6.0 ± 12.7" in printed  # t(0.975, 1) = 12.706, s/√n = 1
    assert "0.50 ± 3.18" in printed and "2 seeds" in printed
    document.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    assert main(["table", str(results), "--into", str(document)]) == 0
    assert printed.strip() in document.read_text()


def test_table_refuses_what_it_cannot_read_or_write(tmp_path, capsys):
    header = tmp_path / "header.csv"
    header.write_text(RESULTS.splitlines()[0] + "\n")
    results = tmp_path / "results.csv"
    results.write_text(RESULTS)
    for arguments in (
        [str(tmp_path / "none.csv")],
        [str(header)],
        [str(results), "--into", str(tmp_path / "none.md")],
    ):
        assert main(["table", *arguments]) == 2
        assert capsys.readouterr().err.startswith("adadpo-mini: ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0 and command in capsys.readouterr().out


def test_python_dash_m_is_the_same_command():
    run = subprocess.run(
        [sys.executable, "-m", "adadpo_mini", "--help"], capture_output=True, text=True, check=True
    )
    assert all(command in run.stdout for command in COMMANDS)


LONG = ["--data", "refusal", "--steps", "100000", "--batch-size", "2"]


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


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_a_terminated_race_leaves_a_whole_folder_too(tmp_path, tiny, capsys):
    """In this process; should the command not catch the signal, `unheard` does."""
    out = tmp_path / "run"

    def unheard(signum, frame):
        raise RuntimeError("the command did not catch SIGTERM")

    def terminate():
        wait_for_events(out)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, unheard)
    try:
        threading.Thread(target=terminate, daemon=True).start()
        assert main(["race", *LONG, "--model", str(tiny), "--out", str(out)]) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert_whole(out)
