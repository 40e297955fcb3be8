"""What the property-based tests share: the number of cases, random recordings, and what every outcome must satisfy."""

import os
import re

import numpy as np
import probeinterface
from hypothesis import settings
from hypothesis import strategies as st
from spikeinterface.core import NumpyRecording

FACTOR_VARIABLE = "HUIDUREP_FUZZ_FACTOR"


def cases(number):
    """Decorator: so many cases in `make test`, FACTOR times as many in `make fuzz`."""
    return settings(max_examples=number * int(os.environ.get(FACTOR_VARIABLE, 1)))


def assert_documented(error):
    """An error that a user can read: one of the documented types, in a sentence with what was expected or found."""
    assert isinstance(error, ValueError | TypeError | OSError), repr(error)
    assert re.search(r"expected|unknown|found|does not|no such|cannot", str(error), re.IGNORECASE), repr(error)
    assert len(str(error)) < 2000, "a sentence, not a listing"


# ------------------------------------------------------------------------------------------------------ recordings

DTYPES = ("int16", "float32", "uint16", "int32", "float64", "uint8", "int8", "complex64", "bool")
RATES_HZ = (30000.0, 20000.0, 10000.0, 24414.0625, 48000.0, 1000.0, 0.0, -30000.0, 1e12, float("nan"), float("inf"))
LENGTHS_S = (0.6, 1.0, 0.3, 0.05, 0.003, 0.0)
CONTENTS = ("spikes", "noise", "upward", "silence", "constant", "blanks", "transient", "jump", "copies", "huge", "nan")


def mostly(usual, others):
    """The usual value in about two thirds of the cases: otherwise each recording would have some fault."""
    return st.one_of(st.just(usual), st.just(usual), st.sampled_from(others))


@st.composite
def recordings(draw):
    """A recording of up to 9 channels and 3 segments, in most cases with one or two unusual properties."""
    num_channels = draw(st.integers(1, 9))
    rate_hz = draw(mostly(30000.0, RATES_HZ))
    dtype = np.dtype(draw(mostly("int16", DTYPES)))
    gain, offset = draw(mostly(0.195, (1.0, 4.7, 0.0, -0.195, 1e-6, 1e6, np.nan))), draw(mostly(0.0, (2000.0, -250.0)))
    content = draw(mostly("spikes", CONTENTS))
    lengths_s = draw(st.lists(st.sampled_from(LENGTHS_S), min_size=1, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    is_rate = np.isfinite(rate_hz) and 0 < rate_hz < 1e6
    segments_uv = [_traces_uv(rng, content, int(s * (rate_hz if is_rate else 3e4)), num_channels) for s in lengths_s]
    divisor = gain if np.isfinite(gain) and gain != 0 else 0.195
    stored = [_stored((traces - offset) / divisor, dtype) for traces in segments_uv]
    recording = NumpyRecording(stored, rate_hz, channel_ids=draw(st.one_of(st.none(), _ids(num_channels))))
    if draw(mostly(True, (False,))):
        recording.set_channel_gains(gain)
        recording.set_channel_offsets(offset)
    probe = draw(mostly(None, PROBES))
    if probe is not None:
        recording = _with_probe(recording, probe, rng)
    if draw(mostly(False, (True,))):
        groups = draw(st.sampled_from(([0.0, np.nan], ["a", None], [1, 2], ["", "x"], [0, 0], [2**40, -1])))
        values = [groups[index % 2] for index in range(num_channels)]
        recording.set_property("group", np.array(values, dtype=object if None in groups else None))
    if is_rate and draw(mostly(False, (True,))):
        recording.shift_times(1000.5)
    return recording


def _traces_uv(rng, content, num_samples, num_channels):
    """Traces (num_samples, num_channels) float64 in uV."""
    traces = rng.normal(0, 8, (num_samples, num_channels))
    if content in ("silence", "constant"):
        return np.full((num_samples, num_channels), 0.0 if content == "silence" else 123.0)
    if num_samples > 200 and content != "noise":
        wave = -np.exp(-0.5 * ((np.arange(45) - 15) / 4) ** 2)[:, None] * rng.uniform(40, 300, num_channels)
        for start in rng.integers(60, num_samples - 110, max(1, num_samples // 400)):
            traces[start : start + 45] += wave * (-1 if content == "upward" else 1)
    middle = num_samples // 2
    if content == "blanks":
        traces[middle : middle + num_samples // 5] = 0.0
    if content == "transient":
        traces[middle : middle + 15] -= 20000.0
    if content == "jump":
        traces[middle:] += 20000.0
    if content == "copies":
        traces[:] = traces[:, :1]
    if content in ("huge", "nan") and num_samples:
        traces[middle, 0] = 1e30 if content == "huge" else np.nan
    return traces


def _stored(values, dtype):
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return np.clip(np.nan_to_num(np.round(values)), limits.min, limits.max).astype(dtype)
    return values.astype(dtype)


def _ids(num_channels):
    return st.sampled_from(
        (
            [f"ch{index}" for index in range(num_channels)],
            [f"a\tb\n{index}" for index in range(num_channels)],
            [f"<b>&é {index}" for index in range(num_channels)],
            list(range(2**33, 2**33 + num_channels)),
            [-index for index in range(num_channels)],
        )
    )


PROBES = ("tetrode", "column", "mm", "nan", "3d", "far", "two shanks")


def _with_probe(recording, kind, rng):
    num_channels = recording.get_num_channels()
    places = np.column_stack([np.arange(num_channels) % 2, np.arange(num_channels) // 2]) * 25.0
    if kind == "column":
        places = np.column_stack([np.zeros(num_channels), 20.0 * rng.permutation(num_channels)])
    if kind == "nan":
        places = np.full((num_channels, 2), np.nan)
    factor = {"mm": 1e-3, "far": 1e5}.get(kind, 1.0)
    if kind == "3d":
        places = rng.uniform(0, 100, (num_channels, 3))
    probe = probeinterface.Probe(ndim=places.shape[1], si_units="mm" if kind == "mm" else "um")
    shank_ids = np.arange(num_channels) % 2 if kind == "two shanks" else None
    options = {"plane_axes": np.tile(np.eye(3)[None, :2], (num_channels, 1, 1))} if kind == "3d" else {}
    probe.set_contacts(places * factor, shank_ids=shank_ids, shapes="circle", shape_params={"radius": 5}, **options)
    probe.set_device_channel_indices(rng.permutation(num_channels))
    return recording.set_probe(probe) or recording


# ------------------------------------------------------------------------------------------------------ parameters

VALUES = {
    "freq_min_hz": (300.0, 1.0, 6000.0, 0.0, -1.0, np.nan, "300"),
    "freq_max_hz": (6000.0, 3000.0, 1e9, 100.0),
    "common_reference": (True, False, None, "yes"),
    "motion": (None, "auto", "rigid_fast", "nowhere", "", 3),
    "detection": ("locally_exclusive", "matched_filtering", "both"),
    "detect_threshold": (4.5, 6, 0.5, 50.0, 0, -4.5, np.float32(5), np.inf),
    "peak_sign": ("neg", "pos", "auto", "up", None),
    "exclude_sweep_ms": (0.3, 0.0, 5.0, -1),
    "radius_um": (75.0, 1e-3, 1e6, 0),
    "ms_before": (1.0, 0.1, 0.001, 20.0, 0),
    "ms_after": (2.0, 0.1, 0.001, 20.0, 1e9),
    "num_units": (None, 1, 3, np.int64(2), 0, 10**6, 2.5),
    "min_unit_spikes": (30, 1, 5, 10**9, 0),
    "max_fit_spikes": (20000, 1, 50, 0),
    "max_dimensions": (20, 1, 100),
    "matching": ("wobble", None, "none", "omp"),
    "template_interval_s": (60.0, None, 0.01, 1e9, 0),
    "merge_bias": (0.0, 1e6, -1e6, np.nan),
    "unit_threshold": (0.0, 10.0, -1),
    "seed": (0, 2**40, -1, 1.5, True),
    "bad_channel_ids": ((), 0, "ch0", [0, 1], (None,), 5.5),
    "preset": (None, "paper", "default"),
    "no_such_parameter": (1,),
}
parameters = st.lists(st.sampled_from(sorted(VALUES)), max_size=3, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(VALUES[name]) for name in names})
)


def assert_valid(result, recording):
    """What is true of every sorting, whatever was sorted."""
    sorting, spikes = result.sorting, result.sorting.to_spike_vector()
    assert sorting.get_num_segments() == recording.get_num_segments()
    assert len(spikes) == len(result.embeddings) == len(result.posteriors)
    ends = np.array([recording.get_num_samples(index) for index in range(recording.get_num_segments())])
    assert (spikes["sample_index"] >= 0).all() and (spikes["sample_index"] < ends[spikes["segment_index"]]).all()
    assert np.isfinite(result.embeddings).all()
    assert ((result.posteriors >= 0) & (result.posteriors <= 1)).all()
    assert (np.bincount(spikes["unit_index"], minlength=len(sorting.unit_ids)) > 0).all()
    for name in ("peak_uv", "snr", "mean_posterior", "presence_ratio", "short_isi_fraction"):
        assert np.isfinite(sorting.get_property(name)).all(), name
    assert set(sorting.get_property("quality")) <= {"good", "mua"}
    assert set(sorting.get_property("main_channel_id")) <= set(recording.channel_ids)
    # the same spikes are never counted twice
    assert len(np.unique(spikes)) == len(spikes)
