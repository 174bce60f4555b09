"""What each command does: a thin shell around a function of the package.

Imports are inside, so that `--help` and a refused argument do not wait for torch.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING

from adadpo_mini.errors import InputError
from adadpo_mini.system.files import user_path

if TYPE_CHECKING:
    from adadpo_mini.run import RaceResult

NOT_SETTINGS = ("command", "run", "out", "json", "preset", "method")


def race(arguments: Namespace) -> int:
    """Also `train`, which is a race of one."""
    from adadpo_mini.cli.console import race_progress
    from adadpo_mini.config import RaceConfig
    from adadpo_mini.doctor.presets import find_preset
    from adadpo_mini.run import race

    said = {key: value for key, value in vars(arguments).items() if key not in NOT_SETTINGS}
    if "method" in arguments:
        said["methods"] = (arguments.method,)
    elif "methods" in said:
        said["methods"] = tuple(name.strip() for name in said["methods"].split(",") if name.strip())
    settings = {**find_preset(arguments.preset).settings} if "preset" in arguments else {}
    settings = {**settings, **said}
    data = settings.pop("data", RaceConfig.data)
    with race_progress(settings.get("steps", RaceConfig.steps)) as on_event:
        result = race(data, out=arguments.out, on_event=on_event, note=_note, **settings)
    return _close(result, arguments)


def resume(arguments: Namespace) -> int:
    """Go on with a race that was interrupted."""
    from adadpo_mini.cli.console import race_progress
    from adadpo_mini.run import resume
    from adadpo_mini.store.folder import RunFolder

    steps = RunFolder.open(arguments.out).config().get("steps", 0)
    with race_progress(steps) as on_event:
        result = resume(arguments.out, on_event=on_event, note=_note)
    return _close(result, arguments)


def _note(sentence: str) -> None:
    print(f"adadpo-mini: {sentence}", file=sys.stderr)


def _close(result: "RaceResult", arguments: Namespace) -> int:
    """Print what a race has come to; returns the exit code."""
    from adadpo_mini.cli.console import closing_table
    from adadpo_mini.store.folder import to_json

    summary = result.summary
    if summary["report"]:
        _note(summary["report"])
    if arguments.json:
        print(to_json(summary))
    else:
        closing_table(summary, arguments.out)
    if summary["status"] in ("diverged", "failed"):
        raise InputError(summary["problem"])
    if summary["status"] != "interrupted":
        return 0
    if arguments.out:
        _note(f"interrupted; go on with: adadpo-mini resume {quote(str(arguments.out))}")
    return 130


def chat(arguments: Namespace) -> int:
    """Ask the models of a run, once or again and again; all that can be refused is, before they are
    loaded."""
    from adadpo_mini.cli.console import chat_once
    from adadpo_mini.models.generate import check_sampling
    from adadpo_mini.models.load import same_vocabulary
    from adadpo_mini.store.folder import RunFolder, to_json
    from adadpo_mini.tokens.templates import LINE, check_form

    folder = RunFolder.open(arguments.folder)
    config = folder.config()
    ask = {"temperature": arguments.temperature, "seed": arguments.seed}
    check_sampling(**ask)
    ask["form"] = config.get("prompt_form", LINE)
    check_form(ask["form"], f"{folder.path / 'config.json'}: prompt_form")
    prompts = _typed() if arguments.prompt is None else [arguments.prompt]
    reference, tokenizer = folder.load()
    models = {"reference": reference}
    for method in config["methods"]:
        models[method], _ = folder.load(folder.check_model(method, arguments.step))
    same_vocabulary(models, folder.path)
    as_json = arguments.json and arguments.prompt is not None
    for prompt in prompts:
        answers = chat_once(models, tokenizer, prompt, quiet=as_json, **ask)
        if as_json:
            print(to_json(answers))
    return 0


def _typed() -> Iterator[str]:
    """Prompts as they are typed, until there are no more."""
    if sys.stdin is None:
        raise InputError("standard input is closed, so nothing can be typed; give --prompt.")

    def lines() -> Iterator[str]:
        print("Type a prompt; an empty line or Ctrl-D leaves.")
        while True:
            try:
                line = input("> ")
            except EOFError:
                return
            except (ValueError, OSError) as error:  # no text, or nothing that can be read
                raise InputError(
                    f"standard input cannot be read ({error}); type UTF-8 text, or give --prompt."
                ) from error
            if not line.strip():
                return
            yield line

    return lines()


def doctor(arguments: Namespace) -> None:
    """Print the diagnoses, and on stderr what was left out of the log."""
    from adadpo_mini.doctor.diagnose import as_dict, diagnose_all, report
    from adadpo_mini.doctor.logs import read_log
    from adadpo_mini.store.folder import to_json

    log = read_log(arguments.log)
    if log.note:
        _note(log.note)
    found = diagnose_all(log.events, log.problem)
    print(to_json(as_dict(found)) if arguments.json else report(found))


def losses(arguments: Namespace) -> None:
    from adadpo_mini.methods.registry import METHODS, methods_table
    from adadpo_mini.paper.tables import write_between
    from adadpo_mini.store.folder import to_json

    if arguments.json:
        rows = {name: asdict(method) for name, method in METHODS.items()}
        print(to_json({name: {**row, "loss": name} for name, row in rows.items()}))
    elif arguments.into:
        write_between(user_path(arguments.into), "losses", methods_table())
    else:
        from adadpo_mini.cli.console import losses_table

        losses_table()


def data(arguments: Namespace) -> None:
    from adadpo_mini.toyworld import data_dir
    from adadpo_mini.toyworld.sets import write_sets

    out = user_path(arguments.out or data_dir())
    for path in write_sets(out, arguments.seed):
        print(path)


def pretrain(arguments: Namespace) -> None:
    from adadpo_mini.cli.console import pretrain_with_progress
    from adadpo_mini.toyworld import data_dir
    from adadpo_mini.toyworld.pretrain import check_model_folder

    out = user_path(arguments.out or data_dir() / "models" / "toy-gpt2")
    check_model_folder(out)
    if arguments.threads < 1:
        raise InputError(f"threads must be a whole number from 1 up, not {arguments.threads}.")
    pretrain_with_progress(out, arguments.steps, arguments.seed, arguments.threads)


def sweep(arguments: Namespace) -> None:
    from adadpo_mini.cli.console import progress_bar
    from adadpo_mini.paper.experiments import run_paper, run_sets

    if arguments.quick and arguments.plan != "paper":
        raise InputError("--quick is a small part of the plan paper: leave one of the two out.")
    name = "quick" if arguments.quick else arguments.plan
    out = user_path(arguments.out or f"{name}.csv")
    if arguments.plan == "sets":
        progress = run_sets(out, arguments.processes)
    else:
        progress = run_paper(out, arguments.quick, arguments.processes)
    with closing(progress), progress_bar("races", 1) as show:
        for done, in_all in progress:
            show(done, in_all=in_all)
    print(out)


def table(arguments: Namespace) -> None:
    from adadpo_mini.paper.claims import verdict_table
    from adadpo_mini.paper.results import read_measurements
    from adadpo_mini.paper.tables import sets_table, write_between

    results = user_path(arguments.results)
    if arguments.kind == "sets":
        text = sets_table(results)
    else:
        text = verdict_table(read_measurements(results))
    if arguments.into:
        write_between(user_path(arguments.into), arguments.kind, text)
    else:
        print(text)


def report(arguments: Namespace) -> None:
    from adadpo_mini.paper.report import write_report

    results = user_path(arguments.results)
    out = user_path(arguments.out or results.parent / f"{results.stem}.html")
    write_report(results, out)
    print(out)
