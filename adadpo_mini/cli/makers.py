"""What the commands do that write sets, models, sweeps, tables and reports.

As in `commands.py`, imports are inside the functions.
"""

from argparse import Namespace
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from adadpo_mini.cli.status import working
from adadpo_mini.errors import InputError
from adadpo_mini.system.files import user_path


def losses(arguments: Namespace) -> None:
    """Print the table of all losses, or write it into a document."""
    with working("loading the losses"):
        from adadpo_mini.methods.registry import METHODS, methods_table
        from adadpo_mini.paper.tables import write_between
        from adadpo_mini.store.records import to_json
    if arguments.json:
        rows = {name: asdict(method) for name, method in METHODS.items()}
        print(to_json({name: {**row, "loss": name} for name, row in rows.items()}))
    elif arguments.into:
        write_between(user_path(arguments.into), "losses", methods_table())
    else:
        from adadpo_mini.cli.console import losses_table

        losses_table()


def data(arguments: Namespace) -> None:
    """Write the toy preference sets."""
    from adadpo_mini.toyworld import data_dir
    from adadpo_mini.toyworld.sets import write_sets

    out = data_dir() if arguments.in_package else arguments.out or Path("toy-data")
    for path in write_sets(out, arguments.seed):
        print(path)


def pretrain(arguments: Namespace) -> None:
    """Train the toy base model and save it."""
    if arguments.threads < 1:
        raise InputError(f"threads must be a whole number from 1 up, not {arguments.threads}.")
    with working("loading torch, to train the toy base model"):
        import torch

        from adadpo_mini.cli.progress import progress
        from adadpo_mini.toyworld import data_dir
        from adadpo_mini.toyworld.pretrain import check_model_folder, pretrain, save_base_model

        installed = data_dir() / "models" / "toy-gpt2"
        out = installed if arguments.in_package else arguments.out or Path("toy-gpt2")
        check_model_folder(out)
        torch.set_num_threads(arguments.threads)
        about = {"steps": arguments.steps, "seed": arguments.seed}
        with progress("steps", arguments.steps) as show:
            model, tokenizer = pretrain(
                **about, on_step=lambda step, loss: show(step, [f"{loss:.3f} nats/token"])
            )
        save_base_model(model, tokenizer, out, **about)
    print(out)


def sweep(arguments: Namespace) -> None:
    """Run a sweep into a CSV file."""
    if arguments.quick and arguments.plan != "paper":
        raise InputError("--quick is a small part of the plan paper: leave one of the two out.")
    name = "quick" if arguments.quick else arguments.plan
    out = user_path(arguments.out or f"{name}.csv")
    with working(f"starting the races of the plan {name}"):
        from adadpo_mini.cli.progress import progress
        from adadpo_mini.paper.plans import PLANS, run_plan

        races = run_plan(PLANS[name], out, arguments.processes)
        with closing(races), progress("races", 1) as show:
            for done, in_all in races:
                show(done, in_all=in_all)
    print(out)


def table(arguments: Namespace) -> None:
    """Print a sweep's results as a table, or write it into a document."""
    with working(f"reading {arguments.results}"):
        from adadpo_mini.paper.tables import table, write_between

        text = table(arguments.kind, arguments.results)
    if arguments.into:
        write_between(user_path(arguments.into), arguments.kind, text)
    else:
        print(text)


def report(arguments: Namespace) -> None:
    """Write the HTML file of a run folder or of a sweep's results."""
    source, out = arguments.source, arguments.out
    if not source.exists():
        raise InputError(
            f"{source}: no such file or folder; give a run folder or the CSV file of a sweep."
        )
    with working(f"drawing {source}"):
        if source.is_dir():
            from adadpo_mini.paper.run_report import write_run_report

            out = out or source / "report.html"
            write_run_report(source, out)
        else:
            from adadpo_mini.paper.report import write_report

            out = out or source.parent / f"{source.stem}.html"
            write_report(source, out)
    print(out)
