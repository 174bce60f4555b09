"""`adadpo-mini app` and `adadpo-mini lessons`: the dashboard and the notebooks.

Both are folders beside the package in a clone (`app`, `tutorials`), and inside it in the wheel
(`adadpo_mini/app`, `adadpo_mini/lessons`). No module of the package imports the dashboard; it is
started here by its name.
"""

import argparse
import os
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.system.files import check_can_write, replaced_file, user_path

PACKAGE = Path(__file__).parents[1]
MAX_PORT = 65535
PAGES = (".ipynb", ".md")


def add_app_arguments(parser: ArgumentParser) -> None:
    """Add the options of `adadpo-mini app` and of `python -m app`."""
    parser.add_argument(
        "--host", type=not_empty, default="127.0.0.1", help="the address (default: 127.0.0.1)"
    )
    parser.add_argument(
        "--port", type=port, default=7860, help="the port; 0 takes a free one (default: 7860)"
    )
    parser.add_argument(
        "--runs", type=not_empty, default="runs", help="the folder for run folders (default: runs)"
    )


def add_lessons_arguments(parser: ArgumentParser) -> None:
    """Add the options of `adadpo-mini lessons`."""
    parser.add_argument("--to", required=True, metavar="DIR", help="the folder to copy them to")
    parser.add_argument("--no-open", action="store_true", help="do not open JupyterLab")


def port(text: str) -> int:
    """Return the number of a port, for argparse."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else -1
    if not 0 <= number <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"not a port from 0 to {MAX_PORT}: {text[:60]!r}")
    return number


def not_empty(text: str) -> str:
    """Return the text if there is any, for argparse."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty; leave it out or give one")
    return text


def app(arguments: Namespace) -> int:
    """Serve the dashboard until interrupted.

    Args:
        arguments: `host`, `port` and `runs`.

    Returns:
        The exit code: 2 if the page cannot be served there. After Ctrl-C the process exits with
        130.

    Raises:
        InputError: this installation has no dashboard.
    """
    serving = import_module(f"{_dashboard()}.serving")
    return serving.run(arguments.host, arguments.port, arguments.runs, program="adadpo-mini")


def _dashboard() -> str:
    """Return the name to import the dashboard by."""
    if (PACKAGE / "app" / "serving.py").is_file():
        return "adadpo_mini.app"
    clone = PACKAGE.parent
    if (clone / "app" / "serving.py").is_file():
        sys.path.insert(0, str(clone))
        return "app"
    raise InputError("this installation has no dashboard; install the wheel again.")


def lessons(arguments: Namespace) -> int:
    """Copy the lessons to a folder and open the first one in JupyterLab.

    A lesson that is already there and differs, because somebody worked in it, stays as it is.

    Args:
        arguments: `to`, the folder, and `no_open`.

    Returns:
        The exit code: 0, or that of JupyterLab.

    Raises:
        InputError: the folder cannot be written, or there is no JupyterLab.
    """
    folder = user_path(arguments.to)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: this is a file, not a folder; give another place.")
    if not arguments.no_open and find_spec("jupyterlab") is None:
        raise InputError("JupyterLab is not installed: pip install jupyterlab, or add --no-open.")
    copied, kept = copy_lessons(folder)
    for path in kept:
        print(f"{path}: kept, because it is not the original; rename it to get a fresh copy.")
    first = min(path for path in (*copied, *kept) if path.suffix == ".ipynb")
    print(f"The lessons are in {folder}; begin with {first.name}.", flush=True)
    return 0 if arguments.no_open else _open(first)


def copy_lessons(folder: Path) -> tuple[list[Path], list[Path]]:
    """Copy notebooks and pages to a folder, but never over a file with other content.

    Returns:
        (copied, kept): the files that are now the originals, and those that differ from them.

    Raises:
        WriteError: a file cannot be written; those written before stay.
    """
    sources = _lessons()
    check_can_write(folder / sources[0].name, sum(path.stat().st_size for path in sources))
    copied, kept = [], []
    for source in sources:
        path = folder / source.name
        if path.exists() and path.read_bytes() != source.read_bytes():
            kept.append(path)
            continue
        if not path.exists():
            with replaced_file(path) as partial:
                shutil.copyfile(source, partial)
        copied.append(path)
    return copied, kept


def _lessons() -> list[Path]:
    """Return the notebooks and pages, from the package or from the clone."""
    for folder in (PACKAGE / "lessons", PACKAGE.parent / "tutorials"):
        found = sorted(path for path in folder.glob("*") if path.suffix in PAGES)
        if found:
            return found
    raise InputError("this installation has no lessons; install the wheel again.")


def _open(notebook: Path) -> int:
    """Run JupyterLab in place of this process, so that it gets every signal itself."""
    command = [sys.executable, "-m", "jupyterlab", str(notebook)]
    if os.name != "nt":
        os.execv(command[0], command)
    return subprocess.call(command)  # there exec would give the terminal back at once
