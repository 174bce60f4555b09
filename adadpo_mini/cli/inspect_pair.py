"""Measure one held-out pair of a run in every way, for `adadpo-mini inspect`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from adadpo_mini.cli.inspection import Inspection, ModelView, Side
from adadpo_mini.config import RaceConfig
from adadpo_mini.errors import InputError, did_you_mean
from adadpo_mini.measure import (
    TokenView,
    answer_logps,
    ches,
    displacement,
    enumerated_kl,
    is_countable,
    mass_ledger,
    pair_forces,
    probe_logps,
    token_views,
)
from adadpo_mini.measure.mass import gives_both_answers, well_formed_answers_to
from adadpo_mini.methods import EVERY_METHOD, METHODS, BoundLoss
from adadpo_mini.models.load import context_length, same_vocabulary
from adadpo_mini.pairs.load import Pair, Pairs, load_splits
from adadpo_mini.store.folder import RunFolder
from adadpo_mini.system.threads import torch_threads
from adadpo_mini.tokens.batch import TokenizedPair
from adadpo_mini.tokens.fitting import fit_pairs
from adadpo_mini.types import Model, Tokenizer

REFERENCE = "reference"
TOY_PARTS = "The mass ledger, the probe set and the enumerated KL are left out"


def inspect_pair(
    run: str | Path, pair: int = 1, *, step: int | None = None, method: str | None = None
) -> Inspection:
    """Measure one held-out pair of a run under the reference and its methods.

    Args:
        run: the run folder.
        pair: the number of the held-out pair, from 1 up.
        step: use the snapshots of this step, not the models at the end of training.
        method: measure this method alone.

    Raises:
        InputError: there is no such run, pair, method or snapshot, or a file of it is damaged.
    """
    folder = RunFolder.open(run)
    config = folder.settings()
    methods = _methods(config, folder, method)
    places = {name: folder.check_model(name, step) for name in methods}
    held_out = _held_out(folder, config)
    reference, tokenizer = folder.load()
    held_out, tokenized = fit_pairs(held_out, tokenizer, context_length(reference))
    if not 1 <= pair <= len(held_out):
        raise InputError(
            f"{folder.path}: there is no held-out pair {pair}; give --pair from 1 to "
            f"{len(held_out)}."
        )
    models = {REFERENCE: reference, **{m: folder.load(at)[0] for m, at in places.items()}}
    same_vocabulary(models, folder.path)
    about = {"run": str(folder.path), "pair": pair, "pairs": len(held_out), "step": step}
    with torch_threads(config.threads or 1):
        row, tokens = held_out[pair - 1], tokenized[pair - 1]
        return Inspection(**about, **_measure(models, tokenizer, row, tokens, config))


def _measure(
    models: Mapping[str, Model],
    tokenizer: Tokenizer,
    pair: Pair,
    tokens: TokenizedPair,
    config: RaceConfig,
) -> dict[str, Any]:
    """Return the fields of `Inspection` that are measured."""
    reference, *methods = models
    losses = {name: _loss(name, config) for name in methods}
    views = {
        name: token_views(models[name], models[reference], tokenizer, tokens, losses[name])
        for name in methods
    }
    note = _why_not_counted(models[reference], tokenizer, pair)
    toy = {} if note else _toy_parts(models, tokenizer, pair)
    return {
        "prompt": pair["prompt"],
        "chosen": _side(pair["chosen"], {name: sides[0] for name, sides in views.items()}),
        "rejected": _side(pair["rejected"], {name: sides[1] for name, sides in views.items()}),
        "models": {
            name: _model_view(name, model, tokens, views, losses, toy.get(name, {}))
            for name, model in models.items()
        },
        "notes": [note] if note else [],
    }


def _methods(config: RaceConfig, folder: RunFolder, method: str | None) -> Sequence[str]:
    if method is None:
        return config.methods
    if method in config.methods:
        return (method,)
    guess = did_you_mean(method, config.methods)
    known = ", ".join(config.methods)
    raise InputError(f"{folder.path} has no method {method!r}; it has {known}{guess}")


def _held_out(folder: RunFolder, config: RaceConfig) -> Pairs:
    """Return the held-out pairs, from the run folder if it keeps them."""
    return (folder.kept_splits() or load_splits(folder.source(config.data)))[1]


def _loss(method: str, config: RaceConfig) -> BoundLoss:
    """Return the loss that a method is measured with on pairs."""
    return EVERY_METHOD[method].bind(config.knobs())


def _side(text: str, views: Mapping[str, TokenView]) -> Side:
    any_view = next(iter(views.values()))
    return Side(
        text,
        any_view.tokens,
        any_view.ref_logps.tolist(),
        {m: view.change.tolist() for m, view in views.items()},
        {m: view.gradient_weight.tolist() for m, view in views.items() if m in METHODS},
    )


def _model_view(
    name: str,
    model: Model,
    tokens: TokenizedPair,
    views: Mapping[str, tuple[TokenView, TokenView]],
    losses: Mapping[str, BoundLoss],
    toy: Mapping[str, Any],
) -> ModelView:
    sides = views[name] if name in views else next(iter(views.values()))
    reference = torch.stack([side.ref_logps.sum() for side in sides])
    policy = torch.stack([side.policy_logps.sum() for side in sides])
    lengths = torch.tensor([len(tokens.chosen), len(tokens.rejected)])
    forces = start = None
    if name in METHODS:
        forces = pair_forces(losses[name], *policy, *reference, *lengths)
        start = pair_forces(losses[name], *reference, *reference, *lengths)
    moved, alike = displacement(model, tokens), ches(model, tokens)
    return ModelView(
        *(reference if name == REFERENCE else policy).tolist(),
        forces,
        start,
        moved.meter,
        moved.cosine,
        moved.norm_ratio,
        forces[0] / forces[1] if forces and forces[1] else None,
        alike.ches,
        alike.normalised,
        **toy,
    )


def _why_not_counted(reference: Model, tokenizer: Tokenizer, pair: Pair) -> str | None:
    """Return why the toy world's answers cannot be counted; None if they can."""
    if not is_countable(pair):
        return f"{TOY_PARTS}: the toy world does not know this prompt and both answers."
    if not gives_both_answers(reference, tokenizer, pair):
        return f"{TOY_PARTS}: the reference was not trained on the toy world."
    return None


def _toy_parts(
    models: Mapping[str, Model], tokenizer: Tokenizer, pair: Pair
) -> dict[str, dict[str, Any]]:
    """Return what only the toy world can count, by model."""
    answers = [answer.text for answer in well_formed_answers_to(pair)]
    logps = {m: answer_logps(one, tokenizer, pair["prompt"], answers) for m, one in models.items()}
    parts = {}
    for name, model in models.items():
        ledger = asdict(mass_ledger(model, tokenizer, pair))
        parts[name] = {
            "mass_by_kind": ledger.pop("by_kind"),
            "most_likely": ledger.pop("most_likely"),
            "most_likely_mass": ledger.pop("most_likely_mass"),
            "mass": ledger,
            "probe": dict(probe_logps(model, tokenizer, pair)),
            "kl": enumerated_kl(logps[name], logps[REFERENCE]),
        }
    return parts
