"""The command line: every command is a thin shell around one function of the package."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from adadpo_mini.errors import InputError

METHODS_HELP = "comma-separated: dpo, adadpo, fixed_ratio"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="adadpo-mini", description="Learn DPO and AdaDPO by watching them train."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    race = commands.add_parser("race", help="train several methods side by side")
    race.add_argument("--methods", default="dpo,adadpo", help=METHODS_HELP)
    _add_training(race)
    race.set_defaults(run=_race)

    train = commands.add_parser("train", help="train one method")
    train.add_argument("--method", dest="methods", default="adadpo", help="one of " + METHODS_HELP)
    _add_training(train)
    train.set_defaults(run=_race)

    chat = commands.add_parser("chat", help="ask the models of a run folder, side by side")
    chat.add_argument("folder", type=Path, help="a folder that `race --out` wrote")
    chat.add_argument("--prompt", help="ask this and leave; without it, ask again and again")
    chat.add_argument("--temperature", type=float, default=0.7)
    chat.add_argument("--seed", type=int, default=0)
    chat.add_argument("--json", action="store_true", help="print the answers as JSON")
    chat.set_defaults(run=_chat)

    data = commands.add_parser("data", help="build the toy preference sets")
    data.add_argument("action", choices=["build"])
    data.add_argument("--out", type=Path, help="folder to write to (default: the package's data)")
    data.add_argument("--seed", type=int, default=0)
    data.set_defaults(run=_data)

    pretrain = commands.add_parser("pretrain", help="make the toy base model again (minutes)")
    pretrain.add_argument("--out", type=Path, help="folder (default: the package's toy model)")
    pretrain.add_argument("--steps", type=int, default=800)
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--threads", type=int, default=os.cpu_count())
    pretrain.set_defaults(run=_pretrain)

    sweep = commands.add_parser("sweep", help="race every set with several seeds, into one file")
    sweep.add_argument("--data", default="all", help="comma-separated sets, or all")
    sweep.add_argument("--methods", default="dpo,adadpo,fixed_ratio", help=METHODS_HELP)
    sweep.add_argument("--seeds", type=int, default=5)
    sweep.add_argument("--steps", type=int, default=120)
    sweep.add_argument("--beta", type=float, default=0.1)
    sweep.add_argument("--lr", type=float, default=2e-4)
    sweep.add_argument("--out", type=Path, required=True, help="the CSV file; resumed if it exists")
    sweep.set_defaults(run=_sweep)

    table = commands.add_parser("table", help="a sweep's results as a Markdown table")
    table.add_argument("results", type=Path)
    table.add_argument("--into", type=Path, help="write it between the markers of this document")
    table.set_defaults(run=_table)
    return parser


def _add_training(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", default="tone", help="a toy set or a JSON-lines file of pairs")
    parser.add_argument("--model", default="toy", help="toy, a folder, or a hub name")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch-size", type=int, default=16, help="pairs in a step")
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--lr", type=float, default=2e-4, help="learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="CPU threads for each method")
    parser.add_argument("--out", type=Path, help="run folder to write")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    knobs = parser.add_argument_group("knobs of adadpo and fixed_ratio")
    knobs.add_argument("--ceiling", type=float, default=2.0, help="C of adadpo")
    knobs.add_argument("--floor", type=float, help="floor of adadpo (not in the paper)")
    knobs.add_argument("--space", choices=["ratio", "policy"], default="ratio")
    knobs.add_argument("--k", type=float, default=1.0, help="k of adadpo")
    knobs.add_argument("--raw", action="store_true", help="adadpo without length normalisation")
    knobs.add_argument("--ratio", type=float, default=2.0, help="c of fixed_ratio")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 done, 2 bad input, 130 interrupted."""
    arguments = build_parser().parse_args(argv)
    if threading.current_thread() is threading.main_thread():
        signal.signal(
            signal.SIGTERM, _interrupt
        )  # `kill` leaves a whole run folder, as Ctrl-C does
    try:
        return arguments.run(arguments) or 0
    except InputError as error:
        print(f"adadpo-mini: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("adadpo-mini: interrupted.", file=sys.stderr)
        return 130


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt


def _race(arguments: argparse.Namespace) -> int:
    from adadpo_mini.console import closing_table, race_progress
    from adadpo_mini.race import race
    from adadpo_mini.runs import to_json

    methods = tuple(name.strip() for name in arguments.methods.split(",") if name.strip())
    with race_progress(arguments.steps) as on_event:
        result = race(
            arguments.data,
            out=arguments.out,
            on_event=on_event,
            methods=methods,
            model=arguments.model,
            steps=arguments.steps,
            batch_size=arguments.batch_size,
            beta=arguments.beta,
            learning_rate=arguments.lr,
            seed=arguments.seed,
            threads=arguments.threads,
            ceiling=arguments.ceiling,
            floor=arguments.floor,
            space=arguments.space,
            k=arguments.k,
            length_normalize=not arguments.raw,
            ratio=arguments.ratio,
        )
    if arguments.json:
        print(to_json(result.summary))
    else:
        closing_table(result.summary, arguments.out)
    if result.summary["status"] == "diverged":
        raise InputError(result.summary["problem"])
    return 130 if result.summary["status"] == "interrupted" else 0


def _chat(arguments: argparse.Namespace) -> int:
    from adadpo_mini.console import chat_once
    from adadpo_mini.models import load_model
    from adadpo_mini.runs import RunFolder, to_json

    folder = RunFolder(arguments.folder)
    config = folder.config()
    reference, tokenizer = load_model(config["model"])
    models = {"reference": reference}
    for method in config["methods"]:
        models[method], _ = load_model(folder.path / method / "model")
    ask = {"temperature": arguments.temperature, "seed": arguments.seed}
    if arguments.prompt is not None:
        answers = chat_once(models, tokenizer, arguments.prompt, quiet=arguments.json, **ask)
        if arguments.json:
            print(to_json(answers))
        return 0
    print("Type a prompt; an empty line or Ctrl-D leaves.")
    while True:
        try:
            prompt = input("> ")
        except EOFError:
            return 0
        if not prompt.strip():
            return 0
        chat_once(models, tokenizer, prompt, **ask)


def _data(arguments: argparse.Namespace) -> None:
    from adadpo_mini.toyworld import data_dir
    from adadpo_mini.toyworld.sets import write_sets

    for path in write_sets(arguments.out or data_dir(), arguments.seed):
        print(path)


def _pretrain(arguments: argparse.Namespace) -> None:
    from adadpo_mini.console import pretrain_with_progress
    from adadpo_mini.toyworld import data_dir

    out = arguments.out or data_dir() / "models" / "toy-gpt2"
    pretrain_with_progress(out, arguments.steps, arguments.seed, arguments.threads)


def _sweep(arguments: argparse.Namespace) -> None:
    from adadpo_mini.console import progress_bar
    from adadpo_mini.race import RaceConfig
    from adadpo_mini.sweep import sweep
    from adadpo_mini.toyworld.sets import SETS

    names = list(SETS) if arguments.data == "all" else arguments.data.split(",")
    configs = [
        RaceConfig(
            data=name,
            seed=seed,
            methods=tuple(arguments.methods.split(",")),
            steps=arguments.steps,
            beta=arguments.beta,
            learning_rate=arguments.lr,
        )
        for seed in range(arguments.seeds)
        for name in names
    ]
    with progress_bar("races", len(configs)) as show:
        for done in sweep(configs, arguments.out):
            show(done)


def _table(arguments: argparse.Namespace) -> None:
    from adadpo_mini.sweep import results_table, write_table

    if arguments.into:
        write_table(arguments.results, arguments.into)
    else:
        print(results_table(arguments.results))
