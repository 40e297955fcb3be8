"""Are units of different days recognised as one neuron? Simulated sessions, beside UnitMatchPy and correlation.

    python benchmarks/tracking.py [--seeds 1 2 3 4 5 6 7 8] [--only tetrode,column] [--sortings SECONDS]
    python benchmarks/tracking.py --fit

Two to five sessions of a tetrode, a column, a staggered shank and a patch of Neuropixels 1.0. Between any two
sessions the probe moves by up to 60 um, amplitudes change by 0.7 to 1.4 and a third of the neurons are replaced.
Units are the neurons with peaks above 40 uV, with templates as means of 100 to 3000 spikes (true sortings); with
`--sortings`, recordings of that duration are sorted with the default checkpoint instead. Each row of
benchmarks/results/tracking.json is one kind of probe. Scores of every pair of units of different sessions are pooled
over the seeds: area under the ROC curve, and recall at 95 % precision. Other methods are counted with and without a
one-to-one assignment of their scores, whichever gives the higher recall. Rows of kinds that --only leaves out are
kept. `no embedding` is `huidurep.track` without the embedding, with weights fitted again. `--fit` fits the constants
in huidurep/tracking/calibration.json to sessions of other seeds (from 1001).
"""

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tracking_calibration
from results_files import ROOT, package_version, read_results, run_header, write_results
from tracking_peers import correlation, has_unitmatch, one_to_one, unitmatch
from tracking_scores import pool, print_table
from tracking_sessions import KINDS, SOURCES, make_sessions, sort_sessions

from huidurep.tracking.assignment import assign_neurons
from huidurep.tracking.settings import load_calibration
from huidurep.tracking.track import compare_sessions, estimate_displacements

CALIBRATION_SEEDS = range(1001, 1065)
NUM_SESSIONS = (2, 3, 4, 5)
WITHOUT_EMBEDDING = ROOT / "benchmarks/results/tracking_weights_without_embedding.json"


def upper(matrix, sessions):
    """Entries of pairs of units of different sessions, the earlier one first."""
    session = np.repeat(np.arange(len(sessions)), [len(each.neurons) for each in sessions])
    return matrix[session[:, None] < session[None]]


def own_probabilities(units, calibration):
    """Probabilities (num_units, num_units) and neurons of `huidurep.track`, and the estimated displacements."""
    moves = estimate_displacements(units, calibration)
    found = compare_sessions(units, moves, calibration)
    starts = np.cumsum([0, *[len(each) for each in units]])
    matrix = np.zeros((starts[-1], starts[-1]))
    for (first, second), block in found.items():
        matrix[starts[first] : starts[first + 1], starts[second] : starts[second + 1]] = block
    neurons = np.concatenate(assign_neurons([len(each) for each in units], found))
    return matrix, neurons, moves


def measure(kind, seed, sort_s):
    """Row of one set of sessions."""
    began = time.process_time()
    sessions = make_sessions(kind, NUM_SESSIONS[seed % 4], seed, source=SOURCES[seed // 4 % 2])
    if sort_s:
        sessions = sort_sessions(sessions, sort_s, seed)
    units = tracking_calibration.describe(sessions)
    calibration = load_calibration()
    matrix, found, moves = own_probabilities(units, calibration)
    without = replace(calibration, weights=json.loads(WITHOUT_EMBEDDING.read_text(encoding="utf8")))
    matrix_without, *_ = own_probabilities(units, without)
    neurons = np.concatenate([each.neurons for each in sessions])
    same = upper(neurons[:, None] == neurons[None], sessions)
    joined = upper(found[:, None] == found[None], sessions)
    shifts = np.array([each.shift_um for each in sessions])
    errors = np.abs(moves - (shifts[None] - shifts[:, None]))[np.triu_indices(len(shifts), 1)]
    scores = {"huidurep": upper(matrix, sessions), "huidurep, no embedding": upper(matrix_without, sessions)}
    near, far = (correlation(sessions, nearest=each) for each in (True, False))
    peers = {"correlation, nearest place": near, "correlation": far}
    if has_unitmatch():
        peers["UnitMatchPy"] = unitmatch(sessions)
    for name, each in peers.items():
        scores[name] = upper(each, sessions)
        scores[f"{name}, one to one"] = upper(one_to_one(each, sessions), sessions)
    row = dict(
        kind=kind,
        seed=seed,
        num_units=[len(each.neurons) for each in sessions],
        shifts_um=[round(float(each), 1) for each in shifts],
        displacement_errors_um=[round(float(each), 1) for each in errors if np.isfinite(each)],
        joined=[int((joined & same).sum()), int(joined.sum()), int(same.sum())],
        seconds=round(time.process_time() - began, 1),
    )
    return row, same, scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 9)))
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS))
    parser.add_argument("--sortings", type=float, default=0.0, metavar="SECONDS", help="sort recordings this long")
    parser.add_argument("--fit", action="store_true", help="fit the constants instead")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    header = run_header(seed=arguments.seeds, sortings_s=arguments.sortings)
    if arguments.fit:
        path = ROOT / "huidurep/tracking/calibration.json"
        return tracking_calibration.fit(CALIBRATION_SEEDS, path, WITHOUT_EMBEDDING, header["commit"])
    header["versions"]["UnitMatchPy"] = package_version("UnitMatchPy")
    if not has_unitmatch():
        print("UnitMatchPy is not installed: its rows are missing (pip install --no-deps unitmatchpy mtscomp)")
    name = "tracking_sortings" if arguments.sortings else "tracking"
    output, rows, kinds = arguments.output or ROOT / f"benchmarks/results/{name}.json", [], []
    old = read_results(output)
    kept = {key: [row for row in old.get(key, []) if row["kind"] not in arguments.only] for key in ("rows", "sets")}
    for kind in arguments.only:
        measured = []
        for seed in arguments.seeds:
            measured.append(measure(kind, seed, arguments.sortings))
            rows.append(measured[-1][0])
            print(json.dumps(rows[-1]), flush=True)
        kinds.append(pool(kind, measured) | dict(seeds=arguments.seeds, commit=header["commit"]))
        write_results(output, dict(header=header, rows=kept["rows"] + kinds, sets=kept["sets"] + rows))
    print(f"seeds {arguments.seeds}, commit {header['commit']}, {header['versions']}")
    print_table(kinds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
