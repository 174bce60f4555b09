"""`adadpo-mini inspect` and `adadpo-mini report` on a small run."""

import json
import re

import pytest

from adadpo_mini import load_pairs, race
from adadpo_mini.cli.entry import main
from adadpo_mini.measure import mass_ledger
from adadpo_mini.store.folder import RunFolder

SMALL = {"batch_size": 2, "threads": 1, "learning_rate": 1e-3, "measure_every": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a race of DPO, AdaDPO and RLHF on the toy world."""
    out = tmp_path_factory.mktemp("runs") / "one"
    methods = ("dpo", "adadpo", "rlhf")
    race("swap", methods=methods, steps=4, snapshot_every=2, out=out, beta=0.2, **SMALL)
    return out


def found(run, *arguments, capsys):
    assert main(["inspect", str(run), *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_pair_is_measured_under_the_reference_and_each_method(run, capsys):
    seen = found(run, "--pair", "3", capsys=capsys)
    pair = load_pairs("swap", split="test")[2]
    assert (seen["pair"], seen["pairs"], seen["step"]) == (3, 200, None)
    assert seen["prompt"] == pair["prompt"] and seen["chosen"]["text"] == pair["chosen"]
    assert list(seen["models"]) == ["reference", "dpo", "adadpo", "rlhf"] and not seen["notes"]
    for side in ("chosen", "rejected"):
        tokens = seen[side]
        assert "".join(tokens["tokens"][:-1]) == pair[side]
        for method, change in tokens["change"].items():
            logp = seen["models"][method][f"{side}_logp"]
            assert sum(tokens["reference_logps"]) + sum(change) == pytest.approx(logp, abs=1e-3)
        reference = seen["models"]["reference"][f"{side}_logp"]
        assert reference == pytest.approx(sum(tokens["reference_logps"]), abs=1e-3)
        assert list(tokens["gradient_weight"]) == ["dpo", "adadpo"]
    dpo, adadpo = seen["models"]["dpo"], seen["models"]["adadpo"]
    assert dpo["forces_at_start"] == pytest.approx([0.1, 0.1])  # β/2
    up, down = adadpo["forces"]
    assert dpo["threshold"] == pytest.approx(1)
    assert adadpo["threshold"] == pytest.approx(up / down) != pytest.approx(1, abs=1e-4)
    assert dpo["meter"] == pytest.approx(dpo["cosine"] * dpo["norm_ratio"])
    assert seen["models"]["rlhf"]["forces"] is None
    assert seen["models"]["reference"]["kl"] == 0 < dpo["kl"]
    for model in seen["models"].values():
        assert sum(model["mass"].values()) == pytest.approx(1)
        assert model["probe"]["chosen"] == pytest.approx(model["chosen_logp"], abs=1e-3)
        assert model["ches"] < 0


def test_the_models_are_those_of_the_step(run, toy, capsys):
    start, end = found(run, "--step", "0", capsys=capsys), found(run, capsys=capsys)
    dpo, reference = start["models"]["dpo"], start["models"]["reference"]
    assert dpo["chosen_logp"] == pytest.approx(reference["chosen_logp"], abs=1e-4)
    assert dpo["kl"] == pytest.approx(0, abs=1e-6)
    assert set(start["chosen"]["change"]["dpo"]) == {0.0}
    model, tokenizer = RunFolder.open(run).load(RunFolder.open(run).model("dpo"))
    ledger = mass_ledger(model, tokenizer, load_pairs("swap", split="test")[0])
    assert end["models"]["dpo"]["mass"]["chosen"] == pytest.approx(ledger.chosen, rel=1e-3)
    assert end["models"]["dpo"]["most_likely"] == ledger.most_likely


def test_the_tables_show_what_the_json_has(run, capsys):
    seen = found(run, "--method", "dpo", capsys=capsys)
    assert list(seen["models"]) == ["reference", "dpo"]
    assert main(["inspect", str(run), "--method", "dpo"]) == 0
    printed = capsys.readouterr().out
    mass = seen["models"]["dpo"]["mass"]
    assert re.search(rf"the chosen +\S+ +{mass['chosen']:.4f}", printed)
    assert re.search(rf"threshold +– +{seen['models']['dpo']['threshold']:.3g}", printed)
    assert re.search(rf"sum +\S+ +{sum(seen['chosen']['change']['dpo']):+.2f}", printed)
    for word in ("held-out pair 1 of 200", "CHES", "unrelated", "·the"):
        assert word in printed
    assert max(map(len, printed.splitlines())) <= 80


WRONG = {
    "pair too large": (("--pair", "201"), "no held-out pair 201; give --pair from 1 to 200."),
    "pair 0": (("--pair", "0"), "no held-out pair 0"),
    "no snapshot": (("--step", "1"), "no snapshot at step 1; use a snapshot (--step 0, 2, 4)"),
    "another method": (("--method", "adpo"), "did you mean 'adadpo'?"),
}


@pytest.mark.parametrize(("arguments", "word"), WRONG.values(), ids=WRONG)
def test_what_is_not_in_the_run_is_told_in_one_line(run, arguments, word, capsys):
    assert main(["inspect", str(run), *arguments]) == 2
    said = capsys.readouterr()
    assert word in said.err and len(said.err.splitlines()) == 1 and said.out == ""


@pytest.mark.parametrize("kept", [True, False])
def test_outside_the_toy_world_the_rest_is_measured_and_what_is_left_out_is_told(
    kept, tmp_path, capsys
):
    rows = [
        {"prompt": f"Why {i}?\n", "chosen": f"Because {i}.", "rejected": f"No {i}."}
        for i in range(30)
    ]
    if not kept:
        file = tmp_path / "mine.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        rows = file
    race(rows, methods="dpo", steps=1, out=tmp_path / "run", **SMALL)
    seen = found(tmp_path / "run", capsys=capsys)
    [note] = seen["notes"]
    assert "mass ledger" in note and "KL" in note
    dpo = seen["models"]["dpo"]
    assert dpo["mass"] is None and dpo["probe"] is None and dpo["kl"] is None and dpo["meter"]
    assert seen["chosen"]["text"].startswith("Because")
    assert main(["inspect", str(tmp_path / "run")]) == 0
    assert " ".join(note.split()) in " ".join(capsys.readouterr().out.split())


def test_another_model_than_the_toy_has_no_ledger_on_the_toys_pairs(tiny, tmp_path, capsys):
    race("swap", model=str(tiny), methods="dpo", steps=1, out=tmp_path / "run", **SMALL)
    seen = found(tmp_path / "run", capsys=capsys)
    assert "not trained on the toy world" in seen["notes"][0]
    assert seen["models"]["dpo"]["mass"] is None


# report RUN


def test_the_report_of_a_run_is_one_file_with_everything(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    page = out.read_text()
    folder = RunFolder.open(run)
    row = folder.summary()["methods"]["dpo"]
    cells = re.findall(r"<td[^>]*>(?:<span[^>]*></span>)?(.*?)</td>", page)
    at = cells.index("DPO")
    assert cells[at + 1 : at + 3] == ["4", f"{row['delta_chosen']:+.1f}"]
    figures = [
        json.loads(text) for text in re.findall(r'<script type="application/json">(.*?)<', page)
    ]
    drawn = figures[0][""]["data"]
    measured = [event for event in folder.events()["dpo"] if "eval_loss" in event]
    assert drawn[0]["name"] == "dpo chosen"
    assert drawn[0]["y"] == pytest.approx([event["eval_shift/chosen"] for event in measured])
    assert [len(figure[""]["data"]) for figure in figures[1:]] == [3] * (len(figures) - 1)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    margins = figures[next(i for i, text in enumerate(captions) if text.startswith("Margin"))]
    assert margins[""]["data"][0]["y"] == pytest.approx(
        [event["eval_rewards/margins"] for event in measured]
    )
    for caption in ("Margin", "Accuracy", "KL to the reference", "Mass of the chosen completion"):
        assert f"<figcaption>{caption}" in page
    assert "0.2</td>" in page and "finished" in page and "The doctor" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]* (src|href)=", page), "it loads something"


def test_what_the_doctor_says_and_why_a_run_ended_are_in_its_report(tiny, tmp_path, capsys):
    settings = {**SMALL, "learning_rate": 1e6}
    race("swap", model=str(tiny), methods="dpo", steps=9, out=tmp_path / "run", **settings)
    assert main(["report", str(tmp_path / "run")]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "diverged" in page and "learning_rate_too_high" in page
    assert RunFolder.open(tmp_path / "run").summary()["problem"].split(":")[0] in page


def test_a_run_that_goes_on_has_a_report_too(run, tmp_path):
    import shutil

    half = shutil.copytree(run, tmp_path / "half")
    (half / "summary.json").unlink()
    assert main(["report", str(half)]) == 0
    assert "interrupted" in (half / "report.html").read_text()


def test_a_report_never_replaces_a_file_of_the_run(run, capsys):
    before = (run / "config.json").read_bytes()
    assert main(["report", str(run), "--out", str(run / "config.json")]) == 2
    assert "something.html" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before
