"""Measurements on a model. Each is a plain function that returns numbers or a frozen dataclass.

`batch.py`: the numbers of an event. `forces.py`: how hard a loss pushes each side. `mass.py`: where
the probability goes; `ledgers.py`: the same for several prompts, fast with `answer_tree.py`.
`kl.py`: how far the policy has moved. `displacement.py`: will the chosen fall? `token_view.py`: one
pair token by token. `probe.py`: what else moves. `answers.py`: sampled answers and win rates.
`slow.py`: the measurements of a race that are too slow for every step.
"""

from adadpo_mini.measure.displacement import Ches, Displacement, ches, displacement
from adadpo_mini.measure.kl import SampledKL, enumerated_kl, sampled_kl
from adadpo_mini.measure.mass import (
    LONGEST_ANSWER,
    MassLedger,
    answer_logps,
    is_countable,
    mass_accounts,
    mass_ledger,
)
from adadpo_mini.measure.probe import probe_logps, probe_set
from adadpo_mini.measure.token_view import TokenView, pair_forces, token_views

__all__ = [
    "LONGEST_ANSWER",
    "Ches",
    "Displacement",
    "MassLedger",
    "SampledKL",
    "TokenView",
    "answer_logps",
    "ches",
    "displacement",
    "enumerated_kl",
    "is_countable",
    "mass_accounts",
    "mass_ledger",
    "pair_forces",
    "probe_logps",
    "probe_set",
    "sampled_kl",
    "token_views",
]
