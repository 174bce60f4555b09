"""Our trainer against TRL's DPOTrainer on the same work; `python -m tests.bench` runs it.

Both get the same model, weights, pairs, batch size, optimiser (fused AdamW) and clipping, in fp32
or bf16. In bf16 TRL keeps fp32 weights and computes in bf16; ours also keeps bf16 weights, with
fp32 master weights in the optimiser.
"""

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import torch


@dataclass(frozen=True)
class Work:
    """Pairs of one shape for one model: pairs per step; lengths in tokens, end token included."""

    name: str
    model: str
    pairs: int
    prompt: int
    completion: int
    steps: int  # timed ones
    warm_up: int = 1  # steps before those


WORKS = (
    Work("toy, 16 pairs of 12 + 16 tokens", "toy", 16, 12, 16, steps=40, warm_up=3),
    Work("124 M, 4 pairs of 64 + 64 tokens", "gpt2", 4, 64, 64, steps=3),
    Work("124 M, 4 pairs of 512 + 64 tokens", "gpt2", 4, 512, 64, steps=2),
)
KNOWN, CHECKPOINTING = "scores known", "checkpointing"
ENGINES = (
    "ours", f"ours, {KNOWN}", "TRL", f"TRL, {KNOWN}",
    f"TRL, {CHECKPOINTING}",  # its default
)  # fmt: skip
"""Who does the work. "Scores known": the reference's log-probs were computed before the clock
started, as they are from the second epoch on; otherwise each step scores its new pairs."""


def new_model(name: str):
    """Return the toy, or a GPT-2 with random weights: 124 M parameters ("gpt2"), or 30 M with half
    the depth and width ("small")."""
    from adadpo_mini import load_model

    if name == "toy":
        return load_model()[0]
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    shape = {"small": {"n_embd": 384, "n_layer": 6, "n_head": 6}, "gpt2": {}}[name]
    config = GPT2Config(**shape, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return GPT2LMHeadModel(config)


def token_pairs(work: Work) -> list[dict[str, list[int]]]:
    """Return pairs of random token ids, as many as all steps take."""
    generator = torch.Generator().manual_seed(0)

    def ids(count: int) -> list[int]:
        return torch.randint(10, 800, (count,), generator=generator).tolist()

    return [
        {
            "prompt": ids(work.prompt),
            "chosen": [*ids(work.completion - 1), 0],
            "rejected": [*ids(work.completion - 1), 0],
        }
        for _ in range(work.pairs * (work.steps + work.warm_up))
    ]


def run_ours(work: Work, engine: str, half: bool) -> tuple[list[float], int]:
    """Return (seconds of each timed step, floating-point operations of a step) of our trainer."""
    from adadpo_mini.models.load import fuse_gelu
    from adadpo_mini.models.reference import ScoredPairs
    from adadpo_mini.models.shared_prompt import shared_logps
    from adadpo_mini.tokens.batch import TokenizedPair
    from adadpo_mini.trainer import Trainer

    reference = new_model(work.model).requires_grad_(False)
    fuse_gelu(reference)  # as `load_model` does
    if half:
        reference = reference.to(torch.bfloat16)
    policy = copy.deepcopy(reference).requires_grad_(True)
    pairs = [TokenizedPair(**pair) for pair in token_pairs(work)]
    scored = ScoredPairs(reference, pairs, logps=shared_logps)
    trainer = Trainer(policy, "dpo", learning_rate=1e-6, knobs={"beta": 0.1}, logps=shared_logps)
    batches = [range(start, start + work.pairs) for start in range(0, len(pairs), work.pairs)]
    if KNOWN in engine:
        for batch in batches:
            scored.batch(batch)
    steps = [lambda b=batch: trainer.step(scored.batch(b)) for batch in batches]
    seconds, operations = timed(steps)
    return seconds[work.warm_up :], operations


def run_trl(work: Work, engine: str, half: bool) -> tuple[list[float], int]:
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import DPOConfig, DPOTrainer

    from adadpo_mini import load_model

    class Tokenized(DPOTrainer):
        def _prepare_dataset(self, dataset, *_):
            return dataset

    rows = token_pairs(work)
    data = Dataset.from_list(
        [
            {"prompt_ids": r["prompt"], "chosen_ids": r["chosen"], "rejected_ids": r["rejected"]}
            for r in rows
        ]
    )
    with tempfile.TemporaryDirectory() as folder:
        settings = DPOConfig(
            output_dir=folder, max_steps=work.steps + work.warm_up,
            per_device_train_batch_size=work.pairs,
            learning_rate=1e-6, beta=0.1, lr_scheduler_type="constant", max_length=None,
            gradient_checkpointing=CHECKPOINTING in engine, bf16=half, use_cpu=True, report_to=[],
            logging_strategy="no", save_strategy="no", disable_tqdm=True,
            precompute_ref_log_probs=KNOWN in engine, dataloader_pin_memory=False,
            max_grad_norm=1.0,
        )  # fmt: skip
        model = new_model(work.model)
        trainer = Tokenized(
            model,
            copy.deepcopy(model),
            args=settings,
            train_dataset=data,
            processing_class=load_model()[1],
        )
        seconds: list[float] = []
        counted: list[int] = []

        class Clock(TrainerCallback):
            def on_step_begin(self, *_, **__):
                self.began = time.perf_counter()

            def on_step_end(self, args, state, control, **_):
                seconds.append(time.perf_counter() - self.began)

        plain_step = trainer.training_step

        def counting_step(*args, **kwargs):
            if counted:
                return plain_step(*args, **kwargs)
            with flop_counter() as counter:
                loss = plain_step(*args, **kwargs)
            counted.append(counter.get_total_flops())
            return loss

        trainer.training_step = counting_step
        trainer.add_callback(Clock())
        trainer.train()
    return seconds[work.warm_up :], counted[0]


def timed(steps: Sequence[Callable[[], object]]) -> tuple[list[float], int]:
    """Return (seconds of each step, floating-point operations of the first)."""
    seconds, operations = [], 0
    for step in steps:
        began = time.perf_counter()
        if seconds:
            step()
        else:
            with flop_counter() as counter:
                step()
            operations = counter.get_total_flops()
        seconds.append(time.perf_counter() - began)
    return seconds, operations


def flop_counter():
    from torch.utils.flop_counter import FlopCounterMode

    return FlopCounterMode(display=False)


def peak_memory() -> int:
    """Return the most memory this process has used, in bytes."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def matmul_peak(half: bool) -> float:
    """Return the floating-point operations per second of a large matrix product, best of six."""
    size = 2048
    a, b = (torch.randn(size, size).to(torch.bfloat16 if half else torch.float32) for _ in "ab")
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def measure(repeats: int, works: Sequence[Work] = WORKS, engines: Sequence[str] = ENGINES):
    """Yield all measurements, the engines in turns, each in a separate process."""
    for work, half, _, engine in product(works, (False, True), range(repeats), engines):
        yield run_alone(work, engine, half)


def run_alone(work: Work, engine: str, half: bool) -> dict:
    """Measure in a new process; return seconds of each step, operations of one, peak memory."""
    job = json.dumps({"work": asdict(work), "engine": engine, "half": half})
    threads = str(os.cpu_count())
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.speed", job],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"},
    )
    if done.returncode:
        raise SystemExit(f"{engine}, {work.name}: {done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def child() -> None:
    """Do the job given as JSON on the command line, and print the measurements as JSON."""
    job = json.loads(sys.argv[1])
    work, half, engine = Work(**job["work"]), job["half"], job["engine"]
    torch.set_num_threads(os.cpu_count() or 1)
    run = run_ours if engine.startswith("ours") else run_trl
    seconds, operations = run(work, engine, half)
    memory = peak_memory()
    result = {"work": work.name, "engine": engine, "half": half, "pairs": work.pairs}
    result |= {"seconds": seconds, "operations": operations, "memory": memory}
    print("\n" + json.dumps({**result, "peak": matmul_peak(half)}))


if __name__ == "__main__":
    child()
