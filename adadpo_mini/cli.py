"""The command line: what can be said on it. What then is done is in `commands.py`."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from adadpo_mini import commands
from adadpo_mini.errors import InputError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adadpo-mini", description="Learn DPO and AdaDPO by watching them train."
    )
    verbs = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, help: str, **options) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=help, description=help, **options)
        verb.set_defaults(run=run)
        return verb

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

    chat = command("chat", commands.chat, "ask the models of a run folder, side by side")
    chat.add_argument("folder", type=_path, help="a folder that `race --out` wrote")
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
    return parser


def _path(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def _add_training(parser: argparse.ArgumentParser) -> None:
    """The fields of RaceConfig, each under its own name."""
    parser.add_argument(
        "--data",
        help="a toy set, a file (JSON lines, JSON, CSV, Parquet), a folder that `datasets` saved, "
        "or a hub name (default: tone)",
    )
    parser.add_argument("--model", help="toy, a folder, or a hub name (default: toy)")
    parser.add_argument("--steps", type=int, help="(default: 120)")
    parser.add_argument("--batch-size", type=int, help="pairs in a step (default: 16)")
    parser.add_argument("--beta", type=float, help="(default: 0.1)")
    parser.add_argument(
        "--lr", dest="learning_rate", type=float, help="learning rate (default: 0.0002)"
    )
    parser.add_argument("--seed", type=int, help="(default: 0)")
    parser.add_argument("--measure-every", type=int, help="steps between slow measurements (60)")
    parser.add_argument("--threads", type=int, help="CPU threads for each method (chosen)")
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
    """Run one command. Returns its exit code: 0 done, 2 bad input, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        # `kill` leaves a whole run folder, as Ctrl-C does.
        signal.signal(signal.SIGTERM, _interrupt)
    try:
        return arguments.run(arguments) or 0
    except (InputError, FloatingPointError) as error:
        print(f"adadpo-mini: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("adadpo-mini: interrupted.", file=sys.stderr)
        return 130


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
