"""The corpus, the making of a base model, and the committed one."""

import itertools

import pytest
import torch

from adadpo_mini import InputError, load_model
from adadpo_mini.cli.entry import main
from adadpo_mini.errors import WriteError
from adadpo_mini.models.generate import sample_answers
from adadpo_mini.toyworld import data_dir
from adadpo_mini.toyworld.grammar import TOOLS, all_topics, find_topic
from adadpo_mini.toyworld.judge import judge
from adadpo_mini.toyworld.pretrain import (
    check_model_folder,
    corpus,
    pretrain,
    save_base_model,
)


@pytest.fixture(scope="module")
def texts():
    return list(itertools.islice(corpus(), 3000))


def test_the_corpus_never_mentions_a_held_out_topic(texts):
    held_out = [topic for topic in all_topics() if topic.held_out]
    everything = "\n".join(prompt + answer for prompt, answer in texts)
    assert not any(find_topic(prompt).held_out for prompt, _ in texts)
    for topic in held_out:
        assert f"{topic.verb} {topic.thing}" not in everything


def test_the_corpus_holds_well_formed_answers_to_its_prompts_of_every_kind(texts):
    verdicts = [judge(prompt, answer) for prompt, answer in texts]
    assert all(verdict.on_topic for verdict in verdicts)
    assert {verdict.kind for verdict in verdicts} == {
        "short", "detailed", "rude", "plain_no", "soft_no",
    }  # fmt: skip
    assert {find_topic(prompt).domain for prompt, _ in texts} == set(TOOLS)


def test_the_corpus_is_fixed_by_its_seed(texts):
    assert list(itertools.islice(corpus(0), 50)) == texts[:50]
    assert list(itertools.islice(corpus(1), 50)) != texts[:50]


def make(seed=0):
    losses = []
    model, tokenizer = pretrain(
        3, batch_size=8, seed=seed, on_step=lambda step, loss: losses.append((step, loss))
    )
    return model, tokenizer, losses


@pytest.fixture(scope="module")
def made():
    return make()


def test_pre_training_reports_a_falling_loss(made):
    steps, losses = zip(*made[2], strict=True)
    assert steps == (1, 2, 3)
    assert losses[0] == pytest.approx(torch.tensor(len(made[1])).log().item(), abs=0.5)
    assert losses[-1] < losses[0]


def test_pre_training_twice_with_one_seed_gives_the_same_model(made):
    model, tokenizer, losses = make()
    assert losses == made[2]
    assert tokenizer.get_vocab() == made[1].get_vocab()
    for mine, theirs in zip(model.parameters(), made[0].parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_pre_training_leaves_torchs_own_random_numbers_alone():
    from adadpo_mini.toyworld.pretrain import new_model

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    tokenizer = load_model()[1]
    one, other = new_model(tokenizer, seed=0), new_model(tokenizer, seed=1)
    assert torch.equal(torch.rand(1), expected)
    assert not torch.equal(one.transformer.wte.weight, other.transformer.wte.weight)


def test_the_tokenizer_is_the_committed_one(made, toy):
    assert made[1].get_vocab() == toy[1].get_vocab()
    text = "Sure! To warm the spicy soup, use a pot and take your time."
    assert made[1](text)["input_ids"] == toy[1](text)["input_ids"]


def test_a_saved_base_model_loads_with_the_same_weights_and_a_card(made, tmp_path):
    model, tokenizer, _ = made
    save_base_model(model, tokenizer, tmp_path / "new" / "model", steps=1, seed=0)
    again, tokenizer_again = load_model(tmp_path / "new" / "model")
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight), name
    assert tokenizer_again.get_vocab() == tokenizer.get_vocab()
    assert (tokenizer_again.eos_token_id, tokenizer_again.pad_token_id) == (0, 1)
    card = (tmp_path / "new" / "model" / "README.md").read_text(encoding="utf-8")
    assert f"{model.num_parameters():,} parameters" in card


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_base_model_takes_the_place_of_an_earlier_one_or_of_nothing(made, tmp_path):
    model, tokenizer, _ = made
    (tmp_path / "model").mkdir()
    for steps in (1, 2):
        save_base_model(model, tokenizer, tmp_path / "model", steps=steps, seed=0)
        assert f"{steps} steps of" in (tmp_path / "model" / "README.md").read_text()
        assert [file.name for file in tmp_path.iterdir()] == ["model"]
    committed = data_dir() / "models" / "toy-gpt2"
    assert set(contents(tmp_path / "model")) == set(contents(committed))
    assert check_model_folder(committed) == committed
    (tmp_path / "model" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="files that would be lost"):
        save_base_model(model, tokenizer, tmp_path / "model", steps=3, seed=0)
    modes = {file.stat().st_mode & 0o777 for file in (tmp_path / "model").iterdir()}
    assert len(modes) == 1, "as the config's, so the weights' permissions are the usual ones"


@pytest.mark.parametrize("name", ["notes.txt", "README.md"])
def test_a_folder_that_holds_anything_else_is_told_before_training_and_left(
    name, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("adadpo_mini.toyworld.pretrain.pretrain", lambda *_, **__: 1 / 0)
    (tmp_path / name).write_text("mine")
    assert main(["pretrain", "--out", str(tmp_path)]) == 2
    assert "files that would be lost" in capsys.readouterr().err
    assert contents(tmp_path) == {name: b"mine"}


def test_a_place_that_cannot_be_written_is_told_before_training(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adadpo_mini.toyworld.pretrain.pretrain", lambda *_, **__: 1 / 0)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for place, said in (
        (tmp_path / "file", "is a file; use a folder"),
        (tmp_path / "file" / "model", "not a folder"),
        (".", "is in use and cannot be replaced"),
        ("/proc", "/proc"),
    ):
        assert main(["pretrain", "--out", str(place)]) == 2
        said_here = capsys.readouterr().err
        assert said in said_here and said_here.count("\n") == 1
    assert main(["pretrain", "--out", "new", "--threads", "0"]) == 2
    assert (tmp_path / "file").read_text() == "mine" and contents(tmp_path / "here") == {}


def test_what_cannot_be_trained_is_told():
    for wrong in ({"steps": 0}, {"seed": -1}, {"seed": 1 << 63}):
        with pytest.raises(InputError, match=f"{next(iter(wrong))} must be"):
            pretrain(**wrong)


def test_a_full_disk_leaves_the_earlier_model(made, tmp_path):
    resource = pytest.importorskip("resource")
    model, tokenizer, _ = made
    save_base_model(model, tokenizer, tmp_path / "model", steps=1, seed=0)
    before, limits = contents(tmp_path / "model"), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
    try:
        with pytest.raises(WriteError, match="model cannot be written"):
            save_base_model(model, tokenizer, tmp_path / "model", steps=2, seed=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "model") == before
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_committed_model_stays_on_topic_on_held_out_prompts(toy):
    model, tokenizer = toy
    prompts = []
    for domain in TOOLS:
        topics = [topic for topic in all_topics() if topic.domain == domain and topic.held_out]
        assert len(topics) >= 20
        spread = [topics[i * len(topics) // 20] for i in range(20)]
        prompts += [topic.prompts[i % 4] for i, topic in enumerate(spread)]
    assert len(set(prompts)) == 120
    answers = sample_answers(model, tokenizer, prompts, temperature=0.7, seed=0)
    verdicts = [judge(*pair) for pair in zip(prompts, answers, strict=True)]
    assert sum(verdict.on_topic for verdict in verdicts) >= 0.95 * 120
    assert {verdict.reward for verdict in verdicts} >= {0, 1, 2, 3}, "and leaves room to learn"
