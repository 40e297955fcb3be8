"""Sessions from SortingAnalyzers and phy folders, and from results alike."""

import numpy as np
import pytest
from probeinterface import Probe
from spikeinterface.core import NumpyRecording, NumpySorting, append_recordings, create_sorting_analyzer
from tracked_sessions import AFTER, BEFORE, RATE_HZ, column, draw_neurons, make_result

import huidurep
from huidurep.provenance import describe_recording
from huidurep.tracking.sessions import isi_histograms, read_session


@pytest.fixture(scope="module")
def recorded():
    """Two recordings (20 s of weak noise, filtered) with three neurons, and their spikes."""
    found, rng = [], np.random.default_rng(0)
    for templates in draw_neurons(3, (0.0, 15.0), seed=3):
        traces = rng.normal(0, 4, (int(5 * RATE_HZ), 16)).astype("float32")
        samples = np.arange(500, len(traces) - 500, 500)
        units = np.arange(len(samples)) % 3
        for sample, unit in zip(samples, units, strict=True):
            traces[sample - BEFORE : sample + AFTER] += templates[unit]
        recording = NumpyRecording([traces], RATE_HZ)
        recording.set_dummy_probe_from_locations(column())
        recording.set_channel_gains(1.0)
        recording.set_channel_offsets(0.0)
        recording.annotate(is_filtered=True)
        sorting = NumpySorting.from_samples_and_labels([samples], [units], RATE_HZ)
        found.append((recording, sorting))
    return found


def test_analyzers_are_tracked(recorded):
    analyzers = [create_sorting_analyzer(sorting, recording, sparse=False) for recording, sorting in recorded]
    with pytest.raises(ValueError, match="random_spikes"):
        huidurep.track(analyzers)
    for analyzer in analyzers:
        analyzer.compute(["random_spikes", "templates"])
    tracks = huidurep.track(analyzers)
    assert tracks.neurons["neuron"].tolist() == [0, 1, 2, 0, 1, 2]
    tracks.set_neurons(analyzers)
    assert analyzers[1].sorting.get_property("neuron").tolist() == [0, 1, 2]


def test_analyzers_in_steps_of_the_converter_are_in_microvolts(recorded):
    recording, sorting = recorded[0]
    in_steps = NumpyRecording([np.rint(recording.get_traces() / 0.25).astype("int16")], RATE_HZ)
    in_steps.set_probegroup(recording.get_probegroup())
    in_steps.set_channel_gains(0.25)
    in_steps.set_channel_offsets(0.0)
    templates = []
    for return_in_uv in (True, False):
        analyzer = create_sorting_analyzer(sorting, in_steps, sparse=False, return_in_uV=return_in_uv)
        analyzer.compute(["random_spikes", "templates"])
        templates.append(read_session(analyzer).templates_uv)
    np.testing.assert_allclose(*templates, atol=1e-3)


def test_units_without_spikes_are_no_neurons(recorded):
    analyzers = []
    for recording, sorting in recorded:
        more = NumpySorting(sorting.to_spike_vector(), RATE_HZ, [*sorting.unit_ids.tolist(), 9])
        analyzers.append(create_sorting_analyzer(more, recording, sparse=False))
        analyzers[-1].compute(["random_spikes", "templates"])
    session = read_session(analyzers[0])
    assert session.sorting.unit_ids.tolist() == [0, 1, 2] and len(session.templates_uv) == 3
    huidurep.track(analyzers).set_neurons(analyzers)
    assert analyzers[1].sorting.get_property("neuron").tolist() == [0, 1, 2, -1]


def test_analyzers_of_probes_in_mm_are_in_um(recorded):
    recording, sorting = recorded[0]
    probe = Probe(ndim=2, si_units="mm")
    probe.set_contacts(1e-3 * column(), shape_params={"radius": 6e-3})
    probe.set_device_channel_indices(np.arange(16)[::-1])
    in_mm = recording.select_channels(recording.channel_ids)
    in_mm = in_mm.set_probe(probe) or in_mm
    analyzer = create_sorting_analyzer(sorting, in_mm, sparse=False)
    analyzer.compute(["random_spikes", "templates"])
    np.testing.assert_allclose(read_session(analyzer).positions_um, 1e3 * in_mm.get_channel_locations())


def test_phy_folders_are_tracked_without_running_their_code(recorded, tmp_path):
    sources = []
    for number, (recording, sorting) in enumerate(recorded):
        folder = tmp_path / f"phy{number}"
        folder.mkdir()
        spikes = sorting.to_spike_vector()
        np.save(folder / "spike_times.npy", spikes["sample_index"])
        np.save(folder / "spike_clusters.npy", spikes["unit_index"] + 5)
        (folder / "params.py").write_text("raise SystemExit")
        (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n5\tgood\n6\tnoise\n7\tgood\n")
        sources.append((folder, recording))
    tracks = huidurep.track(sources)
    assert tracks.neurons["unit"].tolist() == [5, 7, 5, 7] and tracks.neurons["neuron"].tolist() == [0, 1, 0, 1]
    np.save(tmp_path / "phy0" / "spike_times.npy", spikes["sample_index"] + 10**7)
    with pytest.raises(ValueError, match="recording of this folder"):
        huidurep.track(sources)
    (tmp_path / "phy0" / "spike_times.npy").unlink()
    with pytest.raises(ValueError, match=r"params\.py"):
        huidurep.track(sources)


def test_a_phy_folder_with_the_recording_of_another_day_is_refused(recorded, tmp_path):
    rng = np.random.default_rng(5)
    for number, (recording, _) in enumerate(recorded):
        folder = tmp_path / str(number)
        folder.mkdir()
        np.save(folder / "spike_times.npy", np.sort(rng.integers(100, recording.get_num_samples() - 100, 300)))
        np.save(folder / "spike_clusters.npy", np.arange(300) % 3)
    with pytest.raises(ValueError, match="recording of this folder, and several of them in the order"):
        huidurep.track([(tmp_path / "0", recorded[0][0]), (tmp_path / "1", recorded[1][0])])


def test_a_phy_folder_is_of_its_raw_recording(recorded, tmp_path):
    recording, sorting = recorded[0]
    raw = recording.clone()
    raw.annotate(is_filtered=False)
    spikes = sorting.to_spike_vector()
    np.save(tmp_path / "spike_times.npy", spikes["sample_index"])
    np.save(tmp_path / "spike_clusters.npy", spikes["unit_index"])
    result = make_result(draw_neurons(2, (0.0,))[0])
    result.provenance["recording"] = describe_recording(raw)
    with pytest.raises(ValueError, match="found session 0 again"):
        huidurep.track([result, (tmp_path, raw)])


@pytest.mark.parametrize(
    ("file", "expected"), [("spikeinterface_info.json", "load_sorting_analyzer"), ("", "--recording")]
)
def test_folders_that_are_no_results_say_what_to_give(file, expected, tmp_path):
    for name in [file] if file else ["spike_times.npy", "spike_clusters.npy"]:
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=expected):
        read_session(tmp_path)


def test_noise_is_left_out_wherever_phy_says_it(recorded, tmp_path):
    recording, sorting = recorded[0]
    spikes = sorting.to_spike_vector()
    np.save(tmp_path / "spike_times.npy", spikes["sample_index"])
    np.save(tmp_path / "spike_clusters.npy", spikes["unit_index"])
    (tmp_path / "cluster_info.tsv").write_text("id\tgroup\n0\tgood\n1\tnoise\n2\t\n")
    assert read_session((tmp_path, recording)).sorting.unit_ids.tolist() == [0, 2]
    (tmp_path / "cluster_si_unit_ids.tsv").write_text("cluster_id\tsi_unit_id\n0\tx\n1\ty\n2\tz\n")
    assert read_session((tmp_path, recording)).sorting.unit_ids.tolist() == ["x", "z"]
    with pytest.raises(ValueError, match="one segment"):
        read_session((tmp_path, append_recordings([recording, recording])))


def test_templates_of_a_result_are_on_all_channels():
    templates = draw_neurons(4, (0.0,), positions_um=column(20))[0]
    session = read_session(make_result(templates, column(20)))
    assert session.templates_uv.shape == (4, 90, 20)
    known = session.templates_uv != 0
    np.testing.assert_array_equal(session.templates_uv[known], templates[known])
    assert (known.any(axis=1).sum(axis=1) == 16).all()


def test_isi_histograms_count_intervals():
    regular = NumpySorting.from_unit_dict({0: np.arange(0, 30000, 300), 1: np.array([5])}, RATE_HZ)
    histograms = isi_histograms(regular)
    assert np.count_nonzero(histograms[0]) == 1 and histograms[0].max() == 99
    assert not histograms[1].any()
