"""Make recordings with ground truth for benchmarks/sorting.py: of simulated neurons, or hybrids of real units.

    python benchmarks/made_recordings.py FOLDER --kind simulated
    python benchmarks/made_recordings.py FOLDER --kind cells --cells CELLS [--seed 1] [--only tet_static,...]
    python benchmarks/made_recordings.py FOLDER --kind opto --opto FILE.npz --noise FOLDER
    python benchmarks/made_recordings.py FOLDER --kind generated --only generated384_60s

`simulated` makes the recordings of `SIMULATED` with `huidurep.simulate_recording`. `cells` makes those of `CELLS` with
detailed neuron models (cell_recordings.py), CELLS being the folder of `huidurep simulate cells CELLS`. `opto` makes
hybrid recordings (benchmarks/hybrid_recordings.py), one for each probe. `generated` makes those of SpikeInterface's
`generate_ground_truth_recording` that --only names. Without --seed, the seeds of the published
tables (`SEEDS`) are made; `simulated` is for trials and in no table. Each recording is a folder FOLDER/NAME_sSEED with
recording.json (int16 traces), sorting/ and ground_truth.npz; folders that exist are left as they are.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

GAIN_UV = 0.195  # of Intan's converters
RATE_HZ, OPTO_NOISE_UV = 30000.0, 10.0

# name -> arguments of `simulate_recording`; its default noise is 8 uV, probes are those of `make_probe`
SIMULATED = {
    "tet_static": dict(probe="tetrode", num_units=10, duration_s=240.0),
    "tet_drift": dict(probe="tetrode", num_units=10, duration_s=240.0, drift_um=12.0),
    "tet_lowsnr": dict(probe="tetrode", num_units=8, duration_s=240.0, amplitude_range_uv=(30.0, 80.0)),
    "column_drift": dict(probe="linear-32", num_units=20, duration_s=180.0, drift_um=20.0),
    "patch_static": dict(probe="np1-64", num_units=40, duration_s=120.0),
    "patch_drift": dict(probe="np1-64", num_units=40, duration_s=120.0, drift_um=20.0),
}
# name -> fields of `CellRecordingSettings`, and the probe
CELLS = {name: settings | dict(is_rigid=name.startswith("tet")) for name, settings in SIMULATED.items()}
CELLS["tet_far"] = SIMULATED["tet_drift"] | dict(drift_um=39.0)  # of the table of strong drift, made by --only alone
CELLS["array_static"] = dict(probe="hd-mea-64", num_units=40, duration_s=120.0)
# of the table of few contacts, made by --only alone
CELLS["staggered_drift"] = dict(probe="staggered-16", num_units=12, duration_s=120.0, drift_um=10.0)
CELLS["wire"] = dict(probe="single-contact-1", num_units=3, duration_s=120.0)

# name -> probe, units and seconds of SpikeInterface's generator
GENERATED = {
    "generated4": ("tetrode", 10, 120.0),
    "generated32": ("linear-32", 20, 120.0),
    "generated64": ("np1-64", 40, 120.0),
    "generated384": ("np1-384", 200, 120.0),
    "generated384_60s": ("np1-384", 120, 60.0),
}

# kind -> name -> seeds of the recordings behind the published table
SEEDS = {
    "simulated": {name: (61,) for name in SIMULATED},
    "cells": {name: (151, 152, 153, 154) for name in ("tet_static", "tet_drift", "tet_lowsnr")}
    | {name: (131, 132, 133, 134) for name in ("column_drift", "patch_static", "patch_drift", "array_static")}
    | dict(tet_far=(81, 82, 89, 90, 91, 92), staggered_drift=(71, 72, 73, 74), wire=(75, 76, 77, 78)),
    "opto": {name: (201, 202, 211, 212) for name in ("opto_staggered", "opto_neuropixels10")},
    "generated": {name: (31, 32, 33, 34) if name == "generated384_60s" else (21,) for name in GENERATED},
}


def make_probe(name):
    """Probe "tetrode" or TYPE-N: N neighbouring contacts of a type of probe ("np1": Neuropixels 1.0)."""
    import probeinterface

    from huidurep.simulation.probes import contact_layout

    kind, _, count = name.rpartition("-") if name[-1].isdigit() else (name, "", "")
    kind = "neuropixels-1.0" if kind == "np1" else kind
    positions = contact_layout(kind, int(count or 4))
    probe = probeinterface.Probe(ndim=2)
    probe.set_contacts(positions, shapes="circle", shape_params={"radius": 6})
    probe.set_device_channel_indices(np.arange(len(positions)))
    return probe


def write(recording, sorting, folder, drifting):
    """Write a recording in uV, second by second, and its ground truth; the folder appears when it is complete."""
    from spikeinterface.core import read_binary

    from huidurep.output_files import new_folder

    rate_hz, end = recording.get_sampling_frequency(), recording.get_num_samples()
    spikes = sorting.to_spike_vector()
    truth = dict(samples=spikes["sample_index"], labels=spikes["unit_index"])
    truth |= dict(peak_uv=sorting.get_property("peak_uv"), drift_um=np.array([0.0, float(drifting)]))
    with new_folder(folder) as temporary:
        with open(temporary / "traces.raw", "wb") as stream:
            for start in range(0, end, int(rate_hz)):
                traces = recording.get_traces(start_frame=start, end_frame=min(end, start + int(rate_hz)))
                np.round(traces / GAIN_UV).clip(-32768, 32767).astype("int16").tofile(stream)
        options = dict(gain_to_uV=GAIN_UV, offset_to_uV=0.0, channel_ids=recording.channel_ids)
        channels = recording.get_num_channels()
        stored = read_binary(temporary / "traces.raw", rate_hz, "int16", channels, **options)
        stored = stored.set_probe(recording.get_probe()) or stored
        stored.dump(temporary / "recording.json", relative_to=temporary)
        sorting.save(folder=temporary / "sorting")
        np.savez(temporary / "ground_truth.npz", **truth)


def make_simulated(name, seed):
    """Recording, ground truth and drift in um of procedural neurons."""
    from huidurep import simulate_recording

    settings = SIMULATED[name] | dict(probe=make_probe(SIMULATED[name]["probe"]))
    return *simulate_recording(**settings, seed=seed), settings.get("drift_um", 0.0)


def make_cells(name, seed, cells):
    """Recording, ground truth and drift in um of detailed neuron models."""
    from cell_recordings import CellRecordingSettings, simulate_cell_recording

    from huidurep.simulation.cell_library import load_cells

    fields = dict(CELLS[name])
    probe, settings = make_probe(fields.pop("probe")), CellRecordingSettings(**fields)
    return *simulate_cell_recording(load_cells(cells), probe, settings, seed=seed), settings.drift_um


def make_generated(name, seed):
    """Recording (lazy), ground truth and drift in um of SpikeInterface's generator."""
    recording, truth = generate(*GENERATED[name], seed)
    truth.set_property("peak_uv", np.abs(recording.templates).max(axis=(1, 2)))
    return recording, truth, 0.0


def generate(probe, num_units, duration_s, seed):
    """SpikeInterface's generated recording (lazy) and its true sorting."""
    from spikeinterface.core import generate_ground_truth_recording

    made = make_probe(probe)
    options = dict(durations=[duration_s], num_channels=made.get_contact_count(), num_units=num_units)
    return generate_ground_truth_recording(probe=made, seed=seed, sampling_frequency=RATE_HZ, **options)


def make_opto(name, seed, opto, noise):
    """Recording, ground truth and drift in um of hybrids of opto-tagged units."""
    from hybrid_recordings import PROBES, hybrid_recording

    probe = next(probe for probe in PROBES if f"opto_{probe.replace('.', '').replace('-', '')}" == name)
    return *hybrid_recording(probe, noise_uv=OPTO_NOISE_UV, seed=seed, opto=opto, noise=noise), 0.0


def with_seeds(name, seeds):
    """Names of the folders of one kind of recording."""
    return [f"{name}_s{seed}" for seed in seeds]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=tuple(SEEDS), default="simulated")
    parser.add_argument("--seed", type=int, help="default: those of the published table")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), help="names, with or without the seed, of any kind"
    )
    parser.add_argument("--cells", type=Path, help="folder of `huidurep simulate cells`, for --kind cells")
    parser.add_argument("--opto", type=Path, help="opto_tagged_units.npz, for --kind opto")
    parser.add_argument("--noise", type=Path, help="folder of measured noise covariances, for --kind opto")
    arguments = parser.parse_args()
    for option in dict(cells=["cells"], opto=["opto", "noise"]).get(arguments.kind, []):
        if getattr(arguments, option) is None:
            parser.error(f"--kind {arguments.kind} needs --{option}")
    known = {
        each for names in SEEDS.values() for name, seeds in names.items() for each in (name, *with_seeds(name, seeds))
    }
    if arguments.seed is None and (unknown := set(arguments.only or ()) - known):
        parser.error(f"expected names such as tet_static or tet_static_s1, found {', '.join(sorted(unknown))}")
    return arguments


def main():
    arguments = parse()
    wanted = set(arguments.only or [*SIMULATED, "array_static", *SEEDS["opto"]])
    for name, seeds in SEEDS[arguments.kind].items():
        for seed in seeds if arguments.seed is None else (arguments.seed,):
            folder = arguments.folder / f"{name}_s{seed}"
            if not {name, folder.name} & wanted or folder.exists():
                continue
            if arguments.kind == "opto":
                made = make_opto(name, seed, arguments.opto, arguments.noise)
            elif arguments.kind == "cells":
                made = make_cells(name, seed, arguments.cells)
            else:
                made = dict(simulated=make_simulated, generated=make_generated)[arguments.kind](name, seed)
            recording, truth, drift_um = made
            write(recording, truth, folder, drift_um)
            print(f"{folder}: {len(truth.unit_ids)} units, {recording.get_total_duration():.0f} s", flush=True)


if __name__ == "__main__":
    main()
