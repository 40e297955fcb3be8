"""What `huidurep.track(..., use_isi=True)` gives: recall of pairs at 95 % precision, with and without intervals.

    python benchmarks/tracking_intervals.py --opto FILE.npz [--seeds 61 62 63 64 65 66] [--only tetrode,column]

Sessions are those of benchmarks/tracking.py. The spike times of a neuron are those of a real opto-tagged unit: five
parts of its recording, one a session, of which the first 40 s or 150 s are used. Its intervals are stretched by a
factor of the neuron (0.6 to 1.6) and one of the session (0.7 to 1.4).
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from spikeinterface.core import NumpySorting

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tracking_calibration
from table_text import markdown
from tracking import NUM_SESSIONS, own_probabilities, upper
from tracking_scores import recall_at_precision
from tracking_sessions import GAIN_RANGE, KINDS, RATE_HZ, SOURCES, make_sessions

from huidurep.tracking.sessions import isi_histograms
from huidurep.tracking.settings import load_calibration

DURATIONS_S = (40.0, 150.0)
NUM_PARTS, PART_S, MIN_SPIKES = 5, 238.0, 60
NEURON_STRETCH = (0.6, 1.6)


def read_trains(path):
    """Spike times (s) of every part of each real unit that has some spikes in all of them."""
    found = []
    with np.load(path) as data:
        for unit in range(sum(name.startswith("spike_times_s_") for name in data.files)):
            times_s = data[f"spike_times_s_{unit}"].astype(float)
            starts = PART_S * np.arange(NUM_PARTS)
            parts = [times_s[(times_s >= start) & (times_s < start + PART_S)] - start for start in starts]
            if min(map(len, parts)) >= MIN_SPIKES:
                found.append(parts)
    return found


def draw_histograms(rng, trains, sessions, duration_s):
    """Intervals of the units of each session: arrays (num_units, num_bins)."""
    num_neurons = 1 + max(each.neurons.max() for each in sessions)
    repeats = num_neurons // len(trains) + 1
    order = np.concatenate([rng.permutation(len(trains)) for _ in range(repeats)])
    times_s = []
    for neuron in range(num_neurons):
        own = np.exp(rng.uniform(*np.log(NEURON_STRETCH)))
        rates = np.exp(rng.uniform(*np.log(GAIN_RANGE), len(sessions)))
        stretched = [own / rate * part for rate, part in zip(rates, trains[order[neuron]], strict=False)]
        times_s.append([each[each < duration_s] for each in stretched])
    found = []
    for number, session in enumerate(sessions):
        own = (np.unique((times_s[neuron][number] * RATE_HZ).astype(int)) for neuron in session.neurons)
        found.append(isi_histograms(NumpySorting.from_unit_dict(dict(enumerate(own)), RATE_HZ)))
    return found


def measure(kind, seed, trains):
    """Whether each pair is one neuron, and its probabilities without intervals and with those of each duration."""
    sessions = make_sessions(kind, NUM_SESSIONS[seed % 4], seed, source=SOURCES[seed // 4 % 2])
    units, calibration = tracking_calibration.describe(sessions), load_calibration()
    neurons = np.concatenate([each.neurons for each in sessions])
    probabilities = [upper(own_probabilities(units, calibration)[0], sessions)]
    for duration_s in DURATIONS_S:
        rng = np.random.default_rng([seed, list(KINDS).index(kind), int(duration_s)])
        histograms = draw_histograms(rng, trains, sessions, duration_s)
        with_them = [replace(each, isi_histograms=own) for each, own in zip(units, histograms, strict=True)]
        probabilities.append(upper(own_probabilities(with_them, calibration)[0], sessions))
    return upper(neurons[:, None] == neurons[None], sessions), probabilities


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--opto", type=Path, required=True, help="opto_tagged_units.npz")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(61, 67)))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS))
    arguments = parser.parse_args()
    trains, lines = read_trains(arguments.opto), []
    for kind in arguments.only:
        measured = [measure(kind, seed, trains) for seed in arguments.seeds]
        same = np.concatenate([each for each, _ in measured])
        columns = zip(*(each for _, each in measured), strict=True)
        recalls = [recall_at_precision(np.concatenate(values), same) for values in columns]
        lines.append([kind, str(same.sum()), *(f"{each:.3f}" for each in recalls)])
    print(f"{len(trains)} real units, seeds {arguments.seeds}")
    print(markdown(["probe", "pairs", "without", *(f"with {each:.0f} s a session" for each in DURATIONS_S)], lines))


if __name__ == "__main__":
    main()
