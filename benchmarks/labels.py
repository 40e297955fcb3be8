"""Are units labelled "good" right, and right units labelled "good"? On recordings with known neurons.

    python benchmarks/labels.py [--seeds 11 12 13] [--only tet_plain,np1_far] [--settings '{"min_snr": 4.5}']

Each recording (`labels_recordings.py`) is sorted with the default checkpoint and parameters. The agreement of a unit
with its best neuron is the number of common spikes over the number of spikes of either (SpikeInterface). Printed for
each type of probe: the share of good units among accurate units (agreement >= 0.9), among false positives (< 0.1), and
among those between. Each row of benchmarks/results/labels.json is one recording: counts, and the units whose label
is wrong, accurate ones with the reason that they were given. Thresholds (`QualitySettings`) were chosen on seeds 1 and
2; other seeds test them. `--settings` tries other thresholds.
"""

import argparse
import dataclasses
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from labels_recordings import RECORDINGS, make_recording
from results_files import ROOT, run_header, write_results

CLASSES = {"accurate": (0.9, 1.01), "between": (0.5, 0.9), "poor": (0.1, 0.5), "false": (0.0, 0.1)}
PROBES = {"tet": "tetrode", "wire": "single contact", "lin16": "linear-16", "lin32": "linear-32", "np1": "np1-64"}


def best_agreements(truth, sorting):
    """Agreement (num_units,) of each unit with its best neuron; 0 without neurons."""
    from spikeinterface.comparison import compare_sorter_to_ground_truth

    if not truth.get_num_units() or not sorting.get_num_units():
        return np.zeros(sorting.get_num_units())
    comparison = compare_sorter_to_ground_truth(truth, sorting, exhaustive_gt=True)
    return comparison.agreement_scores.to_numpy(dtype=float).max(axis=0)


def measure(name, seed, settings):
    """Row of one recording."""
    import huidurep

    began = time.perf_counter()
    recording, truth = make_recording(**RECORDINGS[name], seed=seed)
    result = huidurep.SpikeSortingPipeline.from_pretrained("auto", settings=settings)(recording)
    sorting = result.sorting
    agreement = best_agreements(truth, sorting)
    row = dict(name=name, seed=seed, num_units=len(agreement), num_neurons=truth.get_num_units())
    if len(agreement) == 0:
        return row | dict(counts={}, wrong=[], seconds=round(time.perf_counter() - began, 1))
    is_good, reasons = sorting.get_property("quality") == "good", sorting.get_property("quality_reason")
    counts = {}
    for label, (low, high) in CLASSES.items():
        own = (agreement >= low) & (agreement < high)
        counts[label] = [int((is_good & own).sum()), int(own.sum())]
    wrong = np.flatnonzero(is_good != (agreement >= 0.9))
    row["counts"] = counts
    row["wrong"] = [[round(float(agreement[unit]), 2), str(reasons[unit])] for unit in wrong]
    return row | dict(seconds=round(time.perf_counter() - began, 1))


def print_table(rows):
    """Good units of all units, in each class and for each type of probe."""
    print(f"{'good of':<16}" + "".join(f"{label:>16}" for label in CLASSES))
    for prefix, title in [*PROBES.items(), ("", "all")]:
        own = [row["counts"] for row in rows if row["name"].startswith(prefix) and row["counts"]]
        cells = []
        for label in CLASSES:
            good, total = np.sum([counts[label] for counts in own], axis=0) if own else (0, 0)
            cells.append(f"{good}/{total} ({good / total:.0%})" if total else "-")
        print(f"{title:<16}" + "".join(f"{cell:>16}" for cell in cells))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[11, 12])
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(RECORDINGS))
    parser.add_argument("--settings", type=json.loads, default={}, help="JSON of fields of QualitySettings")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/labels.json")
    arguments = parser.parse_args()
    import spikeinterface

    from huidurep.sorting.quality_metrics import QualitySettings
    from huidurep.sorting.stage_settings import StageSettings

    warnings.simplefilter("ignore")
    spikeinterface.set_global_job_kwargs(n_jobs=1, progress_bar=False)
    quality = QualitySettings(**arguments.settings)
    header, rows = run_header(seed=arguments.seeds, **dataclasses.asdict(quality)), []
    for seed in arguments.seeds:
        for name in arguments.only:
            rows.append(measure(name, seed, StageSettings(quality=quality)))
            print(json.dumps(rows[-1]), flush=True)
            write_results(arguments.output, header | dict(rows=rows))
    print_table(rows)


if __name__ == "__main__":
    main()
