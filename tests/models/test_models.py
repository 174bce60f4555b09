"""Loading models: the bundled toy, folders, and names that do not exist."""

import json
import shutil

import pytest
import torch
from transformers import GPT2LMHeadModel

from adadpo_mini import InputError, load_model
from adadpo_mini.models.load import context_length
from adadpo_mini.toyworld import data_dir

TOY = data_dir() / "models" / "toy-gpt2"


def test_the_toy_is_a_small_gpt2_with_a_small_tokenizer(toy):
    model, tokenizer = toy
    assert 800_000 <= model.num_parameters() <= 1_200_000
    assert 700 <= len(tokenizer) <= 1100
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.model_type == "gpt2"
    assert context_length(model) == 256
    assert sum(file.stat().st_size for file in TOY.rglob("*")) <= 4_000_000


def test_the_toy_is_read_by_the_plain_auto_classes_from_safetensors_alone(toy):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert [file.name for file in TOY.iterdir() if file.stat().st_size > 100_000] == [
        "model.safetensors"
    ]
    assert not [file for file in TOY.iterdir() if file.suffix in (".bin", ".pt", ".pth", ".py")]
    ids = torch.tensor([[5, 100, 42]])
    plain = AutoModelForCausalLM.from_pretrained(TOY)
    assert torch.equal(plain(ids).logits, toy[0](ids).logits)
    tokenizer = AutoTokenizer.from_pretrained(TOY)
    text = "How do I warm the spicy soup?\n"
    assert tokenizer(text)["input_ids"] == toy[1](text)["input_ids"]


def test_a_loaded_model_is_fp32_and_has_a_card(toy):
    assert {parameter.dtype for parameter in toy[0].parameters()} == {torch.float32}
    card = (TOY / "README.md").read_text(encoding="utf-8")
    assert f"{toy[0].num_parameters():,} parameters" in card
    assert "license: mit" in card


@pytest.mark.parametrize(
    "text",
    [
        "How do I warm the spicy soup?\n",
        "Wie heißt der Fluß? Ça va, où ça?",
        "Γειά σου Κόσμε. Привет, мир!",
        "世界你好。こんにちは、カタカナ 안녕하세요",
        "مرحبا بالعالم שלום עולם नमस्ते สวัสดี",
        "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 𝔘𝔫𝔦𝔠𝔬𝔡𝔢 e\u0301",
        "tabs\tand  two spaces \r\n\x00\u2028\ufeff end ",
        "",
    ],
)
def test_any_text_survives_the_toys_tokenizer(toy, text):
    tokenizer = toy[1]
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_dropout_is_off_in_a_loaded_model_even_while_training(tiny):
    config = json.loads((tiny / "config.json").read_text())
    assert config["attn_pdrop"] == config["resid_pdrop"] == config["embd_pdrop"] == 0.1
    model, _ = load_model(tiny)
    model.train()
    ids = torch.tensor([[5, 100, 42, 7]])
    with torch.no_grad():
        once, again = model(ids).logits, model(ids).logits
    assert torch.equal(once, again)
    dropouts = [m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropouts and set(dropouts) == {0.0}


def test_gpt2s_activation_is_fused_without_changing_a_number_or_what_is_saved(tiny, tmp_path):
    config = json.loads((tiny / "config.json").read_text())
    assert config["activation_function"] == "gelu_new"
    plain = GPT2LMHeadModel.from_pretrained(tiny, dtype=torch.float64).eval()
    fused, _ = load_model(tiny)
    fused = fused.double()
    assert not any("NewGELU" in type(m).__name__ for m in fused.modules())
    ids = torch.tensor([[5, 100, 42, 7]])
    outputs = []
    for model in (plain, fused):
        loss = model(ids).logits.logsumexp(-1).sum()
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        outputs.append(torch.cat([loss.view(1), *(g.flatten() for g in gradients)]).detach())
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-9)
    fused.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["activation_function"] == "gelu_new"


def test_loading_the_toy_says_nothing(capfd):
    load_model()
    out, err = capfd.readouterr()
    assert out == err == ""


def test_a_tokenizer_without_a_pad_token_pads_with_its_end_token(tiny, tmp_path):
    folder = edited(tiny, tmp_path, "tokenizer_config.json", pad_token=None)
    tokenizer = load_model(folder)[1]
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 0


def test_a_tokenizer_without_an_end_token_is_an_error(tiny, tmp_path):
    folder = edited(tiny, tmp_path, "tokenizer_config.json", eos_token=None)
    assert_refused(folder, "end-of-sequence token")


def edited(model, tmp_path, name, **changes):
    """A copy of a model's folder with these fields of one of its JSON files changed."""
    folder = shutil.copytree(model, tmp_path / "edited")
    fields = json.loads((folder / name).read_text())
    fields.update(changes)
    (folder / name).write_text(
        json.dumps({key: value for key, value in fields.items() if value is not None})
    )
    return folder


def assert_refused(name, *words):
    """Check that the error is one line and names the model."""
    with pytest.raises(InputError) as caught:
        load_model(name)
    message = str(caught.value)
    assert all(word in message for word in (str(name), *words)), message
    assert "\n" not in message


@pytest.mark.parametrize("name", ["gpt2", "somebody/some-model"])
def test_a_hub_name_offline_is_refused_in_one_sentence(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert_refused(name, "HF_HUB_OFFLINE")


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_folder_that_lacks_a_file_is_refused(tiny, tmp_path, missing):
    folder = shutil.copytree(tiny, tmp_path / "incomplete")
    (folder / missing).unlink()
    assert_refused(folder)


def test_an_empty_folder_is_refused(tmp_path):
    assert_refused(tmp_path)


def test_a_folder_with_pickled_weights_only_is_refused(tiny, tmp_path):
    folder = shutil.copytree(tiny, tmp_path / "pickled")
    (folder / "model.safetensors").unlink()
    torch.save(load_model(tiny)[0].state_dict(), folder / "pytorch_model.bin")
    assert_refused(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", None),
        ("config.json", b"{"),
        ("config.json", b'{"model_type": "no-such-model"}'),
        ("tokenizer.json", b"{"),
    ],
)
def test_a_folder_with_a_broken_file_is_refused(tiny, tmp_path, name, content):
    folder = shutil.copytree(tiny, tmp_path / "broken")
    file = folder / name
    file.write_bytes(file.read_bytes()[:5000] if content is None else content)
    assert_refused(folder)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    assert_refused(tmp_path / "nothing here", "no such folder")
    assert_refused("./nothing", "no such folder")
