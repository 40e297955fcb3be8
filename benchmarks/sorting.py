"""Accuracy of HuiduRep and of other sorters on recordings with ground truth.

    python benchmarks/sorting.py FOLDER [--sorters huidurep,lupin] [--only NAME,...] [--output FILE] [--model auto]

Each subfolder of FOLDER holds recording.json, sorting/ and ground_truth.npz. Every (sorter, recording) runs in a child
process with a fixed number of threads, so that a crash is a row of the results and peak memory is measured apart.
Other sorters run through `spikeinterface.sorters.run_sorter` with their default parameters except for `peer_options`.
A run that the output has already is kept, unless it failed or --again is given. Folders NAME_sSEED are recordings of
one kind. Variants of HuiduRep are in sorting_variants.py, the picture is made by sorting_picture.py.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import results_files
from sorting_tables import sorter_label
from sorting_variants import VARIANTS, sort_variant

from huidurep.provenance import peak_memory_mb

SORTERS = ("huidurep", "kilosort4", "mountainsort5", "spykingcircus2", "tridesclous2", "lupin")
PACKAGE_OF = {"huidurep": "huidurep", "kilosort4": "kilosort", "mountainsort5": "mountainsort5"}
PACKAGE_OF |= dict.fromkeys(VARIANTS, "huidurep")
THREAD_VARIABLES = ("OMP", "MKL", "OPENBLAS", "NUMEXPR", "NUMBA", "VECLIB_MAXIMUM")
WELL_DETECTED = 0.8
DELTA_TIME_MS = 0.4


def peer_options(sorter, *, num_channels, drifting, seed):
    """Parameters of another sorter that differ from its defaults.

    Kilosort4's template grid (dmin, dminx) and number of neighbours are set for tetrodes, whose contacts are closer
    than its defaults assume. Motion correction needs a depth axis: off on tetrodes, on for larger drifting probes.
    """
    tetrode = num_channels <= 4
    if sorter == "kilosort4":
        return dict(torch_device="cpu", **(dict(nblocks=0, nearest_chans=4, dmin=10, dminx=10) if tetrode else {}))
    if sorter == "mountainsort5":
        return dict(whitening_seed=seed)
    return dict(apply_motion_correction=bool(drifting and not tetrode), seed=seed)


# Parameters of a second run after the first one raised an error; the row has them in `retried_with`. Kilosort4 learns
# its universal templates from snippets above 6 sd in every 25th batch, and recordings of small spikes have too few.
RETRY_OPTIONS = {"kilosort4": dict(templates_from_data=False)}


def load_truth(folder):
    """Recording, true sorting, peak amplitudes (num_units,) in uV and whether the probe moves."""
    import numpy as np
    import spikeinterface as si

    recording = si.load(folder / "recording.json", base_folder=folder)
    with np.load(folder / "ground_truth.npz") as truth:
        peak_uv, drifting = truth["peak_uv"].astype(float), bool(np.ptp(truth["drift_um"]) > 0)
    return recording, si.load(folder / "sorting"), peak_uv, drifting


def run_one(sorter, recording, *, drifting, model, seed, threads, folder, retry):
    """Sort with one sorter. Returns the sorting, and checkpoint and weights for the row."""
    if sorter == "huidurep":
        import huidurep
        from huidurep.hub.resolve import resolve_checkpoint

        result = huidurep.SpikeSortingPipeline.from_pretrained(model, seed=seed)(recording)
        folder = resolve_checkpoint(result.model_name)  # the checkpoint that "auto" chose
        stages = {}
        for entry in result.log:
            stages[entry["stage"]] = round(stages.get(entry["stage"], 0.0) + entry["seconds"], 1)
        facts = dict(checkpoint=folder.name, weights=results_files.weights_digest(folder), stages=stages)
        return result.sorting, facts
    import spikeinterface.sorters as ss

    options = peer_options(sorter, num_channels=recording.get_num_channels(), drifting=drifting, seed=seed)
    if "n_jobs" in ss.get_default_sorter_params(sorter):
        options["n_jobs"] = threads
    options |= RETRY_OPTIONS[sorter] if retry else {}
    sorting = ss.run_sorter(sorter, recording, folder=folder, remove_existing_folder=True, verbose=False, **options)
    return sorting, {}


def score(truth, sorting):
    """Means over all true units, numbers of units, and accuracy, precision and recall of each true unit."""
    import numpy as np
    import spikeinterface.comparison as sc

    names = ("accuracy", "precision", "recall")
    if len(sorting.unit_ids) == 0:
        values = {name: np.zeros(len(truth.unit_ids)) for name in names}
        counts = dict(false_positive_units=0, redundant_units=0, overmerged_units=0)
    else:
        compared = sc.compare_sorter_to_ground_truth(truth, sorting, exhaustive_gt=True, delta_time=DELTA_TIME_MS)
        table = compared.get_performance().loc[truth.unit_ids]
        # an unmatched unit has no precision: it counts as zero
        values = {name: np.nan_to_num(table[name].to_numpy(float)) for name in names}
        counts = dict(
            false_positive_units=int(compared.count_false_positive_units()),
            redundant_units=int(compared.count_redundant_units()),
            overmerged_units=int(compared.count_overmerged_units()),
        )
    units = [
        dict(unit=str(unit), **{name: round(float(values[name][i]), 4) for name in names})
        for i, unit in enumerate(truth.unit_ids)
    ]
    means = {name: round(float(values[name].mean()), 4) for name in names}
    found = dict(units_found=len(sorting.unit_ids), units_true=len(truth.unit_ids))
    found["well_detected"] = int((values["accuracy"] >= WELL_DETECTED).sum())
    return means | found | counts | dict(units=units)


def error_line(error):
    """The last "...Error:" line of an error; run_sorter raises errors whose text is a whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if "Error: " in line), (lines or [""])[0])[:300]


def child(request):
    """Sort and score one recording with one sorter; write the row to the file that the parent process reads."""
    import spikeinterface as si

    si.set_global_job_kwargs(n_jobs=request["threads"], progress_bar=False)
    recording, truth, _, drifting = load_truth(Path(request["folder"]))
    sorter, model, seed = request["sorter"], request["model"], request["seed"]
    row, found = {}, {}
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        try:
            if sorter in VARIANTS:
                sorting = sort_variant(sorter, recording, truth, model=model, seed=seed)
            else:
                settings = dict(drifting=drifting, threads=request["threads"], retry=request["retry"])
                settings |= dict(model=model, seed=seed, folder=Path(folder) / "out")
                sorting, row = run_one(sorter, recording, **settings)
            row |= measure_run(began)
            found = score(truth, sorting)
        except Exception as error:  # a sorter that fails has a row, too
            row = measure_run(began) | row
            row["error"] = f"{type(error).__name__}: {error_line(error)}"
            traceback.print_exc()
        Path(request["row"]).write_text(json.dumps(row | found))


def measure_run(began):
    """Seconds since `began`, and peak memory in MiB of this process and its largest worker."""
    memory_mb = round(peak_memory_mb(workers=True), 1)
    return dict(seconds=round(time.perf_counter() - began, 2), peak_memory_mb=memory_mb)


def watch(process, timeout_s):
    """Exit status of a process, or why it was stopped, and the peak memory in MiB of it and its workers together.

    Pages that processes share count once (proportional set size), as seen twice a second.
    """
    import psutil

    ends, peak_mb, own = time.perf_counter() + timeout_s, 0.0, psutil.Process(process.pid)
    while process.poll() is None:
        if time.perf_counter() > ends:
            process.kill()
            process.wait()
            return f"stopped after {timeout_s:.0f} s", peak_mb
        used = 0
        with contextlib.suppress(psutil.Error):  # of processes that end meanwhile
            for each in (own, *own.children(recursive=True)):
                used += each.memory_full_info().pss
        peak_mb = max(peak_mb, used / 2**20)
        time.sleep(0.5)
    return process.returncode, peak_mb


def run_child(folder, sorter, *, model, seed, threads, timeout_s, retry=False):
    """Row of one run in a child process, with `error` if it failed."""
    row = dict(recording=folder.name, sorter=sorter, model=model if sorter == "huidurep" else None)
    row["version"] = results_files.package_version(PACKAGE_OF.get(sorter, "spikeinterface"))
    row["commit"] = results_files.current_commit()
    environment = os.environ | {f"{name}_NUM_THREADS": str(threads) for name in THREAD_VARIABLES}
    kilosort = importlib.util.find_spec("kilosort")
    if kilosort and (Path(kilosort.origin).parent / "wTEMP.npz").exists():
        # Kilosort4 downloads built-in templates unless this names the folder of its wheel that has them
        environment.setdefault("KILOSORT_LOCAL_DOWNLOADS_PATH", str(Path(kilosort.origin).parent))
    row["load_before"] = round(os.getloadavg()[0], 2)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(results_files.ROOT), os.environ.get("PYTHONPATH"))))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="benchmark_row_") as scratch:
        log, answer = Path(scratch) / "log", Path(scratch) / "row.json"
        request = dict(sorter=sorter, folder=str(folder.resolve()), row=str(answer))
        request |= dict(model=model, seed=seed, threads=threads, retry=retry)
        with open(log, "w") as stream:
            command = [sys.executable, str(Path(__file__).resolve()), "--child", json.dumps(request)]
            streams = dict(stdout=stream, stderr=subprocess.STDOUT)
            code, memory_mb = watch(subprocess.Popen(command, env=environment, **streams), timeout_s)
        if answer.exists():
            row |= json.loads(answer.read_text()) | dict(peak_memory_together_mb=round(memory_mb))
        else:
            row["error"] = f"the process ended without a result: {code}"
            row["seconds"] = round(time.perf_counter() - began, 2)
        if "error" in row:
            row["log_tail"] = log.read_text(errors="replace")[-2000:]
    if retry:
        row["retried_with"] = RETRY_OPTIONS[sorter]
    return row


def describe(folder):
    """Amplitude, spikes and SNR (template peak over MAD noise, 300-6000 Hz) of each true unit of a recording."""
    import spikeinterface as si
    import spikeinterface.preprocessing as sp

    si.set_global_job_kwargs(n_jobs=1, progress_bar=False)
    recording, truth, peak_uv, drifting = load_truth(folder)
    analyzer = si.create_sorting_analyzer(truth, sp.bandpass_filter(recording, 300.0, 6000.0), sparse=False)
    steps = dict(random_spikes=dict(seed=0), noise_levels=dict(random_slices_kwargs=dict(seed=0)), templates={})
    steps["quality_metrics"] = dict(metric_names=["snr"])
    analyzer.compute(steps)
    snr = analyzer.get_extension("quality_metrics").get_data()["snr"]
    spikes = truth.count_num_spikes_per_unit()
    units = [
        dict(
            unit=str(unit), snr=round(float(snr[unit]), 3), peak_uv=round(float(peak), 2), num_spikes=int(spikes[unit])
        )
        for unit, peak in zip(truth.unit_ids, peak_uv, strict=True)
    ]
    basics = dict(num_channels=recording.get_num_channels(), duration_s=recording.get_total_duration())
    return basics | dict(drifting=drifting, fingerprint=fingerprint(folder), units=units)


def fingerprint(folder):
    """Checksum of the true spikes, by which rows of another recording of the same name are found and removed."""
    import numpy as np

    with np.load(folder / "ground_truth.npz") as truth:
        return zlib.crc32(truth["samples"].astype("<i8").tobytes() + truth["labels"].astype("<i8").tobytes())


def add_truth(row, description):
    """Add SNR, amplitude and number of spikes to the scores of each unit."""
    known = {unit["unit"]: unit for unit in description["units"]}
    for unit in row.get("units", []):
        unit.update(known[unit["unit"]])


def table_text(rows):
    """Table as plain text, sorted by recording and accuracy."""
    head = ("recording", "sorter", "acc", "prec", "recall", "found", "true")
    head += ("well", "fp", "redund", "merged", "s", "MB", "version")
    keys = ("accuracy", "precision", "recall", "units_found", "units_true", "well_detected")
    keys += ("false_positive_units", "redundant_units", "overmerged_units", "seconds", "peak_memory_mb", "version")
    lines = [head]
    for row in sorted(rows, key=lambda row: (row["recording"], -row.get("accuracy", -1))):
        forms = [
            ".3f" if key in keys[:3] else ".0f" if key in row and isinstance(row[key], float) else "" for key in keys
        ]
        cells = [format(row[key], form) if key in row else "-" for key, form in zip(keys, forms, strict=True)]
        lines.append((row["recording"], sorter_label(row), *cells) + ((row["error"],) if "error" in row else ()))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=False)) for line in lines
    )


def wanted(folder, only):
    """Folders of the chosen recordings, by name."""
    found = sorted(p for p in folder.iterdir() if (p / "ground_truth.npz").exists())
    unknown = set(only or ()) - {p.name for p in found}
    if unknown or not found:
        raise SystemExit(
            f"expected recordings {sorted(unknown) or 'with ground_truth.npz'} in {folder}, "
            f"found {[p.name for p in found]}; "
            "see benchmarks/README.md, or correct --only"
        )
    return [p for p in found if not only or p.name in only]


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sorters", type=lambda text: text.split(","), default=list(SORTERS))
    parser.add_argument("--only", type=lambda text: text.split(","), help="names of recordings")
    parser.add_argument("--output", type=Path, default=results_files.ROOT / "benchmarks/results/sorting.json")
    parser.add_argument("--model", default="auto", help="model of HuiduRep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2, help="threads of a run")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds a run may take")
    parser.add_argument("--again", action="store_true", help="repeat runs that already have a row")
    arguments = parser.parse_args()
    unknown = set(arguments.sorters) - {*SORTERS, *VARIANTS}
    if unknown:
        parser.error(f"expected sorters among {', '.join((*SORTERS, *VARIANTS))}, found {', '.join(sorted(unknown))}")
    return arguments


def main():
    arguments = parse()
    folders = wanted(arguments.folder, arguments.only)
    results = dict(recordings={}, rows=[]) | results_files.read_results(arguments.output)
    fixed = dict(sorters=list(SORTERS), delta_time_ms=DELTA_TIME_MS)
    results["header"] = results_files.run_header(seed=arguments.seed, threads=arguments.threads, **fixed)
    settings = dict(model=arguments.model, seed=arguments.seed, threads=arguments.threads, timeout_s=arguments.timeout)
    for folder in folders:
        if results["recordings"].get(folder.name, {}).get("fingerprint") != fingerprint(folder):
            results["rows"] = [row for row in results["rows"] if row["recording"] != folder.name]
            results["recordings"][folder.name] = describe(folder)
        for sorter in arguments.sorters:
            key = (folder.name, sorter, arguments.model if sorter == "huidurep" else None)
            old = next((row for row in results["rows"] if (row["recording"], row["sorter"], row["model"]) == key), None)
            if old and "error" not in old and not arguments.again:
                print(f"{folder.name} {sorter}: kept, measured at commit {old['commit']}", flush=True)
                continue
            row = run_child(folder, sorter, **settings)
            if "error" in row and sorter in RETRY_OPTIONS:
                row = run_child(folder, sorter, **settings, retry=True)
            add_truth(row, results["recordings"][folder.name])
            results["rows"] = [kept for kept in results["rows"] if kept is not old] + [row]
            results_files.write_results(arguments.output, results)
            outcome = row.get("accuracy", row.get("error"))
            print(f"{folder.name} {sorter}: {outcome}, {row['seconds']:.0f} s", flush=True)
    names = {folder.name for folder in folders}
    print(table_text([row for row in results["rows"] if row["recording"] in names]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
    else:
        main()
