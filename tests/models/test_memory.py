"""Choosing the device and checking the memory, before any work starts."""

import copy
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from adadpo_mini import InputError, RaceConfig, load_model
from adadpo_mini.lockstep import Race
from adadpo_mini.models.load import fuse_gelu, switch_dropout_off
from adadpo_mini.models.memory import (
    available_memory,
    check_fits,
    count_parameters,
    pick_device,
    training_memory,
)
from adadpo_mini.models.policies import new_policy


@pytest.fixture
def machine(monkeypatch):
    """A function that sets this machine's free memory in bytes, and the limits of its container."""
    files, read_text = {}, Path.read_text

    def read(path, *arguments, **options):
        name = str(path)
        if not name.startswith("/sys/fs/cgroup/"):
            return read_text(path, *arguments, **options)
        if path.name not in files:
            raise FileNotFoundError(name)
        return files[path.name]

    def set_up(free, **limits):
        monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
        monkeypatch.setattr(Path, "read_text", read)
        files.clear()
        files.update({f"memory.{name}": text for name, text in limits.items()})

    return set_up


def test_a_model_larger_than_memory_is_refused_before_it_is_read(tiny, machine, monkeypatch):
    machine(1000)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda *_, **__: 1 / 0)
    with pytest.raises(InputError, match="loading .* needs about .* GB of memory, but cpu has"):
        load_model(tiny)


def test_a_race_that_needs_more_memory_than_there_is_says_so_before_it_trains(machine, toy):
    machine(20_000_000)
    with pytest.raises(InputError, match="training needs about .* GB .*--lora-rank"):
        Race(RaceConfig(), start=toy)
    Race(RaceConfig(batch_size=1, methods=("dpo",), lora_rank=1, measure_every=0), start=toy)


def test_every_policy_counts_and_a_batch_in_parts_only_with_its_part(machine, toy):
    settings = {"data": "swap", "steps": 1, "measure_every": 0}
    longest = int(Race(RaceConfig(**settings), start=toy).prepared.train.pairs.lengths.sum(1).max())
    how = {"longest": longest, "lora_rank": 0, "checkpointing": False}
    two = training_memory(toy[0], policies=2, pairs_at_once=4, **how)
    for free, batch_size, at_once, fits in (
        (two, 4, None, True), (two - 1, 4, None, False),
        (two, 64, 4, True), (two, 64, 5, False), (two, 4, 64, True), (two - 1, 4, 64, False),
    ):  # fmt: skip
        machine(free)
        config = RaceConfig(**settings, batch_size=batch_size, pairs_at_once=at_once)
        if fits:
            Race(config, start=toy)
        else:
            with pytest.raises(InputError, match="training needs"):
                Race(config, start=toy)


def test_the_memory_estimate_is_of_the_right_size(toy):
    """A weight costs 4 + 4 + 8 bytes a policy in fp32, and less state with LoRA."""
    count = sum(parameter.numel() for parameter in toy[0].parameters())
    settings = {"pairs_at_once": 1, "longest": 0, "lora_rank": 0, "checkpointing": False}
    assert training_memory(toy[0], policies=2, **settings) == 2 * 20 * count
    half = copy.deepcopy(toy[0]).to(torch.bfloat16)
    assert training_memory(half, policies=1, **settings) == 18 * count
    adapter = training_memory(toy[0], policies=1, **{**settings, "lora_rank": 4})
    real = sum(p.numel() for p in new_policy(toy[0], lora_rank=4).parameters() if p.requires_grad)
    assert 8 * real < adapter < 32 * real
    longer = training_memory(toy[0], policies=1, **{**settings, "longest": 100})
    saving = training_memory(
        toy[0], policies=1, **{**settings, "longest": 100, "checkpointing": True}
    )
    assert 20 * count < saving < longer


@pytest.mark.parametrize("words", [50, 20_000])
def test_the_estimate_of_a_pass_is_about_what_autograd_keeps(words):
    """In one model the layers need the most memory, in the other the vocabulary."""
    model = GPT2LMHeadModel(GPT2Config(vocab_size=words, n_embd=64, n_layer=6, n_head=4))
    switch_dropout_off(model), fuse_gelu(model)  # as `load_model` does
    ids, kept = torch.full((4, 60), 9), {}

    def keep(tensor):
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    own = {weight.data_ptr() for weight in model.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(ids).logits.log_softmax(-1).sum()
    real = sum(size for place, size in kept.items() if place not in own)
    how = {"policies": 1, "pairs_at_once": 4, "lora_rank": 0, "checkpointing": False}
    estimate = training_memory(model, longest=60, **how) - training_memory(model, longest=0, **how)
    assert output.requires_grad and 0.5 * real < estimate < 3 * real


def test_parameters_are_counted_without_the_weights(toy):
    assert count_parameters(toy[0].config) == sum(p.numel() for p in toy[0].parameters())


def test_the_device_is_the_cpu_for_a_small_model_and_a_gpu_for_a_large_one(monkeypatch):
    assert pick_device("cpu", 10**9) == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (pick_device("auto", 10**9), pick_device("auto", 10**6)) == ("cuda", "cpu")
    assert pick_device("cuda", 10**6) == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("auto", 10**9) == "mps"
    with pytest.raises(InputError, match="cuda.*does not find one on this machine"):
        pick_device("cuda", 10**9)


def test_a_container_has_what_its_limit_leaves_and_cached_files_do_not_count(machine):
    machine(5000)
    assert available_memory("cpu") == 5000
    machine(5000, stat="anon 300\nfile 900000\n", max="1000\n")
    assert available_memory("cpu") == 700
    machine(500, stat="anon 300\nfile 900000\n", max="1000\n")
    assert available_memory("cpu") == 500
    machine(5000, stat="anon 300\nfile 900000\n", max="max\n")
    assert available_memory("cpu") == 5000


def test_a_need_that_fits_to_the_last_byte_is_let_through(machine):
    machine(1000)
    check_fits("it", 1000, "cpu")
    with pytest.raises(InputError, match="it needs"):
        check_fits("it", 1001, "cpu")
