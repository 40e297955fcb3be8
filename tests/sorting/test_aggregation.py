import numpy as np
from group_sortings import group_of
from stand_in import as_recording

from huidurep.sorting.aggregation import assemble, empty_group
from huidurep.sorting.quality_metrics import QualitySettings


def test_groups_are_combined_in_order_of_time():
    recording = as_recording(*[np.zeros((1000, 4), dtype="float32")] * 3, channel_ids=["a", "b", "c", "d"])
    first = group_of([10, 30, 5], [0, 1, 0], [0, 0, 1], 0, ["a", "b"])
    second = group_of([20, 30, 1], [0, 0, 0], [0, 0, 1], 7, ["d"])
    sorting, embeddings, _, _ = assemble([first, empty_group(2), second], recording, 2)
    vector = sorting.to_spike_vector()
    assert vector["sample_index"].tolist() == [10, 20, 30, 30, 1, 5]
    assert vector["unit_index"].tolist() == [0, 2, 1, 2, 2, 0]
    assert embeddings[:, 0].tolist() == vector["sample_index"].tolist()
    assert sorting.get_property("main_channel_id").tolist() == ["a", "b", "d"]
    assert sorting.get_property("group").tolist() == [0, 0, 7]
    assert sorting.get_property("quality").tolist() == ["good"] * 3
    assert sorting.get_num_segments() == 3  # the last one without spikes


def test_a_reason_names_units_as_the_whole_sorting_numbers_them():
    recording = as_recording(np.zeros((1000, 4), dtype="float32"), channel_ids=["a", "b", "c", "d"])
    first = group_of([10, 30], [0, 1], [0, 0], 0, ["a", "b"])
    second = group_of(
        [20, 40], [0, 1], [0, 0], 1, ["c", "d"], overlapping_unit=[1, 0], neighbour_share=[0.4, 0.0], snr=[5.0, 3.21]
    )
    sorting = assemble([first, second], recording, 2)[0]
    assert sorting.get_property("overlapping_unit").tolist() == [-1, -1, 3, 2]
    assert sorting.get_property("quality").tolist() == ["good", "good", "mua", "mua"]
    assert sorting.get_property("quality_reason").tolist() == ["", "", "overlaps with unit 3", "SNR 3.2"]
    strict = assemble([first, second], recording, 2, quality=QualitySettings(min_snr=6.0))[0]
    assert strict.get_property("quality").tolist() == ["mua"] * 4


def test_a_sorting_without_units_has_every_property():
    recording = as_recording(np.zeros((1000, 4), dtype="float32"))
    sorting = assemble([], recording, 2)[0]
    assert {"quality", "quality_reason", "contamination"} <= set(sorting.get_property_keys())
