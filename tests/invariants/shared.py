"""Settings that these tests share."""

from adadpo_mini import RaceConfig

BETA, ALPHA, GAMMA = RaceConfig.beta, RaceConfig.alpha, RaceConfig.gamma
SIMPO_BETA = RaceConfig.simpo_beta
KNOBS = {"beta": BETA, "alpha": ALPHA, "gamma": GAMMA, "simpo_beta": SIMPO_BETA}
SHORT = {"steps": 3, "batch_size": 4, "eval_pairs": 4, "learning_rate": 1e-3}


def take(count, items):
    """The first items of an iterator."""
    return [item for _, item in zip(range(count), items, strict=False)]
