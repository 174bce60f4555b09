"""Methods side by side: same start, same batches, and no effect on each other."""

import math
import time

import pytest
import torch

from adadpo_mini import Race, RaceConfig, load_model, load_pairs, race
from adadpo_mini.lockstep import batch_schedule

STEP_KEYS = {
    "step", "epoch", "loss", "learning_rate", "grad_norm", "logps/chosen", "logps/rejected",
    "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins", "num_tokens",
    "time", "own_time", "ada/rho", "ada/ceiling_share", "balance/ratio",
}  # fmt: skip
EVAL_KEYS = {
    "eval_loss", "eval_logps/chosen", "eval_logps/rejected", "eval_rewards/chosen",
    "eval_rewards/rejected", "eval_rewards/accuracies", "eval_rewards/margins",
    "eval_shift/chosen", "eval_shift/rejected",
}  # fmt: skip
SMALL = {"steps": 3, "batch_size": 4, "eval_pairs": 2, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def rows():
    return list(load_pairs("swap")[:12])


@pytest.fixture(scope="module")
def run(rows, tiny):
    """A small race of the tiny model, by its settings."""
    return lambda **settings: race(rows, model=str(tiny), **{**SMALL, **settings})


def timeless(log, *but):
    """Events without the time, and without other names."""
    return [
        {k: v for k, v in event.items() if k not in ("time", "own_time", *but)} for event in log
    ]


def weights(model):
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def equal(some, others):
    return all(torch.equal(some[name], others[name]) for name in some)


def test_step_zero_of_dpo_and_adadpo_is_bit_identical(run):
    events = run().events
    first = [timeless(events[method])[0] for method in ("dpo", "adadpo")]
    assert first[0] == first[1]
    assert first[0]["shift/chosen"] == first[0]["shift/rejected"] == 0.0
    assert first[0]["eval_shift/chosen"] == first[0]["eval_shift/rejected"] == 0.0
    assert timeless(events["dpo"])[-1] != timeless(events["adadpo"])[-1]


def test_step_zero_on_the_toy_is_bit_identical_too():
    result = race("near_duplicate", steps=1, batch_size=4, eval_pairs=2)
    first = [timeless(log)[0] for log in result.events.values()]
    assert first[0] == first[1]
    assert first[0]["ada/rho"] == 1.0


def test_adadpo_with_ceiling_and_floor_of_one_runs_like_dpo_to_the_last_bit(run):
    result = run(ceiling=1.0, floor=1.0, steps=6)
    dpo, adadpo = (
        timeless(result.events[method], "ada/ceiling_share", "eval_ada/ceiling_share")
        for method in ("dpo", "adadpo")
    )
    assert dpo == adadpo
    assert equal(weights(result.models["dpo"]), weights(result.models["adadpo"]))
    closing = result.summary["methods"]
    assert closing["dpo"] | {"seconds": 0} == closing["adadpo"] | {"seconds": 0}
    assert not equal(weights(result.models["dpo"]), weights(result.reference))


def test_the_seed_fixes_the_numbers(run):
    first, again, other = run(seed=0), run(seed=0), run(seed=1)
    for method in ("dpo", "adadpo"):
        assert timeless(first.events[method]) == timeless(again.events[method])
        assert timeless(first.events[method]) != timeless(other.events[method])
        assert equal(weights(first.models[method]), weights(again.models[method]))


def test_a_method_alone_gives_the_same_numbers_as_beside_another(run):
    both = run(methods=("dpo", "adadpo"))
    for method in ("dpo", "adadpo"):
        alone = run(methods=(method,))
        assert list(alone.events) == [method]
        assert timeless(alone.events[method]) == timeless(both.events[method])
        assert equal(weights(alone.models[method]), weights(both.models[method]))


def test_the_number_of_workers_does_not_change_the_numbers(rows, tiny):
    def events(workers):
        contest = Race(RaceConfig(**SMALL), data=rows, start=load_model(tiny), workers=workers)
        return timeless([{"method": method, **event} for method, event in contest.events()])

    assert events(1) == events(2)


@pytest.mark.parametrize(("steps", "eval_every"), [(12, 5), (4, 3), (1, 5)])
def test_there_are_steps_plus_one_events_and_measurements_at_both_ends_and_between(
    run, steps, eval_every
):
    result = run(steps=steps, eval_every=eval_every)
    assert set(result.events) == {"dpo", "adadpo"}
    for log in result.events.values():
        assert [event["step"] for event in log] == list(range(steps + 1))
        assert all(set(event) >= STEP_KEYS for event in log)
        measured = [event["step"] for event in log if "eval_loss" in event]
        assert measured == sorted({*range(0, steps + 1, eval_every), steps})
        for event in log:
            assert all(isinstance(v, (int, float)) and math.isfinite(v) for v in event.values())
            assert {k for k in event if k.startswith("eval_")} >= (
                EVAL_KEYS if event["step"] in measured else set()
            )
        for name in ("time", "own_time", "num_tokens", "epoch"):
            values = [event[name] for event in log]
            assert values == sorted(values) and values[-1] > values[0], name


def test_the_epoch_is_how_often_each_pair_has_been_seen(rows, tiny):
    """With only one prompt, all pairs are training pairs."""
    one_prompt = [{**row, "prompt": rows[0]["prompt"]} for row in rows[:8]]
    for batch_size, epochs in ((4, [0, 0.5, 1, 1.5]), (8, [0, 1, 2, 3]), (20, [0, 1, 2, 3])):
        result = race(one_prompt, model=str(tiny), **{**SMALL, "batch_size": batch_size})
        assert [event["epoch"] for event in result.events["dpo"]] == epochs


def test_the_reference_is_asked_once_for_each_pair_and_never_trained(rows, tiny):
    one_prompt = [{**row, "prompt": rows[0]["prompt"]} for row in rows[:8]]
    model, tokenizer = load_model(tiny)
    contest = Race(
        RaceConfig(steps=5, batch_size=4, eval_pairs=2, eval_every=1, measure_every=0),
        data=one_prompt, start=(model, tokenizer),
    )  # fmt: skip
    assert contest.reference is model
    before, asked = weights(model), []
    model.get_decoder().register_forward_hook(
        lambda module, _, kwargs, output: asked.append(kwargs["input_ids"].shape[0]),
        with_kwargs=True,
    )
    assert len(list(contest.events())) == 12
    assert asked == [4, 4], "three epochs, but each of the eight pairs only in the first"
    assert equal(weights(model), before)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    for policy in contest.models.values():
        assert not equal(weights(policy), before)


def test_each_epoch_visits_every_pair_once():
    schedule = batch_schedule(12, RaceConfig(steps=8, batch_size=4, seed=3))
    assert len(schedule) == 9 and {len(batch) for batch in schedule} == {4}
    epochs = [sum(schedule[i : i + 3], []) for i in (0, 3, 6)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3, "in an order of its own"
    assert batch_schedule(12, RaceConfig(steps=2, batch_size=4, seed=3)) == schedule[:3]
    assert batch_schedule(12, RaceConfig(steps=2, batch_size=4, seed=4)) != schedule[:3]


def test_pairs_that_do_not_fill_a_batch_wait_for_another_epoch():
    schedule = batch_schedule(11, RaceConfig(steps=40, batch_size=4))
    for i in range(0, 40, 2):
        epoch = schedule[i] + schedule[i + 1]
        assert len(set(epoch)) == 8
    assert set().union(*schedule) == set(range(11))


def test_fewer_pairs_than_a_batch_make_smaller_batches(run, rows, tiny):
    assert [sorted(batch) for batch in batch_schedule(3, RaceConfig(steps=2))] == 3 * [[0, 1, 2]]
    result = race(rows[:1], model=str(tiny), steps=2)
    assert result.summary["status"] == "finished"
    assert result.events["dpo"][-1]["eval_shift/chosen"] != 0.0


def test_rlhf_runs_in_the_same_race_and_pays_for_its_reward_model(toy):
    settings = {"steps": 3, "batch_size": 4, "eval_pairs": 4, "measure_every": 3}
    result = race("tone", methods=["dpo", "rlhf"], **settings)
    dpo, rlhf = (result.events[method] for method in ("dpo", "rlhf"))
    assert [event["step"] for event in rlhf] == [0, 1, 2, 3]
    assert set(dpo[0]) <= set(rlhf[0]) and "rlhf/reward" in rlhf[0]
    assert rlhf[0]["eval_shift/chosen"] == 0.0 and rlhf[-1]["rlhf/kl"] != 0.0
    # Before its first update it has fitted a reward model already.
    assert rlhf[0]["own_time"] > dpo[0]["own_time"]
    alone = race("tone", methods=["dpo"], **settings)
    clock = {"time": 0, "own_time": 0}
    assert [e | clock for e in alone.events["dpo"]] == [e | clock for e in dpo]


def test_a_race_trains_the_toy_towards_the_chosen():
    hard = {"beta": 0.1, "learning_rate": 2e-4}
    result = race("refusal", methods=["dpo"], steps=8, batch_size=8, eval_pairs=8, **hard)
    row = result.summary["methods"]["dpo"]
    assert row["accuracy"] == 1.0
    assert row["margin"] > 0.1
    assert row["delta_rejected"] < -1


def test_a_race_leaves_torchs_threads_as_they_were(run):
    before = torch.get_num_threads()
    run(threads=2, steps=1)
    assert torch.get_num_threads() == before


def test_the_start_that_all_methods_share_is_measured_once_and_as_each_would_be():
    methods = ("dpo", "adadpo_policy", "fixed_ratio")
    config = RaceConfig(steps=2, batch_size=4, eval_pairs=4, measure_every=2, methods=methods)
    contest, sampled = Race(config), []
    alone = {name: contest.measure(trainer) for name, trainer in contest.trainers.items()}
    for name, model in contest.models.items():

        def note(_, __, given, output, name=name):
            if given["use_cache"]:  # an answer is being sampled
                sampled.append(name)

        model.get_decoder().register_forward_hook(note, with_kwargs=True)
    events = {method: [] for method in methods}
    for step_events in contest.run_steps():
        for method, event in step_events.items():
            events[method].append(event)
        assert len(set(sampled)) == {0: 1, 1: 0, 2: 3}[step_events["dpo"]["step"]]
        sampled.clear()
    for method, log in events.items():
        assert {name: log[0][name] for name in alone[method]} == alone[method]
    policy_space = events["adadpo_policy"][0]["displacement/threshold"]
    assert policy_space != 1.0, "policy space does not start at 1"


def test_slow_measurements_describe_the_model_before_its_update(rows, tiny):
    """Like the rest of an event. The last step of the short race has no update."""
    settings = {**SMALL, "model": str(tiny), "methods": ("adadpo",), "measure_every": 1}
    long = [event for _, event in Race(RaceConfig(**settings), rows).events()]
    *_, (_, last) = Race(RaceConfig(**{**settings, "steps": 2}), rows).events()
    slow = ("eval_kl", "eval_length", "displacement/meter", "displacement/threshold")
    assert {name: long[2][name] for name in slow} == {name: last[name] for name in slow}
    assert last["eval_kl"] > 0.0 == long[0]["eval_kl"]


@pytest.fixture
def clock(monkeypatch):
    """A running clock that tests can move forward."""
    ahead, real = [0.0], time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + ahead[0])
    return ahead


def test_slow_measurements_cost_the_races_time_but_not_the_methods_own(rows, tiny, clock):
    contest = Race(
        RaceConfig(**SMALL, methods=("dpo",), measure_every=2), data=rows, start=load_model(tiny)
    )

    def slow(_, __, given, output):
        clock[0] += 1000 if given["use_cache"] else 0  # an answer is being sampled

    contest.models["dpo"].get_decoder().register_forward_hook(slow, with_kwargs=True)
    log = [event for _, event in contest.events()]
    assert log[-1]["time"] > 3000, "answers are sampled at steps 0, 2 and 3, a token at a time"
    assert 0 < log[-1]["own_time"] < 1000
    before = contest.trainers["dpo"].seconds
    contest.measure(contest.trainers["dpo"])
    assert contest.trainers["dpo"].seconds == before


def test_the_reward_model_sees_the_batches_that_are_trained_on_and_no_other(toy):
    """The batch of the last event is only measured."""
    settings = {"batch_size": 4, "eval_pairs": 2, "measure_every": 0, "methods": ("rlhf",)}
    contest, fitted_to = Race(RaceConfig(steps=3, **settings), start=toy), []

    def note(_, given, scores):
        if scores.requires_grad:
            fitted_to.append(given[0].tolist())

    contest.trainers["rlhf"].reward_model.register_forward_hook(note)
    next(contest.run_steps())
    expected = [contest.prepared.train.batch(b).rows.input_ids.tolist() for b in contest.batches]
    assert fitted_to == expected[:-1] and expected[-1] not in expected[:-1]
