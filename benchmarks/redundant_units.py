"""Does one neuron become several units, or do two become one? Recordings of three or four neurons that invite it.

    python benchmarks/redundant_units.py [--kinds fast,bursts] [--probes tetrode] [--seeds 50-53]
        [--sorters huidurep,lupin] [--output FILE]

Kinds: `after_wave`, a neuron of 200 to 900 uV whose spikes have a second trough 1 to 1.6 ms later; `fast`, one of 60 to
100 Hz; `bursts`, one whose spikes lose 15 % of their amplitude from one to the next of a burst; `plain`, four neurons
without any of that; `coupled`, one that fires 2 ms (standard deviation 0.3 ms) after 60 % of the spikes of another;
`alike`, two of similar waveforms; `driven`, two such neurons that fire rarely, one of them 2 ms after spikes of a fast
one. In these three all neurons must stay. `two_fast` has two of 60 to 100 Hz, whose spikes often overlap. Amplitudes,
firing rates, sampling rates of 10 to 30 kHz and the other neurons are drawn with the seed; spikes fall between samples,
traces are int16 with a gain and an offset. Settings were tuned on seeds 0 to 9, 20 to 25, 40 to 43 and from 500 on.
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from scipy.signal import butter, sosfilt, sosfiltfilt

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_files import read_results, run_header, write_results

SAMPLING_HZ = (10e3, 12.5e3, 15e3, 20e3, 25e3, 30e3)
POSITIONS_UM = {
    "single": [(0.0, 0.0)],
    "tetrode": [(0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5)],
    "column": [(0.0, 20.0 * row) for row in range(16)],
}
KINDS = ("after_wave", "fast", "bursts", "plain", "coupled", "alike", "driven", "two_fast")
DURATION_S, NOISE_UV, GAIN_UV, OFFSET_UV = 40.0, 8.0, 0.195, 37.0
OVERSAMPLING = 8  # positions of a spike between two samples
BURST_FACTOR, SPIKE_JITTER = 0.85, 0.05
COUPLING_MS, COUPLING_JITTER_MS, COUPLED_SHARE = 2.0, 0.3, 0.6
AGREEMENT_MS = 0.4


def draw_train(rng, rate_hz, refractory_ms=3.0):
    """Times (s) of a Poisson train with a refractory period."""
    dead_s = refractory_ms * 1e-3
    gaps = dead_s + rng.exponential(1 / rate_hz - dead_s, int(3 * rate_hz * DURATION_S) + 20)
    times_s = np.cumsum(gaps)
    return times_s[times_s < DURATION_S - 0.01]


def draw_bursts(rng):
    """Times (s), and amplitude factors that fall from spike to spike, of bursts of 1 to 7 spikes 3 to 8 ms apart."""
    times_s, factors = [], []
    for start in draw_train(rng, rng.uniform(1.5, 4.0), refractory_ms=80.0):
        size = rng.integers(1, 8)
        times_s.append(start + np.concatenate([[0.0], np.cumsum(rng.uniform(3e-3, 8e-3, size - 1))]))
        factors.append(BURST_FACTOR ** np.arange(size))
    return np.concatenate(times_s), np.concatenate(factors)


def draw_waveforms(rng, kind, positions_um, sampling_hz):
    """Waveforms (num_samples, num_channels) of the neurons at OVERSAMPLING times the rate, and the trough's sample."""
    from huidurep.simulation.templates import draw_templates

    fast_hz = OVERSAMPLING * sampling_hz
    first_uv = {"after_wave": (200.0, 900.0), "fast": (80.0, 400.0), "bursts": (200.0, 600.0)}.get(kind, (90.0, 300.0))
    ranges = [first_uv] + [(60.0, 200.0)] * (3 if kind == "plain" else 2)
    waveforms = []
    for low_uv, high_uv in ranges:
        wanted_uv = rng.uniform(low_uv, high_uv)
        options = dict(num_views=1, amplitude_range_uv=(40.0, 900.0), sampling_frequency=fast_hz)
        drawn = draw_templates(rng, positions_um, 1, displacements_um=np.zeros((1, 3)), **options)
        one = drawn.waveforms[0, 0]
        waveforms.append(one * (-wanted_uv / one.min()))
    if kind == "after_wave":
        lag = int(rng.uniform(1.0e-3, 1.6e-3) * fast_hz)
        waveforms[0][lag:] += rng.uniform(0.15, 0.45) * waveforms[0][:-lag]
    if kind == "alike":
        spread = rng.uniform(0.85, 1.15, len(positions_um))
        waveforms[1] = waveforms[0] * spread * rng.uniform(0.55, 0.7)
    elif kind == "driven":
        waveforms[2] = waveforms[1] * rng.uniform(0.9, 1.1, len(positions_um)) * rng.uniform(0.55, 0.75)
    # what an amplifier would record
    low_pass = butter(4, 0.45 * sampling_hz, fs=fast_hz, output="sos")
    return [sosfiltfilt(low_pass, each, axis=0) for each in waveforms], drawn.peak_index


def draw_driven(rng, times_s, share, own_hz=0.0):
    """Times (s) of a neuron that follows a share of the spikes at `times_s`, and fires by itself at a rate."""
    driven = times_s[rng.random(len(times_s)) < share]
    lags_ms = COUPLING_MS + COUPLING_JITTER_MS * rng.standard_normal(len(driven))
    own = draw_train(rng, own_hz) if own_hz else np.zeros(0)
    merged = np.sort(np.concatenate([driven + 1e-3 * lags_ms, own]))
    return merged[np.diff(merged, prepend=-1.0) > 3e-3]


def draw_trains(rng, kind, num_neurons):
    """Times (s) and amplitude factors of every neuron."""
    times_s = [draw_train(rng, rng.uniform(4.0, 15.0)) for _ in range(num_neurons)]
    factors = [np.ones(len(each)) for each in times_s]
    if kind == "fast":
        times_s[0] = draw_train(rng, rng.uniform(60.0, 100.0), refractory_ms=rng.uniform(2.0, 3.0))
        factors[0] = np.ones(len(times_s[0]))
    elif kind == "two_fast":
        times_s[:2] = (draw_train(rng, rng.uniform(60.0, 100.0), rng.uniform(2.0, 3.0)) for _ in range(2))
        factors[:2] = (np.ones(len(each)) for each in times_s[:2])
    elif kind == "bursts":
        times_s[0], factors[0] = draw_bursts(rng)
    elif kind == "coupled":
        times_s[1] = draw_driven(rng, times_s[0], COUPLED_SHARE, own_hz=3.0)
        factors[1] = np.ones(len(times_s[1]))
    elif kind == "driven":
        times_s[:2] = (draw_train(rng, rng.uniform(*range_hz)) for range_hz in ((60.0, 100.0), (1.5, 3.0)))
        times_s[2] = draw_driven(rng, times_s[0], rng.uniform(0.02, 0.05))
        factors = [np.ones(len(each)) for each in times_s]
    return times_s, [each * (1 + SPIKE_JITTER * rng.standard_normal(len(each))) for each in factors]


def draw_noise(rng, num_samples, positions_um, sampling_hz):
    """Noise (num_samples, num_channels) of NOISE_UV in the band, correlated between near contacts."""
    distances = np.linalg.norm(positions_um[:, None] - positions_um[None], axis=-1)
    mixing = np.linalg.cholesky(0.6 * np.exp(-distances / 40.0) + 0.4 * np.eye(len(positions_um)))
    noise = rng.standard_normal((num_samples, len(positions_um))) @ mixing.T
    band = butter(3, (300.0, min(6000.0, 0.45 * sampling_hz)), "bandpass", fs=sampling_hz, output="sos")
    return noise * (NOISE_UV / sosfilt(band, noise[:50000], axis=0).std())


def make_recording(kind, probe, seed, sampling_hz=None):
    """Recording (int16 with gain and offset) and the true sorting of one case."""
    import probeinterface
    import spikeinterface.core as si

    rng = np.random.default_rng([KINDS.index(kind), list(POSITIONS_UM).index(probe), seed])
    drawn_hz = rng.choice(SAMPLING_HZ)
    sampling_hz = float(sampling_hz or drawn_hz)
    positions_um = np.array(POSITIONS_UM[probe])
    waveforms, peak = draw_waveforms(rng, kind, positions_um, sampling_hz)
    times_s, factors = draw_trains(rng, kind, len(waveforms))
    traces = draw_noise(rng, int(DURATION_S * sampling_hz), positions_um, sampling_hz)
    samples = []
    for waveform, times, factor in zip(waveforms, times_s, factors, strict=True):
        ticks = np.round(times * sampling_hz * OVERSAMPLING).astype(int)
        nearest, start = -(-ticks // OVERSAMPLING), ticks - peak
        for first, scale in zip(start, factor, strict=True):
            skipped = -first % OVERSAMPLING
            piece = waveform[skipped::OVERSAMPLING]
            at = (first + skipped) // OVERSAMPLING
            if 0 <= at and at + len(piece) <= len(traces):
                traces[at : at + len(piece)] += scale * piece
        samples.append(nearest)
    recording = si.NumpyRecording([np.round((traces - OFFSET_UV) / GAIN_UV).astype("int16")], sampling_hz)
    made = probeinterface.Probe(ndim=2)
    made.set_contacts(positions_um, shapes="circle", shape_params={"radius": 6})
    made.set_device_channel_indices(np.arange(len(positions_um)))
    recording = recording.set_probe(made) or recording
    recording.set_channel_gains(GAIN_UV)
    recording.set_channel_offsets(OFFSET_UV)
    truth = si.NumpySorting.from_unit_dict([dict(enumerate(samples))], sampling_hz)
    return recording, truth


def score(truth, sorting):
    """True units, units found, units that are nobody's best match, mean and lowest accuracy of the true units."""
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    num_true, num_found = truth.get_num_units(), sorting.get_num_units()
    if num_found == 0:
        return dict(true=num_true, found=0, extra=0, good_extra=0, accuracy=0.0, lowest=0.0)
    comparison = compare_sorter_to_ground_truth(truth, sorting, exhaustive_gt=True, delta_time=AGREEMENT_MS)
    accuracy = comparison.get_performance()["accuracy"].to_numpy(float)
    matched = set(np.asarray(comparison.hungarian_match_12.to_numpy()).tolist())
    is_extra = np.array([unit not in matched for unit in sorting.unit_ids])
    quality = sorting.get_property("quality")  # peers have no labels
    return dict(
        true=num_true,
        found=num_found,
        extra=int(is_extra.sum()),
        good_extra=None if quality is None else int((is_extra & (np.asarray(quality) == "good")).sum()),
        accuracy=round(float(accuracy.mean()), 4),
        lowest=round(float(accuracy.min()), 4),
    )


def sort(sorter, recording):
    """Sorting by huidurep, or by another sorter with its defaults, but for filters beyond the sampling frequency."""
    import huidurep

    if sorter == "huidurep":
        return huidurep.sort(recording)
    from spikeinterface.sorters import get_default_sorter_params, run_sorter

    highest_hz, options = 0.45 * recording.get_sampling_frequency(), {}
    if get_default_sorter_params(sorter).get("freq_max", 0) > highest_hz:
        options["freq_max"] = highest_hz
    with tempfile.TemporaryDirectory() as folder:
        stored = recording.save(folder=f"{folder}/recording", verbose=False)
        return run_sorter(sorter, stored, folder=f"{folder}/sorted", verbose=False, **options)


def seeds_of(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--probes", default="tetrode", help=", ".join(POSITIONS_UM))
    parser.add_argument("--seeds", default="50-53", help="first and last seed, as 0-5")
    parser.add_argument("--sorters", default="huidurep")
    parser.add_argument("--output", type=Path, help="a results file; cases that are in it are not sorted again")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    from sorting_tables import redundancy_block

    kinds, probes, sorters = (text.split(",") for text in (arguments.kinds, arguments.probes, arguments.sorters))
    header = run_header(seed=arguments.seeds)
    rows = read_results(arguments.output).get("rows", []) if arguments.output else []
    done = {(row["kind"], row["probe"], row["seed"], row["sorter"]) for row in rows}
    cases = [(kind, probe, seed) for seed in seeds_of(arguments.seeds) for kind in kinds for probe in probes]
    for case in cases:
        left = [sorter for sorter in sorters if (*case, sorter) not in done]
        recording, truth = make_recording(*case) if left else (None, None)
        for sorter in left:
            row = dict(zip(("kind", "probe", "seed"), case, strict=True)) | dict(sorter=sorter, commit=header["commit"])
            rows.append(row | score(truth, sort(sorter, recording)))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
            if arguments.output:
                write_results(arguments.output, dict(header=header, rows=rows))
    print(redundancy_block(dict(header=header, rows=rows)))


if __name__ == "__main__":
    main()
