"""Making the bundled base model: a corpus, a tokenizer, and a GPT-2 of one million parameters."""

import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adadpo_mini.errors import InputError
from adadpo_mini.logprobs import token_logps
from adadpo_mini.system.files import check_can_write, replace_text, replaced_folder, writing
from adadpo_mini.toyworld.grammar import Answer, Topic, all_topics
from adadpo_mini.toyworld.sets import pick, pick_answer, shuffled

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"
VOCABULARY = 1024
CONTEXT = 256

PRIVATE_SHARE = 0.35  # of the corpus: private topics are few, and their noun phrase is harder
# The answers in the corpus: P(kind | everyday topic) and P(kind | private topic).
EVERYDAY = {"short": 0.5, "detailed": 0.2, "rude": 0.3}
PRIVATE = {"plain_no": 0.25, "soft_no": 0.4, "short": 0.35}
FRIENDLY = 0.65  # P(friendly first word | it helps)
RIGHT_TOOL = 0.5  # P(the right tool | it helps)


def sample_answer(topic: Topic, rng: Random) -> Answer:
    """Return a random answer for the corpus: sometimes rude, often with the wrong tool."""
    kind = pick_weighted(rng, PRIVATE if topic.private else EVERYDAY)
    warm, right = rng.random() < FRIENDLY, rng.random() < RIGHT_TOOL

    def wanted(answer: Answer) -> bool:
        same_style = answer.warm == warm and (answer.tool == topic.tool) == right
        return answer.kind == kind and (same_style or not answer.helps)

    return pick_answer(rng, topic, wanted)


def pick_weighted(rng: Random, weights: dict[str, float]) -> str:
    """Return one key, with probability proportional to its weight."""
    left = rng.random() * sum(weights.values())
    for key, weight in weights.items():
        left -= weight
        if left < 0:
            return key
    return key


def corpus(seed: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (prompt, answer) without end, about topics that are not held out."""
    rng = Random(f"corpus/{seed}")
    topics = [topic for topic in all_topics() if not topic.held_out]
    private = [topic for topic in topics if topic.private]
    everyday = [topic for topic in topics if not topic.private]
    while True:
        topic = pick(rng, private if rng.random() < PRIVATE_SHARE else everyday)
        yield pick(rng, topic.prompts), sample_answer(topic, rng).text


def train_tokenizer(texts: Iterator[str]) -> "PreTrainedTokenizerFast":
    """Train a byte-level BPE tokenizer, a small version of GPT-2's. It encodes any Unicode text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def new_model(tokenizer: "PreTrainedTokenizerFast", seed: int = 0) -> "GPT2LMHeadModel":
    """Return a randomly initialised GPT-2: four layers of width 128, about a million parameters."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_embd=128,
        n_layer=4,
        n_head=4,
        # The same function as GPT-2's "gelu_new", computed in one operation.
        activation_function="gelu_pytorch_tanh",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def batches(stream: Iterator[tuple[str, str]], batch_size: int, rng: Random) -> Iterator[list[str]]:
    """Yield batches of texts without end. Texts of similar length go together, to save padding."""
    while True:
        drawn = [prompt + answer + END for prompt, answer in islice(stream, 16 * batch_size)]
        drawn.sort(key=len)
        chunks = [drawn[i : i + batch_size] for i in range(0, len(drawn), batch_size)]
        yield from shuffled(rng, chunks)


def pretrain(
    steps: int = 800,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    seed: int = 0,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> "tuple[GPT2LMHeadModel, PreTrainedTokenizerFast]":
    """Train a tokenizer and a base model on the corpus: next-token prediction, AdamW, cosine decay.

    Args:
        on_step: called after every step with its number and its loss (nats per token).

    Returns:
        (model, tokenizer). The weights depend only on the arguments and the number of threads.

    Raises:
        InputError: steps or seed is out of range.
    """
    if steps < 1:
        raise InputError(f"steps must be a whole number from 1 up, not {steps}.")
    if not 0 <= seed < 1 << 63:
        raise InputError(f"seed must be a whole number from 0 up, below 2^63, not {seed}.")
    stream = corpus(seed)
    tokenizer = train_tokenizer(prompt + answer for prompt, answer in islice(stream, 20_000))
    model = new_model(tokenizer, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, partial(_rate, steps=steps))
    texts = batches(stream, batch_size, Random(f"batches/{seed}"))
    for step, batch in enumerate(islice(texts, steps), start=1):
        loss = _next_token_loss(model, tokenizer, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        on_step(step, loss.item())
    return model, tokenizer


def _rate(step: int, steps: int) -> float:
    """Return the factor of the learning rate: 50 steps of warm-up, then cosine decay to 2 %."""
    warm_up = min(1.0, (step + 1) / 50)
    return warm_up * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _next_token_loss(
    model: "GPT2LMHeadModel", tokenizer: "PreTrainedTokenizerFast", texts: list[str]
) -> Tensor:
    """Return the mean loss per token, nats."""
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    # Padding is on the right, where no text sees it, and is not scored. So no attention mask.
    is_text = batch["attention_mask"]
    input_ids = batch["input_ids"] * is_text
    logits = model(input_ids=input_ids, use_cache=False).logits
    return -token_logps(logits, input_ids)[is_text[:, 1:] == 1].mean()


def check_model_folder(folder: Path) -> Path:
    """Check, before any training, that a base model can be written to `folder`.

    Returns:
        The folder's real path.

    Raises:
        InputError: the folder has files that would be lost, or it cannot be replaced. WriteError:
            it cannot be written.
    """
    target = Path(os.path.realpath(folder))
    with writing(folder):
        check_can_write(target.parent if target.exists() else target, MODEL_BYTES)
        if not target.exists():
            return target
        if not target.is_dir():
            raise InputError(f"{folder} is a file; use a folder.")
        if target == Path.cwd() or target.is_mount():
            raise InputError(f"{folder} is in use and cannot be replaced; use a folder inside it.")
        if any(target.iterdir()) and not _is_base_model(target):
            raise InputError(
                f"{folder} contains files that would be lost, because `pretrain` did not write "
                "them; use a new folder."
            )
    return target


def _is_base_model(folder: Path) -> bool:
    """Return whether a folder contains only files that `save_base_model` wrote."""
    card = folder / "README.md"
    names = {file.name for file in folder.iterdir()}
    return names <= MODEL_FILES and card.is_file() and MADE_BY.encode() in card.read_bytes()


def save_base_model(
    model: "GPT2LMHeadModel",
    tokenizer: "PreTrainedTokenizerFast",
    folder: Path,
    *,
    steps: int,
    seed: int,
) -> None:
    """Save weights (safetensors), config, tokenizer and model card as one atomic change.

    An earlier base model in the folder is replaced; a folder with any other files is refused.

    Raises:
        InputError, WriteError: as in `check_model_folder`; the previous folder is untouched.
    """
    made = {"made_by": MADE_BY, "steps": steps, "seed": seed}
    made |= {"parameters": model.num_parameters(), "vocabulary": len(tokenizer)}
    with replaced_folder(check_model_folder(folder)) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        replace_text(new / "README.md", MODEL_CARD.format(**made))


MODEL_BYTES = 4_000_000  # approximate size of the folder
MODEL_FILES = {
    "README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
    "tokenizer_config.json",
}  # fmt: skip
MADE_BY = "**Made by** `adadpo-mini pretrain`"
MODEL_CARD = """---
license: mit
language: en
library_name: transformers
pipeline_tag: text-generation
---

# toy-gpt2

A GPT-2 with {parameters:,} parameters (4 layers, width 128, 4 heads, context 256) and a byte-level
BPE tokenizer with {vocabulary:,} entries, pre-trained from scratch on the toy world of
`adadpo_mini`: prompts such as "How do I warm the spicy soup?", answered politely, rudely, in
detail, or with a refusal. Every race starts from this model by default.

- {made_by} with seed {seed}: {steps} steps of 64 texts, AdamW, cosine decay.
- **Training data** is generated by `adadpo_mini/toyworld/`. One topic in five is held out and
  appears in no training text.
- **Prompt format**: the prompt, a line break, the answer, and `<|endoftext|>`.
- **Use**: learning and teaching. The model knows only its toy world, and answers every other prompt
  as if it came from there.
- **Licence**: MIT, for weights and data. They contain no third-party text or model.
"""
