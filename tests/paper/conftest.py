"""Made-up results in which AdaDPO is better than DPO, the same, and worse."""

import pytest

from tests.paper.made_up import BETTER, WORSE, made_up_results


@pytest.fixture(scope="session")
def better():
    return made_up_results({**BETTER, "adadpo_raw": 0.02})


@pytest.fixture(scope="session")
def same():
    return made_up_results({}, ceilings={1.5: 0.0, 2.0: 0.0, 5.0: 0.0}, noise_level=0.03)


@pytest.fixture(scope="session")
def worse():
    return made_up_results(
        {**WORSE, "adadpo_raw": 0.05}, ceilings={1.5: 0.05, 2.0: 0.0, 5.0: 0.1, 10.0: 0.1}
    )


@pytest.fixture(scope="session")
def rows():
    return made_up_results({**BETTER, "fixed_ratio": 0.12, "adadpo_raw": 0.02}, noise_level=0.02)
