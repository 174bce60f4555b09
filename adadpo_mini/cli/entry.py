"""The command line: what can be said on it. What then is done is in `commands.py`."""

import argparse
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

from adadpo_mini.cli import commands
from adadpo_mini.errors import InputError
from adadpo_mini.system.files import cannot_write, user_path
from adadpo_mini.system.signals import NUMBERS


class Parser(argparse.ArgumentParser):
    """Refuses what it does not understand in one line, and does not lose its help in silence."""

    def print_help(self, file: TextIO | None = None) -> None:
        """Print the help, or raise OSError."""
        print(self.format_help(), end="", file=file, flush=True)

    def error(self, message: str) -> NoReturn:
        """Leave with code 2."""
        self.exit(2, f"{self.prog}: {one_line(message).rstrip('.')}; see `{self.prog} --help`.\n")


def build_parser() -> Parser:
    """All commands with their options."""
    parser = Parser(prog="adadpo-mini", description="Learn DPO and AdaDPO by watching them train.")
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable, help: str, **options: object) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=help, description=help, **options)
        verb.set_defaults(run=run)
        return verb

    _add_races(command)
    _add_readers(command)
    _add_makers(command)
    return parser


def _add_races(command: Callable) -> None:
    # What is not said stays out of the namespace: presets and RaceConfig have the defaults.
    unsaid = {"argument_default": argparse.SUPPRESS}
    race = command("race", commands.race, "train several methods side by side", **unsaid)
    race.add_argument(
        "--methods", help="comma-separated, of `adadpo-mini losses` and rlhf (default: dpo,adadpo)"
    )
    race.add_argument("--preset", help="settings that reproduce what users ask about, see doctor")
    _add_training(race)
    train = command("train", commands.race, "train one method", **unsaid)
    train.add_argument("--method", dest="method", default="adadpo", help="(default: adadpo)")
    train.add_argument("--engine", choices=["own", "trl"], help="what trains (default: own)")
    _add_training(train)

    resume = command("resume", commands.resume, "go on with a race that was interrupted")
    resume.add_argument("out", metavar="folder", type=_path, help="the run folder")
    resume.add_argument("--json", action="store_true", help="print the summary as JSON")


def _add_readers(command: Callable) -> None:
    chat = command("chat", commands.chat, "ask the models of a run folder, side by side")
    chat.add_argument("folder", type=_path, help="a folder that `race --out` wrote")
    chat.add_argument("--step", type=int, help="ask the snapshots of this step (default: the end)")
    chat.add_argument("--prompt", help="ask this and leave; without it, ask again and again")
    chat.add_argument("--temperature", type=float, default=0.7)
    chat.add_argument("--seed", type=int, default=0)
    chat.add_argument("--json", action="store_true", help="print the answers as JSON")

    doctor = command("doctor", commands.doctor, "say in plain words what went on in a run")
    doctor.add_argument(
        "log", type=_path, help="a run folder, a metrics.jsonl, or a TRL trainer_state.json"
    )
    doctor.add_argument("--json", action="store_true", help="print the diagnoses as JSON")

    losses = command("losses", commands.losses, "the table of all losses")
    losses.add_argument("--json", action="store_true", help="print it as JSON")
    losses.add_argument("--into", type=_path, help="write it between this document's markers")


def _add_makers(command: Callable) -> None:
    data = command("data", commands.data, "build the toy preference sets")
    data.add_argument("action", choices=["build"])
    data.add_argument("--out", type=_path, help="folder to write to (default: the package's data)")
    data.add_argument("--seed", type=int, default=0)

    pretrain = command("pretrain", commands.pretrain, "make the toy base model again (minutes)")
    pretrain.add_argument("--out", type=_path, help="folder (default: the package's toy model)")
    pretrain.add_argument("--steps", type=int, default=800)
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--threads", type=int, default=os.cpu_count())

    sweep = command("sweep", commands.sweep, "race many settings with several seeds, into a file")
    sweep.add_argument(
        "plan",
        nargs="?",
        choices=["paper", "sets"],
        default="paper",
        help="the AdaDPO paper in miniature, or every toy set at the default settings",
    )
    sweep.add_argument("--quick", action="store_true", help="a small part of paper, in minutes")
    sweep.add_argument("--processes", type=int, help="races at a time (default: one a core)")
    sweep.add_argument("--out", type=_path, help="the CSV file; resumed if it exists")

    table = command("table", commands.table, "a sweep's results as a Markdown table")
    table.add_argument("kind", choices=["sets", "claims"])
    table.add_argument("results", type=_path, help="the CSV file of `sweep sets` or `sweep paper`")
    table.add_argument("--into", type=_path, help="write it between this document's markers")

    report = command("report", commands.report, "a sweep's results as one HTML file")
    report.add_argument("results", type=_path, help="the CSV file of `sweep paper`")
    report.add_argument("--out", type=_path, help="the HTML file (default: beside the results)")


def _path(text: str) -> Path:
    try:
        return user_path(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _name(text: str) -> str:
    """A name, or a path; which of the two is found out later."""
    _path(text)
    return text


def _add_training(parser: argparse.ArgumentParser) -> None:
    """The fields of RaceConfig, each under its own name."""
    parser.add_argument(
        "--data",
        type=_name,
        help="a toy set, a file (JSON lines, JSON, CSV, Parquet), a folder that `datasets` saved, "
        "or a hub name (default: tone)",
    )
    parser.add_argument("--model", type=_name, help="toy, a folder, or a hub name (default: toy)")
    parser.add_argument("--steps", type=int, help="(default: 120)")
    parser.add_argument("--batch-size", type=int, help="pairs in a step (default: 16)")
    parser.add_argument("--beta", type=float, help="(default: 0.1)")
    parser.add_argument(
        "--lr", dest="learning_rate", type=float, help="learning rate (default: 0.0002)"
    )
    parser.add_argument("--seed", type=int, help="(default: 0)")
    parser.add_argument("--measure-every", type=int, help="steps between slow measurements (60)")
    parser.add_argument("--threads", type=int, help="CPU threads of a method (automatic)")
    parser.add_argument("--snapshot-every", type=int, help="steps between kept models (0: never)")
    parser.add_argument(
        "--snapshot-gb", type=float, help="room for all snapshots, in GB (default: 5)"
    )
    parser.add_argument("--device", help="cpu, cuda or mps (default: a GPU for a large model)")
    parser.add_argument("--dtype", help="float32 or bfloat16 (default: float32)")
    parser.add_argument("--pairs-at-once", type=int, help="in a forward pass (default: the batch)")
    parser.add_argument("--checkpointing", action="store_true", help="less memory, more time")
    parser.add_argument("--lora-rank", type=int, help="train an adapter instead (default: 0, no)")
    parser.add_argument("--out", type=_path, default=None, help="run folder to write")
    parser.add_argument(
        "--json", action="store_true", default=False, help="print the summary as JSON"
    )
    knobs = parser.add_argument_group("knobs of the losses that have them")
    knobs.add_argument("--ceiling", type=float, help="C of AdaDPO and its kin (default: 2)")
    knobs.add_argument("--floor", type=float, help="their floor, not in the paper (default: none)")
    knobs.add_argument("--k", type=float, help="their k (default: 1)")
    knobs.add_argument("--space", choices=["ratio", "policy"], help="of adadpo (default: ratio)")
    knobs.add_argument(
        "--raw", dest="length_normalize", action="store_false", help="adadpo without |y|"
    )
    knobs.add_argument("--ratio", type=float, help="c of fixed_ratio (default: 2)")
    knobs.add_argument("--gamma", type=float, help="γ of SimPO (default: 0.5)")
    knobs.add_argument("--alpha", type=float, help="α of R-DPO (default: 0.01)")
    knobs.add_argument("--nll-weight", type=float, help="of CPO's, ORPO's imitation (default: 1)")
    knobs.add_argument("--penalty", type=float, help="λ of DPOP (default: 50)")
    knobs.add_argument("--per-token", action="store_true", help="IPO with u/|y|, as in TRL")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; None for those of the process, whose end is then the command's.

    Returns:
        The exit code: 0 done, 2 bad input, 130 interrupted, 141 nobody reads the output.
    """
    with _caught_signals(whole_process=argv is None):
        try:
            _check_streams()
            code = _run(argv)
            sys.stdout.flush()
            return code
        except (InputError, FloatingPointError) as error:
            return _refuse(str(error))
        except BrokenPipeError:
            return 141  # as a shell reports it
        except OSError as error:
            return _refuse(_trouble(error))
        except MemoryError:
            return _refuse("memory has run out; close other programs, or take less data.")
        except KeyboardInterrupt:
            return _refuse("interrupted.", 130)
        finally:
            _give_up_what_cannot_be_written()


def _run(argv: Sequence[str] | None) -> int:
    arguments = build_parser().parse_args(argv)
    try:
        return arguments.run(arguments) or 0
    except SystemExit as error:  # so rich says that nobody reads what it writes
        raise BrokenPipeError from error


def one_line(text: str) -> str:
    """A message in one line, tame for a terminal, without the middle of an endless name."""
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", lambda found: repr(found[0])[1:-1], text)
    return re.sub(r"(\S{200})\S{160,}(\S{40})", r"\1…\2", text)


def _refuse(sentence: str, code: int = 2) -> int:
    with suppress(OSError):  # nobody can be told
        print(f"adadpo-mini: {one_line(sentence)}", file=sys.stderr, flush=True)
    return code


def _trouble(error: OSError) -> str:
    """The sentence for what the system refused, and nobody has put into words before."""
    if error.filename is None:
        return str(cannot_write(Path("standard output"), error))
    return f"{error.filename}: cannot be used ({error.strerror}); give another path."


def _check_streams() -> None:
    """Have streams that take all characters, also in encodings that lack some."""
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 (it stays open to the end)
    if sys.stdout is None:
        raise InputError("standard output is closed; leave it open, or send it to /dev/null.")
    if getattr(sys.stdout, "errors", "") == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def _give_up_what_cannot_be_written() -> None:
    """Let it go nowhere, or the interpreter would complain at its end."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):  # a stream of a test or a notebook is no file
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def _caught_signals(whole_process: bool) -> Iterator[None]:
    """Let Ctrl-C, `kill` and a closed terminal raise KeyboardInterrupt, unless they are ignored.
    If this is the whole process, a signal that comes after interrupts only its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals never reach other threads
        return
    before = _catch(_leave if whole_process else signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if whole_process else handler)


def _catch(handler: Callable) -> dict[int, Callable | int]:
    """Have the signals of an interruption call this; returns what was called before."""
    found = {number: signal.getsignal(number) for number in NUMBERS}
    before = {n: old for n, old in found.items() if old not in (None, signal.SIG_IGN)}
    for number in before:
        signal.signal(number, handler)
    return before


def _leave(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt; but leave at once in the middle of an import, where that may be
    swallowed, or come out as another error, and nothing can be lost."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            _refuse("interrupted.")
            os._exit(130)
        frame = frame.f_back
    raise KeyboardInterrupt
