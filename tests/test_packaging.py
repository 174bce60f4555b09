"""What is written twice must agree, the house's arrows run one way, and the wheel is complete."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
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
    """The modules that a file imports, wherever in the file."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
    return names


def test_the_conda_environment_says_what_pyproject_says():
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain = [entry for entry in dependencies if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    assert plain == [f"python{PROJECT['requires-python']}", "pip"]
    (line,) = pip
    extras = re.fullmatch(r"-e \.\[([\w,]+)\]", line).group(1)
    assert set(extras.split(",")) == set(EXTRAS)


def test_every_dependency_is_pinned_within_its_range():
    wanted = [*PROJECT["dependencies"], *(line for lines in EXTRAS.values() for line in lines)]
    for requirement in map(Requirement, wanted):
        assert PINS[canonicalize_name(requirement.name)] in requirement.specifier, requirement
    assert PINS["torch"] == "2.13.0"


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the pins were made on Python 3.11")
def test_what_is_installed_here_is_what_is_pinned():
    from importlib.metadata import version

    for requirement in map(Requirement, PROJECT["dependencies"] + EXTRAS["app"]):
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


def test_every_public_name_can_be_had_and_is_listed():
    import adadpo_mini

    for name in adadpo_mini.__all__:
        assert getattr(adadpo_mini, name).__module__.startswith("adadpo_mini"), name
    assert set(adadpo_mini.__all__) <= set(dir(adadpo_mini))
    with pytest.raises(AttributeError, match="nonsense"):
        adadpo_mini.nonsense  # noqa: B018


def test_a_module_is_still_found_under_its_old_name():
    code = "import adadpo_mini.settings, adadpo_mini.config as new, sys; " + (
        "print(sys.modules['adadpo_mini.settings'] is new)"
    )
    command = [sys.executable, "-W", "error::DeprecationWarning", "-c", code]
    assert "adadpo_mini.config" in subprocess.run(command, capture_output=True, text=True).stderr
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.stdout == "True\n", run.stderr


def test_every_old_name_leads_somewhere():
    from importlib.util import find_spec

    from adadpo_mini.moved import MOVED

    for new in MOVED.values():
        assert find_spec(f"adadpo_mini.{new}"), new


def test_the_wheel_carries_data_model_and_licence_and_no_app(tmp_path):
    pytest.importorskip("hatchling")
    pytest.importorskip("build")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in ("tone/train.jsonl", "refusal/test.jsonl", "models/toy-gpt2/model.safetensors"):
        assert f"adadpo_mini/data/{path}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("app/", "tests/"))]
