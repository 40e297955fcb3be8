"""How much of a sorting stays the same under changes that should not matter?

    python benchmarks/stability.py FOLDER [--only NAME,...] [--changes two_segments,...] [--output FILE]

FOLDER holds recordings with ground truth, as `made_recordings.py` writes them: recording.json and sorting/. Each is
sorted as it is, then changed: with other seeds, cut into two segments, with its channels in reversed order, mirrored,
without its first sample, with 0.1 uV of white noise. Agreement of two sortings: mean, over the units of both, of the
best agreement (spikes in common / spikes in either, within 0.4 ms) with a unit of the other. One row a recording; FILE
keeps its rows of other recordings and commits.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import probeinterface
import spikeinterface.core as si
from results_files import read_results, run_header, write_results
from sorting_tables import stability_block
from spikeinterface.comparison import compare_sorter_to_ground_truth, compare_two_sorters

import huidurep

SEED, NOISE_UV, MATCH_MS = 0, 0.1, 0.4
CHANGES = ("seed_1", "seed_2", "seed_3", "two_segments", "reordered", "mirrored", "first_sample_dropped", "white_noise")


def rebuild(recording, pieces, positions_um):
    """A recording of these traces, one piece a segment, with the gain of another recording."""
    made = si.NumpyRecording(pieces, recording.get_sampling_frequency())
    probe = probeinterface.Probe(ndim=2)
    probe.set_contacts(positions_um, shapes="circle", shape_params={"radius": 6})
    probe.set_device_channel_indices(np.arange(len(positions_um)))
    made = made.set_probe(probe) or made
    made.set_channel_gains(recording.get_channel_gains())
    made.set_channel_offsets(recording.get_channel_offsets())
    return made


def change(recording, name):
    """The changed recording, and the number of samples that were dropped at its start."""
    traces, positions_um = recording.get_traces(), recording.get_channel_locations()
    if name == "two_segments":
        half = len(traces) // 2
        return rebuild(recording, [traces[:half], traces[half:]], positions_um), 0
    if name == "reordered":
        return rebuild(recording, [traces[:, ::-1]], positions_um[::-1]), 0
    if name == "mirrored":
        return rebuild(recording, [traces], positions_um * [-1, 1]), 0
    if name == "first_sample_dropped":
        return rebuild(recording, [traces[1:]], positions_um), 1
    if name == "white_noise":
        noise = np.random.default_rng(SEED).normal(0, NOISE_UV, traces.shape) / recording.get_channel_gains()
        return rebuild(recording, [(traces + noise).astype("float32")], positions_um), 0
    return recording, 0


def sort(recording, seed=SEED, dropped=0):
    """Sorting of one segment, in samples of the recording that was not changed, and its seconds."""
    began = time.perf_counter()
    found = huidurep.SpikeSortingPipeline.from_pretrained("auto", seed=seed)(recording).sorting
    seconds = time.perf_counter() - began
    vector = found.to_spike_vector()
    lengths = [recording.get_num_samples(index) for index in range(recording.get_num_segments())]
    samples = vector["sample_index"] + np.cumsum([dropped, *lengths])[vector["segment_index"]]
    sorting = si.NumpySorting.from_samples_and_labels(
        [samples], [vector["unit_index"]], recording.get_sampling_frequency(), np.arange(len(found.unit_ids))
    )
    return sorting, seconds


def agreement(first, second):
    """Mean over the units of both sortings of their best agreement."""
    scores = compare_two_sorters(first, second, delta_time=MATCH_MS).agreement_scores.to_numpy(float)
    return float((scores.max(1).sum() + scores.max(0).sum()) / sum(scores.shape)) if scores.size else 0.0


def run(place, changes):
    """Row of one recording."""
    recording, truth = si.load(place / "recording.json", base_folder=place), si.load(place / "sorting")
    first, seconds = sort(recording)
    sortings = {"": first}
    for name in changes:
        seed = int(name.removeprefix("seed_")) if name.startswith("seed_") else SEED
        changed, dropped = change(recording, name)
        sortings[name] = sort(changed, seed, dropped)[0]
    compared = [
        compare_sorter_to_ground_truth(truth, each, exhaustive_gt=True, delta_time=MATCH_MS)
        for each in sortings.values()
    ]
    accuracy = [float(each.get_performance()["accuracy"].astype(float).mean()) for each in compared]
    row = dict(recording=place.name, num_units_true=truth.get_num_units(), seconds=round(seconds, 1))
    row["num_units"] = [each.get_num_units() for each in sortings.values()]
    row["accuracy"] = [round(each, 4) for each in accuracy]
    row["agreement"] = {name: round(agreement(first, sortings[name]), 4) for name in changes}
    return row


def with_row(rows, row):
    """Rows with this one in place of that of the same recording and commit, by commit."""
    key = ("recording", "commit")
    kept = [each for each in rows if [each[name] for name in key] != [row[name] for name in key]]
    return sorted([*kept, row], key=lambda each: each["commit"] == row["commit"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--changes", type=lambda text: text.split(","), default=list(CHANGES))
    parser.add_argument("--output", type=Path, help="a results file")
    arguments = parser.parse_args()
    names = arguments.only or sorted(path.parent.name for path in arguments.folder.glob("*/recording.json"))
    header = run_header(seed=SEED, changes=arguments.changes)
    rows = read_results(arguments.output).get("rows", []) if arguments.output else []
    for name in names:
        rows = with_row(rows, run(arguments.folder / name, arguments.changes) | dict(commit=header["commit"]))
        print(rows[-1], flush=True)
        if arguments.output:
            write_results(arguments.output, dict(header=header, rows=rows))
    print(stability_block(dict(header=header, rows=rows)))


if __name__ == "__main__":
    main()
