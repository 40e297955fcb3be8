import subprocess
import sys

import numpy as np
import pytest
from stand_in import TETRODE_UM, PcaModel, as_recording, planted

from huidurep import report
from huidurep.pipeline import SortingParameters, SpikeSortingPipeline

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def sorted_recording():
    traces, *_ = planted(duration_s=6.0)
    recording = as_recording(traces, traces[:3000], positions_um=TETRODE_UM)
    parameters = SortingParameters(num_units=3, matching=None, detect_threshold=6.0)
    return SpikeSortingPipeline(PcaModel(), parameters)(recording), recording


def test_pictures_are_drawn(sorted_recording, tmp_path):
    result, recording = sorted_recording
    figures = {
        "templates": report.plot_templates(result, recording),
        "raster": report.plot_raster(result),
        "second": report.plot_raster(result, segment_index=1),
        "embedding": report.plot_embedding(result),
    }
    for name, figure in figures.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
        assert (tmp_path / f"{name}.png").stat().st_size > 2000
    titles = [axis.get_title() for axis in figures["templates"].axes]
    assert [title.split(",")[0] for title in titles[:3]] == ["unit 0", "unit 1", "unit 2"]


def test_saved_and_loaded_result_draws_the_same(sorted_recording, tmp_path):
    result, recording = sorted_recording
    loaded = type(result).load(result.save(tmp_path / "out"))
    before, after = (report._templates(some, recording) for some in (result, loaded))
    assert list(before) == list(after)
    assert all(np.array_equal(before[unit]["waveform_uv"], after[unit]["waveform_uv"]) for unit in before)


def test_empty_result_has_pictures_too(tmp_path):
    recording = as_recording(np.zeros((3000, 4), dtype="float32"), positions_um=TETRODE_UM)
    result = SpikeSortingPipeline(PcaModel())(recording)
    for figure in (report.plot_templates(result, recording), report.plot_raster(result), report.plot_embedding(result)):
        figure.savefig(tmp_path / "empty.png")


def test_many_points_are_thinned(sorted_recording, monkeypatch):
    monkeypatch.setattr(report, "MAX_POINTS", 50)
    axis = report.plot_embedding(sorted_recording[0]).axes[0]
    assert sum(len(collection.get_offsets()) for collection in axis.collections) == 50


def test_matplotlib_is_imported_only_to_draw():
    code = "import sys, huidurep.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
