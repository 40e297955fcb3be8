"""What adapting to a recording gives: on spikes of known units, and in whole sortings.

    python benchmarks/adaptation.py [--only cells axona opto hybrids recordings] [--recordings FOLDER ...] [--draws 4]

Spikes are those of benchmarks/embedding.py (`cells` on all five types of probe, `axona`, `opto`), the model the
checkpoint of their type of probe, the score the adjusted Rand index of a full-covariance mixture with the number of
units known, mean over two seeds of the mixture. Columns: `pca12`; `before`, the pretrained weights; `adapted_always`,
the adapted ones without the acceptance test; `adapted`, those that the test leaves.

Recordings are hybrids (benchmarks/hybrid_recordings.py: real units in noise of measured covariance, two kinds of
contacts, 10 and 20 uV) and the folders of --recordings (recording.json, sorting/, ground_truth.npz), each sorted by
`SpikeSortingPipeline.from_pretrained("auto")` with `adapt=False` and `adapt=True`.

Each row is written as soon as it is there. One that stands in the file with the same seed, draws and weights is kept,
unless --again is given.
  header, runs   of the latest run, and of every run that a row names
  skipped        what was not measured and why
  spikes         source, probe, name; mean, standard_error, draws by column; adopted: share of the draws whose adapted
                 weights were accepted; evaluation (in older rows: guard): label-free figures before and after;
                 adapt_seconds; weights of the checkpoint
  recordings     kind, name; before and adapted: accuracy, num_units, false_positives, seconds; adopted; messages
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from adaptation_scores import METHODS, score_condition, score_recording
from embedding import add_data_options, checkpoint_of, collect_conditions
from embedding_sources import WINDOWS
from hybrid_recordings import DURATION_S, NOISE_UV, PROBES, hybrid_recording
from results_files import ROOT, read_results, run_header, weights_digest, write_results
from sorting import load_truth

SPIKES = ("cells", "axona", "opto")
PARTS = (*SPIKES, "hybrids", "recordings")


def key_of(row):
    """What a row is of; its place in the file is taken by the next one of the same."""
    return tuple(row.get(name) for name in ("source", "probe", "kind", "name"))


def spike_jobs(arguments):
    """Yield (row without scores, function that scores it) of every condition; and say what is left out."""
    arguments.sources = [name for name in SPIKES if name in arguments.only]
    conditions, skipped = collect_conditions(arguments)
    jobs = []
    for condition in conditions:
        place = checkpoint_of(condition.probe, arguments.checkpoints)
        if place is None:
            skipped[f"checkpoint {condition.probe}"] = "not there"
            continue
        row = dict(source=condition.source, probe=condition.probe, name=condition.name, seed=arguments.seed)
        row |= dict(num_draws=condition.num_draws, weights=weights_digest(place))

        def work(condition=condition, place=place):
            return score_condition(condition, place, seed=arguments.seed, num_jobs=arguments.jobs)

        jobs.append((row, work))
    return jobs, skipped


def recording_jobs(arguments):
    """The same for recordings."""
    jobs, skipped = [], {}
    missing = [str(path) for path in (arguments.opto, arguments.noise) if not path.exists()]
    if "hybrids" in arguments.only and missing:
        skipped["hybrids"] = f"{', '.join(missing)} is missing"
    elif "hybrids" in arguments.only:
        data = dict(opto=arguments.opto, noise=arguments.noise, duration_s=arguments.duration_s)
        for probe in PROBES:
            for noise_uv in NOISE_UV:
                for seed in range(arguments.hybrid_seeds):

                    def make(probe=probe, noise_uv=noise_uv, seed=seed):
                        return hybrid_recording(probe, noise_uv=noise_uv, seed=arguments.seed + seed, **data)

                    jobs.append((f"hybrid, {probe}, {noise_uv:.0f} uV noise", f"seed {arguments.seed + seed}", make))
    if "recordings" in arguments.only:
        jobs += [
            ("simulated", folder.name, lambda folder=folder: load_truth(folder)[:2]) for folder in folders(arguments)
        ]
    weights = combined_digest(arguments.checkpoints)
    rows = [dict(kind=kind, name=name, seed=arguments.seed, weights=weights) for kind, name, _ in jobs]
    for row in rows:
        row |= dict(duration_s=arguments.duration_s) if row["kind"].startswith("hybrid") else {}

    def work(make):
        return lambda: score_recording(*make(), model="auto", seed=arguments.seed)

    return [(row, work(make)) for row, (*_, make) in zip(rows, jobs, strict=True)], skipped


def folders(arguments):
    """Folders of recordings that are there."""
    unknown = [str(folder) for folder in arguments.recordings if not (folder / "ground_truth.npz").exists()]
    if unknown:
        raise SystemExit(f"expected folders of made_recordings.py, found no ground_truth.npz in {unknown}")
    return arguments.recordings


def combined_digest(checkpoints):
    """Weights of all checkpoints among which "auto" chooses, in one line."""
    places = sorted(path.parent for path in Path(checkpoints).glob("*/model.safetensors"))
    return " ".join(f"{place.name}:{weights_digest(place)[:6]}" for place in places)


def merge(results, part, row, run, skipped):
    """Results with a row in its place, in the order of the parts."""
    rows = dict(spikes=results.get("spikes", []), recordings=results.get("recordings", []))
    rows[part] = [old for old in rows[part] if key_of(old) != key_of(row)] + [row]
    rows["spikes"].sort(key=lambda row: (SPIKES.index(row["source"]), list(WINDOWS).index(row["probe"]), row["name"]))
    rows["recordings"].sort(key=lambda row: (row["kind"], row["name"]))
    named = {row["run"] for part in rows.values() for row in part}
    runs = {start: each for start, each in results.get("runs", {}).items() if start in named}
    labels = dict(method_labels=METHODS, skipped=results.get("skipped", {}) | skipped)
    return dict(header=run, **labels, runs=runs | {run["started"]: run}, **rows)


def stands(old, wanted):
    """Whether a row of the file was measured as the wanted one would be."""
    return old is not None and all(old.get(name) == value for name, value in wanted.items())


def print_row(row):
    """One line of the table."""
    if "mean" in row:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in row["mean"].items())
        text = f"{row['source']}, {row['probe']}: {row['name']}: {scores}; adopted {row['adopted']:.2f}; "
        text += f"{row['adapt_seconds']} s"
    else:
        parts = [(name, row[name]) for name in ("before", "adapted")]
        scores = "; ".join(
            f"{name} accuracy {part['accuracy']:.3f}, {part['num_units']} units, {part['false_positives']} false, "
            f"{part['seconds']} s"
            for name, part in parts
        )
        text = f"{row['kind']}: {row['name']}: {scores}; {'adopted' if row['adopted'] else 'not adopted'}"
    print(text, flush=True)


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    parser.set_defaults(draws=4)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--probes", nargs="+", choices=WINDOWS, default=list(WINDOWS), help="of the spikes")
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "huidurep/checkpoints", help="folder of folders")
    parser.add_argument("--recordings", nargs="+", type=Path, default=[], metavar="FOLDER", help="to sort")
    parser.add_argument("--hybrid-seeds", type=int, default=3, help="hybrid recordings of each kind and noise")
    parser.add_argument("--duration-s", type=float, default=DURATION_S, help="of a hybrid recording")
    parser.add_argument("--again", action="store_true", help="measure rows again that the file has")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/adaptation.json")
    return parser.parse_args(words)


def main():
    import spikeinterface

    arguments = parse()
    spikeinterface.set_global_job_kwargs(n_jobs=1, progress_bar=False)
    names = ("draws", "only", "probes", "hybrid_seeds", "duration_s", "axona_step_uv", "jobs")
    run = run_header(seed=arguments.seed, **{name: getattr(arguments, name) for name in names})
    run["started"], started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="benchmark_cache_") as folder:
        arguments.cache = arguments.cache or Path(folder)
        spikes, skipped = spike_jobs(arguments)
    recordings, more = recording_jobs(arguments)
    for name, reason in (skipped | more).items():
        print(f"not measured: {name}: {reason}")
    for part, jobs in (("spikes", spikes), ("recordings", recordings)):
        for wanted, work in jobs:
            results, began = read_results(arguments.output), time.perf_counter()
            old = next((row for row in results.get(part, []) if key_of(row) == key_of(wanted)), None)
            if stands(old, wanted) and not arguments.again:
                print(f"{wanted['name']}: kept, measured at commit {old['commit']}", flush=True)
                continue
            row = wanted | work() | dict(run=run["started"], commit=run["commit"])
            row["seconds"] = round(time.perf_counter() - began, 1)
            run["seconds"] = round(time.perf_counter() - started, 1)
            write_results(arguments.output, merge(results, part, row, run, skipped | more))
            print_row(row)


if __name__ == "__main__":
    main()
