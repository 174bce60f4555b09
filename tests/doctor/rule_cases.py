"""For each rule: logs in which it finds its problem, and logs just beyond its bounds."""

import math

from tests.doctor.made_logs import (
    FINE,
    LN2,
    STILL,
    changed,
    learned,
    rows,
    shifts,
    trl,
    without,
)

PLAIN = without(FINE, "eval_shift")
ONE_PAIR = [
    {**e, "rewards/accuracies": float(i % 3 > 0)} for i, e in enumerate(trl(1, -9, noise=0.1))
]
CEILING = {"eval_ada__rho": (2, 2), "eval_ada__ceiling_share": (0.96, 0.96)}
# For each rule: logs in which it speaks, and logs just on the other side, or without its numbers.
CASES = {
    "nothing_moved": (
        [
            STILL,
            rows(loss=(LN2, LN2 - 9e-4), rewards__margins=(0, 1.9e-3)),
            rows((0, 5, 10), loss=(LN2, LN2), rewards__margins=(0, 0)),
            rows(loss=(LN2, LN2)),
            rows(loss=(25, 25), rewards__margins=(0, 0)),
            rows(loss=(1, 1), rewards__chosen=(0, 0), rewards__rejected=(0, 0)),
            rows(loss=(8 * LN2, 8 * LN2), rewards__margins=(0, 0)),
        ],
        [
            rows(loss=(LN2, LN2 - 1.1e-3), rewards__margins=(0, 0)),
            rows(loss=(LN2, LN2), rewards__margins=(0, 2.1e-3)),
            rows((0, 3, 6, 9), loss=(LN2, LN2), rewards__margins=(0, 0)),
            rows((0, 40), loss=(LN2, LN2), rewards__margins=(0, 0)),
            [{**event, "logps/chosen": 0.0} for event in STILL],
            rows(loss=(0.05, 0.05)),
        ],
    ),
    "both_sink": (
        [
            shifts(-1.1, -20),
            shifts(-3.1, -20, start=-300),
            rows(eval_logps__chosen=(-5, -6.1), eval_logps__rejected=(-5, -9)),
            rows(shift__chosen=(0, -3.3), shift__rejected=(0, -9)),
            trl(-5, -20),
            trl(-5, -20, beta=0.5, eval_rewards__chosen=(0, -3), eval_rewards__rejected=(0, -5)),
            without(trl(-5, -20), "logps"),
            rows(eval_a_rewards__chosen=(0, -0.2), eval_a_rewards__rejected=(0, -0.4)),
        ],
        [
            shifts(-0.9, -20),
            shifts(-2.9, -20, start=-300),
            shifts(-9, -0.9),
            rows(eval_logps__chosen=(-5, -5.9), eval_logps__rejected=(-5, -9)),
            rows(logps__chosen=(-90, -190), logps__rejected=(-90, -190)),
            rows(eval_shift__chosen=(0, -9)),
            trl(-0.5, -20),
            trl(-20, 20),
            trl(-9, -20)[:2],
            trl(-5, -20, eval_rewards__chosen=(0, 0), eval_rewards__rejected=(0, -2)),
            rows(eval_a_rewards__chosen=(0, -0.09), eval_a_rewards__rejected=(0, -0.4)),
        ],
    ),
    "chosen_rises": (
        [shifts(0.5, 0.11), shifts(4, 3.1, start=-300), trl(9, 5)],
        [
            shifts(0.5, 0.09),
            shifts(4.5, -30),
            shifts(0.05, 0.5),
            shifts(4, 2.9, start=-300),
            trl(9, 0),
        ],
    ),
    "saturated": (
        [
            learned(),
            without(learned(), "grad_norm"),
            [{**e, "rewards/accuracies": 1.0} for e in without(learned(), "grad_norm", "rewards")],
        ],
        [
            learned(loss=0.011),
            without(learned(margin=0.9), "grad_norm"),
            learned(grad=0.06),
            learned(margin=-1),
            [{"step": e["step"], "loss": e["loss"]} for e in learned()],
        ],
    ),
    "length_drift": (
        [
            changed(rows(eval_length=(20, 30.1)), 35, eval_length=30.1),
            changed(rows(eval_length=(30, 19.9)), 35, eval_length=19.9),
            rows(completions__mean_length=(200, 350)),
        ],
        [
            changed(rows(eval_length=(20, 29.9)), 35, eval_length=30.1),
            changed(rows(eval_length=(20, 30.1)), 35, eval_length=29.9),
            changed(rows(eval_length=(30, 20.1)), 35, eval_length=19.9),
            changed(rows(eval_length=(20, 10)), 35, eval_length=40),
            rows((0, 40), eval_length=(20, 60)),
            rows(loss=(1, 9)),
        ],
    ),
    "mass_leaves": (
        [rows(mass__else=(0.3, 0.41)), rows(mass__else=(0.0, 1.0))],
        [rows(mass__else=(0.3, 0.39)), rows(mass__else=(0.9, 0.1)), shifts(-90, -90)],
    ),
    "learning_rate_too_high": (
        [
            changed(shifts(-0.1, -9, loss=(LN2, 0.2)), 10, loss=1.4),
            changed(shifts(-0.1, -9, grad_norm=(1, 1)), 10, grad_norm=20.1),
            changed(FINE, 40, loss=math.nan),
            changed(FINE, 10, loss=None),
            changed(FINE, 40, grad_norm=math.inf),
            changed(changed(FINE, 5, grad_norm=None), 10, grad_norm=None),
            rows((0, 5, 10), eval_shift__chosen=(0, -5.1), eval_shift__rejected=(0, -9)),
            rows((5, 10, 15), eval_logps__chosen=(-5, -11), eval_logps__rejected=(-5, -99)),
            rows(loss=(LN2, 9)),
            changed(rows(loss=(LN2, 9)), 40, loss=math.nan),
            rows(
                (1, 2, 3, 4, 5),
                logps__chosen=(-9, -99),
                rewards__chosen=(-0.0, -9),
                rewards__rejected=(-0.0, -12),
            ),
        ],
        [
            changed(shifts(-0.1, -9, loss=(LN2, 0.2)), 10, loss=1.38),
            changed(shifts(-0.1, -9, grad_norm=(1, 1)), 10, grad_norm=19.9),
            changed(FINE, 5, grad_norm=None),
            rows(loss=(0.01, 1.3)),
            changed(PLAIN, 10, loss=9, grad_norm=999),
            changed(shifts(0.1, -9, loss=(LN2, 0.2), grad_norm=(1, 1)), 10, loss=9, grad_norm=99),
            rows((0, 5, 10), eval_shift__chosen=(0, -4.9), eval_shift__rejected=(0, -9)),
            rows((0, 6, 12), eval_shift__chosen=(0, -9.9), eval_shift__rejected=(0, -9)),
            rows((0, 5, 10), eval_logps__chosen=(-9, -17), eval_logps__rejected=(-5, -99)),
            rows((1, 2, 3, 4, 5), logps__chosen=(-45, -325), logps__rejected=(-99, -300)),
            shifts(-5.1, -90),
        ],
    ),
    "not_finite": (
        [
            [{**e, "rewards/chosen": math.nan, "loss": 0.0} for e in PLAIN],
            [{"step": e["step"] + 1, "loss": math.nan} for e in PLAIN],
            changed(PLAIN, 20, **{"logps/rejected": None}),
            changed(PLAIN, 40, loss=math.inf),
        ],
        [
            changed(PLAIN, 20, grad_norm=math.inf),
            changed(FINE, 20, loss=math.nan),
            changed(PLAIN, 20, entropy=math.nan),
        ],
    ),
    "no_answer_tokens": (
        [
            rows(logps__chosen=(0, 0), logps__rejected=(-9, -9)),
            changed(changed(trl(1, -9), 20, **{"logps/chosen": 0.0}), 30, **{"logps/chosen": 0.0}),
        ],
        [
            rows(logps__chosen=(-1e-6, -1e-6), logps__rejected=(-9, -9)),
            changed(trl(1, -9), 20, **{"logps/chosen": 0.0}),
        ],
    ),
    "reference_is_base": (
        [rows((5, 10, 15), loss=(0.01, 0.001), rewards__accuracies=(1, 1))],
        [
            rows((5, 10, 15), loss=(0.11, 0.001), rewards__accuracies=(1, 1)),
            rows((25, 30, 35), loss=(0.01, 0.001), rewards__accuracies=(1, 1)),
            rows((5, 10, 15), loss=(0.01, 0.001), rewards__accuracies=(0.9, 1)),
            rows((5, 10, 15), loss=(0, 0), rewards__accuracies=(1, 1), rewards__margins=(0, 0)),
        ],
    ),
    "rewards_not_zero_at_start": (
        [
            rows((1, 2, 3), rewards__chosen=(0.03, 0.1), rewards__rejected=(0, 0)),
            rows((0, 5, 9), rewards__chosen=(-4, -4.1), rewards__rejected=(-3, -5)),
            rows((0, 5, 9), eval_rewards__chosen=(0.1, 0.2), eval_rewards__rejected=(0, -1)),
        ],
        [
            rows((1, 2, 3), rewards__chosen=(0.01, 0.1), rewards__rejected=(-0.01, -1)),
            rows((2, 3, 4), rewards__chosen=(0.3, 0.4), rewards__rejected=(0, 0)),
            trl(0, -9, steps=range(0, 300, 10), noise=5),
            rows(
                (1, 2, 3),
                rewards__chosen=(-3, -3.3),
                logps__chosen=(-30, -33),
                rewards__rejected=(-3, -4),
            ),
        ],
    ),
    "sides_misnamed": (
        [
            [{**e, "rewards/margins": -e["rewards/margins"]} for e in trl(-30, 20)],
            without(trl(-30, 20), "rewards/margins"),
            [
                {**e, "rewards/margins": -e["rewards/margins"]}
                for e in without(trl(-30, 20), "loss")
            ],
        ],
        [trl(-30, 20, pairs=1)[:2], trl(30, -20), [{**e, "loss": 0.8} for e in trl(-30, 20)]],
    ),
    "sides_swapped": (
        [
            [{**e, "rewards/accuracies": 0.2, "loss": 0.7 + e["step"] / 1e3} for e in trl(-30, 20)],
            [{**e, "rewards/accuracies": 0.2} for e in trl(-30, 20)],
            rows(rewards__accuracies=(1, 1), eval_rewards__accuracies=(0, 0)),
        ],
        [
            trl(30, -20),
            [{**e, "rewards/accuracies": 0.4} for e in trl(0, 0)],
            rows(rewards__accuracies=(1, 1), eval_rewards__accuracies=(0.5, 0.5)),
        ],
    ),
    "batch_of_one": (
        [ONE_PAIR],
        [
            changed(ONE_PAIR, 20, **{"rewards/accuracies": 0.5}),
            [{**e, "rewards/accuracies": float(i > 0)} for i, e in enumerate(trl(9, -9))],
            ONE_PAIR[:9],
        ],
    ),
    "evaluation_not_repeatable": (
        [changed(rows(eval_loss=(LN2, 0.4)), 20, **{"again/eval_loss": 0.9})],
        [rows(eval_loss=(LN2, 0.4))],
    ),
    "all_at_ceiling": (
        [rows(**CEILING), rows(ada__rho=(1, 2), ada__ceiling_share=(0.2, 1.1))],
        [
            changed(rows(**CEILING), 35, **{"eval_ada/ceiling_share": 0.94}),
            rows(ada__rho=(1, 1), ada__ceiling_share=(0, 0)),
            rows(ada__rho=(2, 2)),
            rows((0, 40), **CEILING),
        ],
    ),
}
