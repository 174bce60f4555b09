"""Made-up results of a sweep, whose truth is known."""

import csv
import math
import random
from itertools import product

from adadpo_mini.paper.results import COLUMNS

SETS = ("near_duplicate", "swap", "tone")
LEARNING_RATES, BETAS, SEEDS = (5e-5, 1e-4, 2e-4, 5e-4), (0.05, 0.1, 0.3, 1.0), range(5)
STEPS = (0, 20, 40)
BEST = {"learning_rate": 2e-4, "beta": 0.1}
BETTER = {"adadpo": 0.1, "adadpo_policy": 0.1}
WORSE = {"adadpo": -0.1, "adadpo_policy": -0.1}


def run(experiment, data, method, seed, learning_rate, beta, lc, noise, **knobs):
    """The rows of a run that ends with this LC win rate, all else in proportion to it."""
    for step in STEPS:
        row = dict.fromkeys(COLUMNS)
        row |= {"experiment": experiment, "data": data, "method": method, "seed": seed}
        row |= {"steps": STEPS[-1], "batch_size": 16, "beta": beta, "learning_rate": learning_rate}
        row |= {"ceiling": 2.0, "k": 1.0, "ratio": 2.0, "step": step, **knobs}
        part = step / STEPS[-1]
        row |= {"shift_chosen": part * (40 * lc - 20 + noise.gauss(0, 1))}
        row |= {"shift_rejected": part * (20 * lc - 60 + noise.gauss(0, 2))}
        row |= {"accuracy": 0.5 + part * lc / 3, "margin": 2 * part * lc, "rho": 1 + part}
        row |= {"ceiling_share": part * beta / 2}
        if step == STEPS[-1]:
            row |= {"win_rate": 0.2 + lc / 2, "lc_win_rate": lc, "kl": 20 * (1 - lc)}
            row |= {"length": 14.0, "reference_length": 15.0}
        yield row


def made_up_results(effects, ceilings=None, noise_level=0.01, sets=SETS, seeds=SEEDS, seed=0):
    """A whole sweep: DPO's LC win rate depends on data, learning rate and β; the others differ
    from it by `effects`, AdaDPO with another ceiling from AdaDPO by `ceilings`; plus noise."""
    noise = random.Random(seed)
    ceilings = ceilings or {1.5: -0.05, 2.0: 0.0, 5.0: -0.1, 10.0: -0.2}
    rows = []

    def add(experiment, data, method, seed, learning_rate, beta, extra=0.0, **knobs):
        peak = abs(math.log(learning_rate / 2e-4)) + abs(math.log(beta / 0.1))
        lc = 0.5 + 0.05 * SETS.index(data) - 0.05 * peak + effects.get(method, 0.0) + extra
        lc += noise.gauss(0, noise_level)
        rows.extend(run(experiment, data, method, seed, learning_rate, beta, lc, noise, **knobs))

    for data in sets:
        for seed in seeds:
            for learning_rate in LEARNING_RATES:
                for beta in BETAS:
                    for method in ("dpo", "adadpo", "adadpo_policy", "fixed_ratio"):
                        add("grid", data, method, seed, learning_rate, beta)
            for ceiling, extra in ceilings.items():
                add("ceiling", data, "adadpo", seed, **BEST, extra=extra, ceiling=ceiling)
            for k in (0.5, 2.0):
                add("k", data, "adadpo", seed, **BEST, k=k)
            add("floor", data, "adadpo", seed, **BEST, floor=1.0)
            add("form", data, "adadpo_raw", seed, **BEST)
    # At another setting the ceilings do the opposite.
    for data, seed, (ceiling, extra) in product(sets, seeds, ceilings.items()):
        knobs = {"learning_rate": 5e-4, "beta": 0.1, "ceiling": ceiling, "extra": -extra}
        add("ceiling_at_defaults", data, "adadpo", seed + 50, **knobs)
    return rows


def write(rows, path):
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
