"""What is written twice agrees, imports go one way, and the wheel and the Space are complete."""

import ast
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tomllib
import urllib.request
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    canonicalize_name(name): version
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE
    )
}


def imports(path: Path) -> set[str]:
    """Return the modules that a file imports, anywhere in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_the_conda_environment_says_what_pyproject_says():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain = [entry for entry in dependencies if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    assert plain == [f"python{PROJECT['requires-python']}", "pip"]
    (line,) = pip
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", line).group(1)
    assert set(extras.split(",")) == {name for name, lines in EXTRAS.items() if lines}


def test_old_install_lines_with_extras_still_work():
    assert {"app", "notebooks", "stats"} <= set(EXTRAS)


def test_every_dependency_is_pinned_within_its_range():
    wanted = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
    for requirement in map(Requirement, wanted):
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    assert PINS["torch"] == "2.13.0"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pins were made on Python 3.11")
def test_what_is_installed_here_is_what_is_pinned():
    from importlib.metadata import version

    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert version(requirement.name).split("+")[0] == PINS[canonicalize_name(requirement.name)]


def test_no_module_of_the_package_imports_the_app():
    for path in (ROOT / "adadpo_mini").rglob("*.py"):
        assert not {name for name in imports(path) if name.split(".")[0] == "app"}, path


def test_the_losses_need_torch_and_nothing_else():
    roots = {name.split(".")[0] for name in imports(ROOT / "adadpo_mini" / "losses.py")}
    assert roots - set(sys.stdlib_module_names) == {"torch"}


@pytest.mark.parametrize(
    ("code", "loaded", "not_loaded"),
    [
        ("import adadpo_mini", set(), {"torch", "transformers", "datasets", "gradio", "app"}),
        ("from adadpo_mini.cli import main", set(), {"torch", "transformers", "gradio", "app"}),
        ("from adadpo_mini import race", {"torch"}, {"transformers", "datasets", "gradio", "app"}),
    ],
    ids=["package", "command line", "race"],
)
def test_an_import_loads_no_more_than_it_needs(code, loaded, not_loaded):
    code = f"{code}; import sys; print(*{{m.split('.')[0] for m in sys.modules}})"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    found = set(run.stdout.split())
    assert loaded <= found and found.isdisjoint(not_loaded)


def test_every_public_name_can_be_imported_and_is_listed():
    import adadpo_mini

    for name in adadpo_mini.__all__:
        assert getattr(adadpo_mini, name).__module__.startswith("adadpo_mini"), name
    assert set(adadpo_mini.__all__) <= set(dir(adadpo_mini))
    with pytest.raises(AttributeError, match="nonsense"):
        adadpo_mini.nonsense  # noqa: B018


def test_names_are_still_found_where_they_were():
    """With a warning; and the module `race` stays out of the way of the function."""
    code = """
from adadpo_mini.settings import RaceConfig
from adadpo_mini.packed import PackedTokens, RefScores
from adadpo_mini.race import RaceResult, summarize
import adadpo_mini, adadpo_mini.config, adadpo_mini.tokens.table as table
assert RaceConfig is adadpo_mini.config.RaceConfig and PackedTokens is table.TokenTable
assert adadpo_mini.race.__name__ == "race" and callable(adadpo_mini.race)
"""
    command = [sys.executable, "-W", "default::DeprecationWarning", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert "adadpo_mini.settings.RaceConfig is now adadpo_mini.config.RaceConfig" in run.stderr


def test_every_old_module_has_new_ones_and_no_name_that_was_never_there():
    from importlib import import_module
    from importlib.util import find_spec

    from adadpo_mini.moved import MOVED

    for old, new in MOVED.items():
        assert all(find_spec(f"adadpo_mini.{module}") for module in new.split()), old
    with pytest.raises(AttributeError, match="nonsense"):
        import_module("adadpo_mini.settings").nonsense  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        import_module("adadpo_mini.never_there")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder of an unpacked wheel."""
    pytest.importorskip("hatchling")
    pytest.importorskip("build")
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    zipfile.ZipFile(file).extractall(out / "unpacked")
    return out / "unpacked"


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """The folder that `make space` writes."""
    folder = tmp_path_factory.mktemp("space") / "space"
    command = [sys.executable, "-m", "adadpo_mini.cli.space", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


def outside(package: Path, cwd: Path, *arguments: str, **environment: str) -> dict:
    """Return what to give `subprocess`: Python with that package, and without the clone.

    -S leaves out the .pth file through which the clone is installed.
    """
    path = os.pathsep.join([str(package), sysconfig.get_paths()["purelib"]])
    return {
        "args": [sys.executable, "-S", *arguments],
        "cwd": cwd,
        "env": {**os.environ, "PYTHONPATH": path, **environment},
        "text": True,
    }


def page_of(command: dict) -> str:
    """Return the HTML of the dashboard that a command serves; then interrupt the command."""
    server = subprocess.Popen(**command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        line = server.stdout.readline()
        assert line, server.communicate()[1]
        html = urllib.request.urlopen(re.search(r"http://\S+", line)[0], timeout=30).read()
        server.send_signal(signal.SIGTERM)
        loading, interrupted = server.communicate(timeout=60)[1].splitlines()
    finally:
        server.kill()
    assert loading == "adadpo-mini: loading the dashboard …"
    assert interrupted == "adadpo-mini: interrupted." and server.returncode == 130
    return html.decode()


def files_in(folder: Path) -> set[str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix() for path in files if "__pycache__" not in str(path)}


def test_the_wheel_carries_data_model_lessons_page_and_licence(wheel):
    names = files_in(wheel / "adadpo_mini")
    for path in ("tone/train.jsonl", "refusal/test.jsonl", "models/toy-gpt2/model.safetensors"):
        assert f"data/{path}" in names
    lessons = [path for path in (ROOT / "tutorials").iterdir() if path.suffix in (".ipynb", ".md")]
    assert {f"lessons/{path.name}" for path in lessons} <= names
    assert {f"app/{name}" for name in files_in(ROOT / "app")} <= names
    assert list(wheel.glob("*/licenses/LICENSE"))
    assert {path.name for path in wheel.iterdir() if "dist-info" not in path.name} == {
        "adadpo_mini"
    }


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_the_wheel_serves_the_page_without_the_clone(wheel, tmp_path):
    html = page_of(outside(wheel, tmp_path, "-m", "adadpo_mini", "app", "--port", "0"))
    assert "live-chart" in html and "Plotly.extendTraces" in html and "#run-status" in html
    assert not (tmp_path / "runs").exists(), "nothing was raced"


def test_the_wheel_races_and_copies_its_lessons_without_the_clone(wheel, tmp_path):
    race = ("race", "--steps", "1", "--batch-size", "2", "--out", "run")
    for arguments in (race, ("lessons", "--to", "mine", "--no-open")):
        command = outside(wheel, tmp_path, "-m", "adadpo_mini", *arguments)
        run = subprocess.run(**command, capture_output=True)
        assert run.returncode == 0, run.stderr
    assert "finished" in (tmp_path / "run" / "summary.json").read_text(encoding="utf-8")
    first = "00_start_here.ipynb"
    assert (tmp_path / "mine" / first).read_bytes() == (ROOT / "tutorials" / first).read_bytes()


def test_the_space_contains_what_the_wheel_contains(space, wheel):
    assert files_in(space / "adadpo_mini") == files_in(wheel / "adadpo_mini")
    assert {path.name for path in space.iterdir()} == {
        "README.md", "app.py", "requirements.txt", "adadpo_mini",
    }  # fmt: skip


def test_the_space_says_what_it_needs(space):
    lines = (space / "requirements.txt").read_text(encoding="utf-8").splitlines()
    lessons = {"jupyterlab", "ipywidgets", "anywidget"}
    needed = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert set(lines) == {f"{name}=={PINS[canonicalize_name(name)]}" for name in needed - lessons}
    settings = next(yaml.safe_load_all((space / "README.md").read_text(encoding="utf-8")))
    assert (settings["sdk"], settings["app_file"]) == ("gradio", "app.py")
    assert settings["sdk_version"] == PINS["gradio"]
    assert settings["python_version"] in SpecifierSet(PROJECT["requires-python"])
    assert len(settings["short_description"]) <= 60, "the hub rejects a longer one"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to catch")
def test_the_space_serves_the_page_without_a_home(space, tmp_path):
    there = {"GRADIO_SERVER_NAME": "127.0.0.1", "GRADIO_SERVER_PORT": "0", "HOME": "/nonexistent"}
    command = outside(space, tmp_path, str(space / "app.py"), **there)
    assert "live-chart" in page_of(command)


def test_a_folder_with_other_files_does_not_become_a_space(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    command = [sys.executable, "-m", "adadpo_mini.cli.space", tmp_path]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2 and "thesis.tex" in run.stderr
    assert (tmp_path / "thesis.tex").read_text() == "mine"
