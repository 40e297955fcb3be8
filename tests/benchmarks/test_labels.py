import importlib
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def modules():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("labels"), importlib.import_module("labels_recordings")


def test_silent_neurons_and_pulses_are_in_the_recording(modules):
    options = dict(probe="linear-2", num_units=1, duration_s=6.0, seed=4)
    recording, truth = modules[1].make_recording(**options, num_silent=1, num_pulses=2)
    assert recording.get_dtype() == "int16" and truth.get_num_units() == 2
    always, silent = (truth.get_unit_spike_train(unit, segment_index=0) for unit in truth.unit_ids)
    pause = np.diff(np.concatenate([[0], silent, [recording.get_num_samples()]])).max()
    assert len(always) and pause >= (1 - modules[1].SILENT_SHARE) * recording.get_num_samples() - 1
    traces = recording.get_traces(return_in_uV=True)
    assert traces.min() < -900.0
    noise, no_truth = modules[1].make_recording(probe="linear-2", num_units=0, duration_s=2.0, seed=4)
    assert no_truth.get_num_units() == 0 and np.abs(noise.get_traces(return_in_uV=True)).max() < 80.0


def test_the_table_counts_good_units_of_each_class(modules, capsys):
    rows = [
        dict(name="tet_plain", counts=dict(accurate=[9, 10], between=[1, 2], poor=[0, 0], false=[1, 4])),
        dict(name="tet_noise", counts={}),
    ]
    modules[0].print_table(rows)
    lines = {line[:16].strip(): line[16:].split() for line in capsys.readouterr().out.splitlines()}
    assert lines["tetrode"] == ["9/10", "(90%)", "1/2", "(50%)", "-", "1/4", "(25%)"] == lines["all"]
    assert lines["np1-64"] == ["-"] * 4
