"""What the commands about runs do: thin layers over functions of the package.

Imports are inside the functions, so that `--help` and a rejected argument do not wait for torch.
"""

import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import asdict
from shlex import quote
from typing import TYPE_CHECKING

from adadpo_mini.cli.status import say, working
from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError

if TYPE_CHECKING:
    from adadpo_mini.run import RaceResult

NOT_SETTINGS = ("command", "run", "out", "json", "preset", "method", "engine")


def race(arguments: Namespace) -> int:
    """Train and compare methods. `train` is a race with one method."""
    settings = _race_settings(arguments)
    engine = {"engine": arguments.engine} if "engine" in arguments else {}
    data = settings.get("data", RaceConfig.data)
    with working(f"loading {settings.get('model', RaceConfig.model)}, to train on {data}"):
        config = RaceConfig(**settings)  # rejects a wrong setting before anything is loaded
        settings.pop("data", None)
        from adadpo_mini.cli.progress import race_progress
        from adadpo_mini.run import race

        with race_progress(config.steps, config.methods) as on_event:
            result = race(
                data, out=arguments.out, on_event=on_event, note=say, **engine, **settings
            )
    return _close(result, arguments)


def _race_settings(arguments: Namespace) -> dict[str, object]:
    """Return the settings that were given; those of a preset come first."""
    given = {name: value for name, value in vars(arguments).items() if name not in NOT_SETTINGS}
    if "method" in arguments:
        given["methods"] = (arguments.method,)
    if "preset" not in arguments:
        return given
    from adadpo_mini.doctor.presets import find_preset

    return {**find_preset(arguments.preset).settings, **given}


def resume(arguments: Namespace) -> int:
    """Continue an interrupted race."""
    with working(f"loading {arguments.out}"):
        from adadpo_mini.store.folder import RunFolder

        config = RunFolder.open(arguments.out).config()
        from adadpo_mini.cli.progress import race_progress
        from adadpo_mini.run import resume

        with race_progress(config.get("steps", 0), config["methods"]) as on_event:
            result = resume(arguments.out, on_event=on_event, note=say)
    if result.summary["report"]:
        say(result.summary["report"])
    return _close(result, arguments)


def _close(result: "RaceResult", arguments: Namespace) -> int:
    """Print the summary of a race; returns the exit code."""
    from adadpo_mini.cli.console import closing_table
    from adadpo_mini.store.records import to_json

    summary = result.summary
    if arguments.json:
        print(to_json(summary))
    else:
        closing_table(summary, arguments.out)
    if summary["status"] in ("diverged", "failed"):
        raise InputError(summary["problem"])
    if summary["status"] != "interrupted":
        return 0
    if arguments.out:
        say(f"interrupted; continue with: adadpo-mini resume {quote(str(arguments.out))}")
    return 130


def chat(arguments: Namespace) -> None:
    """Ask the models of a run, once or until the user leaves.

    Everything that can be rejected is checked before the models are loaded.
    """
    with working(f"loading the models of {arguments.folder}"):
        from adadpo_mini.cli.console import chat_once
        from adadpo_mini.models.generate import check_sampling
        from adadpo_mini.models.load import same_vocabulary
        from adadpo_mini.store.folder import RunFolder
        from adadpo_mini.store.records import to_json
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


def _typed() -> Iterator[str]:
    """Return the prompts that the user types, until there are no more."""
    if sys.stdin is None:
        raise InputError("standard input is closed, so nothing can be typed; give --prompt.")

    def lines() -> Iterator[str]:
        print("Type a prompt; an empty line or Ctrl-D quits.")
        while True:
            try:
                line = input("> ")
            except EOFError:
                return
            except (ValueError, OSError) as error:  # not text, or not readable
                raise InputError(
                    f"standard input cannot be read ({error}); type UTF-8 text, or give --prompt."
                ) from error
            if not line.strip():
                return
            yield line

    return lines()


def inspect(arguments: Namespace) -> None:
    """Show everything that is measured on one held-out pair of a run."""
    with working(f"loading the models of {arguments.folder}"):
        from adadpo_mini.cli.inspect_pair import inspect_pair
        from adadpo_mini.cli.inspect_tables import print_inspection
        from adadpo_mini.store.records import to_json

        found = inspect_pair(
            arguments.folder, arguments.pair, step=arguments.step, method=arguments.method
        )
    if arguments.json:
        print(to_json(asdict(found)))
    else:
        print_inspection(found)


def doctor(arguments: Namespace) -> None:
    """Print the diagnoses, and on stderr which part of the log was ignored."""
    with working(f"reading {arguments.log}"):
        from adadpo_mini.doctor.diagnose import as_dict, check_beta, diagnose_all, report
        from adadpo_mini.doctor.logs import read_log
        from adadpo_mini.store.records import to_json

        log = read_log(arguments.log)
        beta = check_beta(arguments.beta) or log.beta
        found = diagnose_all(log.events, log.problem, beta)
    if log.note:
        say(log.note)
    print(to_json(as_dict(found)) if arguments.json else report(found))
