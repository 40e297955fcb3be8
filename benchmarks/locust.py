"""Sort the locust tetrode recordings (15 kHz, no probe, no gains, no truth): units, SNR, refractory violations.

python benchmarks/locust.py [--folder ../shared/data/real/locust_tetrode] [--output benchmarks/results/locust.json]
"""

import argparse
import json
import subprocess
from importlib.metadata import version
from pathlib import Path

import spikeinterface.core as si

import huidurep

ROOT = Path(__file__).resolve().parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "../shared/data/real/locust_tetrode")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/locust.json")
    arguments = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    header = {"commit": commit, "seed": 0, "versions": {name: version(name) for name in ("spikeinterface", "torch")}}
    rows = []
    print("| recording | units | spikes | SNR | intervals below 1.5 ms, % | seconds |\n|---|---|---|---|---|---|")
    for path in sorted(arguments.folder.glob("*.raw")):
        recording = si.read_binary(path, sampling_frequency=15000.0, num_channels=4, dtype="int16")
        result = huidurep.SpikeSortingPipeline.from_pretrained("auto")(recording)
        sorting = result.sorting
        row = {
            "recording": path.stem,
            "units": sorting.get_num_units(),
            "spikes": len(result.posteriors),
            "snr": [round(float(v), 1) for v in sorting.get_property("snr")],
            "num_spikes": [int(v) for v in sorting.get_property("num_spikes")],
            "refractory_violations_percent": [
                round(100 * float(v), 2) for v in sorting.get_property("refractory_violations")
            ],
            "seconds": round(sum(entry["seconds"] for entry in result.log), 1),
        }
        rows.append(row)
        snr, violations = row["snr"], row["refractory_violations_percent"]
        print(
            f"| {row['recording']} | {row['units']} | {row['spikes']} | {min(snr)}-{max(snr)} | "
            f"{min(violations)}-{max(violations)} | {row['seconds']} |"
        )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"header": header, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
