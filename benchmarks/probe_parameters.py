"""Detection and unit thresholds on types of probe of which made_recordings.py has no recording.

    python benchmarks/probe_parameters.py [--seeds 81,82] [--output benchmarks/results/probe_parameters.json]

Static recordings of 25 units on 64 contacts, or on the 32 of two silicon probes that are none of the types known, 60 s,
10 uV noise, made with the package's simulator; with the defaults of SortingParameters, and with those that the tetrode
and single-column checkpoints ship.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import probeinterface
import spikeinterface.core as si
from results_files import ROOT, run_header, write_results
from sorting import score
from table_text import markdown

import huidurep
from huidurep.simulation.probes import contact_layout

PROBES = ("neuropixels-2.0", "hd-mea", "poly2", "poly3")
SETTINGS = {
    "defaults": dict(detect_threshold=4.5, unit_threshold=0.0),
    "as linear": dict(detect_threshold=4.0, unit_threshold=4.4),
}
SIMULATION = dict(num_units=25, duration_s=60.0, noise_uv=10.0, drift_um=0.0)
NUM_CONTACTS = 64


def contacts(kind):
    """Contacts (num_contacts, 2) um; "poly2", "poly3": two, three staggered columns, as on NeuroNexus' A1x32."""
    if kind == "poly2":
        return np.array([(43.0 * (row % 2), 25.0 * row) for row in range(32)])
    if kind == "poly3":
        middle = [(18.0, 25.0 * row) for row in range(12)]
        return np.array(middle + [(x, 12.5 + 25.0 * row) for x in (0.0, 36.0) for row in range(10)])
    return contact_layout(kind, NUM_CONTACTS)


def make_recording(kind, seed):
    """A recording on a patch of a probe, and its truth."""
    probe = probeinterface.Probe(ndim=2)
    probe.set_contacts(contacts(kind), shapes="square", shape_params={"width": 10})
    probe.set_device_channel_indices(range(len(probe.contact_positions)))
    return huidurep.simulate_recording(probe=probe, seed=seed, **SIMULATION)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="81,82")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/probe_parameters.json")
    arguments = parser.parse_args()
    si.set_global_job_kwargs(n_jobs=1, progress_bar=False)
    rows = []
    for kind in PROBES:
        for seed in map(int, arguments.seeds.split(",")):
            recording, truth = make_recording(kind, seed)
            for name, parameters in SETTINGS.items():
                began = time.perf_counter()
                result = huidurep.SpikeSortingPipeline.from_pretrained("auto", seed=0, **parameters)(recording)
                row = dict(probe=kind, seed=seed, setting=name, checkpoint=result.model_name)
                row["seconds"] = round(time.perf_counter() - began, 1)
                rows.append(row | {key: value for key, value in score(truth, result.sorting).items() if key != "units"})
    header = run_header(seed=0, simulation=SIMULATION, settings=SETTINGS)
    write_results(arguments.output, dict(header=header, rows=rows))
    names = (
        "probe",
        "checkpoint",
        "seed",
        "setting",
        "accuracy",
        "units_found",
        "false_positive_units",
        "redundant_units",
        "seconds",
    )
    print(markdown(names, [[row[name] for name in names] for row in rows]))
    print(f"Commit {header['commit']}, seed 0, versions {header['versions']}")


if __name__ == "__main__":
    main()
