"""What several test modules share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the public data sets: $BAYES_L2L_DATA, or ../shared/data beside the checkout."""
    named = os.environ.get("BAYES_L2L_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "loss_to_loss" / "sweep.csv").is_file():
        pytest.skip("the public data sets are not here; BAYES_L2L_DATA names a folder with them")
    return folder
