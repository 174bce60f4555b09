"""`make sizes`: how large the code is, and how much of it is typed and documented.

    python -m tests.bench.sizes           the table, with our goals
    python -m tests.bench.sizes --list    and every place that misses one

Guides, not scores to chase. What is measured: the Python files of `adadpo_mini/` and `app/`.
"""

import argparse
import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from adadpo_mini.system.markdown import markdown_table

ROOT = Path(__file__).parents[2]
PARTS = ("adadpo_mini", "app")
FILE_MEDIAN, FILE_MOST = 130, 300  # lines
FUNCTION_MEDIAN, FUNCTION_LONG, SHORT_SHARE = 10, 35, 0.9  # lines, lines, share of the short
README_LINES, README_WORDS = 110, 700

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Place:
    """A file, a class or a function.

    Attributes:
        where: its file and line, to jump to.
        name: with the classes and functions around it.
        lines: its length, decorators and docstring included.
        public: whether it, and all it is in, has a name without a leading underscore.
        documented: whether it has a docstring.
        typed: of a function, whether every argument and what it returns has a type; else True.
        kind: "file", "class" or "function".
    """

    where: str
    name: str
    lines: int
    public: bool
    documented: bool
    typed: bool
    kind: str


@dataclass(frozen=True)
class Size:
    """One line of the table: a number, the goal, and whether it is reached."""

    what: str
    value: str
    goal: str
    reached: bool


def places(path: Path, root: Path = ROOT) -> list[Place]:
    """Return the file itself, then every class and function in it, in the order of their lines."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    name = str(path.relative_to(root))
    public = not path.stem.startswith("_") or path.stem in ("__init__", "__main__")
    documented = not text.strip() or ast.get_docstring(tree) is not None
    lines = len(text.splitlines())
    file = Place(f"{name}:1", name, lines, public, documented, True, "file")
    return [file, *_inside(tree, name, "", public, in_function=False)]


def _inside(
    tree: ast.AST, file: str, around: str, public: bool, in_function: bool
) -> Iterator[Place]:
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, Function | ast.ClassDef):
            yield from _inside(node, file, around, public, in_function)
            continue
        is_function = isinstance(node, Function)
        first = min([node.lineno, *(line.lineno for line in node.decorator_list)])
        # A function inside a function cannot be called from outside, so it is not public.
        open_to_all = public and not in_function and not node.name.startswith("_")
        yield Place(
            where=f"{file}:{node.lineno}",
            name=f"{around}{node.name}",
            lines=node.end_lineno - first + 1,
            public=open_to_all,
            documented=ast.get_docstring(node) is not None,
            typed=not is_function or _is_typed(node, in_class=isinstance(tree, ast.ClassDef)),
            kind="function" if is_function else "class",
        )
        yield from _inside(
            node, file, f"{around}{node.name}.", open_to_all, in_function or is_function
        )


def _is_typed(function: Function, in_class: bool) -> bool:
    """Return whether all arguments (except self and cls) and the result have a type."""
    takes = function.args
    static = any(getattr(line, "id", "") == "staticmethod" for line in function.decorator_list)
    named = [*takes.posonlyargs, *takes.args][1 if in_class and not static else 0 :]
    starred = [argument for argument in (takes.vararg, takes.kwarg) if argument]
    arguments = [*named, *takes.kwonlyargs, *starred]
    return function.returns is not None and all(argument.annotation for argument in arguments)


def all_places(root: Path = ROOT) -> list[Place]:
    """Return every place of the code, file by file."""
    files = [path for part in PARTS for path in sorted((root / part).rglob("*.py"))]
    return [place for path in files for place in places(path, root)]


def rooms(root: Path = ROOT) -> list[str]:
    """Return the modules and folders on top of the package, without `__init__` and the like."""
    return sorted(
        path.name
        for path in (root / "adadpo_mini").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file())
        and not path.name.startswith(("_", "."))
    )


def measure(root: Path = ROOT) -> list[Size]:
    """Return all sizes of the project in this folder."""
    found = all_places(root)
    files = [place.lines for place in found if place.kind == "file"]
    lengths = [place.lines for place in found if place.kind == "function"]
    typed = [place.typed for place in found if place.kind == "function"]
    documented = [place.documented for place in found if place.public]
    short = [length <= FUNCTION_LONG for length in lengths]
    readme = (root / "README.md").read_text(encoding="utf-8")
    return [
        Size("files", f"{len(files)}", "", True),
        _at_most("lines of a file, median", median(files), FILE_MEDIAN),
        _at_most("lines of a file, most", max(files), FILE_MOST),
        Size("functions", f"{len(lengths)}", "", True),
        _at_most("lines of a function, median", median(lengths), FUNCTION_MEDIAN),
        _share(f"functions of at most {FUNCTION_LONG} lines", short, SHORT_SHARE),
        _share("functions with all types", typed, 1.0),
        _share("public things with a docstring", documented, 1.0),
        Size("files and folders on top of adadpo_mini/", f"{len(rooms(root))}", "", True),
        _at_most("README, lines", len(readme.splitlines()), README_LINES),
        _at_most("README, words", len(readme.split()), README_WORDS),
    ]


def _at_most(what: str, value: float, goal: int) -> Size:
    return Size(what, f"{value:g}", f"≤ {goal}", value <= goal)


def _share(what: str, values: Sequence[bool], goal: float) -> Size:
    reached = sum(values) >= goal * len(values)
    share = f"{sum(values) / len(values):.1%} ({sum(values)} of {len(values)})"
    return Size(what, share, "all" if goal == 1 else f"≥ {goal:.0%}", reached)


def sizes_table(sizes: Sequence[Size]) -> str:
    """Return the sizes as a Markdown table."""
    rows = [
        (size.what, size.value, size.goal + ("" if size.reached else ": missed")) for size in sizes
    ]
    return markdown_table(("what", "here", "goal"), rows)


def misses(found: Sequence[Place]) -> Iterator[tuple[str, Place]]:
    """Yield what misses a goal, with the reason."""
    for place in found:
        if place.kind == "file" and place.lines > FILE_MOST:
            yield f"{place.lines} lines", place
        if place.kind == "function" and place.lines > FUNCTION_LONG:
            yield f"{place.lines} lines", place
        if place.kind == "function" and not place.typed:
            yield "not typed", place
        if place.public and not place.documented:
            yield "not documented", place


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.sizes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--list", action="store_true", help="list every place that misses a goal")
    arguments = parser.parse_args(argv)
    print(sizes_table(measure()))
    if arguments.list:
        print()
        for reason, place in misses(all_places()):
            print(f"{place.where}: {place.name}: {reason}")


if __name__ == "__main__":
    main()
