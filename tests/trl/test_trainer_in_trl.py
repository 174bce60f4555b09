"""Our losses inside TRL's trainer, against TRL's own loss and our own trainer."""

import copy
import json
import logging
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl")
from datasets import Dataset  # noqa: E402
from transformers import AutoModelForCausalLM, TrainerCallback  # noqa: E402
from trl import DPOConfig, DPOTrainer  # noqa: E402
from trl.trainer.dpo_trainer import DataCollatorForPreference  # noqa: E402

from adadpo_mini import config as settings  # noqa: E402
from adadpo_mini import load_model, load_pairs  # noqa: E402
from adadpo_mini.errors import InputError  # noqa: E402
from adadpo_mini.methods.registry import METHODS  # noqa: E402
from adadpo_mini.models.load import switch_dropout_off  # noqa: E402
from adadpo_mini.models.reference import ScoredPairs  # noqa: E402
from adadpo_mini.tokens.batch import tokenize_pairs  # noqa: E402
from adadpo_mini.trainer import Trainer  # noqa: E402
from adadpo_mini.trl.trainer import (  # noqa: E402
    OUR_KNOBS,
    OUR_METRICS,
    WITH_REFERENCE,
    AdaDPOConfig,
    AdaDPOTrainer,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning:transformers")
logging.getLogger("transformers").setLevel(logging.ERROR)
STEPS, SIZE, RATE = 4, 4, 5e-4
SAME = ("loss", "logps/chosen", "logps/rejected", "rewards/chosen", "rewards/rejected",
        "rewards/accuracies", "rewards/margins", "grad_norm", *OUR_METRICS)  # fmt: skip


@pytest.fixture(scope="module")
def pairs():
    """Pairs of unequal length, so that a wrong length gives a wrong number."""
    return load_pairs("length_bias")[: STEPS * SIZE]


class Logs(TrainerCallback):
    """Collects what the trainer logs, each row with its step."""

    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs, **_):
        self.rows.append({**logs, "step": state.global_step})

    @property
    def training(self):
        return [row for row in self.rows if "loss" in row]


def plain_model(folder):
    """As TRL loads it: `load_model` fuses GPT-2's activation, which differs in the last bit."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    switch_dropout_off(model)
    return model


def new_trl(tiny, tmp_path, pairs, config=AdaDPOConfig, trainer=AdaDPOTrainer, **settings):
    """A TRL trainer of the tiny model, on the pairs in their order, and its logs."""
    model, tokenizer = plain_model(tiny), load_model(tiny)[1]
    names = ("peft_config", "eval_dataset", "data_collator")
    more = {name: settings.pop(name) for name in names if name in settings}
    model = settings.pop("model", model)
    settings = {
        "per_device_train_batch_size": SIZE, "max_steps": STEPS, "logging_steps": 1,
        "learning_rate": RATE, "lr_scheduler_type": "constant", "beta": 0.05, "max_length": None,
        "report_to": [], "use_cpu": True, "bf16": False, "gradient_checkpointing": False,
        "save_strategy": "no", "disable_tqdm": True, "train_sampling_strategy": "sequential",
        **settings,
    }  # fmt: skip
    logs = Logs()
    made = trainer(
        model=model, args=config(output_dir=str(tmp_path), **settings),
        train_dataset=Dataset.from_list(list(pairs)), processing_class=tokenizer,
        callbacks=[logs], **more,
    )  # fmt: skip
    return made, logs


def trained(*args, **settings):
    trainer, logs = new_trl(*args, **settings)
    trainer.train()
    return trainer, logs.training


def weights(model):
    return {name: each.detach().clone() for name, each in model.named_parameters()}


# Against TRL's own loss.

TIMES = ("train_runtime", "step", "epoch")


@pytest.mark.parametrize("settings", [
    {}, {"precompute_ref_log_probs": True}, {"bf16": True}, {"gradient_accumulation_steps": 2},
    {"gradient_checkpointing": True},
], ids=lambda settings: "".join(settings) or "plain")  # fmt: skip
def test_with_method_dpo_every_number_and_weight_is_trls_own(tiny, tmp_path, pairs, settings):
    settings = {"max_steps": 2, **settings}
    theirs, their_rows = trained(tiny, tmp_path, pairs, DPOConfig, DPOTrainer, **settings)
    ours, our_rows = trained(tiny, tmp_path, pairs, method="dpo", **settings)
    assert len(our_rows) == 2 and not set(OUR_METRICS) & set(their_rows[0])
    for mine, other in zip(our_rows, their_rows, strict=True):
        assert {name: mine[name] for name in other} == other
        assert set(mine) - set(other) == set(OUR_METRICS)
    before = weights(load_model(tiny)[0])
    other = weights(theirs.model)
    for name, weight in weights(ours.model).items():
        assert torch.equal(weight, other[name]), name
    assert any(not torch.equal(before[name], other[name]) for name in before)


# Against our own trainer.

# Such that every one of them tells, the ceiling binds for some pairs and the floor for none.
KNOBS = {
    "beta": 0.05, "ceiling": 1.1, "k": 0.97, "ratio": 1.5, "alpha": 0.02, "penalty": 3.0,
    "per_token": True,
}  # fmt: skip


@pytest.mark.parametrize("method", WITH_REFERENCE)
def test_every_step_is_that_of_our_own_trainer(tiny, tmp_path, pairs, method):
    reference, tokenizer = plain_model(tiny).requires_grad_(False), load_model(tiny)[1]
    own = Trainer(
        copy.deepcopy(reference).requires_grad_(True), method, learning_rate=RATE, knobs={
            **KNOBS, "space": "ratio", "length_normalize": True, "floor": 0.5,
        },
    )  # fmt: skip
    scored = ScoredPairs(reference, tokenize_pairs(pairs, tokenizer, 256))
    events = [own.step(scored.batch(range(s * SIZE, (s + 1) * SIZE))) for s in range(STEPS)]
    trainer, rows = trained(tiny, tmp_path, pairs, method=method, floor=0.5, **KNOBS)
    assert len(rows) == STEPS
    for event, row in zip(events, rows, strict=True):
        for name in SAME:
            assert row[name] == pytest.approx(event[name], rel=1e-4, abs=2e-5), name
        assert row["step"] == event["step"] + 1
    assert abs(events[-1]["shift/chosen"]) > 0.1, "else nothing has been compared"
    other = weights(trainer.model)
    for name, mine in weights(own.model).items():
        assert_same_weight(name, mine, other[name])


def assert_same_weight(name, mine, other):
    """To what fp32 leaves of it, the keys' biases aside: attention does not depend on them, their
    gradient is rounding noise, and AdamW makes full steps of it."""
    if name.endswith("c_attn.bias"):
        mine, other = (torch.cat([t.chunk(3)[i] for i in (0, 2)]) for t in (mine, other))
    torch.testing.assert_close(other, mine, rtol=1e-3, atol=5e-6, msg=name)


def test_the_losses_take_different_ways(tiny, tmp_path, pairs):
    """Otherwise the test above would pass for a trainer that ignores its method."""
    ends = {
        method: trained(tiny, tmp_path, pairs, method=method, **KNOBS)[1][-1]["loss"]
        for method in ("dpo", "adadpo", "fixed_ratio", "weighted_dpo")
    }
    assert len({round(loss, 4) for loss in ends.values()}) == len(ends)


# What else TRL's trainer can do.


def test_our_metrics_come_with_an_evaluation_too(tiny, tmp_path, pairs):
    trainer, logs = new_trl(
        tiny, tmp_path, pairs, ratio=1.5, method="fixed_ratio",
        eval_dataset=Dataset.from_list(list(pairs[:4])),
    )  # fmt: skip
    measured = trainer.evaluate()
    assert measured["eval_ada/rho"] == 1.5
    tokens = tokenize_pairs(load_pairs(list(pairs[:4])), load_model(tiny)[1], 256)
    lengths = [len(pair.chosen) / len(pair.rejected) for pair in tokens]
    balance = 1.5 * math.prod(lengths) ** (1 / 4)
    assert measured["eval_balance/ratio"] == pytest.approx(balance, rel=1e-4)
    assert measured["eval_shift/chosen"] == measured["eval_shift/rejected"] == 0.0
    assert not set(OUR_METRICS) & set(measured), "without the prefix they are of training"
    trainer.train()
    again = trainer.evaluate()
    for side in ("chosen", "rejected"):
        assert again[f"eval_shift/{side}"] != 0.0
        assert again[f"eval_rewards/{side}"] == pytest.approx(0.05 * again[f"eval_shift/{side}"])


def test_a_reference_computed_beforehand_gives_the_same_numbers(tiny, tmp_path, pairs):
    plain = trained(tiny, tmp_path, pairs)
    before = trained(tiny, tmp_path, pairs, precompute_ref_log_probs=True)
    assert before[0].ref_model is None
    for mine, other in zip(before[1], plain[1], strict=True):
        for name in SAME:
            assert mine[name] == pytest.approx(other[name], rel=1e-4, abs=1e-5), name


def test_lora_trains_the_adapter_alone_against_the_model_without_it(tiny, tmp_path, pairs):
    peft = pytest.importorskip("peft")
    lora = peft.LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    trainer, rows = trained(tiny, tmp_path, pairs, peft_config=lora, learning_rate=0.05)
    assert trainer.ref_model is None
    assert rows[0]["shift/chosen"] == rows[0]["shift/rejected"] == 0.0 and rows[0]["ada/rho"] == 1.0
    assert rows[0]["loss"] == pytest.approx(math.log(2))
    assert rows[-1]["shift/chosen"] - rows[-1]["shift/rejected"] > 0.05
    base = weights(load_model(tiny)[0])
    with trainer.model.disable_adapter():
        for name, weight in trainer.model.get_base_model().named_parameters():
            if "lora" not in name:
                assert torch.equal(weight, base[name.replace(".base_layer", "")]), name


def test_a_mixture_of_experts_keeps_its_auxiliary_loss(tiny, tmp_path, pairs, toy):
    """At step 0 AdaDPO equals DPO, whose loss comes from TRL here."""
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    moe = MixtralForCausalLM(
        MixtralConfig(
            vocab_size=len(toy[1]), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, num_local_experts=4,
            router_aux_loss_coef=0.5, max_position_embeddings=256,
        )
    )  # fmt: skip
    moe.save_pretrained(tmp_path / "moe")
    first = {}
    for method in ("dpo", "adadpo"):
        model = MixtralForCausalLM.from_pretrained(tmp_path / "moe")
        rows = trained(tiny, tmp_path, pairs, method=method, model=model, max_steps=1)[1]
        first[method] = rows[0]
    assert first["adadpo"]["aux_loss"] > 0.1
    for name in ("loss", "grad_norm"):
        assert first["adadpo"][name] == pytest.approx(first["dpo"][name], rel=1e-5)
    assert first["dpo"]["loss"] > math.log(2) + 0.1


def test_an_answer_of_which_nothing_is_left_counts_with_u_of_zero(tiny, tmp_path, pairs):
    """TRL drops such pairs itself, but a user's own collator may cut off more."""
    prompts = [len(p.prompt) for p in tokenize_pairs(pairs, load_model(tiny)[1], 256)]
    assert max(prompts) == min(prompts) + 3, "of some answers three tokens are left"
    collator = DataCollatorForPreference(pad_token_id=1, max_length=max(prompts))
    for method in ("adadpo", "rdpo"):
        rows = trained(tiny, tmp_path, pairs, method=method, data_collator=collator)[1]
        assert rows[0]["shift/chosen"] == 0.0 and rows[0]["ada/rho"] == 1.0
        assert all(math.isfinite(row["loss"]) and math.isfinite(row["grad_norm"]) for row in rows)
        assert abs(rows[-1]["shift/chosen"]) > 1e-3, "on what is left it is trained"


def test_log_probs_that_come_in_bf16_are_summed_in_fp32(tiny, tmp_path, pairs):
    """FSDP2 returns them in bf16; here the policy and the reference do, too."""
    exact = trained(tiny, tmp_path, pairs, max_steps=1)[1][0]
    trainer, logs = new_trl(tiny, tmp_path, pairs, max_steps=1)

    def rounded(model, inputs, outputs):
        outputs.log_probs = outputs.log_probs.bfloat16()
        return outputs

    for model in (trainer.model, trainer.ref_model):
        model.register_forward_hook(rounded)
    trainer.train()
    (row,) = logs.training
    assert row["logps/chosen"] < -256, "where bf16 knows every other whole number only"
    assert 1e-6 < abs(row["logps/chosen"] - exact["logps/chosen"]) < 0.1
    assert row["shift/chosen"] == row["shift/rejected"] == 0.0


def test_the_model_card_names_the_method(tiny, tmp_path, pairs):
    trainer, _ = new_trl(tiny, tmp_path, pairs)
    trainer.create_model_card(model_name="mine")
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "trained with AdaDPO" in card and "2305.18290" not in card


# More than one process.

WORKER = """
import json, pathlib, sys
sys.path.insert(0, {tests!r})
from test_trainer_in_trl import evaluated_after_training
from adadpo_mini import load_pairs

tiny, out = map(pathlib.Path, sys.argv[1:])
trainer, rows = evaluated_after_training(tiny, out, load_pairs("length_bias")[:16], 2)
trainer.save_model(out / "model")
if trainer.accelerator.is_main_process:
    said = {{"processes": trainer.accelerator.num_processes, "rows": rows}}
    (out / "log.json").write_text(json.dumps(said))
"""


def evaluated_after_training(tiny, out, pairs, size):
    """A trainer after its training, and its logs with an evaluation at the end."""
    trainer, rows = trained(
        tiny, out, pairs, per_device_train_batch_size=size, per_device_eval_batch_size=size,
        eval_dataset=Dataset.from_list(list(pairs[:8])), method="adadpo", **KNOBS,
    )  # fmt: skip
    return trainer, [*rows, trainer.evaluate()]


def run(command, timeout=120):
    """Run a command to its end; on timeout end all that it has started."""
    process = subprocess.Popen(
        command, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode == 0, output


@pytest.mark.skipif(sys.platform == "win32", reason="accelerate starts gloo on Unix alone")
def test_two_processes_that_share_each_batch_give_the_numbers_of_one(tiny, tmp_path, pairs):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.format(tests=str(Path(__file__).parent)), encoding="utf-8")
    # With --cpu accelerate would start a single process. --multi_gpu starts two, on whatever
    # there is, and TRL's use_cpu has them meet through gloo. Port 0 is any that is free.
    run([
        sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", "0", str(worker), str(tiny), str(tmp_path),
    ])  # fmt: skip
    said = json.loads((tmp_path / "log.json").read_text(encoding="utf-8"))
    assert said["processes"] == 2
    trainer, rows = evaluated_after_training(tiny, tmp_path, pairs, SIZE)
    assert len(said["rows"]) == len(rows) == STEPS + 1
    assert rows[-2]["ada/rho"] != rows[-2]["balance/ratio"] != 1.0
    for two, one in zip(said["rows"], rows, strict=True):
        for name in SAME:
            name = name if name in one else f"eval_{name}"
            if name in one:
                assert two[name] == pytest.approx(one[name], rel=1e-4, abs=2e-5), name
    saved = weights(load_model(tmp_path / "model")[0])
    for name, weight in weights(trainer.model).items():
        assert_same_weight(name, saved[name], weight)


# What is refused.


@pytest.mark.parametrize(("settings", "words"), [
    ({"method": "simpo"}, "method must be one of dpo, adadpo.*not 'simpo'"),
    ({"method": "rlhf"}, "not 'rlhf'"),
    ({"ceiling": 0.0}, "ceiling must be positive"),
    ({"floor": 3.0}, "floor must be positive and at most the ceiling"),
    ({"space": "log"}, "space must be .*not 'log'"),
    ({"beta": 0.0}, "beta must be positive"),
    ({"loss_type": "ipo"}, r"loss_type=\['ipo'\] would have no effect"),
    ({"loss_type": ["sigmoid", "sft"]}, "loss_type"),
    ({"loss_weights": [0.5]}, "loss_weights"),
    ({"label_smoothing": 0.1}, "label_smoothing=0.1"),
    ({"f_divergence_type": "js_divergence"}, "f_divergence_type"),
    ({"use_weighting": True}, "use_weighting=True"),
    ({"ld_alpha": 0.5}, "ld_alpha=0.5"),
    ({"padding_free": True}, "padding_free=True"),
])  # fmt: skip
def test_options_without_effect_and_values_out_of_range_are_refused(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        AdaDPOConfig(output_dir=str(tmp_path), bf16=False, **settings)


def test_weights_of_one_change_nothing_and_are_taken(tmp_path):
    AdaDPOConfig(output_dir=str(tmp_path), bf16=False, loss_weights=[1.0])


def test_trls_own_config_is_refused_since_it_names_no_method(tiny, tmp_path, pairs):
    with pytest.raises(InputError, match="must be an AdaDPOConfig, not a DPOConfig"):
        new_trl(tiny, tmp_path, pairs, config=DPOConfig)


def test_an_older_trl_is_refused(tiny, tmp_path, pairs, monkeypatch):
    monkeypatch.setattr("adadpo_mini.trl.trainer.trl_version", "1.9.2")
    with pytest.raises(InputError, match="TRL 1.9.2 is too old.*pip install 'trl>=1.16,<1.17'"):
        new_trl(tiny, tmp_path, pairs)


def test_the_config_has_every_knob_of_its_methods():
    known = set().union(*(METHODS[method].parameters for method in WITH_REFERENCE))
    assert known & set(settings.KNOBS) == {"beta", *OUR_KNOBS}
