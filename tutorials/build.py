"""Write the lessons: tutorials/src/NAME.py (jupytext's percent format) → tutorials/NAME.ipynb.

python tutorials/build.py           write all notebooks, without outputs
python tutorials/build.py --check   write nothing; exit 1 if a notebook differs from its source
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
    """Return the notebook of a source as JSON text; it is the same on every machine."""
    lesson = jupytext.reads(source.read_text(encoding="utf-8"), fmt="py:percent")
    new = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    # Without an id, a cell gets a random one.
    cells = [
        new[cell.cell_type](cell.source, id=f"cell-{number:02d}")
        for number, cell in enumerate(lesson.cells)
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def built(folder: Path = HERE) -> dict[Path, str]:
    """Return what `folder` should contain: the text of each notebook, by its path."""
    sources = sorted((folder / "src").glob("*.py"))
    return {folder / f"{source.stem}.ipynb": notebook_text(source) for source in sources}


def problems(folder: Path = HERE) -> list[str]:
    """Return a line for each notebook that is missing, differs from its source, or has none."""
    wanted = built(folder)
    orphans = set(folder.glob("*.ipynb")) - set(wanted)
    lines = [f"{path} has no source in src/" for path in orphans]
    for path, text in wanted.items():
        if not path.is_file():
            lines.append(f"{path} is missing")
        elif path.read_text(encoding="utf-8") != text:
            lines.append(f"{path} differs from src/{path.stem}.py")
    return sorted(lines)


def has_outputs(path: Path) -> bool:
    """Return whether somebody ran the notebook and saved it."""
    cells = nbformat.read(path, as_version=4).cells
    return any(cell.get("outputs") for cell in cells)


def write(folder: Path = HERE, *, force: bool = False) -> None:
    """Write all notebooks; one that somebody ran is kept, unless `force` is set."""
    for path, text in built(folder).items():
        if path.is_file() and has_outputs(path) and not force:
            print(f"{path} was kept, because it has outputs; add --force to replace it")
        else:
            path.write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    """Write or check, as the command line says."""
    parser = argparse.ArgumentParser(description="Write the notebooks from tutorials/src.")
    parser.add_argument("--check", action="store_true", help="write nothing; report differences")
    parser.add_argument("--force", action="store_true", help="also replace notebooks with outputs")
    arguments = parser.parse_args()
    if not arguments.check:
        write(force=arguments.force)
    elif found := problems():
        sys.exit("\n".join([*found, "Run python tutorials/build.py --force."]))


if __name__ == "__main__":
    main()
