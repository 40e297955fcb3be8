"""Simulate a tetrode recording, sort it, compare the result with the truth and draw it: `make demo`.

    python examples/01_sort_recording.py --output demo_output

Needs no data, no network and no GPU. Your own recording: `huidurep.sort(spikeinterface.load(FOLDER))`.
"""

import argparse
import logging
import time
from pathlib import Path

import spikeinterface.comparison

import huidurep

MATCH_WINDOW_MS = 0.4


def compare(truth, sorting):
    """One row a true unit: its size, the sorted unit that fits it best, and how well it fits."""
    comparison = spikeinterface.comparison.compare_sorter_to_ground_truth(
        truth, sorting, exhaustive_gt=True, delta_time=MATCH_WINDOW_MS
    )
    table = comparison.get_performance()[["accuracy", "precision", "recall"]].astype(float).round(2)
    table.insert(0, "peak_uv", truth.get_property("peak_uv").round(0))
    table.insert(1, "spikes", list(truth.count_num_spikes_per_unit().values()))
    matches = comparison.hungarian_match_12
    table.insert(2, "sorted_as", ["-" if matches[unit] in (-1, "", "-1") else matches[unit] for unit in table.index])
    return table, comparison


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the pictures")
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--num-units", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(format="    %(message)s")
    logging.getLogger("huidurep").setLevel(logging.INFO)

    print(f"1. Simulating {options.duration_s:.0f} s of a tetrode with {options.num_units} units")
    recording, truth = huidurep.simulate_recording(
        probe="tetrode", num_units=options.num_units, duration_s=options.duration_s, seed=options.seed
    )

    print("2. Sorting; the number of units is not given")
    started = time.perf_counter()
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained("tetrode", seed=options.seed)
    result = pipeline(recording)
    print(f"   {len(result.sorting.unit_ids)} units in {time.perf_counter() - started:.1f} s")

    print("3. Comparing each true unit with the sorted unit that fits it best\n")
    table, comparison = compare(truth, result.sorting)
    print(table.to_string())
    print(f"\n   mean accuracy {table['accuracy'].mean():.2f} over {len(table)} true units;", end=" ")
    print(f"{comparison.count_well_detected_units(well_detected_score=0.8)} found with accuracy 0.8 or more;", end=" ")
    print(f"{comparison.count_false_positive_units()} sorted units fit no true one")

    print(f"4. Drawing into {options.output}")
    options.output.mkdir(parents=True, exist_ok=True)
    pictures = {
        "templates": result.plot_templates(),
        "raster": result.plot_raster(),
        "embedding": result.plot_embedding(),
    }
    for name, figure in pictures.items():
        figure.savefig(options.output / f"{name}.png", dpi=120)
        print(f"   {options.output / name}.png")
    print(f"   {result.write_report(options.output / 'report.html', overwrite=True)}")


if __name__ == "__main__":
    main()
