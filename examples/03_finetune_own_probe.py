"""Fine-tune a checkpoint on recordings of a probe that it has not seen, and test whether it improved.

    python examples/03_finetune_own_probe.py --output finetuned

Simulates a ring of six contacts at 20 kHz; your own: `huidurep.finetune([recording, ...], output_dir=FOLDER)`.
Needs the packages of the extra `train`. Takes some minutes; `--steps 5` only shows the steps.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import probeinterface

import huidurep

RADIUS_UM = 20.0


def make_ring(num_contacts=6):
    """A probe that no shipped checkpoint was trained on."""
    angles = 2 * np.pi * np.arange(num_contacts) / num_contacts
    probe = probeinterface.Probe(ndim=2)
    places = RADIUS_UM * np.column_stack([np.cos(angles), np.sin(angles)])
    probe.set_contacts(places, shapes="circle", shape_params={"radius": 6})
    probe.set_device_channel_indices(np.arange(num_contacts))
    return probe


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("finetuned"), help="folder of the new checkpoint")
    parser.add_argument("--duration-s", type=float, default=90.0)
    parser.add_argument("--num-units", type=int, default=10)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.basicConfig(format="    %(message)s")
    logging.getLogger("huidurep.finetuning.finetune").setLevel(logging.INFO)

    print(f"1. Simulating {options.duration_s:.0f} s of a ring of six contacts")
    recording, truth = huidurep.simulate_recording(
        probe=make_ring(),
        num_units=options.num_units,
        duration_s=options.duration_s,
        sampling_frequency=20000.0,
        seed=options.seed,
    )

    print("2. Fine-tuning without labels, with an acceptance test on held-out spikes")
    report = huidurep.finetune(recording, output_dir=options.output, steps=options.steps, seed=options.seed)
    print(report)

    print("3. Sorting with the result")
    sorting = huidurep.sort(recording, model=options.output, seed=options.seed)
    print(f"   {sorting.get_num_units()} units of {truth.get_num_units()} -> model={str(options.output)!r}")


if __name__ == "__main__":
    main()
