"""What happens before the first step: loading, tokenizing, the memory check, the caches."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError
from adadpo_mini.logprobs import completion_logps
from adadpo_mini.measure.slow import SlowMeasurements
from adadpo_mini.methods import EVERY_METHOD
from adadpo_mini.models.load import TOY, context_length, load_model
from adadpo_mini.models.memory import SMALL, check_training_fits
from adadpo_mini.models.reference import Logps, RefScores, ScoredBatch, ScoredPairs, model_key
from adadpo_mini.models.shared_prompt import can_share_prompts, shared_logps
from adadpo_mini.pairs.cautions import foreign, too_few
from adadpo_mini.pairs.load import Pairs, load_splits
from adadpo_mini.pairs.screening import loading_note
from adadpo_mini.system.cache import digest
from adadpo_mini.system.threads import choose_threads
from adadpo_mini.tokens.batch import TokenizedPair, make_batch
from adadpo_mini.tokens.fitting import fit_splits
from adadpo_mini.tokens.table import TokenTable
from adadpo_mini.tokens.templates import prompt_form
from adadpo_mini.types import Model, Tokenizer


@dataclass(frozen=True)
class Prepared:
    """Everything a race needs, loaded and checked.

    Attributes:
        config: the settings, with the number of threads filled in.
        reference: the model that all methods start from; it is never trained.
        tokenizer: the tokenizer that all models share.
        train_pairs: the pairs to train on; held_out: the pairs to measure on.
        report: sentences about how the rows were read, which were dropped, and whether they are
            too few or foreign to the toy; None if there is nothing to say.
        trained_on_held_out: True if all pairs have the same prompt. They cannot be split then, so
            the measurements are on the training pairs.
        prompt_form: the format string that makes a typed question into a prompt like the pairs'.
        train: the training pairs with their log-probs under the reference.
        probe_tokens: the first `eval_pairs` held-out pairs as token ids; probe: the same as a
            batch.
        scoring: how pairs are scored: `logps` and `pairs_at_once`.
        slow: takes the slow measurements.
        kept_scores: the saved log-probs of the reference; None for a small model.
        fingerprint: a digest of the tokens and of the reference. Together with the settings it
            decides the numbers.
    """

    config: RaceConfig
    reference: Model
    tokenizer: Tokenizer
    train_pairs: Pairs
    held_out: Pairs
    report: str | None
    trained_on_held_out: bool
    prompt_form: str
    train: ScoredPairs
    probe_tokens: list[TokenizedPair]
    probe: ScoredBatch
    scoring: dict
    slow: SlowMeasurements
    kept_scores: RefScores | None
    fingerprint: str


def prepare(
    config: RaceConfig,
    data: Iterable[dict] | None = None,
    splits: tuple[Pairs, Pairs] | None = None,
    start: tuple[Model, Tokenizer] | None = None,
) -> Prepared:
    """Load and check what a race needs. The arguments are those of `Race`.

    Raises:
        InputError: the data or the model cannot be used, or there is not enough memory.
    """
    train_split, held_out_split = splits or load_splits(config.data if data is None else data)
    reference, tokenizer = start or load_model(
        config.model, device=config.device, dtype=config.dtype
    )
    reference.eval().requires_grad_(False)
    for method in config.methods:
        if EVERY_METHOD[method].only_plain and reference.device.type != "cpu":
            raise InputError(
                f"{method} trains on the CPU only: add --device cpu, or leave {method} out."
            )
    threads = config.threads or choose_threads(reference.num_parameters(), len(config.methods))
    config = replace(config, threads=threads)

    context = context_length(reference)
    (train_pairs, train_tokens), (held_out, held_out_tokens) = fit_splits(
        train_split, held_out_split, tokenizer, context
    )
    _check_memory(config, reference, train_tokens)
    scoring = {
        "logps": fastest_logps(reference, train_tokens, held_out_tokens),
        "pairs_at_once": config.pairs_at_once or config.batch_size,
    }
    kept_scores = _kept_scores(config, reference, train_tokens, scoring["logps"])
    known = kept_scores.load() if kept_scores else None
    probe_tokens = held_out_tokens[: config.eval_pairs]
    probe = ScoredPairs(reference, probe_tokens, **scoring).batch(range(len(probe_tokens)))
    tokens = (train_tokens, held_out_tokens)
    return Prepared(
        config=config,
        reference=reference,
        tokenizer=tokenizer,
        train_pairs=train_pairs,
        held_out=held_out,
        report=_report(config, train_pairs, None if held_out is train_pairs else held_out, probe),
        trained_on_held_out=train_pairs is held_out,
        prompt_form=prompt_form([pair["prompt"] for pair in train_pairs[:1000]]),
        train=ScoredPairs(reference, train_tokens, **scoring, known=known),
        probe_tokens=probe_tokens,
        probe=probe,
        scoring=scoring,
        slow=SlowMeasurements(
            reference, tokenizer, held_out, held_out_tokens, config.seed, **scoring
        ),
        kept_scores=kept_scores,
        fingerprint=digest(
            [digest(t for side in tokens for t in (side.ids, side.ends)), model_key(reference)]
        ),
    )


def _report(
    config: RaceConfig, train_pairs: Pairs, held_out: Pairs | None, probe: ScoredBatch
) -> str | None:
    """Return what to tell the user about the data before training; None if there is nothing.

    Args:
        held_out: None if these are the training pairs.
    """
    notes = [
        loading_note(train_pairs.report, held_out and held_out.report),
        too_few(len(train_pairs), len(held_out or ())),
    ]
    if config.model == TOY:
        total = probe.ref_chosen_logps.sum() + probe.ref_rejected_logps.sum()
        notes.append(foreign(float(total / probe.rows.lengths.sum()), config.data))
    return " ".join(filter(None, notes)) or None


def fastest_logps(model: Model, *tables: TokenTable) -> Logps:
    """Return the fastest way to score this model's completions: if possible, one that reads each
    prompt once."""
    extremes = [
        pairs[int(find(pairs.lengths.sum(dim=1)))]
        for pairs in tables
        for find in (torch.argmax, torch.argmin)
    ]
    rows = make_batch(extremes).to(model.device)
    can = can_share_prompts(model, rows.input_ids, rows.completion_mask)
    return shared_logps if can else completion_logps


def _check_memory(config: RaceConfig, reference: Model, pairs: TokenTable) -> None:
    check_training_fits(
        reference,
        reference.device,
        policies=len(config.methods),
        pairs_at_once=min(config.batch_size, config.pairs_at_once or config.batch_size),
        longest=int(pairs.lengths.sum(dim=1).max()),
        lora_rank=config.lora_rank,
        checkpointing=config.checkpointing,
    )


def _kept_scores(
    config: RaceConfig, reference: Model, pairs: TokenTable, logps: Logps
) -> RefScores | None:
    """Return the saved scores of a large reference; a small one computes them in no time.

    The last bit of a score depends on what else is in the batch, so a race with other batches has
    scores of its own.
    """
    if reference.num_parameters() < SMALL:
        return None
    return RefScores(
        pairs,
        reference,
        seed=config.seed,
        batch=config.batch_size,
        threads=config.threads,
        at_once=config.pairs_at_once,
        logps=logps.__name__,
    )
