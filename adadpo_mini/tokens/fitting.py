"""The pairs of a data set that a model can be trained on, and the report on the others."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from adadpo_mini.errors import InputError
from adadpo_mini.pairs.load import LoadReport, Pairs, split_pairs
from adadpo_mini.pairs.remarks import Remarks
from adadpo_mini.pairs.unusable import UnusableRow
from adadpo_mini.tokens.batch import iter_tokenized, too_long
from adadpo_mini.tokens.table import DROPPED, UNREASONED, TokenTable, tokens_that_fit
from adadpo_mini.types import Tokenizer

LEFT_OUT = (
    "the model's chat template leaves the reasoning out of an answer, so it is not trained on"
)


def fit_pairs(pairs: Pairs, tokenizer: Tokenizer, context: int) -> tuple[Pairs, TokenTable]:
    """Return the pairs that the model can be trained on, and their tokens.

    A pair that is too long for the model, or that cannot be written for it (see
    `batch.iter_tokenized`), is dropped and counted in `report`, unless the source is strict: then
    it is an error, because its author can fix it.

    Raises:
        InputError: a pair from a strict source, or every pair, cannot be used.
    """
    fitting = _fit(pairs, tokenizer, context)
    if not len(fitting.tokens) and len(pairs):
        raise _none_fits(pairs, tokenizer, context)
    return _reported(pairs, fitting)


def fit_splits(
    train: Pairs, held_out: Pairs, tokenizer: Tokenizer, context: int
) -> tuple[tuple[Pairs, TokenTable], tuple[Pairs, TokenTable]]:
    """Return `fit_pairs` of both splits.

    Splits of one source get one report. If no pair of one of them can be used, the pairs that can
    be used are split anew.

    Raises:
        InputError: as `fit_pairs`.
    """
    if train is held_out:
        both = fit_pairs(train, tokenizer, context)
        return both, both
    if train.report is None or train.report is not held_out.report:
        return fit_pairs(train, tokenizer, context), fit_pairs(held_out, tokenizer, context)
    parts = [_fit(part, tokenizer, context) for part in (train, held_out)]
    usable = [part for part in parts if len(part.tokens)]
    if not usable:
        raise _none_fits(train, tokenizer, context)
    report = _report_on(train.report, *parts)
    if len(usable) < len(parts):
        some, others = split_pairs(usable[0].pairs)
        parts = [_fit(some, tokenizer, context)]
        parts.append(parts[0] if others is some else _fit(others, tokenizer, context))
    fitted = [(Pairs(p.pairs.rows, p.pairs.where, report), p.tokens) for p in parts]
    return (fitted[0], fitted[0]) if parts[0] is parts[1] else tuple(fitted)


@dataclass(frozen=True, eq=False)
class _Fitting:
    """The pairs of a split that the model can be trained on.

    Attributes:
        unreasoned: how many answers the chat template writes without their reasoning.
        dropped: how many of the other pairs were dropped, and the first place, by reason.
    """

    pairs: Pairs
    tokens: TokenTable
    unreasoned: int
    dropped: Mapping[str, tuple[int, str]]


def _fit(pairs: Pairs, tokenizer: Tokenizer, context: int) -> _Fitting:
    strict = pairs.report is None or pairs.report.strict
    tokens, states, reasons = tokens_that_fit(pairs, tokenizer, context, strict)
    dropped = {}
    for state, reason in enumerate(reasons, DROPPED):
        places = states.eq(state).nonzero().flatten().tolist()
        dropped[reason] = (len(places), pairs.where[places[0]])
    kept = pairs.take(states.lt(DROPPED).nonzero().flatten().tolist()) if dropped else pairs
    return _Fitting(kept, tokens, int(states.eq(UNREASONED).sum()), dropped)


def _reported(pairs: Pairs, fitting: _Fitting) -> tuple[Pairs, TokenTable]:
    """Return the pairs with the report on them, and their tokens."""
    report = pairs.report and _report_on(pairs.report, fitting)
    if report is pairs.report:
        return pairs, fitting.tokens
    return Pairs(fitting.pairs.rows, fitting.pairs.where, report), fitting.tokens


def _report_on(report: LoadReport, *parts: _Fitting) -> LoadReport:
    """Return the report on a source after some of its pairs were dropped."""
    for part in parts:
        for reason, (count, first) in part.dropped.items():
            report = report.without(count, reason, first)
    if count := sum(part.unreasoned for part in parts):
        remarks = Remarks(counts=Counter({LEFT_OUT: count}))
        report = replace(report, remarks=report.remarks | remarks)
    return report


def _none_fits(pairs: Pairs, tokenizer: Tokenizer, context: int) -> InputError:
    (first,) = iter_tokenized(pairs[:1], tokenizer)
    fault = first if isinstance(first, UnusableRow) else too_long(first, pairs.where[0], context)
    return InputError(
        f"{pairs.report.source}: none of its {len(pairs):,} pairs can be used with this model; the "
        f"first error: {fault}"
    )
