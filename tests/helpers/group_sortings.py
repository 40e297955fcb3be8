"""Channel groups with given spikes, for tests of what is assembled from them."""

import numpy as np
from spikeinterface.core.base import minimum_spike_dtype

from huidurep.sorting.aggregation import GroupSorting


def group_of(samples, units, segments, name, channels, **changed):
    vector = np.zeros(len(samples), dtype=minimum_spike_dtype)
    vector["sample_index"], vector["unit_index"], vector["segment_index"] = samples, units, segments
    rows = np.arange(len(samples), dtype="float32")
    properties = {
        "main_channel_id": channels,
        "group": [name] * len(channels),
        "snr": [5.0] * len(channels),
        "peak_uv": [-50.0] * len(channels),
        "peak_sign": ["neg"] * len(channels),
        "num_spikes": [1] * len(channels),
        "short_isi_fraction": [0.0] * len(channels),
        "isi_violations_ratio": [0.0] * len(channels),
        "contamination": [0.0] * len(channels),
        "contamination_p_value": [1.0] * len(channels),
        "mean_posterior": [0.95] * len(channels),
        "presence_ratio": [1.0] * len(channels),
        "amplitude_cutoff": [float("nan")] * len(channels),
        "neighbour_share": [0.0] * len(channels),
        "template_distance": [float("nan")] * len(channels),
        "overlapping_unit": [-1] * len(channels),
    }
    properties |= changed
    return GroupSorting(vector, np.column_stack([np.asarray(samples, "float32"), rows]), rows / 8, properties)
