"""The documents: every table is what its command writes, and every command in them works.

A command in a fenced block is run here, in a folder of its own and with few steps, or it is in
`NOT_RUN` with the reason. Every `adadpo-mini` command goes through the real parser either way.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from adadpo_mini.methods.registry import methods_table
from adadpo_mini.paper.plans import PLANS
from adadpo_mini.paper.results import RUN, read_measurements
from adadpo_mini.paper.tables import TABLES, table
from adadpo_mini.toyworld import data_dir
from tests.bench.sizes import README_LINES, README_WORDS

ROOT = data_dir().parent
RESULTS = ROOT / "data" / "results"
README, CONTRIBUTING = ROOT / "README.md", ROOT / "CONTRIBUTING.md"
PAGES = sorted(RESULTS.glob("*.md"))
DOCUMENTS = [README, CONTRIBUTING, ROOT / "data" / "README.md", *PAGES]

SHORT = ["--steps", "2", "--batch-size", "2", "--measure-every", "0"]
PROMPT = ["--prompt", "How do I stir the vegan pasta?"]
SERVER = "serves until it is stopped; tests/browser and tests/cli start it"
INSTALLS = "installs the package; tests/test_packaging.py builds the wheel"
HUB = "loads a model and pairs from the hub; tests/pairs and tests/models use local copies"
SWEEP = "takes an hour or more; tests/paper/test_sweep.py runs short ones"
BENCH = "measures for long with nothing beside it; tests/bench tests its tables"
NOT_RUN = {
    "make": "sets up and runs whole targets; that the target exists is tested here",
    "py -3.11": INSTALLS,
    ".venv\\Scripts\\activate": INSTALLS,
    "pip install": INSTALLS,
    "adadpo-mini app": SERVER,
    "adadpo-mini lessons": SERVER,
    "adadpo-mini race --data Anthropic": HUB,
    "adadpo-mini race --data trl-lib": HUB,
    "adadpo-mini sweep": SWEEP,
    "adadpo-mini pretrain": "takes minutes; tests/toyworld/test_pretrain.py runs a short one",
    "python tutorials/build.py": "writes the notebooks; tests/notebooks compares them",
    "python -m tests.bench --": BENCH,
    "python -m tests.bench.readme": "needs a Chromium; tests/bench/test_readme.py tests its parts",
}


def between(document: Path, name: str) -> str:
    begin, end = f"<!-- {name}:begin -->\n", f"\n<!-- {name}:end -->"
    return document.read_text(encoding="utf-8").split(begin)[1].split(end)[0]


# --- the tables


def test_the_table_of_losses_is_the_registry():
    assert between(RESULTS / "losses.md", "losses") == methods_table()


def test_the_tables_of_the_bench_are_what_the_committed_measurements_say():
    from tests.bench.tables import bench_tables

    assert between(RESULTS / "speed.md", "bench") == bench_tables(RESULTS / "bench.json")


SWEPT = {"claims": "paper", "findings": "paper", "sets": "sets", "beta": "beta", "arcs": "arcs"}


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_what_the_committed_sweep_says(kind):
    assert between(RESULTS / f"{kind}.md", kind) == table(kind, RESULTS / f"{SWEPT[kind]}.csv")


@pytest.mark.parametrize("plan", ["paper", "sets", "beta", "arcs"])
def test_a_committed_sweep_is_complete(plan):
    rows = read_measurements(RESULTS / f"{plan}.csv")
    done = {tuple(row[name] for name in RUN) for row in rows if row["step"] == row["steps"]}
    stages = PLANS[plan]
    planned = [*stages.first(), *(race for stage in stages.rest for race in stage(rows))]
    for race in planned:
        assert done.issuperset(race.keys()), race
    keys = [key for race in planned for key in race.keys()]  # noqa: SIM118 (no dict)
    assert len(done) == len(keys), "and it has nothing else"


def test_the_card_of_the_committed_base_model_is_what_pretrain_writes(toy):
    from adadpo_mini.toyworld.pretrain import MADE_BY, MODEL_CARD

    model, tokenizer = toy
    made = {"made_by": MADE_BY, "steps": 800, "seed": 0}
    made |= {"parameters": model.num_parameters(), "vocabulary": len(tokenizer)}
    card = ROOT / "data" / "models" / "toy-gpt2" / "README.md"
    assert card.read_text(encoding="utf-8") == MODEL_CARD.format(**made)


# --- the README and the map


def test_the_readme_is_short():
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_LINES == 110
    assert len(text.split()) <= README_WORDS == 700


def test_the_reading_order_is_the_same_everywhere():
    import adadpo_mini

    spine = ["losses", "logprobs", "trainer", "lockstep", "run"]
    said = adadpo_mini.__doc__.split("in this order:")[1].split(".")[0]
    assert re.findall(r"\w+", said) == spine
    for document, heading in ((README, "in this order"), (CONTRIBUTING, "in this order")):
        after = document.read_text(encoding="utf-8").split(heading)[1]
        assert re.findall(r"\(adadpo_mini/(\w+)\.py\)", after)[:5] == spine, document


def modules_on_the_map() -> Counter:
    """The paths in CONTRIBUTING's tree. A line that begins with a folder opens it; `name.py` on a
    line, or on deeper lines below, is in the folder that was opened last at a lesser depth."""
    tree = CONTRIBUTING.read_text(encoding="utf-8").split("## The map")[1].split("```")[1]
    found, opened = Counter(), []
    for line in tree.splitlines()[1:]:
        depth = len(line) - len(line.lstrip())
        opened = [(at, folder) for at, folder in opened if at < depth]
        first = line.split()[0]
        if first.endswith("/"):
            above = opened[-1][1] if opened else ROOT
            opened.append((depth, above / first))
        for name in re.findall(r"(?<![\w/])\w+\.py\b", line):
            found[str((opened[-1][1] / name).relative_to(ROOT))] += 1
    return found


def test_the_map_in_contributing_has_every_module_once_in_its_folder():
    hidden = {"__init__.py", "__main__.py"}
    paths = [path for top in ("adadpo_mini", "app") for path in (ROOT / top).rglob("*.py")]
    modules = Counter(str(p.relative_to(ROOT)) for p in paths if p.name not in hidden)
    found = modules_on_the_map()
    assert (sorted(modules - found), sorted(found - modules)) == ([], []), "missing, too many"


def anchors(document: Path) -> set[str]:
    """What GitHub makes of its headings."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_within_the_project_leads_somewhere(document):
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith("https://"):
            assert link.startswith("https://arxiv.org/abs/"), "no address of the project is known"
            continue
        path, _, anchor = link.partition("#")
        target = document.parent / path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# --- the commands


BLOCK = re.compile(r"^```(.*?)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)


def blocks(document: Path, kind: str) -> list[str]:
    """The fenced blocks of one kind: "" for commands, "python", "text" for anything else."""
    found = BLOCK.findall(document.read_text(encoding="utf-8"))
    return [block for said, block in found if said == kind]


def commands(document: Path) -> list[str]:
    """The commands of a document, in order, each on one line and without its comment."""
    text = "\n".join(blocks(document, "")).replace("\\\n", " ")
    lines = [" ".join(line.partition(" #")[0].split()) for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def reason_not_to_run(command: str) -> str | None:
    return next((why for start, why in NOT_RUN.items() if command.startswith(start)), None)


ALL = [(document, command) for document in DOCUMENTS for command in commands(document)]


def test_every_block_is_of_a_kind_that_is_tested():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        kinds = [kind for kind, _ in BLOCK.findall(text)]
        assert set(kinds) <= {"", "python", "text"} and 2 * len(kinds) == text.count("```"), (
            document
        )


def test_nothing_is_listed_as_not_run_that_no_document_has():
    for start in NOT_RUN:
        assert any(command.startswith(start) for _, command in ALL), start
        named = re.findall(r"tests/[\w/.]*\w", NOT_RUN[start])
        assert all((ROOT / path).exists() for path in named), start


def parse(words: list[str]):
    """What the real parser makes of an adadpo-mini command; fails if it refuses it."""
    from adadpo_mini.cli.parser import build_parser

    try:
        return build_parser().parse_args(words)
    except SystemExit:
        pytest.fail(f"adadpo-mini refuses: {shlex.join(words)}")


MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", sorted({command for _, command in ALL}))
def test_a_command_can_be_given_as_it_is_written(command):
    program, *words = shlex.split(command, posix="\\" not in command)
    if program == "adadpo-mini":
        parse(words)
    elif program == "make":
        assert all(re.search(rf"^{target}:", MAKEFILE, flags=re.MULTILINE) for target in words)
    elif program == "python" and words[0] == "-m":
        source = ROOT / words[1].replace(".", "/")
        assert source.with_suffix(".py").is_file() or (source / "__main__.py").is_file()
    elif program == "python":
        assert (ROOT / words[0]).is_file()
    else:
        assert reason_not_to_run(command), "neither run nor said not to be"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_command_within_a_sentence_has_a_name_and_flags_that_exist(document, capsys):
    from adadpo_mini.cli.parser import build_parser

    prose = BLOCK.sub("", document.read_text(encoding="utf-8"))
    for program, rest in re.findall(r"`(adadpo-mini|make) ([^`]+)`", prose):
        name, *words = rest.split()
        if program == "make":
            assert re.search(rf"^{name}:", MAKEFILE, flags=re.MULTILINE), rest
            continue
        with pytest.raises(SystemExit) as left:
            build_parser().parse_args([name, "--help"])
        told = capsys.readouterr().out
        assert left.value.code == 0, rest
        assert all(word in told for word in words if word.startswith("--")), rest


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the committed results and a file of pairs, as the commands expect them."""
    shutil.copytree(RESULTS, tmp_path / "data" / "results")
    pairs = (ROOT / "data" / "tone" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    (tmp_path / "my_pairs.jsonl").write_text("\n".join(pairs[:40]) + "\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str) -> None:
    """Run a command in this folder: as it is written, but for the number of steps."""
    from adadpo_mini.cli import main

    program, *words = shlex.split(command)
    if program == "adadpo-mini":
        if words[0] == "race":
            words += SHORT
        if words[0] == "chat":
            words = ["2" if word == "30" else word for word in words] + PROMPT
        assert main(words) == 0, command
    else:
        assert program == "python", command
        done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_run_in_its_order(document, folder):
    for command in commands(document):
        if reason_not_to_run(command) is None:
            run(command)
    for page in PAGES:
        now = (folder / "data" / "results" / page.name).read_text(encoding="utf-8")
        assert now == page.read_text(encoding="utf-8"), "a command writes what is committed"


def test_the_python_of_a_document_runs(folder, capsys):
    programs = [program for document in DOCUMENTS for program in blocks(document, "python")]
    assert programs
    for program in programs:
        short, count = re.subn(r"steps=\d+", "steps=2, batch_size=2, measure_every=0", program)
        assert count == 1
        exec(compile(short, "README.md", "exec"), {})
        assert "delta_chosen" in capsys.readouterr().out
