"""Sort the locust tetrode recordings (15 kHz, no probe, no gains, no ground truth) with HuiduRep and other sorters.

    python benchmarks/locust.py [--folder ../shared/data/real/locust_tetrode] [--sorters huidurep,lupin,...]

Measures without ground truth: units, their spikes, and the fraction of inter-spike intervals below 1.5 ms. SNR is
computed in the same way for all sorters: the largest trough of a unit's template divided by the noise (median absolute
deviation) of that channel, 300-6000 Hz.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import spikeinterface.core as si
import spikeinterface.preprocessing as spre
from results_files import ROOT, package_version, run_header, write_results
from sorting import PACKAGE_OF, SORTERS, error_line, run_one
from sorting_tables import FEW_VIOLATIONS

from huidurep.sorting.parameters import SortingParameters
from huidurep.sorting.waveforms import mean_waveforms

VIOLATION_MS = 1.5
SPACING_UM = 12.5  # of a tetrode, for sorters that need a probe
SEED, THREADS = 0, 1


def load(path):
    """Recording of four channels with the contacts of a usual tetrode; no gain is stored, 1 uV a step is assumed."""
    recording = si.read_binary(path, sampling_frequency=15000.0, num_channels=4, dtype="int16")
    square = SPACING_UM * np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
    recording.set_dummy_probe_from_locations(square)
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def describe_units(recording, sorting):
    """Number of spikes, fraction of short inter-spike intervals and SNR of each unit."""
    filtered = spre.bandpass_filter(recording, freq_min=300.0, freq_max=6000.0, dtype="float32")
    noise = si.get_noise_levels(filtered, return_in_uV=False, random_slices_kwargs={"seed": SEED})
    vector = sorting.to_spike_vector()
    templates = mean_waveforms(filtered, vector, sorting.get_num_units(), SortingParameters())
    snr = (-templates.min(axis=1) / noise).max(axis=1) if len(templates) else []
    units = []
    for index in range(sorting.get_num_units()):
        times_ms = 1000.0 * vector["sample_index"][vector["unit_index"] == index] / recording.get_sampling_frequency()
        short = float((np.diff(times_ms) < VIOLATION_MS).mean()) if len(times_ms) > 1 else 0.0
        units.append(dict(num_spikes=len(times_ms), violations=round(short, 4), snr=round(float(snr[index]), 1)))
    return units


def run(sorter, path, folder):
    """Row of one sorter on one recording."""
    row = dict(recording=path.stem, sorter=sorter)
    row["version"] = package_version(PACKAGE_OF.get(sorter, "spikeinterface"))
    recording, began = load(path), time.perf_counter()
    try:
        options = dict(drifting=False, model="auto", seed=SEED, threads=THREADS, folder=folder, retry=False)
        sorting, used = run_one(sorter, recording, **options)
    except Exception as error:  # a sorter that fails has a row, too
        return row | dict(error=f"{type(error).__name__}: {error_line(error)}")
    seconds = round(time.perf_counter() - began, 1)
    return row | used | dict(seconds=seconds, units=describe_units(recording, sorting))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "../shared/data/real/locust_tetrode")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/locust.json")
    parser.add_argument("--sorters", default=",".join(SORTERS))
    arguments = parser.parse_args()
    si.set_global_job_kwargs(n_jobs=THREADS, progress_bar=False)
    rows = []
    for sorter in arguments.sorters.split(","):
        for path in sorted(arguments.folder.glob("*.raw")):
            with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
                rows.append(run(sorter, path, Path(folder) / "out"))
            units = rows[-1].get("units", [])
            clean = sum(unit["violations"] < FEW_VIOLATIONS for unit in units)
            print(f"{sorter} {path.stem}: {len(units)} units, {clean} clean; {rows[-1].get('error', '')}", flush=True)
    write_results(arguments.output, dict(header=run_header(seed=SEED), rows=rows))


if __name__ == "__main__":
    main()
