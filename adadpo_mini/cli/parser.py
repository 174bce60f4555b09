"""The commands and their options."""

import argparse
import os
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from adadpo_mini.cli import commands, makers, serve
from adadpo_mini.cli.flags import Parser, add_settings, path
from adadpo_mini.config import ENGINES, OWN

Add = Callable[..., argparse.ArgumentParser]
STEP_HELP = "use the snapshots of this step (default: the end of training)"


def build_parser() -> Parser:
    """Return the parser of all commands. Its `run` is the function to call with the namespace."""
    parser = Parser(
        prog="adadpo-mini",
        description="Learn DPO and AdaDPO by watching them train.",
        epilog="Example: adadpo-mini race --data swap --steps 60 --out runs/swap",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hidden = {"dest": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    parser.add_argument("--version", action=Version, nargs=0, help="print the version", **hidden)
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_races, _add_readers, _add_results, _add_makers, _add_pages):
        add(partial(_add_command, verbs))
    return parser


class Version(argparse.Action):
    """Print the version and exit; it is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print the version."""
        from importlib.metadata import PackageNotFoundError, version

        try:
            found = version("adadpo-mini")
        except PackageNotFoundError:
            found = "(not installed)"
        print(f"adadpo-mini {found}", flush=True)
        parser.exit()


def _add_command(
    verbs: argparse._SubParsersAction,
    name: str,
    run: Callable,
    help: str,
    example: str,
    **options: object,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"Example: adadpo-mini {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **options,
    )
    verb.set_defaults(run=run)
    return verb


def _add_races(command: Add) -> None:
    # A flag that was not given stays out of the namespace: presets and RaceConfig have defaults.
    unset = {"argument_default": argparse.SUPPRESS}
    race = command(
        "race", commands.race, "train several methods side by side",
        "race --data swap --steps 60 --out runs/swap", **unset,
    )  # fmt: skip
    race.add_argument("--preset", help="settings that reproduce a question users often ask")
    add_settings(race)
    train = command(
        "train", commands.race, "train one method",
        "train --method adadpo --data tone --steps 60", **unset,
    )  # fmt: skip
    train.add_argument("--method", default="adadpo", help="the method (default: adadpo)")
    train.add_argument("--engine", choices=ENGINES, help=f"what trains (default: {OWN})")
    add_settings(train, without=("methods",))
    for parser in (race, train):
        parser.add_argument("--out", type=path, default=None, help="run folder to write")
        _add_json(parser, "the summary", default=False)

    resume = command("resume", commands.resume, "continue an interrupted race", "resume runs/swap")
    resume.add_argument("out", metavar="folder", type=path, help="the run folder")
    _add_json(resume, "the summary")


def _add_readers(command: Add) -> None:
    chat = command(
        "chat", commands.chat, "ask the models of a run the same question, side by side",
        'chat runs/swap --prompt "How do I stir the vegan pasta?"',
    )  # fmt: skip
    chat.add_argument("folder", type=path, help="a run folder, written by `race --out`")
    chat.add_argument("--step", type=int, help=STEP_HELP)
    chat.add_argument("--prompt", help="ask this one question and exit (default: keep asking)")
    chat.add_argument(
        "--temperature", type=float, default=0.7,
        help="how random the answers are; 0 takes the most likely token (default: 0.7)",
    )  # fmt: skip
    chat.add_argument("--seed", type=int, default=0, help="seed of the sampling (default: 0)")
    _add_json(chat, "the answers")

    inspect = command(
        "inspect", commands.inspect, "look at one held-out pair of a run, token by token",
        "inspect runs/swap --pair 3 --method dpo",
    )  # fmt: skip
    inspect.add_argument("folder", type=path, help="a run folder, written by `race --out`")
    inspect.add_argument("--pair", type=int, default=1, help="which held-out pair (default: 1)")
    inspect.add_argument("--step", type=int, help=STEP_HELP)
    inspect.add_argument("--method", help="show this method alone (default: all of the run)")
    _add_json(inspect, "the numbers")

    doctor = command("doctor", commands.doctor, "diagnose a run in plain words", "doctor runs/swap")
    doctor.add_argument(
        "log", type=path,
        help="a run folder, a metrics.jsonl, TRL's trainer_state.json or its folder, "
        "LLaMA-Factory's trainer_log.jsonl, a CSV export, or a trainer's printed log",
    )  # fmt: skip
    doctor.add_argument(
        "--beta", type=float, help="β of the run, if the log does not show it (states nats)"
    )
    _add_json(doctor, "the diagnoses")


def _add_results(command: Add) -> None:
    losses = command("losses", makers.losses, "print the table of all losses", "losses --json")
    _add_json(losses, "the table")
    _add_into(losses)

    sweep = command(
        "sweep", makers.sweep, "race many settings with several seeds, into a CSV file",
        "sweep --quick --out quick.csv",
    )  # fmt: skip
    sweep.add_argument(
        "plan", nargs="?", choices=["paper", "sets", "beta", "arcs"], default="paper",
        help="the AdaDPO paper in miniature, every toy set at the defaults, the default race over "
        "β, or the races that the package shows first (default: paper)",
    )  # fmt: skip
    sweep.add_argument("--quick", action="store_true", help="a small part of paper, in minutes")
    sweep.add_argument("--processes", type=int, help="races at a time (default: one per core)")
    sweep.add_argument("--out", type=path, help="the CSV file; an existing one is continued")

    table = command(
        "table", makers.table, "print the results of a sweep as a Markdown table",
        "table claims data/results/paper.csv",
    )  # fmt: skip
    table.add_argument("kind", choices=["claims", "findings", "sets", "beta", "arcs"])
    table.add_argument("results", type=path, help="the CSV file of the sweep")
    _add_into(table)

    report = command(
        "report", makers.report, "draw a run or a sweep as one HTML file", "report runs/swap"
    )
    report.add_argument("source", type=path, help="a run folder, or the CSV file of `sweep paper`")
    report.add_argument(
        "--out", type=path,
        help="the HTML file (default: report.html in the run folder, or beside the CSV file)",
    )  # fmt: skip


def _add_makers(command: Add) -> None:
    data = command(
        "data", makers.data, "write the toy preference sets", "data build --out toy-data"
    )
    data.add_argument("action", choices=["build"])
    _add_place(data, "toy-data", "the installed sets")
    data.add_argument("--seed", type=int, default=0, help="seed of the pairs (default: 0)")

    pretrain = command(
        "pretrain", makers.pretrain, "train the toy base model (takes minutes)",
        "pretrain --steps 100 --out toy-gpt2",
    )  # fmt: skip
    _add_place(pretrain, "toy-gpt2", "the installed toy model")
    pretrain.add_argument("--steps", type=int, default=800, help="training steps (default: 800)")
    pretrain.add_argument(
        "--seed", type=int, default=0, help="seed of the weights and the texts (default: 0)"
    )
    cores = os.cpu_count() or 1
    pretrain.add_argument("--threads", type=int, default=cores, help="CPU threads (default: all)")


def _add_pages(command: Add) -> None:
    app = command("app", serve.app, "serve the dashboard", "app --port 7861")
    serve.add_app_arguments(app)
    lessons = command(
        "lessons", serve.lessons, "copy the lessons and open them in JupyterLab",
        "lessons --to lessons",
    )  # fmt: skip
    serve.add_lessons_arguments(lessons)


def _add_json(parser: argparse.ArgumentParser, what: str, **options: object) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what} as JSON", **options)


def _add_into(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--into", type=path, help="write it between the markers of this document")


def _add_place(parser: argparse.ArgumentParser, folder: str, installed: str) -> None:
    """Add --out and its alternative. Only on request is the installed package changed."""
    place = parser.add_mutually_exclusive_group()
    place.add_argument("--out", type=path, help=f"folder to write to (default: ./{folder})")
    place.add_argument("--in-package", action="store_true", help=f"replace {installed}")
