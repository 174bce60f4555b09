"""Folders that are not a whole model, each refused in one sentence that says what to do."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from adadpo_mini import InputError, load_model

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
FIRST, SECOND = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))


def put(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def edit(name, **changes):
    def change(folder):
        fields = json.loads((folder / name).read_text(encoding="utf-8"))
        (folder / name).write_text(json.dumps({**fields, **changes}), encoding="utf-8")

    return change


def alone(*names, **contents):
    """Leaves these files of a model and no other, and writes others."""

    def change(folder):
        for path in folder.iterdir():
            if path.name not in names:
                path.unlink()
        for name, content in contents.items():
            (folder / name).write_bytes(content)

    return change


def adapter(fields, *names):
    def change(folder):
        alone(*names)(folder)
        (folder / "adapter_config.json").write_text(json.dumps(fields), encoding="utf-8")

    return change


def shard(folder):
    """Splits the weights into two files, as `save_pretrained` does with large ones."""
    weights = load_file(folder / WEIGHTS)
    names = sorted(weights)
    for file, part in ((FIRST, names[:9]), (SECOND, names[9:])):
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
    places = {name: FIRST if name in names[:9] else SECOND for name in names}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    (folder / WEIGHTS).unlink()


def shards(spoil):
    return lambda folder: (shard(folder), spoil(folder))


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def inside(*parts, left=()):
    """Moves the model into a folder in its folder."""

    def change(folder):
        inner = folder.joinpath(*parts)
        inner.mkdir(parents=True)
        for path in [path for path in folder.iterdir() if path.is_file()]:
            path.rename(inner / path.name)
        for name, content in left:
            (folder / name).write_bytes(content)

    return change


def old_tokenizer(folder):
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(vocabulary))


AWQ = {"quant_method": "awq", "bits": 4}


def quantise(folder):
    edit("config.json", quantization_config=AWQ)(folder)
    weights = load_file(folder / WEIGHTS)
    weights["transformer.h.0.mlp.c_fc.qweight"] = torch.zeros(4, 4, dtype=torch.int32)
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


LORA = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}
BROKEN = {
    "nothing": (alone(), "is empty"),
    "a LoRA adapter": (adapter(LORA), "a LoRA adapter of owner/base", "merge_and_unload"),
    "an adapter beside a tokenizer": (adapter(LORA, "tokenizer.json"), "a LoRA adapter of"),
    "an adapter beside a model": (
        adapter(LORA, "config.json", WEIGHTS, "tokenizer.json"), "a LoRA adapter of",
    ),
    "another adapter": (adapter({**LORA, "peft_type": "IA3"}), "is an adapter of owner/base"),
    "an adapter of nothing": (adapter({}), "is an adapter, not a whole model"),
    "an adapter that is damaged": (alone(**{"adapter_config.json": b"{"}), "adapter_config.json"),
    "an adapter in git-lfs": (alone(**{"adapter_config.json": LFS}), "git-lfs pointer"),
    "weights in git-lfs": (put(WEIGHTS, LFS), f"{WEIGHTS} is only a git-lfs", "git lfs pull"),
    "a shard in git-lfs": (shards(put(SECOND, LFS)), f"{SECOND} is only a git-lfs"),
    "an index in git-lfs": (shards(put(INDEX, LFS)), f"{INDEX} is only a git-lfs"),
    "a tokenizer in git-lfs": (put("tokenizer.json", LFS), "tokenizer.json is only a git-lfs"),
    "a config in git-lfs": (put("config.json", LFS), "config.json is only a git-lfs"),
    "a shard too few": (shards(lambda f: (f / SECOND).unlink()), f"lacks {SECOND}", "download"),
    "a shard cut short": (shards(cut(FIRST, -5)), f"{FIRST} is incomplete", "again"),
    "an index of numbers": (shards(put(INDEX, b'{"weight_map": {"a": 1}}')), "no weight_map"),
    "an index without a list": (shards(put(INDEX, b"{}")), "no weight_map"),
    "weights cut short": (cut(WEIGHTS, -1), f"{WEIGHTS} is incomplete", "bytes", "again"),
    "weights cut in the header": (cut(WEIGHTS, 100), "not a whole safetensors file", "again"),
    "weights cut in the length": (cut(WEIGHTS, 5), "not a whole safetensors file"),
    "no weights in the file": (put(WEIGHTS, b""), "not a whole safetensors file (0 bytes)"),
    "a web page": (put(WEIGHTS, b"<!doctype html><title>404</title>"), "not a whole safetensors"),
    "a header that is a list": (put(WEIGHTS, b"\2" + 7 * b"\0" + b"[]"), "not a whole safetensors"),
    "a header of lists": (
        put(WEIGHTS, b"\x08" + 7 * b"\0" + b'{"a":[]}'), "not a whole safetensors",
    ),
    "only a config": (alone("config.json", "tokenizer.json"), "has no weights", "download"),
    "only weights": (alone(WEIGHTS), "has weights but no config.json"),
    "weights of another name": (
        lambda f: (f / WEIGHTS).rename(f / "model.fp16.safetensors"), "has model.fp16.safetensors",
    ),
    "a GGUF file": (alone(**{"model.Q4.gguf": b"GGUF"}), "only model.Q4.gguf", "safetensors"),
    "a GGUF file beside a config": (
        alone("config.json", "tokenizer.json", **{"m.gguf": b"GGUF"}), "has only m.gguf",
    ),
    "pickled shards": (
        alone("config.json", **{"pytorch_model-00001-of-00002.bin": b""}), "pickled weights",
    ),
    "checkpoints": (inside("checkpoint-7"), "use ", "checkpoint-7."),
    "the folder of a run": (
        inside("dpo", "model", left=[("config.json", b'{"methods": ["dpo"]}')]), "dpo/model.",
    ),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer", "from_pretrained"),
    "half a tokenizer": (old_tokenizer, "its tokenizer cannot be used", "tokenizer.json of the"),
    "a tokenizer that needs a library": (
        lambda f: (f / "tokenizer.json").rename(f / "tokenizer.model"), "its tokenizer cannot be",
    ),
    "quantised weights": (
        quantise, "quantised weights (awq)",
    ),
    "a reward model": (
        edit("config.json", architectures=["GPT2ForSequenceClassification"]), "a GPT2ForSequence",
    ),
    "a masked model": (edit("config.json", architectures=["BertForMaskedLM"]), "a BertForMaskedLM"),
    "an encoder and a decoder": (
        edit("config.json", model_type="t5", is_encoder_decoder=True), "encoder-decoder",
    ),
    "a template that is none": (
        put("chat_template.jinja", b"{% for m in messages %"), "its chat template is not valid",
    ),
    "templates without a default": (
        edit("tokenizer_config.json", chat_template=[{"name": "rag", "template": "x"}]),
        "templates are named rag", "default",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", *["words"]), [(c[0], c[1:]) for c in BROKEN.values()], ids=BROKEN
)
def test_a_folder_that_is_not_a_whole_model_is_refused(tiny, tmp_path, spoil, words, capfd):
    folder = shutil.copytree(tiny, tmp_path / "model")
    spoil(folder)
    with pytest.raises(InputError) as caught:
        load_model(folder)
    message = str(caught.value)
    assert all(word in message for word in (str(folder), *words)), message
    assert "\n" not in message and message.endswith(".") and len(message) < 700
    assert capfd.readouterr() == ("", "")


GOOD = {
    "shards": shard,
    "a pointer in place of a file that is not needed": put("pytorch_model.bin", LFS),
    "pickled weights beside": put("pytorch_model.bin", b"\x80"),
    "a config that a GGUF file left": edit(
        "config.json", quantization_config={"quant_method": "gguf"}
    ),
    "a text about git-lfs": put("README.md", LFS),
}


@pytest.mark.parametrize("change", GOOD.values(), ids=GOOD)
def test_a_folder_that_has_all_that_is_needed_is_loaded(tiny, tmp_path, change):
    folder = shutil.copytree(tiny, tmp_path / "model")
    change(folder)
    weights = load_model(folder)[0].state_dict()
    assert all(weights[k].equal(v) for k, v in load_model(tiny)[0].state_dict().items())


def test_a_model_restored_from_a_gguf_file_is_saved_again_after_training(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    GOOD["a config that a GGUF file left"](folder)
    model, tokenizer = load_model(folder)
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "again")
    again = json.loads((tmp_path / "again" / "config.json").read_text(encoding="utf-8"))
    assert "quantization_config" not in again
    assert load_model(tmp_path / "again")[0].num_parameters() == model.num_parameters()


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_in_place_of_a_folder_is_refused(tiny, name):
    with pytest.raises(InputError, match=f"{name} is not a folder but a file; use the folder"):
        load_model(tiny / name)


def command_in(message):
    return message.partition('python -c "')[2].removesuffix('".')


def test_the_command_for_pickled_weights_makes_a_model_that_loads(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "model")
    weights = load_file(folder / WEIGHTS)
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    with pytest.raises(InputError, match="only pickled weights") as caught:
        load_model(folder)
    subprocess.run([sys.executable, "-c", command_in(str(caught.value))], check=True)
    assert (
        load_model(folder)[0]
        .state_dict()["transformer.wte.weight"]
        .equal(weights["transformer.wte.weight"])
    )


def test_the_command_for_an_adapter_makes_a_model_that_loads(tiny, tmp_path):
    peft = pytest.importorskip("peft")
    base, _ = load_model(tiny)
    base.config._name_or_path = base.name_or_path = str(tiny)
    settings = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    settings.base_model_name_or_path, settings.task_type = str(tiny), "CAUSAL_LM"
    peft.get_peft_model(base, settings).save_pretrained(tmp_path / "lora")
    with pytest.raises(InputError, match="a LoRA adapter of") as caught:
        load_model(tmp_path / "lora")
    run = [sys.executable, "-c", command_in(str(caught.value))]
    subprocess.run(run, check=True, cwd=tmp_path)
    model, tokenizer = load_model(tmp_path / "lora-merged")
    assert len(tokenizer) == model.config.vocab_size


def test_a_pad_token_in_a_prompt_is_no_reason_to_warn(tiny, transformers_says):
    logging.warning_once.cache_clear()  # it may have said so before
    model, tokenizer = load_model(tiny)
    assert model.config.pad_token_id == tokenizer.pad_token_id
    with torch.no_grad():
        model(torch.tensor([[tokenizer.pad_token_id, 5, tokenizer.pad_token_id]]))
    assert transformers_says == []
