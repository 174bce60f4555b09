"""Estimating the memory that a large model needs on each of several GPUs."""

from dataclasses import dataclass

BF16, FP32 = 2, 4  # bytes
GIGA = 1e9


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama family with untied embedding and output head.

    Attributes:
        layers: the number of layers.
        width: the width of the residual stream.
        keys: the total width of all keys, and of all values.
        inner: the width of the feed-forward part.
        vocabulary: the number of tokens.
    """

    layers: int
    width: int
    keys: int
    inner: int
    vocabulary: int

    @property
    def layer(self) -> int:
        """Weights of one layer: queries and output, keys and values, three matrices, two norms."""
        attention = 2 * self.width**2 + 2 * self.width * self.keys
        return attention + 3 * self.width * self.inner + 2 * self.width

    @property
    def head(self) -> int:
        """Weights of the output head; the embedding has as many."""
        return self.vocabulary * self.width

    @property
    def weights(self) -> int:
        """All weights: the layers, embedding, head, and the last norm.

        >>> LLAMA_3_8B.weights
        8030261248
        """
        return self.layers * self.layer + 2 * self.head + self.width


LLAMA_3_8B = Shape(layers=32, width=4096, keys=1024, inner=14336, vocabulary=128256)


@dataclass(frozen=True)
class Scheme:
    """The bytes that are stored for every weight, spread over the GPUs."""

    name: str
    weights: int
    master: int
    gradients: int
    reference: int


ZERO3 = Scheme("ZeRO-3", weights=BF16, master=FP32, gradients=BF16, reference=BF16)
FSDP2 = Scheme("FSDP2", weights=0, master=FP32, gradients=FP32, reference=FP32)
"""FSDP2 creates bf16 weights only while they are used. TRL loads the reference like the policy."""


def memory_per_gpu(
    shape: Shape, scheme: Scheme, *, gpus: int, pairs: int, tokens: int, reference: bool = True
) -> dict[str, int]:
    """Return the bytes on each GPU for training all weights with AdamW in bf16 and checkpointing.

    Spread over the GPUs: bf16 weights, fp32 master weights, gradients, two fp32 moments, and the
    reference. Whole on each GPU: the weights of two layers and the gradients of one, the head with
    the fp32 gradient of TRL's fused head, the input of every layer for 2 · pairs sequences, and the
    activations of one layer, which the backward pass recomputes.

    Args:
        shape: the shape of the policy and the reference.
        scheme: `ZERO3` or `FSDP2`.
        gpus: the number of GPUs.
        pairs: pairs in one forward pass on one GPU.
        tokens: tokens of the longest sequence, prompt and answer.
        reference: False if its log-probs are precomputed.

    Source: Rajbhandari et al. 2019, "ZeRO", arXiv:1910.02054, section 3. Not included: memory
    fragmentation, buffers of collective operations, and the memory of CUDA itself.

    >>> zero = memory_per_gpu(LLAMA_3_8B, ZERO3, gpus=8, pairs=1, tokens=2048)
    >>> round(zero["AdamW's two moments"] / GIGA, 2)  # 8 bytes · 8.03e9 / 8
    8.03
    """
    rows = 2 * pairs * tokens
    inside = 6 * shape.width + 2 * shape.keys + 3 * shape.inner
    spread = {
        "bf16 weights": scheme.weights,
        "fp32 master weights": scheme.master,
        "gradients": scheme.gradients,
        "AdamW's two moments": 2 * FP32,
        "reference": scheme.reference * reference,
    }
    whole = {
        "layers in use": (2 * BF16 + BF16) * shape.layer,
        "head in use": (BF16 + FP32) * shape.head,
        "input of every layer": BF16 * rows * shape.width * shape.layers,
        "activations of one layer": BF16 * rows * inside,
    }
    return {name: each * shape.weights // gpus for name, each in spread.items()} | whole


def memory_table(shape: Shape = LLAMA_3_8B, *, pairs: int = 2, tokens: int = 2048) -> str:
    """Return `memory_per_gpu` as Markdown, in GB: both schemes on eight GPUs, with and without the
    reference, and a single GPU for comparison."""
    columns = {
        "ZeRO-3, 8 GPUs": (ZERO3, 8, True),
        "without reference": (ZERO3, 8, False),
        "FSDP2, 8 GPUs": (FSDP2, 8, True),
        "without reference ": (FSDP2, 8, False),
        "one GPU": (ZERO3, 1, True),
    }
    sheets = [
        memory_per_gpu(shape, scheme, gpus=gpus, pairs=pairs, tokens=tokens, reference=kept)
        for scheme, gpus, kept in columns.values()
    ]
    rows = [[name, *(f"{sheet[name] / GIGA:.1f}" for sheet in sheets)] for name in sheets[0]]
    total = ["**total**", *(f"**{sum(sheet.values()) / GIGA:.1f}**" for sheet in sheets)]
    head = [
        f"GB on each GPU, {pairs} pairs of {tokens} tokens",
        *(name.strip() for name in columns),
    ]
    lines = [head, ["---", *["---:"] * len(columns)], *rows, total]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
