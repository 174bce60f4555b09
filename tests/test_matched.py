"""The controls that take something from AdaDPO: its gradient norm, and its mean ρ."""

import copy
from statistics import fmean

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from adadpo_mini import InputError, load_model, load_pairs, race, resume
from adadpo_mini.methods.registry import METHODS
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.store.folder import RunFolder
from adadpo_mini.tokens.batch import tokenize_pairs
from adadpo_mini.trainer import MatchedNormTrainer, Trainer

KNOBS = {"beta": 0.3, "ceiling": 2.0, "k": 1.0, "floor": None, "space": "ratio"}
SMALL = {"steps": 4, "batch_size": 4, "eval_pairs": 2, "learning_rate": 1e-3, "measure_every": 0}
KINDS = {"dpo": Trainer, "adadpo": Trainer, "dpo_matched_norm": MatchedNormTrainer}


@pytest.fixture(scope="module")
def reference(tiny):
    return load_model(tiny)[0].eval().requires_grad_(False)


@pytest.fixture(scope="module")
def batches(reference, toy):
    tokens = tokenize_pairs(load_pairs("length_bias")[:16], toy[1], 256)
    scored = ScoredPairs(reference, tokens)
    return [scored.batch(range(i, i + 4)) for i in range(0, 16, 4)]


def trainer(model, method, **options):
    options = {"learning_rate": 1e-3, "knobs": KNOBS, **options}
    return KINDS[method](copy.deepcopy(model).requires_grad_(True), method, **options)


def gradient(model, method, knobs, batch):
    """(flat gradient, event) of one step of a copy of the model, without clipping."""
    found = []

    def look(optimizer, *_):
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        found.append(torch.cat([weight.grad.flatten().clone() for weight in weights]))

    handle = register_optimizer_step_pre_hook(look)
    try:
        event = trainer(model, method, knobs=knobs, max_grad_norm=1e9).step(batch)
    finally:
        handle.remove()
    return found[0], event


@pytest.mark.parametrize("space", ["ratio", "policy"])
def test_the_matched_gradient_has_dpos_direction_and_adadpos_norm_at_every_step(
    space, reference, batches
):
    knobs = {**KNOBS, "space": space}
    matched = trainer(reference, "dpo_matched_norm", knobs=knobs, learning_rate=1e-2)
    scales = []
    for step, batch in enumerate(batches):
        dpo, _ = gradient(matched.model, "dpo", knobs, batch)
        ada, ada_event = gradient(matched.model, "adadpo", knobs, batch)
        mine, event = gradient(matched.model, "dpo_matched_norm", knobs, batch)
        assert event["grad_norm"] == pytest.approx(ada_event["grad_norm"], rel=1e-5)
        assert mine.norm().item() == pytest.approx(ada.norm().item(), rel=1e-5)
        torch.testing.assert_close(mine / mine.norm(), dpo / dpo.norm(), rtol=1e-4, atol=1e-6)
        scales.append((ada.norm() / dpo.norm()).item())
        after = matched.step(batch)
        assert (after["step"], after["grad_norm"]) == (step, event["grad_norm"])
    assert (scales[0] == pytest.approx(1, rel=1e-6)) == (space == "ratio"), "at first ρ is 1"
    assert any(abs(scale - 1) > 0.02 for scale in scales), "or else there is nothing to match"


def test_its_loss_and_its_other_numbers_are_dpos(reference, batches):
    events = [trainer(reference, method).step(batches[0]) for method in ("dpo", "dpo_matched_norm")]
    for event in events:
        del event["grad_norm"]
    assert events[0] == events[1]


@pytest.mark.parametrize("options", [{"pairs_at_once": 2}, {"checkpointing": True}])
def test_in_parts_the_norm_is_that_of_the_whole_batch(options, reference, batches):
    moved = trainer(reference, "dpo", learning_rate=1e-2)
    moved.step(batches[0])
    whole, parts = (
        trainer(moved.model, "dpo_matched_norm", **more).step(batches[1]) for more in ({}, options)
    )
    assert parts["grad_norm"] == pytest.approx(whole["grad_norm"], rel=1e-4)


def test_a_race_trains_it_with_its_own_trainer(tiny):
    methods = ("dpo", "adadpo", "dpo_matched_norm")
    result = race(list(load_pairs("swap")[:12]), model=str(tiny), methods=methods, **SMALL)
    dpo, ada, matched = (result.events[method] for method in result.events)
    assert matched[0]["grad_norm"] == pytest.approx(ada[0]["grad_norm"], rel=1e-5)
    assert matched[-1]["loss"] != dpo[-1]["loss"]
    assert METHODS["dpo_matched_norm"].trained_by == "matched_norm"


@pytest.fixture(scope="module")
def rows():
    return list(load_pairs("swap")[:20])


def test_the_matched_ratio_is_the_mean_of_adadpos_over_the_batches_it_trained_on(tiny, rows):
    settings = {"model": str(tiny), "seed": 3, **SMALL, "ceiling": 1.02}
    ada = race(rows, methods=("adadpo",), **settings).events["adadpo"]
    trained = [event["ada/rho"] for event in ada if event["step"] < 4]
    assert len(trained) == 4 and ada[-1]["ada/rho"] != trained[-1]
    notes = []
    result = race(
        rows, methods=("fixed_ratio", "dpo"), match_ratio=True, ratio=1.7, note=notes.append,
        **settings,
    )  # fmt: skip
    assert result.config.ratio == round(fmean(trained), 4) != 1.7
    own = [event["ada/rho"] for event in result.events["fixed_ratio"]]
    assert own == pytest.approx([result.config.ratio] * 5)
    assert any(f"is {result.config.ratio:g}, AdaDPO's mean ρ" in note for note in notes)
    other = race(rows, methods=("fixed_ratio",), match_ratio=True, **{**settings, "seed": 4})
    assert other.config.ratio != result.config.ratio


def test_the_races_other_methods_are_as_without_matching(tiny, rows):
    settings = {"model": str(tiny), "methods": ("dpo", "adadpo", "fixed_ratio"), **SMALL}
    with_it, without = (race(rows, match_ratio=match, **settings) for match in (True, False))
    for method in ("dpo", "adadpo"):
        assert [event["loss"] for event in with_it.events[method]] == [
            event["loss"] for event in without.events[method]
        ]
    ada = [event["ada/rho"] for event in with_it.events["adadpo"]][:-1]
    assert with_it.config.ratio == round(fmean(ada), 4)


def test_matching_needs_the_fixed_ratio_and_an_adadpo_that_does_not_diverge(tiny, rows):
    with pytest.raises(InputError, match="match_ratio sets the ratio of fixed_ratio; add"):
        race(rows, model=str(tiny), methods=("dpo", "adadpo"), match_ratio=True, **SMALL)
    wild = {**SMALL, "learning_rate": 1e6}
    with pytest.raises(InputError, match="adadpo.*lower the learning rate"):
        race(rows, model=str(tiny), methods=("fixed_ratio",), match_ratio=True, **wild)


def test_a_resumed_race_goes_on_with_the_same_ratio_and_does_not_measure_it_again(
    tiny, rows, tmp_path
):
    settings = {"model": str(tiny), "methods": ("fixed_ratio",), "match_ratio": True, **SMALL}
    whole = race(rows, **settings)

    def stop_at_two(method, event):
        if event["step"] == 2:
            raise KeyboardInterrupt

    part = race(rows, out=tmp_path / "run", on_event=stop_at_two, **settings)
    assert part.summary["status"] == "interrupted"
    assert RunFolder.open(tmp_path / "run").config()["ratio"] == whole.config.ratio
    notes = []
    resumed = resume(tmp_path / "run", note=notes.append)
    assert resumed.config.ratio == whole.config.ratio
    assert not any("to measure its mean ρ" in note for note in notes)
    assert [event["loss"] for event in resumed.events["fixed_ratio"]] == [
        event["loss"] for event in whole.events["fixed_ratio"]
    ]
