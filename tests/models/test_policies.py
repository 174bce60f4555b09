"""How a large model is trained: adapters, checkpointing, bf16 weights."""

import copy
import sys

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
)

from adadpo_mini import InputError, RaceConfig, load_model, load_pairs, race
from adadpo_mini.lockstep import Race
from adadpo_mini.models.optimizer import MasterAdamW
from adadpo_mini.models.policies import new_policy, whole_model
from adadpo_mini.models.reference import ScoredPairs
from adadpo_mini.tokens.batch import tokenize_pairs
from adadpo_mini.trainer import Trainer

SHORT = {"steps": 2, "batch_size": 4, "eval_pairs": 4, "measure_every": 0}


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_adapter_is_trained_and_the_reference_is_its_base_in_one_copy(toy):
    reference = copy.deepcopy(toy[0]).requires_grad_(False)
    before = weights(reference)
    policies = [new_policy(reference, lora_rank=4) for _ in range(2)]
    own = {p.data_ptr() for p in reference.parameters()}
    for policy in policies:
        frozen = {p.data_ptr() for p in policy.parameters() if not p.requires_grad}
        trained = [p for p in policy.parameters() if p.requires_grad]
        assert frozen == own and 0 < sum(p.numel() for p in trained) < 50_000
    pairs = ScoredPairs(reference, tokenize_pairs(load_pairs("tone")[:4], toy[1], 256))
    trainer = Trainer(policies[0], "dpo", learning_rate=1e-2, knobs={"beta": 0.1})
    events = [trainer.step(pairs.batch(range(4))) for _ in range(4)]
    assert events[0]["shift/chosen"] == 0.0 and events[-1]["loss"] < events[0]["loss"]
    assert same(weights(reference), before), "the base is not trained"
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        moved, still = (policy(ids).logits for policy in policies)
        assert torch.equal(still, reference(ids).logits) and not torch.allclose(moved, still)
        with policies[0].disable_adapter():
            assert torch.equal(policies[0](ids).logits, still)
        merged = whole_model(policies[0])
        torch.testing.assert_close(merged(ids).logits, moved, rtol=1e-4, atol=1e-4)
    assert same(weights(reference), before), "merging works on a copy"


def test_adapters_of_one_seed_start_alike(toy):
    def first(seed):
        policy = new_policy(toy[0], lora_rank=2, seed=seed)
        return torch.cat([p.flatten() for p in policy.parameters() if p.requires_grad])

    assert torch.equal(first(3), first(3)) and not torch.equal(first(3), first(4))


@pytest.mark.parametrize("rank", [0, 2])
def test_making_a_policy_draws_nothing_from_the_generator_that_all_share(toy, rank):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    new_policy(toy[0], lora_rank=rank, seed=11)
    assert torch.equal(torch.rand(3), expected)


def test_an_optimizer_of_whole_weights_has_no_weight_decay():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = MasterAdamW([weight], 0.1)
    weight.grad = torch.zeros(3)
    optimizer.step()
    assert weight.tolist() == [1.0, 1.0, 1.0]


def test_lora_without_peft_says_what_to_install(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(InputError, match="pip install peft"):
        new_policy(toy[0], lora_rank=4)


def test_checkpointing_changes_no_number(toy):
    settings = {**SHORT, "methods": ("adadpo",)}
    ends = []
    for checkpointing in (False, True):
        contest = Race(RaceConfig(**settings, checkpointing=checkpointing), start=toy)
        model = contest.models["adadpo"]
        assert model.is_activation_checkpointing == checkpointing
        ends.append(([event for _, event in contest.events()], weights(model)))
        assert not model.training, "it answers in evaluation mode"
    (plain, plain_weights), (saving, saving_weights) = ends
    assert [event["loss"] for event in plain] == pytest.approx([e["loss"] for e in saving])
    for mine, theirs in zip(plain_weights, saving_weights, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_dropout_outside_a_module_is_off_in_training_mode_too(toy, tmp_path, checkpointing):
    """OPT hands its dropout to a function; checkpointing puts a model into training mode."""
    torch.manual_seed(0)
    config = OPTConfig(
        vocab_size=len(toy[1]), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        ffn_dim=64, max_position_embeddings=128, word_embed_proj_dim=32, dropout=0.5,
        attention_dropout=0.5, layerdrop=0.5,
    )  # fmt: skip
    OPTForCausalLM(config).save_pretrained(tmp_path)
    toy[1].save_pretrained(tmp_path)
    contest = Race(RaceConfig(**SHORT, model=str(tmp_path), checkpointing=checkpointing))
    first = {method: event for method, event in contest.events() if event["step"] == 0}
    assert all(event["shift/chosen"] == 0.0 for event in first.values())
    contest.models["dpo"].train()
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(contest.models["dpo"](ids).logits, contest.models["dpo"](ids).logits)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            MambaConfig(vocab_size=900, hidden_size=32, num_hidden_layers=2, state_size=4),
            "cannot be trained here",
        ),
        (
            BertConfig(
                vocab_size=900, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=64,
            ),
            "looks ahead|cannot be trained",
        ),
    ],
    ids=["mamba", "bert"],
)  # fmt: skip
def test_a_model_that_is_not_causal_or_has_no_cache_is_refused(toy, tmp_path, config, message):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    toy[1].save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message):
        load_model(tmp_path)


def test_a_small_adapter_on_bf16_weights_is_not_rounded_away_when_saved(toy):
    reference = copy.deepcopy(toy[0]).to(torch.bfloat16)
    policy = new_policy(reference, lora_rank=2)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=1e-4)
    weight = "transformer.h.0.mlp.c_fc.weight"
    whole, base = whole_model(policy).state_dict()[weight], reference.state_dict()[weight]
    moved = (whole != base.float()).float().mean()
    assert moved > 0.99 and whole.dtype == torch.float32


def test_bf16_weights_follow_fp32_masters():
    """Against AdamW in fp32 on the same gradients: the weights are its weights, rounded."""
    torch.manual_seed(0)
    start = torch.randn(50)
    half = torch.nn.Parameter(start.to(torch.bfloat16))
    full = torch.nn.Parameter(half.detach().float())
    ours = MasterAdamW([half], 1e-4)
    theirs = torch.optim.AdamW([full], lr=1e-4, weight_decay=0.0)
    for _ in range(30):
        gradient = torch.randn(50).to(torch.bfloat16)
        half.grad, full.grad = gradient, gradient.float()
        ours.step()
        theirs.step()
    assert torch.equal(half, full.to(torch.bfloat16))
    naive = torch.nn.Parameter(start.to(torch.bfloat16))
    plain = torch.optim.AdamW([naive], lr=1e-4, weight_decay=0.0)
    for _ in range(30):
        naive.grad = torch.ones(50, dtype=torch.bfloat16)
        plain.step()
    assert (naive == start.to(torch.bfloat16)).float().mean() > 0.5, "without masters most stay"


def test_a_race_in_bf16_learns_and_its_model_is_saved_in_bf16(tmp_path):
    result = race("tone", out=tmp_path / "run", dtype="bfloat16", learning_rate=1e-3, **SHORT)
    for method, events in result.events.items():
        assert events[0]["shift/chosen"] == 0.0
        assert events[-1]["eval_loss"] < events[0]["eval_loss"]
        assert result.models[method].dtype == torch.bfloat16
        saved = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / method / "model")
        assert saved.dtype == torch.bfloat16


ARCHITECTURES = {
    "llama": LlamaConfig, "gpt_neox": GPTNeoXConfig, "qwen2": Qwen2Config,
}  # fmt: skip


@pytest.fixture(params=ARCHITECTURES)
def folder(request, toy, tmp_path):
    """A tiny random model of another architecture, with a tokenizer that has no pad token."""
    tokenizer = copy.deepcopy(toy[1])
    tokenizer.pad_token = None
    tied = request.param != "gpt_neox"
    config = ARCHITECTURES[request.param](
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=128, tie_word_embeddings=tied,
        num_key_value_heads=1,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("how", [{}, {"lora_rank": 2}, {"dtype": "bfloat16", "pairs_at_once": 2}])
def test_any_architecture_races_and_what_it_leaves_loads_and_answers(folder, tmp_path, how):
    from adadpo_mini.cli.entry import main

    out = tmp_path / "run"
    result = race("tone", model=str(folder), out=out, learning_rate=1e-2, **SHORT, **how)
    assert result.summary["status"] == "finished"
    for events in result.events.values():
        assert events[0]["shift/chosen"] == 0.0 and events[0]["ada/rho"] == 1.0
        assert events[-1]["eval_shift/chosen"] != 0.0
    for method in ("dpo", "adadpo"):
        saved = AutoModelForCausalLM.from_pretrained(out / method / "model")
        ids = torch.tensor([[5, 6, 7]])
        with torch.no_grad():
            mine = whole_model(result.models[method]).eval()(ids).logits
            torch.testing.assert_close(saved(ids).logits, mine, rtol=1e-3, atol=1e-3)
        assert AutoTokenizer.from_pretrained(out / method / "model").eos_token == "<|endoftext|>"
    assert main(["chat", str(out), "--prompt", "How do I stir the pasta?", "--json"]) == 0


def test_a_model_with_fewer_words_than_its_tokenizer_is_refused(folder, toy):
    config = LlamaConfig(
        vocab_size=len(toy[1]) - 1, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=64,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    with pytest.raises(InputError, match=f"has {len(toy[1])} tokens but the model has only"):
        load_model(folder)


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "tpu"}, {"dtype": "float16"}, {"pairs_at_once": 0}, {"lora_rank": -1},
        {"lora_rank": 2, "methods": ("rlhf",)}, {"dtype": "bfloat16", "methods": ("dpo", "rlhf")},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(InputError, match=next(reversed(wrong))):
        RaceConfig(**wrong)
