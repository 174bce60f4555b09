"""Made-up results in which AdaDPO is better than DPO, the same, and worse."""

import pytest

from tests.paper.made_up import BETTER, WORSE, made_up_results


@pytest.fixture(scope="session")
def better():
    return made_up_results(BETTER)


@pytest.fixture(scope="session")
def same():
    return made_up_results({}, ceilings=dict.fromkeys((1.5, 5.0), 0.0), form=0.0, noise_level=0.03)


@pytest.fixture(scope="session")
def worse():
    ceilings = {1.5: 0.05, 5.0: 0.1, 10.0: 0.1}
    return made_up_results(WORSE, ceilings=ceilings, form=0.1)


@pytest.fixture(scope="session")
def rows():
    """Results in which the controls differ, with more noise."""
    effects = {**BETTER, "rpo": 0.15, ("matched", "fixed_ratio"): 0.1, "fixed_ratio": 0.12}
    return made_up_results(effects, noise_level=0.02)
