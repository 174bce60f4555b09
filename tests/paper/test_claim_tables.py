"""The tables of claims in Markdown, and the findings in sentences."""

import re

import pytest

from adadpo_mini import InputError
from adadpo_mini.paper.ablation_claims import ABLATIONS
from adadpo_mini.paper.claim_tables import (
    CONTROL_METHODS,
    best_settings_text,
    claims_tables,
    sets_by_verdict,
    size_text,
)
from adadpo_mini.paper.claims import CLAIMS, POLICY, RATIO
from adadpo_mini.paper.control_claims import CONTROLS
from adadpo_mini.paper.findings import both_temperatures, findings
from adadpo_mini.paper.intervals import Estimate
from tests.paper.made_up import (
    BEST,
    BETTER,
    CONTROL_SEEDS,
    HARD,
    SETS,
    changed,
    closing,
    run,
    write,
)

EQUAL = CLAIMS[0]


@pytest.fixture(scope="module")
def text(rows):
    return claims_tables(rows, "paper.csv")


def part(text, heading):
    """The part of the page below a heading: (paragraphs, tables as lists of rows of cells)."""
    below = text.split(f"### {heading}\n")[1].split("\n###")[0]
    blocks = below.strip().split("\n\n")
    tables = [
        [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in block.splitlines()]
        for block in blocks
        if block.startswith("|")
    ]
    return [block for block in blocks if not block.startswith("|")], tables


def test_each_part_has_a_row_for_each_claim_and_space_and_a_cell_for_each_set(text, rows):
    parts = {"Over the grid": CLAIMS, "The ablations": ABLATIONS}
    parts |= {f"The controls, {where}": claims for where, claims in CONTROLS.items()}
    for heading, claims in parts.items():
        head, _, *body = part(text, heading)[1][-1]
        assert head == ["claim", "effect in", *(f"`{name}`" for name in SETS)]
        expected = [(claim, method) for claim in claims for method in claim.spaces]
        assert len(body) == len(expected)
        for cells, (claim, method) in zip(body, expected, strict=True):
            space = {RATIO: " (ratio space)", POLICY: " (policy space)"}[method]
            assert cells[0] == claim.title + (space if len(claim.spaces) > 1 else "")
            assert cells[1] == claim.unit
            for name, cell in zip(SETS, cells[2:], strict=True):
                verdicts = claim.verdicts(rows, name, method)
                said = [f"{at}: {v.text}" if at else v.text for at, v in verdicts.items()]
                assert cell == "<br>".join(said)


def test_the_size_of_the_runs_is_said_with_what_a_perfect_model_could_win(text, rows):
    size = part(text, "Over the grid")[0][0]
    assert size.startswith(
        "576 runs: learning rates 1e-05, 3e-05, 0.0001, 0.0003 × β 0.03, 0.1, 0.3, 1, 4 seeds. "
        "Each is 40 steps of 8 pairs (320 pairs), judged on 100 held-out prompts."
    )
    assert "at T 0.7: `near_duplicate` 0.90, `swap` 0.90, `tone` 0.90" in size
    better = changed(rows, lambda row: {"perfect_win_rate": 0.75}, data="swap")
    assert "`swap` 0.75, `tone` 0.90" in size_text(better, "x")


@pytest.mark.parametrize("column", ["steps", "batch_size", "prompts"])
def test_runs_of_different_size_are_refused(column, rows):
    change = {column: 50, **({"step": 50} if column == "steps" else {})}
    other = changed(rows, lambda row: change, seed=0, method="dpo", step=40)
    with pytest.raises(InputError, match=r"^paper\.csv: the runs of its grid differ in steps"):
        size_text(other, "paper.csv")


def test_a_best_setting_on_the_edge_of_the_grid_is_said(rows):
    said = best_settings_text(rows)
    assert "DPO on `tone` 0.0001, β 0.3; " in said
    assert said.endswith("The best learning rate is nowhere on the edge, the best β nowhere on the "
                         "edge.")  # fmt: skip
    narrow = [row for row in rows if row["beta"] <= 0.3]
    said = best_settings_text(narrow)
    assert said.endswith("nowhere on the edge, the best β on the edge of the grid for all.")
    low = changed(
        rows, lambda row: {"lc_win_rate": 0.99}, method="dpo", data="swap", learning_rate=1e-5,
        beta=0.1, experiment="grid",
    )  # fmt: skip
    said = best_settings_text(low)
    assert "rate is on the edge of the grid for DPO on `swap`, the best β nowhere" in said


def test_the_controls_have_their_setting_their_seeds_and_a_row_of_results_each(text, rows):
    for where, setting in (
        ("at DPO's best setting", BEST),
        ("at a setting that is too hard", HARD),
    ):
        sentences, (results, _) = part(text, f"The controls, {where}")
        rate, beta = setting
        assert f"`swap` {rate:g}, β {beta:g}; `tone`" in sentences[0]
        assert "Seeds 5 to 9, which the grid does not have." in sentences[0]
        assert "win rate at T 0.7 and at T 1" in sentences[1]
        titles = [cells[0] for cells in results[2:]]
        assert titles == list(CONTROL_METHODS)
        for cells, (experiment, method) in zip(results[2:], CONTROL_METHODS.values(), strict=True):
            runs = closing(rows, experiment=experiment, method=method, data="tone",
                           learning_rate=rate, beta=beta)  # fmt: skip
            assert len(runs) == len(CONTROL_SEEDS)
            cold, warm, w, loss, rho = (
                Estimate.of([row[name] for row in runs])
                for name in ("win_rate", "win_rate_at_1", "shift_chosen", "shift_rejected",
                             "mean_rho")
            )  # fmt: skip
            moved = f"{w.mean:+.1f} / {loss.mean:+.1f}".replace("-", "−")
            assert cells[-1] == (
                f"{cold.text('.2f')}; T 1: {warm.text('.2f')}; {moved}; ρ {rho.mean:.2f}"
            )


def test_unfinished_results_make_the_parts_that_they_can(rows):
    grid = [row for row in rows if row["experiment"] == "grid"]
    text = claims_tables(grid, "x")
    for where in CONTROLS:
        assert part(text, f"The controls, {where}") == (["No runs yet."], [])
    assert "**not run**" in part(text, "The ablations")[1][0][2][-1]
    no_tone = [row for row in rows if row["experiment"] == "grid" or row["data"] != "tone"]
    sentences, (results, _) = part(
        claims_tables(no_tone, "x"), "The controls, at DPO's best setting"
    )
    assert "`tone`" not in sentences[0] and results[0] == ["", "`near_duplicate`", "`swap`"]
    one = [row for row in grid if row["method"] == "dpo" and row["seed"] == 0]
    assert "**not run**" in claims_tables(one, "x")


def test_the_findings_say_where_adadpo_is_better_worse_or_neither(rows):
    said = findings(rows)
    every = "every set"
    assert f"- At equal settings, against DPO: better on {every}. Policy space: the same." in said
    worse = changed(
        rows,
        lambda row: {"lc_win_rate": row["lc_win_rate"] and row["lc_win_rate"] - 0.3},
        method="adadpo",
        data="swap",
    )
    assert both_temperatures(EQUAL, worse) == (
        f"better on `near_duplicate` and `tone`, worse on `swap` (T 1: better on {every})"
    )
    line = next(line for line in findings(worse).splitlines() if "equal settings" in line)
    assert line.endswith(f"Policy space: better on {every}.")
    assert sets_by_verdict(EQUAL, worse) == {"holds": ["near_duplicate", "tone"], "fails": ["swap"]}
    assert sets_by_verdict(EQUAL, worse, measure="T 1") == {"holds": list(SETS)}


def test_the_findings_have_a_line_for_each_rival_in_each_kind_of_setting(rows):
    lines = findings(rows).splitlines()
    assert sum(line.startswith("- Against ") for line in lines) == 2 * 7
    assert sum(line.startswith("- Scaled") for line in lines) == 2
    assert "At DPO's best setting:" in lines and "At a setting that is too hard:" in lines
    rpo = next(line for line in lines if "RPO" in line)
    assert rpo.startswith("- Against DPO + NLL (RPO): worse on ")


def test_the_command_prints_the_tables(rows, tmp_path, capsys):
    from adadpo_mini.cli.entry import main

    path = write(rows, tmp_path / "paper.csv")
    assert main(["table", "claims", str(path)]) == 0
    assert capsys.readouterr().out.strip() == claims_tables(rows, str(path))
    assert main(["table", "findings", str(path)]) == 0
    assert capsys.readouterr().out.strip() == findings(rows)
    sets_only = changed(rows, lambda row: {"experiment": "sets"}, experiment="grid")
    for kind in ("claims", "findings"):
        assert main(["table", kind, str(write(sets_only, tmp_path / "sets.csv"))]) == 2
        assert "has no runs of grid" in capsys.readouterr().err


def test_made_up_runs_are_told_apart_by_what_they_put_in():
    import random

    *_, last = run("grid", "tone", "dpo", 0, BEST, 0.7, random.Random(0))
    values = [
        last[name] for name in ("win_rate", "lc_win_rate", "win_rate_at_1", "lc_win_rate_at_1")
    ]
    assert len(set(values)) == 4 and BETTER
