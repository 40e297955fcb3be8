"""A sorting result of any size without a recording, for tests of the report."""

import numpy as np
from spikeinterface.core.base import minimum_spike_dtype
from stand_in import RATE_HZ, waveform

from huidurep import SortingParameters
from huidurep.result import SortingResult
from huidurep.sorting.postprocessing import POSTPROCESSING_SETTINGS, UnitMeasurements, make_sorting

NUM_NEAR = POSTPROCESSING_SETTINGS.max_template_channels


def synthetic(num_units, spikes_per_unit, *, num_segments=1, unit_ids=None, seed=0):
    """A result without a recording: units along a shank, each with a cluster of embeddings, the first two share one."""
    rng = np.random.default_rng(seed)
    num_spikes, num_samples = num_units * spikes_per_unit, int(600 * RATE_HZ)
    vector = np.zeros(num_spikes, dtype=minimum_spike_dtype)
    vector["segment_index"] = np.sort(rng.integers(0, num_segments, num_spikes))
    vector["sample_index"] = rng.integers(0, num_samples, num_spikes)
    vector["unit_index"] = rng.permutation(np.repeat(np.arange(num_units), spikes_per_unit))
    vector = vector[np.lexsort((vector["sample_index"], vector["segment_index"]))]
    unit_index = vector["unit_index"]
    sorting = make_sorting(vector, RATE_HZ, np.array(unit_ids or np.arange(num_units)), num_segments)
    centres = rng.normal(0, 8, (num_units, 8))
    if num_units > 1:
        centres[1] = centres[0]
    main = np.arange(num_units) // 2
    main[1:2] = main[:1]
    num_channels = max(NUM_NEAR, num_units // 2 + 1)
    contacts_um = np.column_stack([np.zeros(num_channels), 20.0 * np.arange(num_channels)])
    near = np.argsort(np.abs(np.arange(num_channels) - main[:, None]), axis=1, kind="stable")[:, :NUM_NEAR]
    shape = waveform(num_samples=90, peak=30)[None, :, None]
    heights = rng.uniform(40, 200, num_units)
    for name, values in unit_properties(rng, main, heights).items():
        sorting.set_property(name, values)
    drawn = np.sort(rng.permutation(num_spikes)[: num_units * 50])
    templates_uv = (heights[:, None, None] * shape * np.exp(-np.arange(NUM_NEAR) / 4)).astype("float32")
    peaks_uv = templates_uv.min(axis=1)[unit_index[drawn]] + rng.normal(0, 8, (len(drawn), NUM_NEAR))
    measurements = UnitMeasurements(
        channel_ids=np.arange(num_channels),
        channel_groups=np.zeros(num_channels, dtype=int),
        channel_positions_um=contacts_um,
        templates_uv=templates_uv,
        template_channels=near,
        peak_index=np.array(30),
        amplitudes_uv=rng.normal(-heights[unit_index], 8).astype("float32"),
        positions_um=np.column_stack([np.zeros(num_spikes), 20.0 * main[unit_index]]).astype("float32"),
        motion_um=np.sin(vector["sample_index"] / num_samples).astype("float32"),
        template_quantiles_uv=np.stack([templates_uv - 10.0, templates_uv + 10.0]),
        drawn_spikes=drawn,
        contact_peaks_uv=peaks_uv.astype("float32"),
    )
    recording = {"num_samples": [num_samples] * num_segments, "num_channels": num_channels}
    return SortingResult(
        sorting,
        (centres[unit_index] + rng.normal(0, 1, (num_spikes, 8))).astype("float32"),
        np.ones(num_spikes, dtype="float32"),
        SortingParameters(seed=3),
        "tetrode",
        log=[{"stage": "motion", "seconds": 1.5, "message": "nothing <moved>", "is_warning": True}],
        measurements=measurements,
        provenance={"recording": recording, "versions": {"x": "1.2"}},
    )


def unit_properties(rng, main, heights):
    """Properties of units with these main channels and heights in uV: every third one is no good unit."""
    num_units = len(main)
    return {
        "main_channel_id": main,
        "group": np.zeros(num_units, dtype=int),
        "snr": heights / 8,
        "peak_uv": -heights,
        "peak_sign": np.full(num_units, "neg"),
        "short_isi_fraction": rng.uniform(0, 0.02, num_units),
        "isi_violations_ratio": np.zeros(num_units),
        "mean_posterior": rng.uniform(0.8, 1, num_units),
        "presence_ratio": np.ones(num_units),
        "overlapping_unit": np.where(np.arange(num_units) == 0, num_units > 1, 0) - (num_units == 1),
        "amplitude_cutoff": np.where(np.arange(num_units) % 2, 0.03, np.nan),
        "neighbour_share": np.where(np.arange(num_units) % 3, 0.01, 0.2),
        "quality": np.where(np.arange(num_units) % 3, "good", "mua"),
        "quality_reason": np.where(np.arange(num_units) % 3, "", "overlaps with unit <1>"),
    }
