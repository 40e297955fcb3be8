import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from stand_in import TETRODE_UM, PcaModel, as_recording, planted

from huidurep import SortingParameters
from huidurep.pipeline import SpikeSortingPipeline
from huidurep.report.page_data import get_measurements
from huidurep.report.plots import plot_embedding

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def sorted_recording():
    traces, *_ = planted(duration_s=6.0)
    recording = as_recording(traces, traces[:3000], positions_um=TETRODE_UM)
    parameters = SortingParameters(num_units=3, matching=None, detect_threshold=6.0)
    return SpikeSortingPipeline(PcaModel(), parameters)(recording), recording


def test_figures_are_drawn(sorted_recording, tmp_path):
    result, _ = sorted_recording
    figures = {
        "templates": result.plot_templates(),
        "raster": result.plot_raster(),
        "second": result.plot_raster(segment_index=1),
        "embedding": result.plot_embedding(),
        "autocorrelograms": result.plot_autocorrelograms(),
        "amplitudes": result.plot_amplitudes(segment_index=1),
    }
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
        assert (tmp_path / f"{name}.png").stat().st_size > 2000
    titles = [axis.get_title() for axis in figures["templates"].axes]
    assert [title.split(",")[0] for title in titles] == ["unit 0", "unit 1", "unit 2"]
    assert [axis.get_title() for axis in figures["autocorrelograms"].axes] == ["unit 0", "unit 1", "unit 2"]
    drawn = [line for axis in figures["amplitudes"].axes for line in axis.lines]
    vector = result.sorting.to_spike_vector()
    assert [len(line.get_xdata()) for line in drawn] == [
        np.sum((vector["unit_index"] == unit) & (vector["segment_index"] == 1)) for unit in range(3)
    ]


def test_saved_and_loaded_result_draws_the_same(sorted_recording, tmp_path):
    result, recording = sorted_recording
    loaded = type(result).load(result.save(tmp_path / "out"))
    loaded.measurements = None  # as an earlier version saved it
    with pytest.raises(ValueError, match="recording="):
        loaded.plot_templates()
    before, after = (get_measurements(some, recording) for some in (result, loaded))
    for field in dataclasses.fields(before):
        equal_nan = getattr(before, field.name).dtype.kind == "f"
        assert np.array_equal(getattr(before, field.name), getattr(after, field.name), equal_nan=equal_nan), field.name


def test_empty_result_has_figures_too(tmp_path):
    recording = as_recording(np.zeros((3000, 4), dtype="float32"), positions_um=TETRODE_UM)
    result = SpikeSortingPipeline(PcaModel())(recording)
    for name in ("templates", "raster", "embedding", "autocorrelograms", "amplitudes"):
        figure = getattr(result, f"plot_{name}")()
        figure.savefig(tmp_path / "empty.png")
        assert [text.get_text() for text in figure.axes[0].texts] in (["no units"], ["no spikes"])


def test_only_some_of_many_spikes_are_drawn(sorted_recording):
    axis = plot_embedding(sorted_recording[0], max_points=50).axes[0]
    assert sum(len(collection.get_offsets()) for collection in axis.collections) == 50


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, huidurep.report.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
