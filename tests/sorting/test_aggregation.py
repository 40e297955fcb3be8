import numpy as np
from group_sortings import group_of
from stand_in import as_recording

from huidurep.sorting.aggregation import assemble, empty_group


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
