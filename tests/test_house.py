"""The house: a room is a file or a folder on top of the package, and arrows between rooms run one
way."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import adadpo_mini

PACKAGE = Path(adadpo_mini.__file__).parent
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
# These look into every room on purpose: the public names, and the old names.
HALLS = {"__init__", "__main__", "moved"}
SPINE = ("losses", "logprobs", "trainer", "lockstep", "run")


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """The rooms that a file imports from, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "adadpo_mini":
            names = [f"adadpo_mini.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        parts = [name.split(".") for name in names if name.startswith("adadpo_mini.")]
        found |= {part[1] for part in parts if part[1] in ROOMS}
    return found


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """For every room, the other rooms that it imports from."""
    found: dict[str, set[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        room = room_of(path)
        if room not in HALLS:
            found.setdefault(room, set()).update(imported_rooms(path) - {room})
    return found


def test_no_room_can_be_reached_from_itself(arrows):
    try:
        order = list(TopologicalSorter(arrows).static_order())
    except CycleError as error:
        pytest.fail(" → ".join(reversed(error.args[1])))
    assert {"losses", "lockstep", "cli"} <= set(order)


def test_the_spine_is_read_from_its_start_to_its_end(arrows):
    """No file of the reading order needs one that comes after it."""
    for i, room in enumerate(SPINE):
        assert not arrows[room] & set(SPINE[i + 1 :]), room


def test_the_single_file_edition_stands_alone(arrows):
    assert arrows["one_file"] == arrows["losses"] == set()


def test_the_reading_order_is_the_same_wherever_it_is_given():
    order = ", ".join(SPINE)
    assert order in " ".join(adadpo_mini.__doc__.split())


def test_no_folder_of_the_package_is_called_data_in_a_clone():
    assert "data" not in ROOMS, "the wheel puts the toy sets there"
