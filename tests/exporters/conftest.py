"""Fixtures of the exporter tests."""

import numpy as np
import pandas as pd
import pytest
from stand_in import as_recording, planted
from tetrodes import RATE_HZ, sort

from huidurep.tracking.unit_tracks import NEURON_COLUMNS, UnitTracks


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """A recording on disk of two tetrodes with the same contact positions; channel ch6 is dead."""
    first, *_ = planted(duration_s=5.0, seed=1)
    second, *_ = planted(duration_s=5.0, seed=2, footprints_uv=((20, 120, 0, 60),))
    traces = np.concatenate([first, second], axis=1)
    traces[:, 6] = 0.0
    made = as_recording(traces, rate_hz=RATE_HZ, channel_ids=[f"ch{index}" for index in range(8)])
    made.set_property("group", np.repeat(["left", "right"], 4))
    return made.save(folder=tmp_path_factory.mktemp("outputs") / "recording", progress_bar=False)


@pytest.fixture(scope="session")
def result(recording):
    return sort(recording)


@pytest.fixture(scope="session")
def track_one_session():
    """Gives the units of a result the neurons 10, 11, ... as `huidurep.track` does, the last unit the first one."""

    def give(result):
        unit_ids = result.sorting.unit_ids.tolist()
        rows = [(10 + number, 0, unit) for number, unit in enumerate(reversed(unit_ids))]
        UnitTracks(pd.DataFrame(rows, columns=NEURON_COLUMNS), None, {"left": [0.0]}, None, {}).set_neurons([result])
        return list(range(9 + len(unit_ids), 9, -1))

    return give
