"""Sweeps: resumed without running anything twice, and tables that say what is in the file."""

import math
from dataclasses import replace
from statistics import fmean

import pytest

from adadpo_mini import InputError, RaceConfig, load_pairs, race
from adadpo_mini.cli.entry import main
from adadpo_mini.errors import WriteError
from adadpo_mini.measure import SampledKL, sampled_kl
from adadpo_mini.measure.answers import probe_answers
from adadpo_mini.paper.planned import PlannedRace, run_race
from adadpo_mini.paper.results import COLUMNS, closing_rows, read_measurements
from adadpo_mini.paper.results_writer import append_rows
from adadpo_mini.paper.sweep import results_file, sweep
from adadpo_mini.paper.tables import table
from adadpo_mini.tokens.templates import encode_prompts
from adadpo_mini.toyworld.judge import outcomes, perfect_win_rate

TINY = {"steps": 2, "batch_size": 2, "eval_pairs": 2, "measure_every": 2}
JUDGED = (
    "kl", "prompts", "win_rate", "lc_win_rate", "ties", "win_rate_at_1", "lc_win_rate_at_1",
    "perfect_win_rate", "length", "reference_length",
)  # fmt: skip


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(planned races, file) of a sweep of two tiny races."""
    out = tmp_path_factory.mktemp("sweep") / "results.csv"
    planned = [PlannedRace("sets", RaceConfig(data="tone", seed=seed, **TINY)) for seed in (0, 1)]
    assert list(sweep(planned, out, processes=1)) == [0, 1, 2]
    return planned, out


def test_a_sweep_writes_the_measured_steps_of_each_race_and_method(swept):
    rows = read_measurements(swept[1])
    assert sorted((r["data"], r["seed"], r["method"], r["step"]) for r in rows) == [
        ("tone", seed, method, step)
        for seed in (0, 1)
        for method in ("adadpo", "dpo")
        for step in (0, 2)
    ]
    for row in rows:
        assert math.isfinite(row["shift_chosen"])
        judged = [row[name] for name in JUDGED]
        assert all((value is not None) == (row["step"] == 2) for value in judged)
        assert (row["mean_rho"] is not None) == (row["step"] == 2)
        assert row["ranking_accuracy"] in (0.0, 0.5, 1.0)


@pytest.fixture(scope="module")
def alone(swept):
    """The second race of the sweep, run by itself."""
    config = swept[0][1].config
    settings = {name: getattr(config, name) for name in ("steps", "batch_size", "eval_pairs")}
    return race("tone", seed=1, measure_every=0, **settings)


def held_out_prompts(count):
    pairs = load_pairs("tone", split="test")
    return list(dict.fromkeys(pair["prompt"] for pair in pairs))[:count]


def rows_of_second(swept):
    rows = closing_rows(read_measurements(swept[1]), "sets")
    return {row["method"]: row for row in rows if row["seed"] == 1}


def test_the_rows_of_a_race_are_what_the_race_measures(swept, alone):
    for method, row in rows_of_second(swept).items():
        event = alone.events[method][-1]
        for column, name in (
            ("shift_chosen", "eval_shift/chosen"),
            ("shift_rejected", "eval_shift/rejected"),
            ("accuracy", "eval_rewards/accuracies"),
            ("ranking_accuracy", "eval_ranking_accuracy"),
            ("margin", "eval_rewards/margins"),
            ("rho", "eval_ada/rho"),
            ("ceiling_share", "eval_ada/ceiling_share"),
        ):
            assert row[column] == pytest.approx(event[name], abs=2e-6), column
        trained = [event["ada/rho"] for event in alone.events[method][:-1]]
        assert row["mean_rho"] == pytest.approx(fmean(trained), abs=2e-6)
        assert row["mean_rho"] != event["ada/rho"] or method == "dpo"


def test_answers_are_judged_at_both_temperatures_with_their_ties(swept, alone):
    tokenizer, prompts = alone.tokenizer, held_out_prompts(2)

    def answers(model, temperature):
        return probe_answers(model, tokenizer, prompts, 1, temperature)

    for method, row in rows_of_second(swept).items():
        cold, warm = (
            outcomes(prompts, answers(alone.models[method], t), answers(alone.reference, t))
            for t in (0.7, 1.0)
        )
        assert row["win_rate"] == pytest.approx(fmean(cold))
        assert row["win_rate_at_1"] == pytest.approx(fmean(warm))
        assert row["ties"] == cold.count(0.5) / 2 and row["prompts"] == 2
        assert row["perfect_win_rate"] == pytest.approx(
            perfect_win_rate(prompts, answers(alone.reference, 0.7)), abs=1e-6
        )


def test_lengths_are_tokens_with_the_end_token_and_the_kl_is_that_of_the_policy(swept, alone):
    prompts = held_out_prompts(2)
    tokenizer, end = alone.tokenizer, alone.tokenizer.eos_token_id

    def mean_length(model):
        answers = probe_answers(model, tokenizer, prompts, seed=1)
        return (
            sum(len(tokenizer(answer + tokenizer.eos_token)["input_ids"]) for answer in answers) / 2
        )

    for method, row in rows_of_second(swept).items():
        policy = alone.models[method]
        assert row["length"] == mean_length(policy)
        assert row["reference_length"] == mean_length(alone.reference)
        ids = encode_prompts(prompts, tokenizer)
        kl = sampled_kl(policy, alone.reference, ids, end, seed=1).kl
        assert row["kl"] == pytest.approx(kl, abs=2e-6) and kl > 0


def test_a_run_has_a_row_every_twenty_steps_at_each_that_is_judged_and_at_the_end():
    rows = run_race(PlannedRace("sets", RaceConfig(**TINY | {"steps": 22, "measure_every": 15})))
    for method in ("dpo", "adadpo"):
        own = [row for row in rows if row["method"] == method]
        assert [row["step"] for row in own] == [0, 15, 20, 22]
        assert [row["step"] for row in own if row.get("win_rate") is not None] == [15, 22]
        assert [row["step"] for row in own if row.get("mean_rho") is not None] == [22]


def test_a_sweep_that_is_done_runs_nothing(swept):
    before, inode = swept[1].read_bytes(), swept[1].stat().st_ino
    assert list(sweep(*swept, processes=1)) == [2]
    assert swept[1].read_bytes() == before and swept[1].stat().st_ino == inode


def test_a_sweep_goes_on_where_it_was_cut_off_with_the_same_numbers(swept, tmp_path):
    planned, whole = swept
    lines = whole.read_text().splitlines(keepends=True)
    part = tmp_path / "part.csv"
    # The second race lost its first row, and its last one in the middle; the first race is whole.
    part.write_text("".join([lines[0], *lines[6:8], *lines[1:5], lines[8][:30]]))
    other = PlannedRace("sets", replace(planned[0].config, beta=0.2))
    assert list(sweep([*planned, other], part, processes=1)) == [1, 2, 3]
    found = part.read_text().splitlines()
    assert set(found) > set(whole.read_text().splitlines()) and len(found) == len(lines) + 4
    assert len(read_measurements(part)) == 12
    with pytest.raises(InputError, match="differ in settings"):
        table("sets", part)


@pytest.mark.parametrize("begun", [None, "", ",".join(COLUMNS)[:50], ",".join(COLUMNS)])
def test_a_file_without_a_whole_header_gets_one(begun, swept, tmp_path):
    out = tmp_path / "new" / "results.csv"
    rows = read_measurements(swept[1])
    if begun is not None:
        out.parent.mkdir()
        out.write_text(begun)
    for row in rows[:2]:
        with results_file(out):
            append_rows(out, [row])
    assert read_measurements(out) == rows[:2]


def test_an_incomplete_last_line_does_not_count(swept, tmp_path):
    out = tmp_path / "results.csv"
    out.write_text(swept[1].read_text()[:-3])
    assert read_measurements(out) == read_measurements(swept[1])[:-1]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"my notes", "does not contain a sweep's results"),
        (b"a,b\n1,2\nhalf a li", "does not contain a sweep's results"),
        ((",".join(COLUMNS) + ",mine").encode(), "does not contain a sweep's results"),
        (
            (",".join(COLUMNS) + "\nsets,tone,dpo\n").encode(),
            "line 2 has a cell too few",
        ),
        (("\ufeff" + ",".join(COLUMNS) + "\n").encode(), "line 1 begins with a byte order mark"),
        (None, "is a folder"),
    ],
)
def test_a_file_that_is_not_a_sweeps_is_refused_and_unchanged(content, said, swept, tmp_path):
    out = tmp_path / "mine.csv"
    out.mkdir() if content is None else out.write_bytes(content)
    with pytest.raises(InputError, match=said):
        next(sweep(swept[0], out))
    assert content is None or out.read_bytes() == content
    if "line 2" not in said:
        assert [file.name for file in tmp_path.iterdir()] == ["mine.csv"], "not even a lock beside"


def test_what_cannot_end_well_is_refused_before_any_race(swept, tmp_path):
    planned, whole = swept
    with pytest.raises(WriteError, match="not a folder"):
        next(sweep(planned, whole / "results.csv"))
    with pytest.raises(InputError, match="processes"):
        next(sweep(planned, tmp_path / "results.csv", processes=0))
    with pytest.raises(InputError, match="not 'my.jsonl'"):
        PlannedRace("sets", RaceConfig(data="my.jsonl"))
    assert main(["sweep", "sets", "--quick", "--out", str(tmp_path / "results.csv")]) == 2


def test_a_file_is_swept_into_by_one_process_whatever_name_it_is_given(swept, tmp_path):
    planned, whole = swept
    (tmp_path / "link.csv").symlink_to(whole)
    with (
        results_file(whole),
        pytest.raises(InputError, match=r"link\.csv: another sweep is writing"),
    ):
        next(sweep(planned, tmp_path / "link.csv"))
    assert list(sweep(planned, tmp_path / "link.csv")) == [2]


def test_a_disk_that_is_full_ends_a_sweep_which_goes_on_when_there_is_room(swept, tmp_path):
    resource = pytest.importorskip("resource")
    planned, whole = swept
    lines = whole.read_text().splitlines(keepends=True)
    others = [line.replace("sets,", f"other {n},") for line in lines[1:] for n in range(9)]
    part = tmp_path / "part.csv"
    part.write_text("".join([*lines[:5], *others]))  # more than a check writes
    before, limits = part.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"part\.csv cannot be written"):
            list(sweep(planned, part, processes=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert part.read_bytes() == before
    assert list(sweep(planned, part, processes=1)) == [1, 2]
    assert part.read_bytes().startswith(before)


def test_a_divergent_race_of_a_sweep_is_named(tiny, tmp_path):
    config = RaceConfig(
        data="tone", seed=3, model=str(tiny), steps=9, batch_size=2, eval_pairs=2,
        learning_rate=1e6, measure_every=0,
    )  # fmt: skip
    with pytest.raises(InputError, match="tone.*seed 3.*lower the learning rate"):
        list(sweep([PlannedRace("sets", config)], tmp_path / "results.csv"))
    assert not (tmp_path / "results.csv").exists()


def test_an_infinite_kl_is_an_empty_cell(monkeypatch):
    infinite = SampledKL(math.inf, 0.0, 1.0)
    monkeypatch.setattr("adadpo_mini.paper.planned.sampled_kl", lambda *_, **__: infinite)
    rows = run_race(PlannedRace("sets", RaceConfig(**TINY)))
    assert {row["kl"] for row in closing_rows(rows, "sets")} == {None}
