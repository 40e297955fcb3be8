"""What phy and SpikeInterface made of a result becomes a result again."""

import json
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
import spikeinterface.extractors as extractors
from phylib.io.model import load_model
from spikeinterface.core import NumpySorting
from spikeinterface.curation import apply_curation, bombcell_label_units
from spikeinterface.curation.curation_model import Curation
from spikeinterface.widgets import SortingSummaryWidget
from stand_in import PcaModel, as_recording, planted
from tetrodes import QUICK, RATE_HZ, sort

from huidurep import SortingResult, track
from huidurep.cli.inputs import load_result
from huidurep.exporters.curated_result import apply_curated

LABELS = {"quality": {"label_options": ["good", "MUA", "noise"], "exclusive": True}}


def curation(result, **changes):
    """A curation of SpikeInterface; without changes it leaves everything as it is."""
    base = dict(format_version="2", unit_ids=result.sorting.unit_ids.tolist(), label_definitions=LABELS)
    return base | dict(manual_labels=[], merges=[], removed=[], splits=[]) | changes


def curate(result, curated, recording=None):
    return apply_curated(result, curated, recording, PcaModel())


def trains(sorting):
    return {unit: sorting.get_unit_spike_train(unit).tolist() for unit in sorting.unit_ids.tolist()}


@pytest.fixture(scope="module")
def phy(result, recording, tmp_path_factory):
    """The result as phy leaves it: units 0 and 1 merged into 9, unit 2 called noise, a column of the curator."""
    folder = result.export_to_phy(recording, tmp_path_factory.mktemp("curated") / "phy", copy_recording=False)
    model = load_model(folder / "params.py")
    clusters = np.where(model.spike_clusters < 2, 9, model.spike_clusters)
    model.save_spike_clusters(clusters)
    model.save_metadata("group", {2: "noise", 3: "unsorted"})
    model.save_metadata("celltype", {9: "pyramidal"})
    model.close()
    # the table that phy writes when it saves, and the only one that read_phy then reads
    (folder / "cluster_info.tsv").write_text("cluster_id\tgroup\tn_spikes\n2\tnoise\t5\n3\t\t6\n9\t\t7\n")
    return folder


def test_a_sorting_without_changes_changes_nothing(result, recording):
    same = curate(result, result.sorting)
    measured = curate(result, result.sorting, recording)
    for other in (same, measured):
        assert np.array_equal(other.embeddings, result.embeddings)
        assert np.array_equal(other.posteriors, result.posteriors)
        assert np.array_equal(other.sorting.to_spike_vector(), result.sorting.to_spike_vector())
    names = set(result.sorting.get_property_keys())
    for name in names:
        known, found = result.sorting.get_property(name), measured.sorting.get_property(name)
        assert np.array_equal(known, found, equal_nan=known.dtype.kind == "f"), name
    # without the recording, noise is known on the main channels alone
    for name in names - {"template_distance"}:
        known, found = result.sorting.get_property(name), same.sorting.get_property(name)
        assert np.allclose(known, found, equal_nan=True) if known.dtype.kind == "f" else (known == found).all(), name
    assert np.array_equal(same.measurements.templates_uv, result.measurements.templates_uv, equal_nan=True)
    assert np.array_equal(same.measurements.amplitudes_uv, result.measurements.amplitudes_uv)


def test_empty_columns_of_phy_are_no_words_of_the_curator(result, phy):
    columns = set(result.with_sorting(phy).sorting.get_property_keys()) - set(result.sorting.get_property_keys())
    assert columns == {"celltype", "machine_quality", "is_curated"}


def test_phy_folder_round_trip(result, phy, tmp_path):
    curated = result.with_sorting(phy)
    sorting, num_merged = curated.sorting, np.bincount(result.sorting.to_spike_vector()["unit_index"])[:2].sum()
    assert trains(sorting) == trains(extractors.read_phy(phy))
    assert sorted(sorting.unit_ids) == [2, 3, 9]
    named = dict(zip(sorting.unit_ids.tolist(), sorting.get_property("num_spikes"), strict=True))
    assert named[9] == num_merged and len(curated.embeddings) == len(result.embeddings)
    labels = dict(zip(sorting.unit_ids.tolist(), sorting.get_property("quality"), strict=True))
    machine = dict(zip(sorting.unit_ids.tolist(), sorting.get_property("machine_quality"), strict=True))
    assert labels[2] == "noise" and machine[2] == "good"
    assert labels[3] == machine[3]  # unsorted: nobody has decided
    added = set(sorting.get_property_keys()) - set(result.sorting.get_property_keys())
    assert added == {"celltype", "machine_quality", "is_curated"}  # no metric of SpikeInterface that has no value
    assert dict(zip(sorting.unit_ids.tolist(), sorting.get_property("celltype"), strict=True))[9] == "pyramidal"
    loaded = SortingResult.load(curated.save(tmp_path / "out"))
    assert trains(loaded.sorting) == trains(sorting)
    assert loaded.sorting.get_property("quality_reason").tolist() == sorting.get_property("quality_reason").tolist()


def test_params_of_a_phy_folder_are_not_executed(result, phy, tmp_path):
    params = phy / "params.py"
    text = params.read_text()
    params.write_text("raise SystemExit\n")
    try:
        assert result.with_sorting(phy).sorting.get_num_units() == 3
    finally:
        params.write_text(text)


def test_merged_unit_is_measured_again(result, recording):
    merge = curation(result, merges=[{"unit_ids": [0, 1]}])
    stored, measured = curate(result, merge), curate(result, merge, recording)
    new = stored.sorting.unit_ids.tolist().index(4)
    counts = result.sorting.get_property("num_spikes")[:2]
    dense = np.zeros((4, *result.measurements.templates_uv.shape[1:2], len(result.measurements.channel_ids)))
    for unit in range(4):
        for column, channel in enumerate(result.measurements.template_channels[unit]):
            if channel >= 0:
                dense[unit, :, channel] = result.measurements.templates_uv[unit, :, column]
    expected = np.average(dense[:2], axis=0, weights=counts)
    channels = stored.measurements.template_channels[new]
    known = channels >= 0
    assert np.allclose(stored.measurements.templates_uv[new][:, known], expected[:, channels[known]], atol=1e-3)
    for name in ("snr", "peak_uv"):
        values = [each.sorting.get_property(name)[new] for each in (stored, measured)]
        assert values[0] == pytest.approx(values[1], rel=0.1)
    for name in ("short_isi_fraction", "contamination", "num_spikes", "presence_ratio", "mean_posterior"):
        assert stored.sorting.get_property(name)[new] == measured.sorting.get_property(name)[new]
    # as one unit, what was of the other one counts as its own
    spikes = stored.sorting.to_spike_vector()["unit_index"] == new
    assert stored.posteriors[spikes].mean() > 0.9
    assert np.array_equal(stored.posteriors[~spikes], result.posteriors[~spikes])
    assert stored.sorting.get_property("contamination")[new] > 0.1
    assert stored.sorting.get_property("quality")[new] == "mua"


def test_units_that_were_merged_across_groups_are_named(result, recording):
    merge = curation(result, merges=[{"unit_ids": [0, 3], "new_unit_id": 9}])
    merged = curate(result, merge, recording)
    said = [each["message"] for each in merged.log if each["stage"] == "after curation" and each.get("is_warning")]
    larger, smaller = (3, 0) if np.diff(result.sorting.get_property("num_spikes")[[0, 3]]) > 0 else (0, 3)
    assert len(said) == 1 and f"unit 9 has spikes of unit {smaller} of the channel group" in said[0]
    assert (
        merged.sorting.get_property("group")[list(merged.sorting.unit_ids).index(9)] == ("left", "right")[larger // 3]
    )
    assert not [each for each in curate(result, result.sorting, recording).log if "read on channels" in each["message"]]


def test_split_needs_the_recording(result, recording):
    number = int(result.sorting.get_property("num_spikes")[0])
    split = {"unit_id": 0, "mode": "indices", "indices": [list(range(0, number, 2))]}
    changes = curation(result, splits=[split])
    with pytest.raises(ValueError, match=r"parts of units.*--recording"):
        curate(result, changes)
    curated = curate(result, changes, recording)
    assert curated.sorting.get_num_units() == 5
    assert trains(curated.sorting) == trains(apply_curation(result.sorting.clone(), changes))
    parts = np.isin(curated.sorting.unit_ids, [4, 5])
    # two halves of a neuron: each spike is as probable in either
    assert (curated.sorting.get_property("mean_posterior")[parts] < 0.7).all()
    assert (curated.sorting.get_property("quality")[parts] == "mua").all()
    assert "overlaps with unit 5" in curated.sorting.get_property("quality_reason")[np.flatnonzero(parts)[0]]


def test_labels_of_a_curation_and_of_an_analyzer(result, recording):
    labelled = curation(result, manual_labels=[{"unit_id": 1, "quality": ["noise"]}], removed=[2])
    curated = curate(result, labelled)
    assert curated.sorting.unit_ids.tolist() == [0, 1, 3]
    assert curated.sorting.get_property("quality").tolist() == ["good", "noise", "good"]
    assert curated.sorting.get_property("quality_reason")[1] == "label of the curator"
    # the label stays when the result is curated once more, with a saved curation
    again = curate(curated, curation(curated, merges=[{"unit_ids": [0, 3], "new_unit_id": 7}]), recording)
    assert dict(zip(again.sorting.unit_ids.tolist(), again.sorting.get_property("quality"), strict=True))[1] == "noise"
    analyzer = result.to_analyzer(recording, extensions=QUICK)
    merged = apply_curation(analyzer, curation(result, merges=[{"unit_ids": [0, 1]}]), sparsity_overlap=0.1)
    found = curate(result, merged)
    assert trains(found.sorting) == trains(merged.sorting)
    # SpikeInterface let the merged unit inherit "good"
    assert found.sorting.get_property("quality")[found.sorting.unit_ids.tolist().index(4)] == "mua"


def test_sorting_of_another_sorter(result, recording):
    vector = result.sorting.to_spike_vector()
    rows = np.flatnonzero(vector["unit_index"] == 1)
    moved = vector.copy()
    moved["sample_index"][rows[::3]] += 2  # a third of the spikes of one unit is 2 samples late
    names = np.array(["a", "b", "c", "d"])
    other = NumpySorting(moved[np.argsort(moved["sample_index"], kind="stable")], RATE_HZ, names)
    with pytest.raises(ValueError, match=rf"found {len(rows[::3])} others, the first at sample \d+.*embedded"):
        curate(result, other)
    with pytest.raises(OSError, match="set model_name"):
        result.with_sorting(other, recording)
    curated = curate(result, other, recording)
    assert curated.sorting.unit_ids.tolist() == ["a", "b", "c", "d"]
    spikes = curated.sorting.to_spike_vector()
    own = curated.embeddings[spikes["unit_index"] == 1]
    assert np.isfinite(curated.embeddings).all() and len(own) == len(rows)
    assert curated.sorting.get_property("mean_posterior")[1] > 0.9
    with pytest.raises(ValueError, match="property 'group'"):
        curate(result, NumpySorting.from_unit_dict([{"new": np.arange(100, 90000, 4501)}], RATE_HZ), recording)
    placed = NumpySorting.from_unit_dict([{"new": np.arange(100, 90000, 4501)}], RATE_HZ)
    placed.set_property("group", np.array(["left"]))
    foreign = curate(result, placed, recording)
    assert foreign.sorting.get_property("group").tolist() == ["left"]
    is_doubted = [
        any("of this recording" in each["message"] for each in r.log if each.get("is_warning"))
        for r in (curated, foreign)
    ]
    assert is_doubted == [False, True]


@pytest.mark.parametrize("unit_id", [np.uint64(7), np.int8(7), "7"])  # SpikeInterface's aggregate_units gives uint64
def test_a_unit_without_neighbours_has_an_id_of_any_type(unit_id, result):
    only = NumpySorting.from_unit_dict([{0: result.sorting.get_unit_spike_train(0)}], RATE_HZ)
    curated = curate(result, only.rename_units(np.array([unit_id]))).sorting
    assert curated.unit_ids[0] == unit_id
    assert curated.get_property("overlapping_unit").tolist() == ["" if unit_id == "7" else -1]


def test_bad_curations(result, recording, tmp_path):
    spikes = result.sorting.to_spike_vector()
    cases = [
        (tmp_path / "nothing", FileNotFoundError, "found nothing"),
        (5, TypeError, "phy folder, found int"),
        (curation(result, unit_ids=[77]), ValueError, r"units \[0, 1, 2, 3\]"),
        (NumpySorting(spikes, 20000.0, result.sorting.unit_ids), ValueError, "20000.0 Hz"),
        (NumpySorting.from_unit_dict([{0: np.array([5])}] * 2, RATE_HZ), ValueError, "1 segments"),
        (
            NumpySorting.from_unit_dict([{0: np.array([5, 10**8])}], RATE_HZ),
            ValueError,
            "1 others.* at sample 100000000",
        ),
    ]
    for curated, error, words in cases:
        with pytest.raises(error, match=words):
            curate(result, curated, recording)
    folder = tmp_path / "phy"
    folder.mkdir()
    np.save(folder / "spike_times.npy", np.arange(5))
    np.save(folder / "spike_clusters.npy", np.arange(4))
    with pytest.raises(ValueError, match=r"\(5\).*found 4"):
        curate(result, folder)


def test_no_units_are_left(result):
    empty = curate(result, curation(result, removed=[0, 1, 2, 3]))
    assert empty.sorting.get_num_units() == 0 and empty.embeddings.shape == (0, result.embeddings.shape[1])
    assert empty.with_sorting(empty.sorting).sorting.get_num_units() == 0
    with pytest.raises(ValueError, match="give the recording"):
        empty.with_sorting(result.sorting)


@pytest.mark.parametrize("kept", [[0, 1], [0, 1, 2, 3]])  # all of them: then the spikes are fewer
def test_a_result_whose_units_were_replaced_is_refused(kept, result, recording, tmp_path):
    smaller = result.sorting.select_units(kept)
    if len(kept) == 4:
        smaller = NumpySorting(smaller.to_spike_vector()[:-5], RATE_HZ, smaller.unit_ids)
        for name in result.sorting.get_property_keys():
            smaller.set_property(name, result.sorting.get_property(name))
    replaced, start = replace(result, sorting=smaller), datetime(2026, 3, 31, tzinfo=timezone.utc)
    uses = [
        lambda: replaced.export_to_phy(recording, tmp_path / "phy"),
        lambda: replaced.export_to_nwb(recording, tmp_path / "units.nwb", session_start_time=start),
        lambda: replaced.write_report(tmp_path / "report.html"),
        lambda: replaced.plot_embedding(),
        lambda: replaced.with_sorting(smaller),
        lambda: track([replaced, result]),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="give changed units to result.with_sorting"):
            use()
    assert list(tmp_path.iterdir()) == []


def test_curation_of_sortingview(result, tmp_path):
    path = tmp_path / "curation.json"
    for units, one, other in ((result, 0, 1), (curate(result, result.sorting.rename_units(list("abcd"))), "a", "b")):
        labels, last = {str(one): ["Noise"], str(other): ["accept"]}, units.sorting.unit_ids[3]
        path.write_text(json.dumps({"labelsByUnit": labels, "mergeGroups": []}))
        labelled = units.with_sorting(path).sorting
        assert (
            labelled.get_property("quality").tolist()[0] == "noise" and labelled.get_property("is_curated").sum() == 1
        )
        assert labelled.get_property("accept").tolist() == [False, True, False, False]
        path.write_text(json.dumps({"labelsByUnit": {str(last): ["accept"]}, "mergeGroups": [[one, other]]}))
        assert len(units.with_sorting(path).sorting.unit_ids) == 3
    merged = result.with_sorting({"labelsByUnit": {}, "mergeGroups": [[0, 1]]})
    assert merged.sorting.get_num_units() == 3
    with pytest.raises(ValueError, match="units of this result"):
        result.with_sorting({"labelsByUnit": {"77": ["accept"]}})


def test_curation_file(result, tmp_path):
    path = tmp_path / "curation.json"
    path.write_text(json.dumps(curation(result, merges=[{"unit_ids": [0, 1], "new_unit_id": 8}])))
    assert 8 in result.with_sorting(path).sorting.unit_ids


def test_labels_of_bombcell(result, recording):
    analyzer = result.to_analyzer(recording)
    analyzer.return_in_uV = True
    analyzer.compute("template_metrics")
    labels = bombcell_label_units(analyzer)["bombcell_label"]
    assert labels.index.tolist() == result.sorting.unit_ids.tolist()
    analyzer.sorting.set_property("quality", labels.to_numpy(dtype=str))
    curated = curate(result, analyzer).sorting
    assert dict(zip(curated.unit_ids.tolist(), curated.get_property("quality"), strict=True)) == labels.to_dict()
    assert "spikeinterface_gui" in SortingSummaryWidget.get_possible_backends()
    assert "sortingview" in SortingSummaryWidget.get_possible_backends()


@pytest.mark.parametrize(
    ("name", "content"), [("curation.json", "{not json"), ("curation.json", ""), ("notes.txt", "x"), ("folder", None)]
)
def test_files_that_are_no_curation_are_named(name, content, result, tmp_path):
    path = tmp_path / name
    path.mkdir() if content is None else path.write_text(content)
    with pytest.raises(
        ValueError, match=rf"spikeinterface.load opens at .*{name}, found .*; give what the curation wrote"
    ):
        result.with_sorting(path)


def test_missing_values_of_a_property_are_no_words(result):
    curated = result.sorting.select_units(result.sorting.unit_ids)
    num_units = curated.get_num_units()
    curated.set_property("area", np.array(["CA1", None, float("nan"), *["CA3"] * num_units][:num_units], dtype=object))
    curated.set_property("quality", np.array(["Noise ", "NaN", "<NA>", *["unsorted"] * num_units][:num_units]))
    sorting = curate(result, curated).sorting
    assert sorting.get_property("area").tolist()[:3] == ["CA1", "", ""]
    machine = sorting.get_property("machine_quality").tolist()  # stays where nobody has decided
    assert sorting.get_property("quality").tolist() == ["noise", *machine[1:]]


def test_further_properties_of_the_units_stay(result, recording, track_one_session, tmp_path):
    tracked = SortingResult.load(result.save(tmp_path / "out"))
    neurons = track_one_session(tracked)
    tracked.sorting.set_property("area", np.array(["CA1", "CA1", "CA3", "CA3"]))
    tracked.sorting.set_property("is_fast", np.array([True, False, True, True]))
    folder = tracked.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    same = curate(tracked, curation(tracked, removed=[1])).sorting
    assert same.get_property("neuron").tolist() == np.delete(neurons, 1).tolist()
    assert same.get_property("neuron").dtype.kind == "i"
    phy = tracked.with_sorting(folder).sorting
    assert phy.get_property("neuron").tolist() == neurons
    assert phy.get_property("is_fast").tolist() == [True, False, True, True]
    merged = curate(tracked, curation(tracked, merges=[{"unit_ids": [0, 1], "new_unit_id": 9}])).sorting
    found = dict(zip(merged.unit_ids.tolist(), merged.get_property("neuron"), strict=True))
    assert found[2] == neurons[2] and np.isnan(found[9])  # of two neurons: which one is not known
    assert dict(zip(merged.unit_ids.tolist(), merged.get_property("area"), strict=True))[9] == "CA1"


def test_properties_of_several_values_a_unit_stay(result):
    given, seen = result.sorting.clone(), [[1.0, 2.0], [1.0, 3.0], [5.0, 6.0], [7.0, 8.0]]
    given.set_property("place_um", np.array(seen))
    given.set_property("areas", np.array([["CA1", "or"], ["CA1", "or"], ["CA3", "py"], ["CA3", "or"]]))
    given.set_property("counts", np.arange(8).reshape(4, 2))
    given.set_property("gain", np.array([1j, 2j, 3j, 4j]))
    given.set_property("date", np.array(["2026-03-31", "2026-04-01"] * 2, dtype="datetime64[D]"))
    given.set_property(
        "fit", np.array([(0.5, 1), (0.5, 2), (2.0, 3), (0.5, 3)], dtype=[("slope", "f8"), ("order", "i4")])
    )
    changes = curation(result, merges=[{"unit_ids": [0, 1], "new_unit_id": 9}])
    sorting = curate(replace(result, sorting=given), changes).sorting
    merged, other = (sorting.unit_ids.tolist().index(unit) for unit in (9, 2))
    named = {name: sorting.get_property(name) for name in sorting.get_property_keys()}
    assert named["areas"][merged].tolist() == ["CA1", "or"] and named["areas"][other].tolist() == ["CA3", "py"]
    assert np.isnan(named["place_um"][merged]).all() and named["place_um"][other].tolist() == seen[2]
    assert np.isnan(named["counts"][merged]).all() and named["counts"][other].tolist() == [4, 5]
    assert np.isnan(named["gain"][merged]) and named["gain"][other] == 3j
    assert np.isnat(named["date"][merged]) and named["date"][other] == np.datetime64("2026-03-31")
    assert named["fit"][merged] == "" and named["fit"][other] == "(2.0, 3)"


def test_one_part_of_a_split_unit_keeps_its_neuron(result, recording, track_one_session, tmp_path):
    tracked = SortingResult.load(result.save(tmp_path / "out"))
    neurons = track_one_session(tracked)
    numbers = tracked.sorting.get_property("num_spikes").tolist()
    indices = [list(range(numbers[0] // 3)), list(range(0, numbers[1], 2))]
    changes = dict(splits=[{"unit_id": unit, "mode": "indices", "indices": [indices[unit]]} for unit in (0, 1)])
    changes["splits"][0]["new_unit_ids"], changes["splits"][1]["new_unit_ids"] = [10, 11], [12, 13]
    by_curation = curate(tracked, curation(tracked, **changes), recording).sorting
    # SpikeInterface gives the number to both parts
    inherited = apply_curation(tracked.sorting.clone(), curation(tracked, **changes))
    inherited.set_property("neuron", np.where(inherited.unit_ids == 3, 99, inherited.get_property("neuron")))
    by_sorting = curate(tracked, inherited, recording).sorting
    for sorting, of_curator in ((by_curation, neurons[3]), (by_sorting, 99)):
        found = dict(zip(sorting.unit_ids.tolist(), sorting.get_property("neuron").tolist(), strict=True))
        assert np.isnan(found[10]) and found[11] == neurons[0]  # two thirds of its spikes
        more = [unit for unit in (12, 13) if found[unit] == neurons[1]]
        assert len(more) == numbers[1] % 2  # two halves: neither has more
        assert found[2] == neurons[2] and found[3] == of_curator


def test_a_second_curation_in_phy_keeps_the_ids(result, recording, tmp_path):
    once = curate(result, curation(result, removed=[0], merges=[{"unit_ids": [1, 2], "new_unit_id": 20}]))
    folder = once.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n0\tnoise\n")
    twice = once.with_sorting(folder).sorting
    assert trains(twice) == trains(once.sorting) and set(twice.unit_ids.tolist()) == {3, 20}
    named = dict(zip(twice.unit_ids.tolist(), twice.get_property("quality"), strict=True))
    assert named[once.sorting.unit_ids[0]] == "noise" and named[once.sorting.unit_ids[1]] != "noise"


def test_times_stay_where_the_recording_was_opened_without_them(recording):
    timed = recording.clone()
    timed.shift_times(100.0)
    later = sort(timed)
    for curated in (curate(later, later.sorting), curate(later, later.sorting, recording)):
        assert curated.sorting.get_start_time(0) == 100.0


def test_labels_of_an_earlier_curation_stay_where_the_next_says_nothing(result):
    words = {
        "celltype": {"label_options": ["pyr", "int"], "exclusive": True},
        "tag": {"label_options": ["burst", "slow"], "exclusive": False},
    }
    first = [{"unit_id": 0, "celltype": ["pyr"], "tag": ["burst"]}, {"unit_id": 1, "celltype": ["pyr"]}]
    once = curate(result, curation(result, label_definitions=words, manual_labels=first))
    second = [{"unit_id": 1, "celltype": ["int"]}]
    twice = curate(once, curation(once, label_definitions=words, manual_labels=second, removed=[3])).sorting
    assert twice.get_property("celltype").tolist() == ["pyr", "int", ""]
    assert twice.get_property("burst").tolist() == [True, False, False]


def test_a_second_curation_knows_the_labels_of_the_rule_from_those_of_the_curator(result, tmp_path):
    once = curate(result, curation(result, manual_labels=[{"unit_id": 3, "quality": ["MUA"]}]))
    for name in ("quality", "machine_quality"):  # as if the rule had called both units so, beside other neighbours
        once.sorting.set_property(name, np.array(["good", "good", "mua", "mua"]))
    once = SortingResult.load(once.save(tmp_path / "out"))
    merge = curation(once, merges=[{"unit_ids": [0, 1], "new_unit_id": 7}])
    for given in (merge, apply_curation(once.sorting.clone(), merge)):
        sorting = curate(once, given).sorting
        labels = zip(sorting.get_property("quality").tolist(), sorting.get_property("is_curated").tolist(), strict=True)
        named = dict(zip(sorting.unit_ids.tolist(), labels, strict=True))
        assert named == {7: ("mua", False), 2: ("good", False), 3: ("mua", True)}
    by_hand = result.sorting.clone()
    by_hand.set_property("quality", np.array(["noise", "good", "good", "good"]))
    found = curate(replace(result, sorting=by_hand), by_hand).sorting
    assert found.get_property("quality")[0] == "noise"
    assert found.get_property("is_curated").tolist() == [True, False, False, False]


def test_a_label_that_the_next_curation_clears_is_gone(result, recording, tmp_path):
    words = {
        "quality": LABELS["quality"],
        "celltype": {"label_options": ["pyr", "int"], "exclusive": True},
        "tag": {"label_options": ["burst", "slow"], "exclusive": False},
    }
    given = {"quality": ["noise"], "celltype": ["pyr"], "tag": ["burst", "slow"]}
    label = dict(label_definitions=words)
    once = curate(result, curation(result, **label, manual_labels=[{"unit_id": u, **given} for u in (0, 1, 2)]))
    cleared = [{"unit_id": 0, "quality": [], "celltype": [], "tag": ["slow"]}, {"unit_id": 1, "tag": []}]
    named = [{"unit_id": each.pop("unit_id"), "labels": each} for each in json.loads(json.dumps(cleared))]
    for said in (cleared, named):  # the two forms of the format
        second = curation(once, **label, manual_labels=said)
        for given_as in (second, Curation(**second), [second, curation(once, **label)]):
            twice = curate(once, given_as).sorting
            assert twice.get_property("celltype").tolist() == ["", "pyr", "pyr", ""]
            assert twice.get_property("burst").tolist() == [False, False, True, False]
            assert twice.get_property("slow").tolist() == [True, False, True, False]
            machine = twice.get_property("machine_quality").tolist()
            assert twice.get_property("quality").tolist() == [machine[0], "noise", "noise", machine[3]]
    # a tag of one part is one of the merged unit, and the marks of the first curation stay
    halves = [dict(unit_id=unit, indices=[[*range(20)]], new_unit_ids=[10 + unit, 20 + unit]) for unit in (2, 3)]
    changes = dict(merges=[{"unit_ids": [0, 1], "new_unit_id": 7}], splits=halves[1:], manual_labels=cleared)
    merged = curate(once, curation(once, **label, **changes), recording)
    later = curate(merged, curation(merged, splits=halves[:1]), recording).sorting
    assert later.unit_ids.tolist() == [7, 12, 22, 13, 23]
    assert later.get_property("celltype").tolist() == ["", "pyr", "pyr", "", ""]
    assert later.get_property("slow").tolist() == [True, True, True, False, False]
    assert later.get_property("is_merged").tolist() == [True, False, False, False, False]
    assert later.get_property("is_split").tolist() == [False, True, True, True, True]
    folder = once.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n0\tunsorted\n2\tnoise\n")
    phy = once.with_sorting(folder).sorting
    assert phy.get_property("quality").tolist() == [machine[0], "noise", "noise", machine[3]]


def test_columns_that_were_added_in_phy(result, recording, tmp_path):
    folder = result.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    (folder / "cluster_layer.tsv").write_text("cluster_id\tlayer\n0\t4\n2\t5\n")
    (folder / "cluster_note.tsv").write_text("cluster_id\tnote\n0\t2\n1\tlate\n")
    (folder / "cluster_info.tsv").write_text("cluster_id\tn_spikes\n0\t4\n1\t5\n")
    sorting = result.with_sorting(folder).sorting
    added = set(sorting.get_property_keys()) - set(result.sorting.get_property_keys())
    assert added == {"layer", "note", "machine_quality", "is_curated"}
    assert np.array_equal(sorting.get_property("layer"), [4, np.nan, 5, np.nan], equal_nan=True)
    assert sorting.get_property("note").tolist() == ["2", "late", "", ""]


@pytest.mark.parametrize("rows", ["", "0\t\n1\t\n2\t\n3\t\n"])  # as phy and as a spreadsheet clear all cells
def test_a_column_that_was_cleared_in_phy_is_empty(rows, result, recording, tmp_path):
    labelled = SortingResult.load(result.save(tmp_path / "out"))
    labelled.sorting.set_property("celltype", np.array(["pyr", "", "int", "pyr"]))
    folder = labelled.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    assert labelled.with_sorting(folder).sorting.get_property("celltype").tolist() == ["pyr", "", "int", "pyr"]
    (folder / "cluster_celltype.tsv").write_text(f"cluster_id\tcelltype\n{rows}")
    assert labelled.with_sorting(folder).sorting.get_property("celltype").tolist() == ["", "", "", ""]


def test_numbers_that_were_changed_in_phy(result, recording, tmp_path):
    given = SortingResult.load(result.save(tmp_path / "out"))
    columns = {
        "layer": np.array([4, 4, 5, 6]),
        "depth_um": np.array([0.1, 2.0, np.nan, 3.0], dtype="float32"),
        "is_fast": np.array([True, False, True, True]),
        "date": np.array(["2026-03-31"] * 4, dtype="datetime64[D]"),
    }
    for name, values in columns.items():
        given.sorting.set_property(name, values)
    folder = given.export_to_phy(recording, tmp_path / "phy", copy_recording=False)
    same = given.with_sorting(folder).sorting
    for name, values in columns.items():
        assert same.get_property(name).dtype == values.dtype
        assert np.array_equal(same.get_property(name), values, equal_nan=name == "depth_um")
    (folder / "cluster_layer.tsv").write_text("cluster_id\tlayer\n0\t4\n1\t2\n2\t5\n3\t6\n")
    (folder / "cluster_depth_um.tsv").write_text("cluster_id\tdepth_um\n0\t0.1\n1\t\n2\t7\n3\t3.0\n")
    (folder / "cluster_is_fast.tsv").write_text("cluster_id\tis_fast\n0\tTrue\n1\tTrue\n2\tFalse\n3\t1\n")
    changed = given.with_sorting(folder).sorting
    assert changed.get_property("layer").tolist() == [4, 2, 5, 6] and changed.get_property("layer").dtype.kind == "i"
    assert np.allclose(changed.get_property("depth_um"), [0.1, np.nan, 7, 3], equal_nan=True)
    assert changed.get_property("is_fast").tolist() == [True, True, False, True]
    (folder / "cluster_layer.tsv").write_text("cluster_id\tlayer\n0\t4\n1\t4.5\n2\tdeep\n")
    assert given.with_sorting(folder).sorting.get_property("layer").tolist() == ["4", "4.5", "deep", ""]
    # merged: the number of one part is none of the merged unit, which phy may give it; another one is
    clusters = np.load(folder / "spike_clusters.npy").ravel()
    np.save(folder / "spike_clusters.npy", np.where(clusters < 2, 9, clusters))
    for cell, expected in (("4", 4), ("", 4), ("2.5", 2.5)):
        (folder / "cluster_layer.tsv").write_text(f"cluster_id\tlayer\n2\t5\n3\t6\n9\t{cell}\n")
        sorting = given.with_sorting(folder).sorting
        named = dict(zip(sorting.unit_ids.tolist(), sorting.get_property("layer").tolist(), strict=True))
        assert named == {2: 5, 3: 6, 9: expected}


@pytest.mark.parametrize("is_read_alone", [True, False])  # by the command line, whose analyzers may be anybody's
def test_an_analyzer_lacks_segments_that_are_shorter_than_a_snippet(is_read_alone, tmp_path):
    traces, *_ = planted(duration_s=5.0, seed=1)
    recording = as_recording(traces[:80000], traces[:60], traces[80000:], rate_hz=RATE_HZ)
    three, analyzer = sort(recording), tmp_path / "analyzer"
    three.to_analyzer(recording, analyzer, extensions=QUICK)
    three.save(tmp_path / "out")
    if is_read_alone:
        curated = load_result(tmp_path / "out", curated=analyzer)
    else:
        curated = three.with_sorting(analyzer)
    assert np.array_equal(curated.sorting.to_spike_vector(), three.sorting.to_spike_vector())
    (analyzer / "recording_info" / "recording_attributes.json").write_text('{"num_samples": [3]}')
    with pytest.raises(ValueError, match=r"2 segments in .*recording_attributes\.json, found \[3\]"):
        load_result(tmp_path / "out", curated=analyzer)
