"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from synthetic import joint_fit, synthetic_fit

from bayes_l2l.fits import Fit

# A loaded machine is no fault of the example that it is slow on. The same examples each time, so that a change passes
# or fails by itself; HYPOTHESIS_PROFILE=explore looks at other ones.
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

#: Few tests, and minutes each.
LONGEST = ("test_notebooks.py", "test_readme.py", "test_recovery.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets: $BAYES_L2L_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("BAYES_L2L_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "loss_to_loss" / "sweep.csv").is_file():
        pytest.skip("the public data sets are not here; BAYES_L2L_DATA names a folder with them")
    return folder


@pytest.fixture(scope="session")
def handmade() -> Fit:
    """A fit to the simulated sweep, made by hand about its true laws."""
    return synthetic_fit()


@pytest.fixture(scope="session")
def fit_file(handmade: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fit in a file, not to be written to."""
    return handmade.save(tmp_path_factory.mktemp("fits") / "fit.nc")


@pytest.fixture(scope="session")
def joint() -> Fit:
    """A fit of the joint model made by hand: three training sets, their own losses and those on ``task``."""
    return joint_fit()


@pytest.fixture(scope="session")
def joint_file(joint: Fit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same fit in a file, not to be written to."""
    return joint.save(tmp_path_factory.mktemp("fits") / "joint.nc")
