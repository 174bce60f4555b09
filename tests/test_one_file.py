"""The single-file edition: short, alone, and equal to the package."""

import ast
import copy
import sys
from pathlib import Path

import pytest
import torch

from adadpo_mini import adadpo_loss, dpo_loss, load_model, load_pairs, one_file
from adadpo_mini.config import RaceConfig
from adadpo_mini.lockstep import batch_schedule
from adadpo_mini.tokens import make_batch, tokenize_pairs

SOURCE = Path(one_file.__file__)
STEPS = 12


def random_logps(seed, spread=3.0):
    generator = torch.Generator().manual_seed(seed)
    return [spread * torch.randn(64, generator=generator) - 20 for _ in range(4)]


def lengths(seed):
    generator = torch.Generator().manual_seed(seed)
    sides = ("chosen_lengths", "rejected_lengths")
    return {side: torch.randint(1, 30, (64,), generator=generator) for side in sides}


def test_it_is_short_and_imports_torch_alone():
    source = SOURCE.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 150
    tree = ast.parse(source)
    imported = {
        alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
    }
    imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    roots = {name.partition(".")[0] for name in imported}
    assert roots - set(sys.stdlib_module_names) == {"torch"}


@pytest.mark.parametrize("beta", [0.1, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_its_losses_and_their_gradients_are_the_packages(seed, beta):
    cases = (
        (one_file.dpo_loss, dpo_loss, {}),
        (one_file.adadpo_loss, adadpo_loss, lengths(seed)),
        (one_file.adadpo_loss, adadpo_loss, {**lengths(seed), "ceiling": 1.1}),
    )
    for theirs, ours, more in cases:
        logps = [logp.requires_grad_() for logp in random_logps(seed)]
        values = theirs(*logps, beta=beta, **more), ours(*logps, beta=beta, **more).loss
        gradients = [torch.autograd.grad(value, logps[:2]) for value in values]
        torch.testing.assert_close(*values)
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("method", ["dpo", "adadpo"])
def test_it_trains_to_the_numbers_of_a_race(method, tiny):
    pairs = list(load_pairs("length_bias")[:40])
    settings = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "seed": 3}
    model, tokenizer = load_model(tiny)
    events = one_file.train(model, tokenizer, pairs, method=method, **settings)

    held_out = load_pairs("length_bias", "test")[:4]
    split = {"splits": (load_pairs(pairs), held_out)}
    theirs = race_of(method, tiny, split, settings)
    assert [event["step"] for event in events] == [*range(STEPS)]
    last = events[-1]
    gap = last["shift/chosen"] - last["shift/rejected"]
    assert gap > 0.3, "it must have learned something to compare"
    for event, expected in zip(events, theirs, strict=False):
        for name in ("loss", "shift/chosen", "shift/rejected"):
            assert event[name] == pytest.approx(expected[name], rel=2e-3, abs=2e-3), name


def race_of(method, folder, split, settings):
    from adadpo_mini import Race

    config = RaceConfig(model=str(folder), methods=(method,), measure_every=0, **settings)
    return [event for _, event in Race(config, **split).events()]


def test_the_two_methods_part_ways(tiny):
    pairs = list(load_pairs("length_bias")[:40])
    model, tokenizer = load_model(tiny)
    more = {"steps": STEPS, "batch_size": 4, "learning_rate": 1e-3, "beta": 0.1}
    runs = [
        one_file.train(copy.deepcopy(model), tokenizer, pairs, method=method, **more)
        for method in ("dpo", "adadpo")
    ]
    assert runs[0][0] == runs[1][0], "at the start ρ = 1, and AdaDPO is DPO"
    assert abs(runs[0][-1]["shift/chosen"] - runs[1][-1]["shift/chosen"]) > 0.03


def test_its_batches_are_those_of_the_package(toy):
    pairs = list(load_pairs("swap")[:20])
    stream = one_file.batches(pairs, 4, 7)
    for indices in batch_schedule(20, RaceConfig(steps=9, batch_size=4, seed=7)):
        batch = next(stream)
        assert batch == [pairs[i] for i in indices]
    ours = make_batch(tokenize_pairs(load_pairs(batch), toy[1], 256))
    ids, mask = one_file.make_batch(toy[1], batch)
    assert torch.equal(ids, ours.input_ids) and torch.equal(mask, ours.completion_mask)


def test_tokens_that_would_merge_across_the_border_do_not(toy):
    ids, start = one_file.encode(toy[1], "I warm the so", "up.")
    assert toy[1].decode(ids[:start]) == "I warm the so"
    assert toy[1].decode(ids[start:-1]) == "up." and ids[-1] == toy[1].eos_token_id


def test_what_cannot_be_trained_on_is_refused(tiny):
    start, pair = load_model(tiny), {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    with pytest.raises(ValueError, match="'dpo' or 'adadpo', not 'ipo'"):
        one_file.train(*start, [pair], method="ipo")
    with pytest.raises(ValueError, match="needs pairs"):
        one_file.train(*start, [])
    with pytest.raises(ValueError, match="at least one token"):
        one_file.train(*start, [{**pair, "prompt": ""}])
