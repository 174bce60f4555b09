"""What a race saves: how much disk it takes, in which order, and who may resume from it."""

import copy
import json
from contextlib import closing

import pytest
import torch

from adadpo_mini import InputError, Race, RaceConfig, load_model, load_pairs, race, resume
from adadpo_mini.models.policies import new_policy, whole_model
from adadpo_mini.models.state import TrainingState
from adadpo_mini.store.folder import RunFolder
from adadpo_mini.store.keeper import model_bytes, plan_snapshots
from adadpo_mini.trainer import Trainer

SMALL = {"steps": 2, "batch_size": 4, "eval_pairs": 2, "measure_every": 0}


@pytest.fixture(scope="module")
def rows():
    return list(load_pairs("swap")[:14])


@pytest.fixture
def interrupted(rows, tiny, tmp_path):
    """The folder of a race that was interrupted at step 1."""

    def stop(method, event):
        if event["step"] == 1:
            raise KeyboardInterrupt

    race(rows, model=str(tiny), out=tmp_path / "run", on_event=stop, **SMALL)
    return tmp_path / "run"


@pytest.mark.parametrize(("wished", "gb", "free", "every"), [
    (10, 1.0, 10**12, 10),  # 11 of 90 MB
    (10, 0.5, 10**12, 30),  # 5 of them: 0, 30, 60, 90, 100
    (10, 1.0, 10**9, 30),  # and half of the disk is no more
    (10, 0.2, 10**12, 100),
    (10, 0.1, 10**12, 0),
    (0, 1.0, 10**12, 0),
])  # fmt: skip
def test_snapshots_take_no_more_than_the_budget_and_half_of_the_free_disk(wished, gb, free, every):
    said, config = [], RaceConfig(steps=100, snapshot_every=wished, snapshot_gb=gb)
    assert plan_snapshots(config, 90_000_000, free, said.append) == every
    assert len(said) == (wished > 0), "a sentence if there is anything to say"


def test_an_adapter_takes_what_the_whole_model_takes_in_fp32(toy):
    half = copy.deepcopy(toy[0]).to(torch.bfloat16)
    assert model_bytes([half]) == half.num_parameters() * 2
    assert model_bytes([toy[0], half]) == half.num_parameters() * 6
    policy = new_policy(half, lora_rank=2)
    saved = sum(weight.nbytes for weight in whole_model(policy).parameters())
    assert saved <= model_bytes([policy]) < 1.2 * saved


def test_the_summary_is_written_last(rows, tiny, tmp_path):
    race(rows, model=str(tiny), out=tmp_path, **SMALL, snapshot_every=1)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    summary = written.pop(tmp_path / "summary.json")
    assert len(written) > 10 and summary >= max(written.values())
    assert summary > max(time for path, time in written.items() if path.suffix == ".safetensors")


def test_leftovers_of_a_killed_writer_go_when_the_run_is_resumed(interrupted):
    left = interrupted / "dpo" / ".0a1b2c3d-0-999999999.partial"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    resume(interrupted)
    assert not left.exists()


def test_the_state_of_a_race_of_other_pairs_is_refused(rows, tiny):
    config = RaceConfig(**SMALL, model=str(tiny), methods=("dpo",))
    first = Race(config, data=rows)
    with closing(first.run_steps()) as steps:
        next(steps)
    with pytest.raises(InputError, match="other pairs"):
        Race(config, data=rows[:10]).restore(first.state())


def test_the_state_of_another_model_is_refused(tiny, toy):
    def state(model):
        policy = copy.deepcopy(model).requires_grad_(True)
        return Trainer(policy, "dpo", learning_rate=1e-3, knobs={"beta": 0.1})

    small, large = state(load_model(tiny)[0]), state(toy[0])
    for tensors in (small.state().tensors, {}):
        with pytest.raises(InputError, match="does not fit the model"):
            large.restore(TrainingState(tensors, small.state().numbers))


def test_another_model_in_the_old_ones_place_is_found_out(rows, tiny, tmp_path):
    from shutil import copytree

    folder, out = copytree(tiny, tmp_path / "model"), tmp_path / "run"

    def stop(method, event):
        raise KeyboardInterrupt

    race(rows, model=str(folder), out=out, on_event=stop, **SMALL)
    model, _ = load_model(folder)
    with torch.no_grad():
        model.transformer.ln_f.bias[0] += 1
    model.save_pretrained(folder)
    with pytest.raises(InputError, match="have changed since"):
        resume(out)


def test_a_resume_with_other_libraries_says_that_last_digits_may_differ(interrupted):
    file = interrupted / "config.json"
    config = json.loads(file.read_text())
    said = []
    config["made_with"]["torch"] = "1.0"
    file.write_text(json.dumps(config))
    resume(interrupted, note=said.append)
    assert [sentence for sentence in said if sentence.startswith("torch changed")]
    assert RunFolder(interrupted).status == "finished"


def test_a_resume_with_the_same_libraries_does_not_say_so(interrupted):
    said = []
    resume(interrupted, note=said.append)
    assert not [sentence for sentence in said if "digits" in sentence]
