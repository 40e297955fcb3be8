"""Compare this working tree with an earlier commit: same spikes, embeddings and fingerprints, to the bit?

    python benchmarks/same_results.py COMMIT [--seconds 60] [--only tetrode,...] [--keep FOLDER]
    python benchmarks/same_results.py --against FOLDER/before

The commit is checked out beside the clone (a git worktree, removed afterwards). Both versions then run in the same
Python environment, one after the other, each in a process of its own: they sort a simulated tetrode (int16, with gain
and offset, two segments, drift) and a simulated patch of 64 contacts, and embed a fixed array with every embedded
checkpoint. The result folders that COMMIT wrote are opened by this tree. Exit code 1 where anything differs; what a
rename changed (unit properties, names of log stages) is not compared. `--keep` keeps what both wrote, `--against`
compares with what was kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = ("tetrode", "patch64")
GAIN_UV, OFFSET_UV = 0.195, 30.0


def make_recording(name, seconds):
    """Simulate a recording as amplifiers store them: int16 with gain and offset."""
    from spikeinterface.core import NumpyRecording

    import huidurep

    if name == "tetrode":
        options = dict(probe="tetrode", num_units=6, drift_um=10.0, seed=4)
    else:
        import probeinterface

        from huidurep.simulation.probes import contact_layout

        probe = probeinterface.Probe(ndim=2)
        probe.set_contacts(contact_layout("neuropixels-1.0", 64), shapes="square", shape_params={"width": 12})
        probe.set_device_channel_indices(np.arange(64))
        options = dict(probe=probe, num_units=30, drift_um=10.0, seed=5)
    recording, _ = huidurep.simulate_recording(duration_s=seconds, **options)
    steps = np.round((recording.get_traces() - OFFSET_UV) / GAIN_UV).clip(-32768, 32767).astype("int16")
    half = len(steps) // 2
    pieces = [steps[:half], steps[half:]] if name == "tetrode" else [steps]
    stored = NumpyRecording(pieces, recording.get_sampling_frequency())
    stored = stored.set_probe(recording.get_probe()) or stored
    stored.set_channel_gains(GAIN_UV)
    stored.set_channel_offsets(OFFSET_UV)
    return stored


def compute(folder, seconds, names):
    """Write what the version on sys.path makes of the recordings and of a fixed array."""
    import huidurep

    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    waveforms = rng.normal(0, 20, (200, 60, 6)).astype("float32")
    waveforms[:, 20] -= rng.uniform(50, 200, (200, 6))
    for name, place in huidurep.list_checkpoints().items():
        model = huidurep.HuiduRep.from_pretrained(name)
        positions = np.stack([np.zeros(6), 20.0 * np.arange(6)], axis=1)
        options = dict(sampling_frequency=25000.0, peak_index=20, channel_positions=positions)
        np.save(folder / f"embeddings_{name}.npy", model.embed(waveforms, **options))
        np.save(folder / f"denoised_{name}.npy", model.denoise(waveforms, **options))
        (folder / f"fingerprint_{name}.bin").write_bytes((place / "fingerprint.safetensors").read_bytes())
    for name in names:
        result = huidurep.SpikeSortingPipeline.from_pretrained("auto", seed=0)(make_recording(name, seconds))
        result.save(folder / name)
        vector = result.sorting.to_spike_vector()
        columns = {field: vector[field] for field in ("sample_index", "unit_index", "segment_index")}
        np.savez(folder / f"{name}.npz", embeddings=result.embeddings, posteriors=result.posteriors, **columns)
        print(f"  {name}: {result.sorting.get_num_units()} units, {len(vector)} spikes", flush=True)


def run(package_root, folder, seconds, names):
    """Compute with the package of one clone, in a process of its own."""
    environment = dict(os.environ, PYTHONPATH=str(package_root), HF_HUB_OFFLINE="1")
    words = [__file__, "--compute", str(folder), "--seconds", str(seconds), "--only", ",".join(names)]
    subprocess.run([sys.executable, *words], env=environment, check=True, cwd=folder.parent)


def run_commit(commit, folder, seconds, names):
    """Compute with the package as it was at a commit."""
    with tempfile.TemporaryDirectory() as place:
        clone = Path(place) / "clone"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", clone, commit], check=True)
        try:
            print(f"before: {commit}", flush=True)
            run(clone, folder, seconds, names)
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", clone], check=True)


def compare(before, after, names):
    """Rows (what, whether it is the same)."""
    import huidurep

    rows = []
    for path in sorted(before.glob("*.*")):
        other = after / path.name
        if path.suffix == ".npz":
            old, new = np.load(path), np.load(other)
            rows += [(f"{path.stem} {key}", np.array_equal(old[key], new[key])) for key in old.files]
        elif path.suffix == ".npy":
            rows.append((path.stem, np.array_equal(np.load(path), np.load(other))))
        else:
            rows.append((path.stem, path.read_bytes() == other.read_bytes()))
    for name in names:
        result, stored = huidurep.SortingResult.load(before / name), np.load(before / f"{name}.npz")
        same = np.array_equal(result.sorting.to_spike_vector()["sample_index"], stored["sample_index"])
        rows.append(
            (f"{name}: the saved result opens", same and np.array_equal(result.embeddings, stored["embeddings"]))
        )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", nargs="?")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(RECORDINGS))
    parser.add_argument("--keep", type=Path, help="a new folder")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--compute", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.compute:
        compute(arguments.compute, arguments.seconds, arguments.only)
        return
    with tempfile.TemporaryDirectory() as work:
        work = arguments.keep or Path(work)
        before = arguments.against or work / "before"
        if not arguments.against:
            run_commit(arguments.commit, before, arguments.seconds, arguments.only)
        print(f"after: {ROOT}", flush=True)
        run(ROOT, work / "after", arguments.seconds, arguments.only)
        rows = compare(before, work / "after", arguments.only)
    for what, same in rows:
        print(f"{'same   ' if same else 'DIFFERS'} {what}")
    print(json.dumps({"commit": arguments.commit, "compared": len(rows), "differ": sum(not same for _, same in rows)}))
    sys.exit(not all(same for _, same in rows))


if __name__ == "__main__":
    main()
