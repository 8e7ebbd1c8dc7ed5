"""Fixtures shared by all tests."""

import os
from pathlib import Path

import numpy as np
import pytest

from seasonrec.data.timeline import Timeline
from seasonrec.schema import WEEK


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of research data sets that the project may not ship, named by SEASONREC_DATA."""
    folder = os.environ.get("SEASONREC_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("SEASONREC_DATA names no folder of research data sets")
    return Path(folder)


@pytest.fixture
def random_timeline() -> Timeline:
    """400 events of 12 users and 30 items over 40 weeks, several a week for the same pair."""
    rng = np.random.default_rng(7)
    return Timeline(
        rng.integers(0, 12, 400),
        rng.integers(0, 30, 400),
        1_500_000_000 + rng.integers(0, 40 * WEEK, 400),
        n_users=13,  # the last user and the last two items never appear
        n_items=32,
        week_zero=1_500_000_000,
    )
