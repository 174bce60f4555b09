"""Sentences for a race that runs, but whose result says little."""

from shlex import quote

FEW_TRAINED, FEW_HELD_OUT = 100, 20
"""With fewer pairs than these, a result is not evidence.

Of 20 held-out pairs a method must win 15 to differ from a coin toss (p = 0.04, sign test), of 10
nine. A default race draws 1,920 pairs for training, so it sees each of 100 pairs about twenty
times: the model learns them by heart.
"""
FOREIGN = -6.0
"""Nats per token below which a text is foreign to the toy.

Its own sets are at -0.1 to -0.4; English, German and code are at -10 to -13, worse than the -6.8 =
ln(1/885) of a guess among all its tokens.
"""
REAL_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"


def too_few(trained: int, held_out: int) -> str:
    """Return the warning about too few pairs, or "" if there are enough.

    >>> too_few(9, 1)
    '9 to train on, 1 held out: no conclusion possible; use at least 100 and 20 pairs.'
    >>> too_few(1000, 200)
    ''
    """
    if trained >= FEW_TRAINED and held_out >= FEW_HELD_OUT:
        return ""
    return (
        f"{trained:,} to train on, {held_out:,} held out: no conclusion possible; use at least "
        f"{FEW_TRAINED} and {FEW_HELD_OUT} pairs."
    )


def foreign(nats_per_token: float, data: str) -> str:
    """Return the warning that the toy does not know the language of the pairs, or "" if it does.

    Args:
        nats_per_token: the mean log-prob of a token of the answers under the toy, before training.
        data: the data set, for the command that trains another model on it.

    >>> foreign(-0.3, "tone")
    ''
    """
    if not nats_per_token < FOREIGN:
        return ""
    how = (
        f'race(rows, model="{REAL_MODEL}")'
        if data == "rows"
        else f"adadpo-mini race --model {REAL_MODEL} --data {quote(data)}"
    )
    return (
        f"This text is foreign to the toy model, which gives it {nats_per_token:.1f} nats a token "
        f"(its own sets: about -0.3): it can learn to tell the answers apart, but not to answer. "
        f"Use a real model: `{how}`."
    )
