"""How much memory a large model takes on each of several GPUs, worked out on paper."""

from dataclasses import dataclass

BF16, FP32 = 2, 4  # bytes
GIGA = 1e9


@dataclass(frozen=True)
class Shape:
    """A decoder of the Llama family, whose embedding and output head are not tied.

    Attributes:
        layers: how many. width: of the residual stream. keys: width of all keys together, and of
            all values. inner: width of the feed-forward part. vocabulary: words.
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
    """What is kept of every weight, in bytes, spread over the GPUs."""

    name: str
    weights: int
    master: int
    gradients: int
    reference: int


ZERO3 = Scheme("ZeRO-3", weights=BF16, master=FP32, gradients=BF16, reference=BF16)
FSDP2 = Scheme("FSDP2", weights=0, master=FP32, gradients=FP32, reference=FP32)
"""FSDP2 makes bf16 weights for the moment of use only; TRL loads the reference as the policy."""


def memory_per_gpu(
    shape: Shape, scheme: Scheme, *, gpus: int, pairs: int, tokens: int, reference: bool = True
) -> dict[str, int]:
    """Bytes on each GPU when every weight is trained with AdamW in bf16, with checkpointing.

    What belongs to a weight is spread over the GPUs: bf16 weights, fp32 master weights, gradients,
    two fp32 moments, the reference. What is only passing through is whole on each: two layers'
    weights and a layer's gradients, the head with the fp32 gradient that TRL's fused head makes
    of it, the input of every layer for 2 · pairs sequences, and the inside of one layer, which
    the backward pass computes again.

    Args:
        shape: of the policy and the reference.
        scheme: `ZERO3` or `FSDP2`.
        gpus: over which all is spread.
        pairs: in one forward pass on one GPU.
        tokens: of the longest sequence, prompt and answer.
        reference: False if its log-probs were computed beforehand.

    Source: Rajbhandari et al. 2019, "ZeRO", arXiv:1910.02054, section 3; fragments, buffers of the
    collective operations and what CUDA itself takes come on top.

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
        "layers in passing": (2 * BF16 + BF16) * shape.layer,
        "head in passing": (BF16 + FP32) * shape.head,
        "input of every layer": BF16 * rows * shape.width * shape.layers,
        "inside of one layer": BF16 * rows * inside,
    }
    return {name: each * shape.weights // gpus for name, each in spread.items()} | whole


def memory_table(shape: Shape = LLAMA_3_8B, *, pairs: int = 2, tokens: int = 2048) -> str:
    """`memory_per_gpu` in Markdown, GB: both schemes on eight GPUs, with the reference and
    without, and what a single GPU would have to hold."""
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
    total = ["**together**", *(f"**{sum(sheet.values()) / GIGA:.1f}**" for sheet in sheets)]
    head = [
        f"GB on each GPU, {pairs} pairs of {tokens} tokens",
        *(name.strip() for name in columns),
    ]
    lines = [head, ["---", *["---:"] * len(columns)], *rows, total]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
