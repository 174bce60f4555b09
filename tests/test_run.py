"""Races: same start, same batches, same numbers; and how they end."""

import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch

from adadpo_mini import (
    InputError,
    Race,
    RaceConfig,
    completion_logps,
    load_model,
    load_pairs,
    race,
)
from adadpo_mini.lockstep import batch_schedule
from adadpo_mini.measure.answers import probe_prompts, win_rates
from adadpo_mini.pairs.load import split_pairs
from adadpo_mini.tokens.batch import make_batch, tokenize_pairs

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
    """One prompt only, so all pairs are trained on."""
    one_prompt = [{**row, "prompt": rows[0]["prompt"]} for row in rows[:8]]
    for batch_size, epochs in ((4, [0, 0.5, 1, 1.5]), (8, [0, 1, 2, 3]), (20, [0, 1, 2, 3])):
        result = race(one_prompt, model=str(tiny), **{**SMALL, "batch_size": batch_size})
        assert [event["epoch"] for event in result.events["dpo"]] == epochs


def test_on_event_hears_every_event_in_order(run):
    heard = []
    result = run(on_event=lambda method, event: heard.append((method, event)))
    assert [(m, e["step"]) for m, e in heard] == [
        (method, step) for step in range(4) for method in ("dpo", "adadpo")
    ]
    for method, log in result.events.items():
        assert [event for m, event in heard if m == method] == log


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


def test_a_rest_too_small_for_a_batch_waits_for_another_epoch():
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


def test_the_summary_is_the_last_measurement(run):
    result = run(steps=4)
    assert (result.summary["status"], result.summary["problem"]) == ("finished", None)
    for method, row in result.summary["methods"].items():
        last = result.events[method][-1]
        assert row["steps"] == last["step"] == 4
        assert row["delta_chosen"] == last["eval_shift/chosen"]
        assert row["delta_rejected"] == last["eval_shift/rejected"]
        assert row["accuracy"] == last["eval_rewards/accuracies"]
        assert row["margin"] == last["eval_rewards/margins"]
        assert row["seconds"] == last["own_time"] > 0
        assert 0 <= row["win_rate"] <= 1


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


def test_the_win_rate_is_that_of_the_methods_answers_over_the_references(monkeypatch):
    """A judge that likes the word dpo best: dpo's answers win, adadpo's tie, and none other."""
    config = RaceConfig(steps=1, batch_size=2, eval_pairs=4, measure_every=0)
    contest = Race(config)
    said = {id(contest.reference): "reference", id(contest.models["dpo"]): "dpo"}
    monkeypatch.setattr(
        sys.modules["adadpo_mini.measure.answers"],
        "sample_answers",
        lambda model, tokenizer, prompts, **_: [said.get(id(model), "reference")] * len(prompts),
    )
    monkeypatch.setattr(
        sys.modules["adadpo_mini.toyworld.judge"],
        "judge",
        lambda prompt, answer: SimpleNamespace(reward=1 if answer == "dpo" else 0),
    )
    prompts = probe_prompts(contest.held_out, 4)
    found = win_rates(contest.models, contest.reference, contest.tokenizer, prompts, seed=0)
    assert found == {"dpo": 1.0, "adadpo": 0.5}


def test_the_models_of_the_result_are_those_of_the_last_event(run, rows):
    result = run(steps=2)
    held_out = split_pairs(load_pairs(rows))[1][:2]
    batch = make_batch(tokenize_pairs(held_out, result.tokenizer, 256))
    for method, model in result.models.items():
        with torch.no_grad():
            chosen, rejected = completion_logps(
                model, batch.input_ids, batch.completion_mask
            ).chunk(2)
        last = result.events[method][-1]
        assert last["eval_logps/chosen"] == pytest.approx(chosen.mean().item(), abs=1e-3)
        assert last["eval_logps/rejected"] == pytest.approx(rejected.mean().item(), abs=1e-3)


def test_a_race_trains_the_toy_towards_the_chosen():
    result = race("refusal", methods=["dpo"], steps=8, batch_size=8, eval_pairs=8)
    row = result.summary["methods"]["dpo"]
    assert row["accuracy"] == 1.0
    assert row["margin"] > 0.1
    assert row["delta_rejected"] < -1


def test_outside_the_toy_world_there_is_no_win_rate(rows, tiny):
    pairs = [{"prompt": f"Why {i}?", "chosen": "So.", "rejected": "No."} for i in range(4)]
    result = race(pairs, model=str(tiny), **SMALL)
    assert [row["win_rate"] for row in result.summary["methods"].values()] == [None, None]
    assert (result.summary["data"], result.summary["seed"]) == ("rows", 0)


def whole(folder, methods=("dpo", "adadpo")):
    """The events of a run folder that lacks nothing."""
    from transformers import AutoModelForCausalLM

    events = {}
    assert json.loads((folder / "config.json").read_text())["methods"] == list(methods)
    assert json.loads((folder / "summary.json").read_text())["methods"].keys() == set(methods)
    for method in methods:
        AutoModelForCausalLM.from_pretrained(folder / method / "model")
        lines = (folder / method / "metrics.jsonl").read_text().splitlines()
        events[method] = [json.loads(line) for line in lines]
    return events


def test_a_divergent_race_says_so_and_keeps_what_was_done(run, tmp_path):
    result = run(learning_rate=1e6, steps=10, out=tmp_path / "run")
    assert result.summary["status"] == "diverged"
    problem = result.summary["problem"]
    assert "diverged" in problem and "learning rate" in problem
    assert problem.endswith(".") and "\n" not in problem and problem.count(". ") == 0
    assert 1 <= len(result.events["dpo"]) < 11
    assert result.events["dpo"][0]["eval_shift/chosen"] == 0.0
    stored = whole(tmp_path / "run")
    assert {method: len(log) for method, log in stored.items()} == {
        method: len(log) for method, log in result.events.items()
    }


def survive(run, **settings):
    """The result of an interrupted race; an interruption that gets out would end all tests."""
    try:
        return run(**settings)
    except KeyboardInterrupt:
        pytest.fail("the interruption got through, and the run folder is not whole")


def test_an_interrupted_race_leaves_a_whole_folder(run, tmp_path):
    def interrupt(method, event):
        if (method, event["step"]) == ("adadpo", 2):
            raise KeyboardInterrupt

    result = survive(run, on_event=interrupt, steps=8, eval_every=1, out=tmp_path / "run")
    assert (result.summary["status"], result.summary["problem"]) == ("interrupted", None)
    stored = whole(tmp_path / "run")
    for method, log in result.events.items():
        assert [event["step"] for event in log] == [0, 1, 2]
        assert stored[method] == log
        assert result.summary["methods"][method]["steps"] == 2
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "interrupted"


def test_an_interruption_while_the_answers_are_judged_leaves_a_whole_folder_too(
    run, tmp_path, monkeypatch
):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("adadpo_mini.run.win_rates", interrupt)
    result = survive(run, out=tmp_path / "run")
    assert {len(log) for log in whole(tmp_path / "run").values()} == {4}
    assert [row["win_rate"] for row in result.summary["methods"].values()] == [None, None]


def test_an_interruption_at_the_first_event_leaves_a_readable_folder(run, tmp_path):
    from adadpo_mini.store.folder import RunFolder

    def interrupt(method, event):
        raise KeyboardInterrupt

    result = survive(run, on_event=interrupt, out=tmp_path / "run")
    assert result.summary["status"] == "interrupted"
    events = RunFolder(tmp_path / "run").events()
    assert {method: len(log) for method, log in events.items()} == {"dpo": 1, "adadpo": 1}
    assert (tmp_path / "run" / "adadpo" / "model" / "model.safetensors").is_file()


def test_any_other_fault_of_a_listener_is_not_swallowed(run):
    def fail(method, event):
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        run(on_event=fail)


def test_a_race_leaves_torchs_threads_as_they_were(run):
    before = torch.get_num_threads()
    run(threads=2, steps=1)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"methods": ()}, "methods"),
        ({"methods": ("dpo", "dpo")}, "methods"),
        ({"methods": ("dpo", "ppo")}, "ppo"),
        ({"steps": 0}, "steps"),
        ({"batch_size": 0}, "batch_size"),
        ({"eval_every": 0}, "eval_every"),
        ({"eval_every": 6}, "eval_every"),
        ({"eval_pairs": 0}, "eval_pairs"),
        ({"threads": 0}, "threads"),
        ({"beta": 0.0}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"learning_rate": -1e-4}, "learning_rate"),
        ({"ceiling": 0.0}, "ceiling"),
        ({"k": 0.0}, "k must"),
        ({"ratio": -1.0}, "ratio"),
        ({"space": "log"}, "space"),
        ({"floor": 0.0}, "floor"),
        ({"floor": 2.5}, "floor"),
        ({"steps": 2.5}, "steps"),
        ({"steps": "many"}, "steps"),
    ],
)
def test_a_setting_out_of_range_is_named(settings, word):
    with pytest.raises(InputError, match=word) as caught:
        RaceConfig(**settings)
    assert "\n" not in str(caught.value)


def test_a_config_is_plain_data_and_gives_itself_back():
    config = RaceConfig(methods=["adadpo"], floor=0.5)
    assert config.methods == ("adadpo",)
    assert RaceConfig(**json.loads(json.dumps(config.as_dict()))) == config


def test_no_pairs_at_all_are_refused(tiny):
    with pytest.raises(InputError, match="pairs"):
        race([], model=str(tiny), **SMALL)


def test_bad_input_leaves_no_run_folder(tmp_path, tiny):
    with pytest.raises(InputError):
        race(tmp_path / "none.jsonl", model=str(tiny), out=tmp_path / "run", **SMALL)
    with pytest.raises(InputError):
        race("tone", model=str(tmp_path / "none"), out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


def test_the_start_that_all_methods_share_is_measured_once_and_as_each_would_be(monkeypatch):
    meters_module, measured = sys.modules["adadpo_mini.measure.slow"], []
    plain = meters_module.SlowMeasurements._measure

    def counting(self, model):
        measured.append(id(model))
        return plain(self, model)

    monkeypatch.setattr(meters_module.SlowMeasurements, "_measure", counting)
    methods = ("dpo", "adadpo_policy", "fixed_ratio")
    config = RaceConfig(steps=2, batch_size=4, eval_pairs=4, measure_every=2, methods=methods)
    contest = Race(config)
    alone = {name: contest.measure(trainer) for name, trainer in contest.trainers.items()}
    measured.clear()
    events = [(method, event) for method, event in contest.events() if event["step"] in (0, 2)]
    assert len(measured) == 1 + len(methods)
    for method, event in events[: len(methods)]:
        assert {name: event[name] for name in alone[method]} == alone[method]
    assert events[1][1]["displacement/threshold"] != 1.0, "policy space does not start at 1"
