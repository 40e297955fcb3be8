"""Speed: of the encoders, of whole sortings beside other sorters, and growth with duration and contacts.

    python benchmarks/speed.py encoder
    python benchmarks/speed.py sorts FOLDER [--contacts 4,32,64,384] [--sorters huidurep,spykingcircus2]
    python benchmarks/speed.py growth [--minutes 5,20,60] [--contacts 32,128,384]

`encoder`: spikes a second of one thread, of every checkpoint, of the architecture of the paper and of principal
components of SpikeInterface's usual size; and the share of the floating-point rate of a large matrix product. `sorts`:
recordings of SpikeInterface's generator (120 s, made in FOLDER where they are missing) by each sorter in a process of
its own with two threads. `growth`: lazily generated recordings, which need no disk, by huidurep; the slope of log
seconds on log duration or contacts, and peak memory. Results: benchmarks/results/speed.json; other parts are kept.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
import results_files
import sorting
from made_recordings import generate, make_generated, write
from speed_tables import tables

OUTPUT = results_files.ROOT / "benchmarks/results/speed.json"
PEERS = ("huidurep", "spykingcircus2", "lupin", "tridesclous2", "mountainsort5", "kilosort4")
CONTACTS = (4, 32, 64, 384)


def time_encoders(repeats=5):
    """Rows of spikes a CPU second with one thread; the median of several rounds over all encoders."""
    import torch
    from sklearn.decomposition import PCA
    from torch.utils.flop_counter import FlopCounterMode

    from huidurep import HuiduRep, HuiduRepConfig, list_checkpoints

    torch.set_num_threads(1)
    rng, product = np.random.default_rng(0), torch.ones(2048, 2048)
    models = {name: HuiduRep.from_pretrained(name) for name in list_checkpoints()}
    models["architecture of the paper"] = HuiduRep(HuiduRepConfig.paper()).eval()
    found, flops = {name: [] for name in [*models, "PCA"]}, {}
    rates = []
    for _ in range(repeats):
        began = time.process_time()
        product @ product
        rates.append(2 * 2048**3 / (time.process_time() - began))
        for name, model in models.items():
            config, count = model.config, 200 if name.startswith("architecture") else 4000
            waveforms = rng.normal(0, 20, (count, config.num_samples, config.num_channels)).astype("float32")
            options = dict(sampling_frequency=config.sampling_frequency, peak_index=config.peak_index, peak_sign="neg")
            if name not in flops:
                with FlopCounterMode(display=False) as counter:
                    model.embed(waveforms[:100], **options)
                flops[name] = counter.get_total_flops() / 100
            began = time.process_time()
            model.embed(waveforms, **options)
            found[name].append(count / (time.process_time() - began))
        waveforms = rng.normal(0, 20, (4000, 90 * 4))
        pca = PCA(12, svd_solver="covariance_eigh").fit(waveforms)
        began = time.process_time()
        pca.transform(waveforms)
        found["PCA"].append(4000 / (time.process_time() - began))
    peak = float(np.median(rates))
    return [
        dict(
            encoder=name,
            spikes_a_second=round(float(np.median(each))),
            flop_share=round(float(np.median(each)) * flops[name] / peak, 3) if name in flops else None,
        )
        for name, each in found.items()
    ]


def time_sorts(folder, contacts, sorters, seed):
    """Rows of sorting.py for generated recordings, with the seconds of each stage of huidurep."""
    rows = []
    for num_contacts in contacts:
        name = f"generated{num_contacts}"
        place = folder / f"{name}_s{seed}"
        if not place.exists():
            write(*make_generated(name, seed)[:2], place, drifting=0.0)
        for sorter in sorters:
            row = sorting.run_child(place, sorter, model="auto", seed=0, threads=2, timeout_s=3600.0)
            row = {name: value for name, value in row.items() if name not in ("units", "log_tail")}
            rows.append(dict(contacts=num_contacts, **row))
            print(f"{num_contacts} contacts, {sorter}: {row.get('error', row['seconds'])}", flush=True)
    return rows


def grow(request):
    """Child process: sort a lazily generated recording; the row as JSON on the last line."""
    from spikeinterface.core import set_global_job_kwargs

    import huidurep
    from huidurep.provenance import peak_memory_mb

    set_global_job_kwargs(n_jobs=1, progress_bar=False)
    contacts = request["contacts"]
    probe, num_units = ("tetrode", 10) if contacts == 4 else (f"np1-{contacts}", contacts // 2)
    recording, _ = generate(probe, num_units, 60.0 * request["minutes"], request["seed"])
    began = time.process_time()
    result = huidurep.SpikeSortingPipeline.from_pretrained("auto")(recording)
    seconds = time.process_time() - began
    print(
        json.dumps(
            request
            | dict(cpu_seconds=round(seconds, 1), peak_memory_mb=round(peak_memory_mb()), spikes=len(result.posteriors))
        )
    )


def time_growth(minutes, contacts, seed):
    """Rows of growth with duration on a tetrode and with contacts over one minute; generating is part of the time."""
    cases = [dict(axis="minutes", contacts=4, minutes=each, seed=seed) for each in minutes]
    cases += [dict(axis="contacts", contacts=each, minutes=1.0, seed=seed) for each in contacts]
    rows, environment = [], os.environ | {f"{name}_NUM_THREADS": "1" for name in sorting.THREAD_VARIABLES}
    environment["PYTHONPATH"] = str(results_files.ROOT)
    for case in cases:
        command = [sys.executable, __file__, "--child", json.dumps(case)]
        answer = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        rows.append(json.loads(answer.stdout.splitlines()[-1]))
        print(rows[-1], flush=True)
    return rows


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["encoder", "sorts", "growth"])
    parser.add_argument("folder", type=Path, nargs="?", help="of the recordings of `sorts`")
    parser.add_argument("--contacts", type=lambda text: [int(each) for each in text.split(",")])
    parser.add_argument("--minutes", type=lambda text: [float(each) for each in text.split(",")], default=[5, 20, 60])
    parser.add_argument("--sorters", type=lambda text: text.split(","), default=list(PEERS))
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.part == "sorts" and arguments.folder is None:
        parser.error("expected a folder for the recordings of `sorts`")
    return arguments


def main():
    arguments = parse()
    results = results_files.read_results(arguments.output)
    if arguments.part == "encoder":
        rows = time_encoders()
    elif arguments.part == "sorts":
        rows = time_sorts(arguments.folder, arguments.contacts or list(CONTACTS), arguments.sorters, arguments.seed)
    else:
        rows = time_growth(arguments.minutes, arguments.contacts or [32, 128, 384], arguments.seed)
    if arguments.part == "sorts":  # rows of other runs are kept
        new = {(row["contacts"], row["sorter"]) for row in rows}
        rows = [row for row in results.get("sorts", []) if (row["contacts"], row["sorter"]) not in new] + rows
    results["header"] = results_files.run_header(seed=arguments.seed, threads=2)
    results[arguments.part] = [dict(commit=results["header"]["commit"]) | row for row in rows]
    results_files.write_results(arguments.output, results)
    print(tables(results))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        grow(json.loads(sys.argv[2]))
    else:
        main()
