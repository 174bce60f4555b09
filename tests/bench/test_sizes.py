"""`make sizes` on a small project of its own."""

import pytest

from tests.bench.sizes import all_places, main, measure, misses, rooms, sizes_table

CODE = '''"""A module."""

from functools import cache


def typed(one: int, *others: int, key: str = "") -> int:
    """Documented."""

    def inner(x):
        return x

    return inner(one)


def _hidden(one: int, *, two) -> int:
    return one


@cache
@cache
def long(one: int):
    pass


class Public:
    """Documented."""

    def method(self, one: int) -> None:
        pass

    @staticmethod
    def static(one) -> None:
        """Documented."""


class _Hidden:
    def method(self) -> None:
        pass
'''


@pytest.fixture
def project(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__init__.py").write_text("")
    package = tmp_path / "adadpo_mini"
    (package / "pairs").mkdir(parents=True)
    (package / "results").mkdir()
    for name in ("__init__", "__main__", "pairs/__init__"):
        (package / f"{name}.py").write_text('"""Documented."""\n')
    (package / "code.py").write_text(CODE)
    (tmp_path / "README.md").write_text("one two\n\nthree\n")
    return tmp_path


def by_name(project):
    return {place.name: place for place in all_places(project)}


def test_every_file_class_and_function_is_found_with_its_length(project):
    found = by_name(project)
    assert found["typed"].lines == 7 and found["typed.inner"].lines == 2
    assert found["long"].lines == 4, "decorators included"
    assert found["adadpo_mini/code.py"].lines == len(CODE.splitlines())
    assert found["app/__init__.py"].lines == 0 and found["app/__init__.py"].documented
    assert found["Public.static"].where.startswith("adadpo_mini/code.py:")


def test_a_function_is_typed_if_every_argument_but_self_and_the_result_are(project):
    functions = {name: p.typed for name, p in by_name(project).items() if p.kind == "function"}
    assert functions == {
        "typed": True, "typed.inner": False, "_hidden": False, "long": False,
        "Public.method": True, "Public.static": False, "_Hidden.method": True,
    }  # fmt: skip


def test_public_is_what_has_no_underscore_anywhere_and_is_not_inside_a_function(project):
    public = {name for name, place in by_name(project).items() if place.public}
    assert public - {name for name in public if name.endswith(".py")} == {
        "typed", "long", "Public", "Public.method", "Public.static",
    }  # fmt: skip


def test_rooms_are_modules_and_packages_without_the_dunder_files(project):
    assert rooms(project) == ["code.py", "pairs"]


def test_the_table_has_the_numbers_and_marks_what_misses_its_goal(project):
    table = sizes_table(measure(project))
    assert "| functions with all types | 42.9% (3 of 7) | all: missed |" in table
    # 5 files, typed, Public and Public.static have a docstring; long and Public.method have none.
    assert "| public things with a docstring | 80.0% (8 of 10) | all: missed |" in table
    assert "| functions of at most 35 lines | 100.0% (7 of 7) | ≥ 90% |" in table
    assert "| README, lines | 3 | ≤ 110 |" in table and "| README, words | 3 | ≤ 700 |" in table
    assert "| files | 5 |  |" in table


def test_the_list_says_what_misses_a_goal_and_why(project):
    found = [(reason, place.name) for reason, place in misses(all_places(project))]
    assert found == [
        ("not typed", "typed.inner"), ("not typed", "_hidden"), ("not typed", "long"),
        ("not documented", "long"), ("not documented", "Public.method"),
        ("not typed", "Public.static"),
    ]  # fmt: skip
    (project / "adadpo_mini" / "code.py").write_text('"""Long."""\n' + "x = 1\n" * 300)
    assert [reason for reason, _ in misses(all_places(project))] == ["301 lines"]


def test_the_command_measures_this_project(capsys):
    main([])
    printed = capsys.readouterr().out
    assert printed.startswith("| what | here | goal |") and "| files | 1" in printed
