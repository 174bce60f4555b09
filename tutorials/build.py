"""Write the lessons: tutorials/src/NAME.py (jupytext's percent format) → tutorials/NAME.ipynb.

python tutorials/build.py           write every notebook, without outputs
python tutorials/build.py --check   write nothing; exit 1 if a notebook is not what it would write
"""

import argparse
import sys
from pathlib import Path

import jupytext
import nbformat

HERE = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook_text(source: Path) -> str:
    """The notebook that a source stands for, as JSON; the same on every machine."""
    lesson = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    # A cell's id is random unless given.
    cells = [
        new[cell.cell_type](cell.source, id=f"cell-{number:02d}")
        for number, cell in enumerate(lesson.cells)
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def built(folder: Path = HERE) -> dict[Path, str]:
    """What `folder` should hold: the notebook's text by its path, for every source."""
    sources = sorted((folder / "src").glob("*.py"))
    return {folder / f"{source.stem}.ipynb": notebook_text(source) for source in sources}


def problems(folder: Path = HERE) -> list[str]:
    """A line for every notebook that is missing, differs from its source, or has no source."""
    wanted = built(folder)
    orphans = set(folder.glob("*.ipynb")) - set(wanted)
    lines = [f"{path}: has no source in src/" for path in orphans]
    for path, text in wanted.items():
        if not path.is_file():
            lines.append(f"{path}: missing")
        elif path.read_text(encoding="utf-8") != text:
            lines.append(f"{path}: differs from src/{path.stem}.py")
    return sorted(lines)


def has_outputs(path: Path) -> bool:
    """True if somebody has run the notebook and saved it."""
    cells = nbformat.read(path, as_version=4).cells
    return any(cell.get("outputs") for cell in cells)


def write(folder: Path = HERE, *, force: bool = False) -> None:
    """Write every notebook, but do not wipe out one that somebody has run, unless told to."""
    for path, text in built(folder).items():
        if path.is_file() and has_outputs(path) and not force:
            print(f"{path}: kept, because it has outputs; --force writes it anew")
        else:
            path.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the notebooks from tutorials/src.")
    parser.add_argument("--check", action="store_true", help="write nothing, report differences")
    parser.add_argument("--force", action="store_true", help="also replace notebooks with outputs")
    arguments = parser.parse_args()
    if not arguments.check:
        write(force=arguments.force)
    elif found := problems():
        sys.exit("\n".join([*found, "Run python tutorials/build.py --force."]))


if __name__ == "__main__":
    main()
