"""Make recordings with ground truth for benchmarks/sorting.py: of simulated neurons, or hybrids of real units.

    python benchmarks/made_recordings.py FOLDER --kind simulated
    python benchmarks/made_recordings.py FOLDER --kind cells --cells CELLS [--seed 1] [--only tet_static,...]
    python benchmarks/made_recordings.py FOLDER --kind opto --opto FILE.npz --noise FOLDER

`simulated` and `cells` make the recordings of `SIMULATED` with `huidurep.simulate_recording`: the former with its
procedural neurons, the latter with detailed neuron models, CELLS being the folder of `huidurep simulate cells CELLS`.
`opto` makes hybrid recordings (benchmarks/hybrid_recordings.py), one for each probe. Without --seed, the seeds of
the published table (`SEEDS`) are made. Each recording is a folder FOLDER/NAME_sSEED with recording.json (int16
traces), sorting/ and ground_truth.npz; folders that exist are left as they are.

The rows of the published table that belong to `cells` were measured on recordings of an earlier script, which is not
part of this repository: same probes, units, amplitudes, noise level and range of drift, but with distant neurons in
the noise, bursts and non-rigid drift. They are comparable with new rows only after all sorters have run again.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

GAIN_UV = 0.195  # of Intan's converters
OPTO_NOISE_UV = 10.0

# name -> arguments of `simulate_recording`; its default noise is 8 uV, "np1-64" is `neuropixels_patch`
SIMULATED = {
    "tet_static": dict(probe="tetrode", num_units=10, duration_s=240.0),
    "tet_drift": dict(probe="tetrode", num_units=10, duration_s=240.0, drift_um=12.0),
    "tet_lowsnr": dict(probe="tetrode", num_units=8, duration_s=240.0, amplitude_range_uv=(30.0, 80.0)),
    "lin32_drift": dict(probe="linear-32", num_units=20, duration_s=180.0, drift_um=20.0),
    "np1_static": dict(probe="np1-64", num_units=40, duration_s=120.0),
    "np1_drift": dict(probe="np1-64", num_units=40, duration_s=120.0, drift_um=20.0),
}
CELLS_AMPLITUDES_UV = (40.0, 350.0)  # where SIMULATED has none

# kind -> name -> seeds of the recordings behind the published table
SEEDS = {
    "simulated": {name: (61,) for name in SIMULATED},
    "cells": {name: (number, 40 + number, 50 + number) for number, name in enumerate(SIMULATED, start=1)},
    "opto": {name: (201, 202) for name in ("opto_linear", "opto_neuropixels10")},
}


def neuropixels_patch(num_contacts=64):
    """Neighbouring contacts of Neuropixels 1.0."""
    import probeinterface

    from huidurep.simulation.probes import contact_layout

    probe = probeinterface.Probe(ndim=2)
    places = contact_layout("neuropixels-1.0", num_contacts)
    probe.set_contacts(places, shapes="square", shape_params={"width": 12})
    probe.set_device_channel_indices(np.arange(num_contacts))
    return probe


def write(recording, sorting, folder, drifting):
    """Write a recording in uV and its ground truth; the folder appears when it is complete."""
    from spikeinterface.core import NumpyRecording

    from huidurep.output_files import new_folder

    traces = np.round(recording.get_traces() / GAIN_UV).clip(-32768, 32767).astype("int16")
    made = NumpyRecording([traces], recording.get_sampling_frequency())
    made = made.set_probe(recording.get_probe()) or made
    made.set_channel_gains(GAIN_UV)
    made.set_channel_offsets(0.0)
    spikes = sorting.to_spike_vector()
    truth = dict(samples=spikes["sample_index"], labels=spikes["unit_index"])
    truth |= dict(peak_uv=sorting.get_property("peak_uv"), drift_um=np.array([0.0, float(drifting)]))
    with new_folder(folder) as temporary:
        stored = made.save(folder=temporary / "traces", format="binary", progress_bar=False, n_jobs=1)
        stored.dump(temporary / "recording.json", relative_to=temporary)
        sorting.save(folder=temporary / "sorting")
        np.savez(temporary / "ground_truth.npz", **truth)


def make_simulated(name, seed, cells=None):
    """Recording, ground truth and drift in um; of detailed neuron models where their folder is given."""
    from huidurep import simulate_recording

    settings = dict(SIMULATED[name])
    drift_um = settings.get("drift_um", 0.0)
    if settings["probe"] == "np1-64":
        settings["probe"] = neuropixels_patch()
    if cells is not None:
        settings = dict(amplitude_range_uv=CELLS_AMPLITUDES_UV, source=cells) | settings
    return *simulate_recording(**settings, seed=seed), drift_um


def make_opto(name, seed, opto, noise):
    """Recording, ground truth and drift in um of hybrids of opto-tagged units."""
    from hybrid_recordings import PROBES, hybrid_recording

    probe = next(probe for probe in PROBES if f"opto_{probe.replace('.', '').replace('-', '')}" == name)
    return *hybrid_recording(probe, noise_uv=OPTO_NOISE_UV, seed=seed, opto=opto, noise=noise), 0.0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=tuple(SEEDS), default="simulated")
    parser.add_argument("--seed", type=int, help="default: those of the published table")
    parser.add_argument("--only", type=lambda text: text.split(","), help="names, without the seed")
    parser.add_argument("--cells", type=Path, help="folder of `huidurep simulate cells`, for --kind cells")
    parser.add_argument("--opto", type=Path, help="opto_tagged_units.npz, for --kind opto")
    parser.add_argument("--noise", type=Path, help="folder of measured noise covariances, for --kind opto")
    arguments = parser.parse_args()
    for option in dict(cells=["cells"], opto=["opto", "noise"]).get(arguments.kind, []):
        if getattr(arguments, option) is None:
            parser.error(f"--kind {arguments.kind} needs --{option}")
    unknown = set(arguments.only or ()) - set(SEEDS[arguments.kind])
    if unknown:
        parser.error(f"expected names among {', '.join(SEEDS[arguments.kind])}, found {', '.join(sorted(unknown))}")
    return arguments


def main():
    arguments = parse()
    for name, seeds in SEEDS[arguments.kind].items():
        if arguments.only and name not in arguments.only:
            continue
        for seed in seeds if arguments.seed is None else (arguments.seed,):
            folder = arguments.folder / f"{name}_s{seed}"
            if folder.exists():
                continue
            if arguments.kind == "opto":
                made = make_opto(name, seed, arguments.opto, arguments.noise)
            else:
                made = make_simulated(name, seed, arguments.cells if arguments.kind == "cells" else None)
            recording, truth, drift_um = made
            write(recording, truth, folder, drift_um)
            print(f"{folder}: {len(truth.unit_ids)} units, {recording.get_total_duration():.0f} s", flush=True)


if __name__ == "__main__":
    main()
