"""Fixtures of the exporter tests."""

import numpy as np
import pytest
from stand_in import as_recording, planted
from tetrodes import RATE_HZ, sort


@pytest.fixture(scope="session", autouse=True)
def _compiles_less(numpy_template_similarity):
    pass


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """A recording on disk of two tetrodes with the same contact positions; channel ch6 is dead."""
    first, *_ = planted(duration_s=8.0, seed=1)
    second, *_ = planted(duration_s=8.0, seed=2, footprints_uv=((20, 120, 0, 60),))
    traces = np.concatenate([first, second], axis=1)
    traces[:, 6] = 0.0
    made = as_recording(traces, rate_hz=RATE_HZ, channel_ids=[f"ch{index}" for index in range(8)])
    made.set_property("group", np.repeat(["left", "right"], 4))
    return made.save(folder=tmp_path_factory.mktemp("outputs") / "recording", progress_bar=False)


@pytest.fixture(scope="session")
def result(recording):
    return sort(recording)
