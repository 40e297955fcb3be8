"""Recordings with known neurons on which the labels of units are judged: benchmarks/labels.py."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from made_recordings import make_probe

# name -> arguments of `make_recording`; from easy ones to those in which hardly a unit is a neuron
RECORDINGS = {
    "tet_plain": dict(probe="tetrode", num_units=8, duration_s=60.0),
    "tet_far": dict(probe="tetrode", num_units=0, duration_s=60.0, num_far=40),
    "tet_low": dict(probe="tetrode", num_units=6, duration_s=60.0, amplitude_range_uv=(30.0, 80.0), num_far=40),
    "wire_plain": dict(probe="linear-1", num_units=3, duration_s=60.0),
    "np1_drift": dict(probe="np1-64", num_units=24, duration_s=40.0, drift_um=20.0, num_far=100),
    "tet_drift": dict(probe="tetrode", num_units=8, duration_s=60.0, drift_um=15.0),
    "tet_silent": dict(probe="tetrode", num_units=3, duration_s=60.0, num_silent=4, num_far=20),
    "lin16_plain": dict(probe="linear-16", num_units=10, duration_s=40.0),
    "tet_pulses": dict(probe="tetrode", num_units=5, duration_s=60.0, num_pulses=60),
    "wire_low": dict(probe="linear-1", num_units=2, duration_s=60.0, amplitude_range_uv=(30.0, 80.0), num_far=20),
    "tet_crowded": dict(probe="tetrode", num_units=14, duration_s=60.0, num_far=20),
    "lin32_low": dict(probe="linear-32", num_units=12, duration_s=40.0, amplitude_range_uv=(30.0, 80.0), num_far=100),
    "tet_noise": dict(probe="tetrode", num_units=0, duration_s=60.0),
    "np1_plain": dict(probe="np1-64", num_units=24, duration_s=40.0),
    "lin32_drift": dict(probe="linear-32", num_units=16, duration_s=40.0, drift_um=20.0),
    "np1_far": dict(probe="np1-64", num_units=4, duration_s=40.0, num_far=150, num_silent=6),
}
FAR_UV = (8.0, 25.0)  # of neurons that are no units: the largest are just above the detection threshold
NOISE_UV = 8.0
PULSE_UV = (1000.0, 10000.0)
SILENT_SHARE = 0.6  # longest pause; one that begins late ends with the recording


def make_recording(  # noqa: PLR0913 - each is a condition of a recording
    *,
    probe,
    num_units,
    duration_s,
    seed,
    amplitude_range_uv=(40.0, 300.0),
    drift_um=0.0,
    num_far=0,
    num_silent=0,
    num_pulses=0,
):
    """Recording and its neurons: `num_units` that fire all the time, `num_silent` that pause for 40 to 60 % of it.

    `num_far` neurons are too small to be found, and not part of the truth. Pulses of 1 to 10 mV stand for stimulation.
    """
    from spikeinterface.core import NumpySorting

    from huidurep import simulate_recording

    options = dict(probe=make_probe(probe), duration_s=duration_s, drift_um=drift_um)
    rng = np.random.default_rng(seed)
    traces, trains = 0.0, []
    parts = [
        (num_units, amplitude_range_uv, NOISE_UV, False),
        (num_silent, amplitude_range_uv, 0.0, True),
        (num_far, FAR_UV, 0.0, None),
    ]
    for index, (number, range_uv, noise_uv, is_silent) in enumerate(parts):
        if number == 0 and noise_uv == 0:
            continue
        options |= dict(num_units=max(1, number), amplitude_range_uv=range_uv, seed=10 * seed + index)
        made, truth = simulate_recording(**options, noise_uv=noise_uv)
        own = made.get_traces()
        if number == 0:  # the noise alone
            own = own - simulate_recording(**options, noise_uv=0.0)[0].get_traces()
        if is_silent:
            start = int(rng.uniform(0, SILENT_SHARE) * len(own))
            silent = slice(start, start + int(SILENT_SHARE * len(own)))
            own = own.copy()
            own[silent] = 0.0
        traces = traces + own
        for unit in truth.unit_ids if number and is_silent is not None else []:
            samples = truth.get_unit_spike_train(unit, segment_index=0)
            if is_silent:
                samples = samples[(samples < silent.start) | (samples >= silent.stop)]
            trains.append(samples)
    traces = traces.astype("float32")
    sampling_frequency = made.get_sampling_frequency()
    for sample in rng.integers(0, len(traces) - 60, num_pulses):
        traces[sample : sample + 6] -= rng.uniform(*PULSE_UV)
        traces[sample + 6 : sample + 12] += rng.uniform(*PULSE_UV)
    recording = _int16(traces, sampling_frequency, made.get_probe())
    truth = NumpySorting.from_unit_dict([dict(enumerate(trains))], sampling_frequency)
    return recording, truth


def _int16(traces_uv, sampling_frequency, probe):
    """Recording of traces (num_samples, num_channels) as converters store it."""
    from made_recordings import GAIN_UV
    from spikeinterface.core import NumpyRecording

    steps = np.round(traces_uv / GAIN_UV).clip(-32768, 32767).astype("int16")
    made = NumpyRecording([steps], sampling_frequency)
    made = made.set_probe(probe) or made
    made.set_channel_gains(GAIN_UV)
    made.set_channel_offsets(0.0)
    return made
