"""Saved scores, listeners and measurements change no number of the training."""

import copy
from contextlib import closing

import pytest
import torch
from transformers import AutoModelForCausalLM

from adadpo_mini import Race, RaceConfig, completion_logps, race
from adadpo_mini.measure import displacement
from adadpo_mini.measure.answers import probe_prompts, win_rates
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.models.load import switch_dropout_off
from adadpo_mini.tokens.batch import make_batch, tokenize_pairs
from tests.invariants.shared import SHORT, take


def weights(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def run(contest, listen=lambda contest, method: None):
    """(events, final weights) of a race, by method; `listen` is called after every event."""
    events = {method: [] for method in contest.config.methods}
    for method, event in contest.events():
        events[method].append(event)
        listen(contest, method)
    return events, {method: weights(model) for method, model in contest.models.items()}


def training_rows(events):
    """The measurements on training batches, without the times."""
    apart = ("eval_", "mass/", "displacement/", "update/", "time", "own_time")
    return {
        method: [{k: v for k, v in e.items() if not k.startswith(apart)} for e in log]
        for method, log in events.items()
    }


def without_clock(events):
    clock = {"time": 0, "own_time": 0}
    return {method: [event | clock for event in log] for method, log in events.items()}


def assert_equal(some, others):
    """Check that weights, by method, are equal to the last bit."""
    assert some.keys() == others.keys()
    for method in some:
        for name, weight in some[method].items():
            assert torch.equal(weight, others[method][name]), (method, name)


@pytest.fixture(scope="module")
def large(start):
    """A tiny model that counts as large, because it has very many position embeddings."""
    config = copy.deepcopy(start[0].config)
    config.n_positions = 320_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    assert model.num_parameters() > 10_000_000
    switch_dropout_off(model)
    return model.eval().requires_grad_(False)


@pytest.fixture
def scored_race(large, start, rows, tmp_path, monkeypatch):
    """A function that runs a race of the large model: (the race, its events, its final weights,
    how many pairs the reference was asked for meanwhile), with its own empty cache."""
    monkeypatch.setenv("ADADPO_MINI_CACHE", str(tmp_path))

    def train(stop_after=None, **settings):
        config = RaceConfig(**{**SHORT, "methods": ("dpo", "simpo"), "threads": 1, **settings})
        reference, asked = copy.deepcopy(large), []
        contest = Race(config, data=rows, start=(reference, start[1]))
        reference.get_decoder().register_forward_hook(
            lambda module, _, given, output: asked.append(len(given["input_ids"])),
            with_kwargs=True,
        )
        events = {method: [] for method in config.methods}
        with closing(contest.events()) as stream:
            for method, event in take(stop_after or 10**6, stream):
                events[method].append(event)
        final = {method: weights(model) for method, model in contest.models.items()}
        return contest, without_clock(events), final, sum(asked)

    return train


NEVER = {"measure_every": 0}


def test_scores_that_are_known_change_neither_batches_nor_weights(scored_race):
    """Those of a large reference are saved on the disk."""
    first, events, final, asked = scored_race(**NEVER)
    again, same_events, same_final, asked_again = scored_race(**NEVER)
    assert (asked, asked_again) == (4 * 4, 0), "four batches of four pairs"
    assert again.batches == first.batches
    for index in first.batches:
        mine, theirs = (race.prepared.train.batch(index) for race in (first, again))
        assert torch.equal(mine.rows.input_ids, theirs.rows.input_ids)
        assert torch.equal(mine.ref_chosen_logps, theirs.ref_chosen_logps)
    assert same_events == events
    assert_equal(same_final, final)


OTHERWISE = {
    "batch size": {"batch_size": 3}, "order": {"seed": 1}, "parts": {"pairs_at_once": 2},
    "threads": {"threads": 2},
}  # fmt: skip


@pytest.mark.parametrize("change", OTHERWISE.values(), ids=OTHERWISE)
def test_the_reference_scores_anew_if_the_batches_or_the_way_of_scoring_change(scored_race, change):
    """The last bit of a score depends on them."""
    scored_race(**NEVER)
    *_, asked = scored_race(**NEVER, **change)
    assert asked >= 3 * change.get("batch_size", 4), "all pairs of the first epoch"


def test_the_scores_of_the_reference_are_kept_however_a_race_ends(scored_race):
    *_, asked = scored_race(stop_after=1, **NEVER)
    assert asked == 4
    *_, asked_after = scored_race(**NEVER)
    assert asked_after == 4 * 3


def pry(contest, method):
    """Everything that can be done with a model without training it."""
    model, tokenizer = contest.models[method], contest.tokenizer
    pair = tokenize_pairs(contest.held_out[:1], tokenizer, 256)[0]
    batch = make_batch([pair])
    completion_logps(model, batch.input_ids, batch.completion_mask)
    displacement(model, pair)
    prompts = probe_prompts(contest.held_out, 2)
    sample_answers(model, tokenizer, prompts, max_new_tokens=8)
    win_rates(contest.models, contest.reference, tokenizer, prompts, 0)
    sum(weight.sum() for weight in model.state_dict().values())
    torch.rand(3)  # from the generator that all share


@pytest.mark.parametrize("settings", [
    {"methods": ("dpo", "adadpo", "rlhf")},
    {"methods": ("adadpo",), "lora_rank": 2},
    {"methods": ("adadpo",), "checkpointing": True, "pairs_at_once": 2},
], ids=["whole models", "adapter", "checkpointing"])  # fmt: skip
def test_a_listener_that_reads_measures_and_samples_changes_no_bit(settings, rows, tiny):
    if "lora_rank" in settings:
        pytest.importorskip("peft")
    config = RaceConfig(**{**SHORT, **settings}, model=str(tiny), measure_every=2)
    heard, heard_weights = run(Race(config, data=rows), pry)
    alone, alone_weights = run(Race(config, data=rows))
    assert without_clock(heard) == without_clock(alone)
    assert_equal(heard_weights, alone_weights)


SELDOM = {"measure_every": 0, "eval_every": 5}
OFTEN = ({**SELDOM, "measure_every": 1}, {**SELDOM, "eval_every": 1})


def test_measuring_more_often_changes_no_training_row_and_no_weight(toy):
    def train(**every):
        config = RaceConfig(**SHORT, methods=("dpo", "adadpo", "rlhf"), **every)
        events, final = run(Race(config, start=toy))
        return training_rows(events), final

    rows, final = train(**SELDOM)
    for every in OFTEN:
        other_rows, other_final = train(**every)
        assert other_rows == rows
        assert_equal(other_final, final)


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_measuring_more_often_changes_nothing_in_trls_trainer_either(rows, tiny):
    pytest.importorskip("trl")

    def train(**every):
        settings = {**SHORT, "methods": ("adadpo",), "model": str(tiny), **every}
        result = race(engine="trl", data=rows, **settings)
        final = {method: weights(model) for method, model in result.models.items()}
        return training_rows(result.events), final

    training, final = train(**SELDOM)
    for every in OFTEN:
        other, other_final = train(**every)
        assert other == training
        assert_equal(other_final, final)
