"""Write recordings of known truth, as benchmarks/sorting.py reads them, of the package's simulator or of real units.

    python benchmarks/made_recordings.py FOLDER --kind simulated --seed 61 [--only tet_drift,...]
    python benchmarks/made_recordings.py FOLDER --kind opto --seed 1 --opto FILE.npz --noise FOLDER

`simulated` makes one recording of each kind of shared/tools/suite.txt with `huidurep simulate`'s procedural neurons
(another simulator, other cells, other noise). `opto` makes hybrid recordings (benchmarks/hybrid_recordings.py), one for
each probe. Each lies in FOLDER/NAME_sSEED: recording.json with traces of 16 bits, sorting/, ground_truth.npz.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

GAIN_UV = 0.195  # of Intan's converters
DATA = Path(__file__).resolve().parents[2] / "shared/data"

# kind of shared/tools/suite.txt -> how `simulate_recording` makes its like; "np1-64" is made below
SIMULATED = {
    "tet_static": dict(probe="tetrode", num_units=10, duration_s=240.0),
    "tet_drift": dict(probe="tetrode", num_units=10, duration_s=240.0, drift_um=12.0),
    "tet_lowsnr": dict(probe="tetrode", num_units=8, duration_s=240.0, amplitude_range_uv=(30.0, 80.0)),
    "lin32_drift": dict(probe="linear-32", num_units=20, duration_s=180.0, drift_um=20.0),
    "np1_static": dict(probe="np1-64", num_units=40, duration_s=120.0),
    "np1_drift": dict(probe="np1-64", num_units=40, duration_s=120.0, drift_um=20.0),
}
OPTO_NOISE_UV = 10.0


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
    """Write a recording in uV and its truth."""
    from spikeinterface.core import NumpyRecording

    traces = np.round(recording.get_traces() / GAIN_UV).clip(-32768, 32767).astype("int16")
    made = NumpyRecording([traces], recording.get_sampling_frequency())
    made = made.set_probe(recording.get_probe()) or made
    made.set_channel_gains(GAIN_UV)
    made.set_channel_offsets(0.0)
    folder.mkdir(parents=True)
    stored = made.save(folder=folder / "traces", format="binary", progress_bar=False, n_jobs=1)
    stored.dump(folder / "recording.json", relative_to=folder)
    sorting.save(folder=folder / "sorting")
    spikes = sorting.to_spike_vector()
    truth = dict(samples=spikes["sample_index"], labels=spikes["unit_index"])
    truth |= dict(peak_uv=sorting.get_property("peak_uv"), drift_um=np.array([0.0, float(drifting)]))
    # last, so that a folder that was not finished is none
    np.savez(folder / "ground_truth.npz", **truth)


def make(kind, seed, opto, noise):
    """Name, recording, truth and whether it moves, of every recording of a kind, as functions without arguments."""
    if kind == "opto":
        from hybrid_recordings import PROBES, hybrid_recording

        for probe in PROBES:
            options = dict(noise_uv=OPTO_NOISE_UV, seed=seed, opto=opto, noise=noise)
            name = f"opto_{probe.replace('.', '').replace('-', '')}"
            yield name, lambda p=probe, o=options: hybrid_recording(p, **o), 0.0
        return
    from huidurep import simulate_recording

    for name, settings in SIMULATED.items():
        probe = neuropixels_patch() if settings["probe"] == "np1-64" else settings["probe"]
        options = settings | dict(probe=probe, seed=seed)
        yield name, lambda o=options: simulate_recording(**o), settings.get("drift_um", 0.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kind", choices=("simulated", "opto"), default="simulated")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--only", type=lambda text: text.split(","), help="names, without the seed")
    parser.add_argument("--opto", type=Path, default=DATA / "real/opto_tagged_units.npz")
    parser.add_argument("--noise", type=Path, default=DATA / "noise")
    arguments = parser.parse_args()
    for name, recording_and_truth, drift_um in make(arguments.kind, arguments.seed, arguments.opto, arguments.noise):
        folder = arguments.folder / f"{name}_s{arguments.seed}"
        if (arguments.only and name not in arguments.only) or (folder / "ground_truth.npz").exists():
            continue
        recording, sorting = recording_and_truth()
        write(recording, sorting, folder, drift_um)
        print(f"{folder}: {len(sorting.unit_ids)} units, {recording.get_total_duration():.0f} s", flush=True)


if __name__ == "__main__":
    main()
