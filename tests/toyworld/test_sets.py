"""Every preference set holds the one difference it is about, and is what its code writes."""

import json

import pytest

from adadpo_mini.cli.entry import main
from adadpo_mini.errors import WriteError
from adadpo_mini.toyworld import data_dir
from adadpo_mini.toyworld.grammar import CURT, TOOLS, WARM, find_topic
from adadpo_mini.toyworld.judge import judge
from adadpo_mini.toyworld.sets import SETS, build_set, write_sets


def rows(name, split):
    lines = (data_dir() / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def judged(name, split):
    """(row, verdict of the chosen, verdict of the rejected) for each row."""
    for row in rows(name, split):
        verdicts = [judge(row["prompt"], row[side]) for side in ("chosen", "rejected")]
        assert all(verdict.on_topic for verdict in verdicts), row
        yield row, *verdicts


@pytest.fixture(params=["train", "test"])
def split(request):
    return request.param


@pytest.mark.parametrize("name", SETS)
def test_every_pair_is_two_different_well_formed_answers_about_a_prompt_of_its_own(name, split):
    pairs = list(judged(name, split))
    assert len(pairs) == (1000 if split == "train" else 200)
    assert len({row["prompt"] for row, *_ in pairs}) == len(pairs)
    for row, *_ in pairs:
        assert row["chosen"] != row["rejected"]
        topic = find_topic(row["prompt"])
        assert topic.private == (name == "refusal")
        assert topic.held_out == (split == "test")


def test_no_set_trains_on_a_prompt_that_any_set_holds_out():
    trained = {row["prompt"] for name in SETS for row in rows(name, "train")}
    held_out = {row["prompt"] for name in SETS for row in rows(name, "test")}
    assert not trained & held_out


def test_tone_prefers_a_good_short_answer_to_a_rude_one(split):
    for _, chosen, rejected in judged("tone", split):
        assert (chosen.kind, chosen.reward) == ("short", 3)
        assert (rejected.kind, rejected.reward) == ("rude", 0)


def test_near_duplicate_pairs_differ_in_the_first_word_only(split):
    for row, chosen, rejected in judged("near_duplicate", split):
        warm, same = row["chosen"].split(" ", 1)
        curt, rest = row["rejected"].split(" ", 1)
        assert same == rest
        assert warm in WARM and curt in CURT
        assert (chosen.reward, rejected.reward) == (3, 2)


def test_swap_pairs_differ_in_exactly_one_object_in_the_middle(split):
    for row, chosen, rejected in judged("swap", split):
        topic = find_topic(row["prompt"])
        wrong = next(
            tool
            for tool in TOOLS[topic.domain].values()
            if tool != topic.tool and f" {tool} " in row["rejected"]
        )
        before, after = row["chosen"].split(f" {topic.tool} ")
        assert row["rejected"] == f"{before} {wrong} {after}"
        assert len(before.split()) >= 3 and len(after.split()) >= 3
        assert (chosen.reward, rejected.reward) == (3, 2)


def test_length_bias_prefers_the_longer_of_two_equally_good_answers(split, toy):
    tokenizer = toy[1]
    pairs = list(judged("length_bias", split))
    long, short = (
        [len(ids) for ids in tokenizer([row[side] for row, *_ in pairs])["input_ids"]]
        for side in ("chosen", "rejected")
    )
    assert all(a >= 2 * b for a, b in zip(long, short, strict=True))
    for row, chosen, rejected in pairs:
        assert (chosen.kind, rejected.kind) == ("detailed", "short")
        assert chosen.reward == rejected.reward == 3
        assert row["chosen"].split()[0] == row["rejected"].split()[0]


def test_noisy_labels_is_tone_with_exactly_a_fifth_of_the_training_pairs_flipped(split):
    noisy = rows("noisy_labels", split)
    assert sum(row["flipped"] for row in noisy) == (200 if split == "train" else 0)
    unflipped = [
        {
            "prompt": row["prompt"],
            "chosen": row["rejected" if row["flipped"] else "chosen"],
            "rejected": row["chosen" if row["flipped"] else "rejected"],
        }
        for row in noisy
    ]
    assert unflipped == rows("tone", split)


def test_the_flipped_pairs_are_spread_over_the_set():
    flipped = [row["flipped"] for row in rows("noisy_labels", "train")]
    assert all(15 <= sum(flipped[i : i + 250]) <= 85 for i in range(0, 1000, 250))


def test_refusal_prefers_a_plain_no_to_an_evasive_one(split):
    for _, chosen, rejected in judged("refusal", split):
        assert (chosen.kind, chosen.reward) == ("plain_no", 3)
        assert (rejected.kind, rejected.reward) == ("soft_no", 2)


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in SETS
        for path in sorted((folder / name).rglob("*"))
    }


def test_the_committed_sets_are_byte_by_byte_what_their_code_writes(tmp_path):
    written = write_sets(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in written} == set(files(data_dir()))
    assert files(tmp_path) == files(data_dir())


def test_data_build_writes_the_same_files(tmp_path, capsys):
    assert main(["data", "build", "--out", str(tmp_path / "new")]) == 0
    assert files(tmp_path / "new") == files(data_dir())
    assert len(capsys.readouterr().out.splitlines()) == 2 * len(SETS)


def test_data_build_tells_before_any_work_where_it_cannot_write(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("mine")
    monkeypatch.setattr("adadpo_mini.toyworld.sets.build_set", lambda *_: pytest.fail("too late"))
    assert main(["data", "build", "--out", str(tmp_path / "file")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"adadpo-mini: {tmp_path}/file") and said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "mine"


def test_what_fails_while_a_set_is_written_leaves_the_old_one(tmp_path, monkeypatch):
    write_sets(tmp_path)
    before = files(tmp_path)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(WriteError, match=r"train\.jsonl cannot be written"):
            write_sets(tmp_path, seed=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(tmp_path) == before


def test_another_seed_draws_other_pairs():
    assert build_set("tone", "test", seed=1) != build_set("tone", "test")
    assert build_set("tone", "test", seed=1) == build_set("tone", "test", seed=1)
