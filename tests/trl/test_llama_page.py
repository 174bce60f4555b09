"""The page on large models: its script, command, settings and numbers, tried on small models."""

import json
import math
import os
import re
import shlex
import subprocess
import sys

import pytest

pytest.importorskip("trl")
from adadpo_mini import load_model, load_pairs  # noqa: E402
from adadpo_mini.models.memory import count_parameters  # noqa: E402
from adadpo_mini.tokens.batch import tokenize_pairs  # noqa: E402
from adadpo_mini.toyworld import data_dir  # noqa: E402
from adadpo_mini.trl.sharding import FSDP2, LLAMA_3_8B, ZERO3, memory_per_gpu, memory_table  # noqa: E402

PAGE = (data_dir().parent / "tutorials" / "from_toy_to_llama.md").read_text(encoding="utf-8")


def block(language):
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


def command():
    """The arguments of the page's command, as a list."""
    launch = block("bash").split("train_adadpo.py", 1)[1].split("\nadadpo-mini")[0]
    return shlex.split(launch.replace("\\\n", " "))


@pytest.fixture(scope="module")
def ran(tmp_path_factory, tiny):
    """The folder in which the page's script has run the page's command on tiny things."""
    folder = tmp_path_factory.mktemp("llama")
    (folder / "train_adadpo.py").write_text(block("python"), encoding="utf-8")
    _, tokenizer = load_model(tiny)
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['content'] }}"
        "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    )
    _tiny_llama(len(tokenizer)).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    for split, count in (("train", 8), ("test", 4)):
        rows = [json.dumps(_conversation(p)) for p in load_pairs("swap", split)[:count]]
        (folder / "data").mkdir(exist_ok=True)
        (folder / "data" / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    smaller = [
        "--model", str(folder / "model"), "--data", str(folder / "data"), "--output_dir",
        str(folder / "out"), "--use_cpu", "--per_device_train_batch_size", "2",
        "--gradient_accumulation_steps", "2", "--logging_steps", "1", "--learning_rate", "1e-2",
    ]  # fmt: skip
    run = subprocess.run(
        [sys.executable, "train_adadpo.py", *command(), *smaller],
        cwd=folder, capture_output=True, text=True, timeout=120,
        env={**os.environ, "HF_HOME": str(folder / "cache")},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return folder


def _tiny_llama(words):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=words, hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=1, bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip


def _conversation(pair):
    """As UltraFeedback has it: a prompt by itself, and whole conversations."""
    user = {"role": "user", "content": pair["prompt"]}
    sides = {
        side: [user, {"role": "assistant", "content": pair[side]}]
        for side in ("chosen", "rejected")
    }
    return {"prompt": pair["prompt"], **sides, "all_rm_scores": [0.1, 0.2]}


def test_the_script_and_command_of_the_page_train_a_model(ran, toy):
    _, tokenizer = toy  # without the chat template
    read = tokenize_pairs(load_pairs("swap")[:8], tokenizer, 256)
    log = json.loads((ran / "out" / "trainer_state.json").read_text(encoding="utf-8"))[
        "log_history"
    ]
    training = [row for row in log if "loss" in row]
    held_out = [row for row in log if "eval_loss" in row]
    assert len(training) == 2 and training[0]["ada/rho"] == 1.0
    assert held_out[0]["eval_shift/chosen"] == 0.0 != held_out[-1]["eval_shift/chosen"]
    assert training[-1]["num_tokens"] == sum(
        2 * len(p.prompt) + len(p.chosen) + len(p.rejected) for p in read
    ), "each side is one user's turn and one answer"
    answer = sum(len(p.chosen) for p in read) / len(read)
    uniform = -answer * math.log(len(tokenizer))
    assert training[0]["logps/chosen"] == pytest.approx(uniform, rel=0.2), "of the answer alone"
    trained, _ = load_model(ran / "out")
    start, _ = load_model(ran / "model")
    assert not trained.lm_head.weight.equal(start.lm_head.weight)


def test_the_doctor_reads_what_the_script_leaves(ran, capsys):
    from adadpo_mini.cli.entry import main

    assert main(["doctor", str(ran / "out" / "trainer_state.json")]) == 0


def test_the_command_is_the_papers_setting(tmp_path):
    said = dict(zip(command(), command()[1:], strict=False))
    assert float(said["--learning_rate"]) in (3e-7, 5e-7, 6e-7, 1e-6)
    assert float(said["--beta"]) in (0.005, 0.01, 0.05, 0.1)
    machine = accelerate_settings(tmp_path)
    pairs = int(said["--per_device_train_batch_size"]) * int(said["--gradient_accumulation_steps"])
    assert pairs * machine.num_processes == 128
    assert -(-59876 // 128) == 468
    assert (said["--lr_scheduler_type"], said["--warmup_steps"]) == ("cosine", "0.1")


def accelerate_settings(folder):
    from accelerate.commands.config.config_args import load_config_from_file

    file = folder / "eight_gpus.yaml"
    file.write_text(block("yaml"), encoding="utf-8")
    return load_config_from_file(str(file))


def test_accelerate_knows_every_setting_of_the_yaml(tmp_path):
    from accelerate.commands.launch import launch_command_parser

    machine = accelerate_settings(tmp_path)
    assert machine.distributed_type == "FSDP" and machine.mixed_precision == "bf16"
    known = vars(launch_command_parser().parse_args(["train_adadpo.py"]))
    assert set(machine.fsdp_config) <= set(known)


def test_the_memory_on_the_page_is_computed():
    table = PAGE.split("<!-- memory:begin -->\n")[1].split("\n<!-- memory:end -->")[0]
    assert table == memory_table()


def test_the_shape_of_llama_has_the_weights_that_transformers_gives_it():
    from transformers import LlamaConfig

    shape = LLAMA_3_8B
    config = LlamaConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.width, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=32, num_key_value_heads=8,
    )  # fmt: skip
    assert count_parameters(config) == shape.weights


@pytest.mark.parametrize(("scheme", "each"), [(ZERO3, 18), (FSDP2, 20)])
def test_what_belongs_to_a_weight_is_spread_over_the_gpus(scheme, each):
    """In bytes: bf16 and fp32 weights, gradients and moments are 16, and the reference."""

    def together(**settings):
        sheet = memory_per_gpu(LLAMA_3_8B, scheme, pairs=1, tokens=2048, **settings)
        return sum(sheet.values())

    one, eight = together(gpus=1), together(gpus=8)
    assert (one - eight) / (LLAMA_3_8B.weights * 7 / 8) == pytest.approx(each)
    alone = together(gpus=8, reference=False)
    assert 8 * (eight - alone) == pytest.approx((each - 16) * LLAMA_3_8B.weights)
