import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import spikeinterface
from stand_in import TETRODE_UM, PcaModel, as_recording, planted
from synthetic_result import synthetic

from huidurep import SortingParameters, report
from huidurep.pipeline import SpikeSortingPipeline
from huidurep.report.page_data import get_measurements
from huidurep.report.plots import FIGURES, plot_embedding

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
        "intervals": result.plot("intervals"),
        "unit": result.plot("unit", units=[2]),
        "clusters": result.plot("clusters"),
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


def test_times_are_those_of_the_recording(sorted_recording):
    result, recording = sorted_recording
    shifted = spikeinterface.append_recordings([recording])
    shifted.shift_times(3600.0, 0)
    sorting = result.sorting.select_units(result.sorting.unit_ids)
    sorting.register_recording(shifted)
    later = dataclasses.replace(result, sorting=sorting)
    first_s = sorting.get_unit_spike_train(0, segment_index=0, return_times=True)[0]
    assert first_s > 3600
    lines = later.plot_raster().axes[0].collections[0].get_segments()
    assert lines[0][0, 0] == pytest.approx(first_s)
    assert later.plot_amplitudes().axes[0].lines[0].get_xdata()[0] == pytest.approx(first_s)
    for call in (later.plot_raster, later.plot_amplitudes):
        with pytest.raises(ValueError, match="segment_index from 0 to 1, found 2"):
            call(segment_index=2)


def test_clusters_are_drawn_on_all_pairs_of_contacts_of_a_tetrode(sorted_recording, tmp_path):
    result, _ = sorted_recording
    figure = result.plot("clusters")
    labels = [(axis.get_xlabel(), axis.get_ylabel()) for axis in figure.subfigs[1].axes]
    assert len(set(labels)) == 6 and all(label.endswith("(µV)") for pair in labels for label in pair)
    counts = result.sorting.count_num_spikes_per_unit(outputs="array")
    for axis in figure.subfigs[1].axes:
        assert [len(cloud.get_offsets()) for cloud in axis.collections] == np.minimum(counts, 200).tolist()
    assert len(figure.subfigs[0].axes[0].collections) == 3
    two = result.plot("clusters", units=[2, 0])
    assert [len(axis.collections) for axis in two.subfigs[1].axes] == [2] * 6
    for name in ("clusters.pdf", "clusters.svg"):
        two.savefig(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 2000


def test_units_of_one_color_have_different_markers():
    result = synthetic(30, 20)
    names = [text.get_text() for text in result.plot("embedding").legends[0].get_texts()]
    assert names == [str(unit) for unit in range(30)]
    marks = {(line.get_color(), line.get_marker()) for line in result.plot("embedding").legends[0].get_lines()}
    assert len(marks) == 30


def test_figures_of_chosen_units(sorted_recording):
    result, recording = sorted_recording
    for name in ("templates", "amplitudes", "autocorrelograms", "intervals"):
        assert [axis.get_title().split(",")[0] for axis in result.plot(name, units=[2, 1]).axes] == ["unit 2", "unit 1"]
    assert [text.get_text() for text in result.plot("raster", units=[1]).axes[0].get_yticklabels()] == ["1"]
    units = {"xlabel": {axis.get_xlabel() for axis in result.plot("unit").axes}}
    assert {"time (s)", "lag (ms)", "inter-spike interval (ms)"} <= units["xlabel"]
    with pytest.raises(ValueError, match=r"\[7\]"):
        result.plot("templates", units=[0, 7])
    with pytest.raises(ValueError, match="one unit"):
        result.plot("unit", units=[0, 1])
    with pytest.raises(ValueError, match="clusters"):
        result.plot("histogram")


def test_result_without_peaks_asks_for_the_recording(sorted_recording):
    result, recording = sorted_recording
    old = dataclasses.replace(
        result, measurements=dataclasses.replace(result.measurements, drawn_spikes=None, template_quantiles_uv=None)
    )
    with pytest.raises(ValueError, match="recording="):
        old.plot("clusters")
    assert len(old.plot("clusters", recording=recording).subfigs[1].axes) == 6
    old.plot("templates")  # without spread


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
    for name in FIGURES:
        figure = result.plot(name)
        figure.savefig(tmp_path / "empty.png")
        assert [text.get_text() for text in figure.axes[0].texts] in (["no units"], ["no spikes"])


def test_only_some_of_many_spikes_are_drawn(sorted_recording):
    axis = plot_embedding(sorted_recording[0], max_points=50).axes[0]
    assert sum(len(collection.get_offsets()) for collection in axis.collections) == 50


@pytest.mark.parametrize("path", sorted(Path(report.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_matplotlib_is_imported_only_to_draw(path, monkeypatch):
    for name in ["matplotlib", *(name for name in sys.modules if name.startswith("matplotlib."))]:
        monkeypatch.setitem(sys.modules, name, None)
    spec = importlib.util.spec_from_file_location(f"huidurep.report.{path.stem}_again", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)


def test_names_of_units_are_no_formulas(tmp_path):
    result = synthetic(3, 100, unit_ids=["$\\frac{x$", "a$b$", "c"])
    for name in sorted(FIGURES):
        result.plot(name).savefig(tmp_path / "figure.svg")
    titles = [axis.get_title() for axis in result.plot("intervals").axes]
    assert [title.replace("\\$", "$") for title in titles] == ["unit $\\frac{x$", "unit a$b$", "unit c"]


@pytest.mark.parametrize("name", ["raster", "amplitudes"])
@pytest.mark.parametrize("segment_index", [2, -1])
def test_a_segment_that_is_not_there_is_refused(name, segment_index):
    with pytest.raises(ValueError, match="from 0 to 1"):
        synthetic(3, 100, num_segments=2).plot(name, segment_index=segment_index)


def test_one_unit_is_given_as_a_list():
    with pytest.raises(ValueError, match=r"give units=\[2\]"):
        synthetic(3, 100).plot("templates", units=2)


def test_another_recording_is_refused_also_where_it_is_not_needed(sorted_recording):
    result, recording = sorted_recording
    with pytest.raises(ValueError, match="recording that was sorted"):
        result.plot("templates", recording=recording.select_segments([0]))
