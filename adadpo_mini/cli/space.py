"""Write the dashboard as a Hugging Face Space: `make space`.

The folder contains the package's source, because a Space installs `requirements.txt` before it
copies the other files, so a wheel beside it would not be found.
"""

import re
import shutil
import sys
import tomllib
from pathlib import Path

from adadpo_mini.errors import InputError
from adadpo_mini.system.files import replaced_folder, user_path

CLONE = Path(__file__).parents[2]
# Dependencies that only the lessons need.
LESSONS_ONLY = ("jupyterlab", "ipywidgets", "anywidget")
FILES = ("README.md", "app.py", "requirements.txt", "adadpo_mini")

README = """\
---
title: DPO and AdaDPO, side by side
emoji: 📉
colorFrom: blue
colorTo: yellow
sdk: gradio
sdk_version: {gradio}
python_version: "3.11"
app_file: app.py
suggested_hardware: cpu-basic
short_description: Watch DPO and AdaDPO train a small GPT-2, live
license: mit
pinned: false
---

# DPO and AdaDPO, side by side

A small GPT-2 learns from the same preference pairs twice, once with DPO and once with AdaDPO. Press
**Start** and watch what happens to the probability of the chosen and of the rejected answers.

The free hardware (2 CPU cores, 16 GB) is enough. Two races can run at the same time. Runs are lost
when the Space restarts.

## To upload this folder

Create a Space with the Gradio SDK, then:

    hf upload NAME/SPACE . --repo-type space

## torch without CUDA

`requirements.txt` names a version of torch and no package index. On Linux the default index has the
CUDA build: it works, but it adds several gigabytes to the image. To get the CPU build, put the line
`--extra-index-url ADDRESS` at the top of `requirements.txt`, with the address that the PyTorch site
shows for Linux, pip and CPU, and write `torch=={torch}+cpu`.
"""

APP = '''\
"""The dashboard as a Hugging Face Space, which sends visitors to port 7860."""

import os
import sys
from argparse import Namespace

from adadpo_mini.cli.serve import app

host = os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0")
port = int(os.environ.get("GRADIO_SERVER_PORT", "7860"))

if __name__ == "__main__":
    sys.exit(app(Namespace(host=host, port=port, runs="runs")))
'''


def write_space(folder: Path) -> None:
    """Write the Space's folder; it replaces an earlier one.

    Raises:
        InputError: the folder has other files in it, or cannot be written.
    """
    folder = user_path(folder)
    if folder.is_dir() and (other := {path.name for path in folder.iterdir()} - {*FILES}):
        raise InputError(f"{folder} contains {min(other)}, not only a Space; give another folder.")
    project = tomllib.loads((CLONE / "pyproject.toml").read_text(encoding="utf-8"))
    pins = pinned((CLONE / "constraints.txt").read_text(encoding="utf-8"))
    needed = [_name(line) for line in project["project"]["dependencies"]]
    lines = [f"{name}=={pins[name]}" for name in needed if name not in LESSONS_ONLY]
    with replaced_folder(folder) as partial:
        _copy_package(partial, project["tool"]["hatch"]["build"]["targets"]["wheel"])
        texts = {
            "README.md": README.format(gradio=pins["gradio"], torch=pins["torch"]),
            "app.py": APP,
            "requirements.txt": "\n".join(lines) + "\n",
        }
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8", newline="\n")


def pinned(constraints: str) -> dict[str, str]:
    """Return the versions in a constraints file, by name in lower case.

    >>> pinned("Jinja2==3.1.6")
    {'jinja2': '3.1.6'}
    """
    found = re.findall(r"^([\w.-]+)==(\S+)$", constraints, flags=re.MULTILINE)
    return {name.lower(): version for name, version in found}


def _name(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower()


def _copy_package(folder: Path, wheel: dict) -> None:
    """Copy what the wheel contains: the package, and what is put into it."""
    places = {name: name for name in wheel["packages"]} | wheel["force-include"]
    for source, target in places.items():
        shutil.copytree(
            CLONE / source,
            folder / target,
            ignore=shutil.ignore_patterns("__pycache__", ".*"),
            dirs_exist_ok=True,
        )


def main() -> int:
    """Write the Space to the folder on the command line."""
    try:
        write_space(Path(sys.argv[1]))
    except InputError as problem:
        print(f"make space: {problem}", file=sys.stderr)
        return 2
    print(f"The Space is in {sys.argv[1]}; its README.md says how to upload it.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
