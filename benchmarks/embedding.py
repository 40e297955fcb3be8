"""Adjusted Rand index of HuiduRep embeddings against principal components, for every type of probe.

    python benchmarks/embedding.py [--probes tetrode ...] [--sources cells ...] [--extra NAME=FOLDER ...] [--jobs 1]

The same spikes are described by each column (`model.embed`; principal components of the windows, flattened over
channels) and each description goes through the same full-covariance Gaussian mixture with the number of units known,
and through the package's own `cluster_embeddings`, which finds the number. Sources of spikes:
  cells    detailed neuron models: ten units a draw that no training has seen, 100 spikes each, coloured noise
           correlated over the contacts, collisions p 0.15; "drift" draws each spike from one of eight views of its
           unit (moved a few um, most along the probe)
  package cells, package spikeinterface    the same with templates of huidurep.simulation, under a seed of their own
  axona    hand-cut spikes of real tetrodes: one person's labels, so agreement with a person and no truth
  opto     mean waveforms of real opto-tagged units of held-out sessions, gains jittered, in measured noise
Columns: `huidurep` (the checkpoint of that probe type), `huidurep_pca12` (cut to 12 components), `base`, `pca12`,
`pca24`, every `--extra` (those in the results: trained with the settings in benchmarks/columns), and `oracle`: who
knows each template, the noise and each spike's gain, but of no collisions.

The file is merged: a row measured again on the same spikes keeps the columns that were not measured this time.
  header, runs   of the latest run; of every run that a row names, by its start: seed, settings, versions, commit,
                 machine, seconds
  methods, method_labels, skipped    columns in order, their names, what was not measured and why
  targets        one entry a simulated source and probe: pca (the better), target pca + (1 - pca) / 2, and by column
                 `mean`, `gap_closed` and `reached`
  real           one entry a real source and column: mean and smallest of (column - the better PCA) over the files,
                 `reached`: mean 0.05 or more and on no file below 0
  rows           source, probe, name, num_units, num_spikes, num_draws; mean, standard_error, draws by column with the
                 number of units known; automatic: the same when it is found, and num_units by column; commit, seed,
                 seconds of the latest run; runs and models (checkpoint, weights) by column; spikes: a digest a draw
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from embedding_real import axona_conditions, opto_conditions
from embedding_scores import mean_and_error, score_condition
from embedding_sources import PACKAGE_PROBES, WINDOWS, simulated_conditions
from results_files import ROOT, read_results, run_header, weights_digest, write_results
from tables import SIMULATED, gap_targets, real_margins

SHARED = ROOT.parent / "shared"
METHODS = {
    "huidurep": "HuiduRep",
    "huidurep_pca12": "HuiduRep, 12 components",
    "base": "HuiduRep base",
    "pca12": "PCA, 12 components",
    "pca24": "PCA, 24 components",
}
ORACLE = {"oracle": "oracle"}
SOURCES = (*SIMULATED, "axona", "opto")


def collect_conditions(arguments):
    """Conditions of the wanted sources and probes, and what is not measured with the reason."""
    found, skipped = [], {}
    draws, seed = arguments.draws, arguments.seed
    data = dict(cache=arguments.cache, tools=arguments.tools, cells=arguments.cells, num_draws=draws, seed=seed)
    for source in [name for name in SIMULATED if name in arguments.sources]:
        for probe in [name for name in WINDOWS if name in arguments.probes]:
            if source != "cells" and probe not in PACKAGE_PROBES:
                continue
            conditions, reason = simulated_conditions(source, probe, **data)
            found += conditions
            skipped |= {f"{source}, {probe}": reason} if reason else {}
    if "axona" in arguments.sources:
        conditions, left_out = axona_conditions(arguments.axona, step_uv=arguments.axona_step_uv)
        found, skipped = found + conditions, skipped | left_out
    if "opto" in arguments.sources:
        conditions, left_out = opto_conditions(arguments.opto, arguments.noise, num_draws=draws, seed=seed)
        found, skipped = found + conditions, skipped | left_out
    return [condition for condition in found if condition.probe in arguments.probes], skipped


def checkpoint_of(name, folder):
    """Folder of an embedded checkpoint, or None where there is none."""
    place = Path(folder) / name
    return str(place) if (place / "model.safetensors").exists() else None


def models_for(probe, arguments):
    """Column -> checkpoint folder for spikes of one type of probe; missing ones are left out."""
    places = dict(huidurep=checkpoint_of(probe, arguments.checkpoints))
    places["base"] = checkpoint_of("base", arguments.checkpoints)
    return {name: place for name, place in places.items() if place} | arguments.extra


def measure(condition, models, columns, arguments, run):
    """One row of the results."""
    started = time.perf_counter()
    options = dict(seed=arguments.seed, num_jobs=arguments.jobs, device=arguments.device)
    options["automatic_draws"] = arguments.automatic_draws
    scores = score_condition(condition, models, columns, **options)
    row = dict(source=condition.source, probe=condition.probe, name=condition.name)
    row |= dict(num_units=scores[0]["num_units"], num_spikes=scores[0]["num_spikes"], num_draws=len(scores))
    row |= mean_and_error([score["known"] for score in scores])
    row["automatic"] = mean_and_error([score["automatic"] for score in scores])
    row["automatic"]["num_units"] = mean_and_error([score["found"] for score in scores])["mean"]
    row |= dict(commit=run["commit"], seed=arguments.seed, seconds=round(time.perf_counter() - started, 1))
    row["runs"] = {name: run["started"] for name in row["mean"]}
    used = {name: place for name, place in models.items() if name in row["mean"]}
    row["models"] = {n: dict(checkpoint=relative(place), weights=weights_digest(place)) for n, place in used.items()}
    row["spikes"] = [score["spikes"] for score in scores]
    return row


def relative(place):
    """Path of a checkpoint without the machine's own folders."""
    place = Path(place).resolve()
    return str(place.relative_to(ROOT)) if place.is_relative_to(ROOT) else place.name


def merged_row(old, new):
    """The new row, with the columns that only the old one has where both had the same spikes."""
    same = ("spikes", "num_spikes", "num_units", "seed")
    if old is None or any(old.get(name) != new[name] for name in same):
        return new
    merged = dict(new)
    for name in ("mean", "standard_error", "draws", "runs", "models"):
        merged[name] = old[name] | new[name]
    merged["automatic"] = {part: old["automatic"][part] | values for part, values in new["automatic"].items()}
    return merged


def merge(results, rows, run, skipped, labels):
    """Results with these rows in the place of those of the same source, probe and name, in the order of the sources."""

    def key(row):
        return row["source"], row["probe"], row["name"]

    stored = {key(row): row for row in results.get("rows", [])}
    fresh = {key(row): merged_row(stored.get(key(row)), row) for row in rows}
    probes, order = list(WINDOWS), list(stored | fresh)
    rows = list((stored | fresh).values())
    rows.sort(key=lambda row: (SOURCES.index(row["source"]), probes.index(row["probe"]), order.index(key(row))))
    runs = results.get("runs", {}) | {run["started"]: run}
    named = {run["started"]} | {start for row in rows for start in row["runs"].values()}
    labels = METHODS | results.get("method_labels", {}) | labels
    # the oracle stands last, whatever columns come
    methods = [name for name in [*(n for n in labels if n not in ORACLE), *ORACLE] if in_any(name, rows)]
    # which checkpoints there are is known anew every time
    kept = {name: reason for name, reason in results.get("skipped", {}).items() if not name.startswith("checkpoint ")}
    merged = dict(header=run, methods=methods, method_labels={name: (labels | ORACLE)[name] for name in methods})
    merged |= dict(skipped=kept | skipped, runs={start: value for start, value in runs.items() if start in named})
    return merged | dict(targets=gap_targets(rows), real=real_margins(rows), rows=rows)


def in_any(name, rows):
    return any(name in row["mean"] for row in rows)


def print_row(row):
    def text(name):
        error = row["standard_error"][name]
        return f"{name} {row['mean'][name]:.3f}" + (f" +-{error:.3f}" if error is not None else "")

    scores = ", ".join(map(text, row["mean"]))
    found = ", ".join(f"{name} {value:.3f}" for name, value in row["automatic"]["mean"].items())
    print(
        f"{row['source']}, {row['probe']}: {row['name']}: {scores}; automatic: {found}; {row['seconds']} s", flush=True
    )


def print_targets(targets):
    """Target, share of the gap closed, and hit or miss, for each simulated source and probe."""
    for entry in targets:
        print(f"{entry['source']}, {entry['probe']}: PCA {entry['pca']:.3f}, target {entry['target']:.3f}")
        for name, mean in entry["mean"].items():
            verdict = "hit" if entry["reached"][name] else "miss"
            print(f"    {name} {mean:.3f}: {100 * entry['gap_closed'][name]:.0f}% of the gap closed, {verdict}")


def print_margins(entries):
    """How far above PCA on real spikes, on average and at worst."""
    for entry in entries:
        verdict = "hit" if entry["reached"] else "miss"
        worst = f"smallest {entry['smallest']:+.3f} ({entry['file']})"
        print(f"{entry['source']}: {entry['method']} less PCA: {entry['mean']:+.3f} on average, {worst}, {verdict}")


def named_folders(texts):
    """NAME=FOLDER texts as a dict."""
    pairs = dict(text.partition("=")[::2] for text in texts)
    for name, folder in pairs.items():
        if name in METHODS | ORACLE or not (Path(folder) / "model.safetensors").exists():
            raise SystemExit(f"expected NAME=FOLDER of a checkpoint under a free name, found {name}={folder}")
    return pairs


def add_data_options(parser):
    """What says where the spikes come from; benchmarks/ablation.py takes the same."""
    parser.add_argument("--cells", type=Path, default=SHARED / "data/cells")
    parser.add_argument("--axona", type=Path, default=SHARED / "data/real/axona_tetrodes")
    parser.add_argument("--opto", type=Path, default=SHARED / "data/real/opto_tagged_units.npz")
    parser.add_argument("--noise", type=Path, default=SHARED / "data/noise", help="spatial_cov.npy, temporal_cov.npy")
    parser.add_argument("--tools", type=Path, default=SHARED / "tools", help="folder of eap.py and make_templates.py")
    parser.add_argument("--cache", type=Path, help="keeps simulated templates (default: a temporary folder)")
    parser.add_argument("--axona-step-uv", type=float, default=1.17, help="uV of an int8 step: 1.5 V / 128 / 10000")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--automatic-draws", type=int, help="draws whose number of units is also found (default: all)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="draws at a time")
    parser.add_argument("--device", help='where models embed, e.g. "cuda" (default: the CPU)')


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    parser.add_argument("--probes", nargs="+", choices=WINDOWS, default=list(WINDOWS))
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=list(SOURCES))
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "huidurep/checkpoints", help="folder of folders")
    parser.add_argument("--extra", nargs="+", action="extend", default=[], metavar="NAME=FOLDER", help="more columns")
    parser.add_argument("--columns", nargs="+", help="measure these columns only")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/embedding.json")
    arguments = parser.parse_args(words)
    arguments.extra = named_folders(arguments.extra)
    return arguments


def main():
    arguments = parse()
    with tempfile.TemporaryDirectory(prefix="benchmark_cache_") as folder:
        arguments.cache = arguments.cache or Path(folder)
        conditions, skipped = collect_conditions(arguments)
    labels = METHODS | {name: name for name in arguments.extra}
    columns = arguments.columns or [*labels, *ORACLE]
    settings = {
        name: getattr(arguments, name) for name in ("draws", "automatic_draws", "probes", "sources", "axona_step_uv")
    }
    run = run_header(seed=arguments.seed, columns=columns, jobs=arguments.jobs, device=arguments.device, **settings)
    run["started"], started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    for name in ["base", *dict.fromkeys(condition.probe for condition in conditions)]:
        if checkpoint_of(name, arguments.checkpoints) is None:
            skipped[f"checkpoint {name}"] = "not there"
    for name, reason in skipped.items():
        print(f"not measured: {name}: {reason}")
    rows, results = [], read_results(arguments.output)
    for condition in conditions:
        rows.append(measure(condition, models_for(condition.probe, arguments), columns, arguments, run))
        print_row(rows[-1])
        run["seconds"] = round(time.perf_counter() - started, 1)
        # after every row: what a run that is broken off has measured is kept
        write_results(arguments.output, merge(results, rows, run, skipped, labels))
    if rows:
        print_targets(gap_targets(rows))
        print_margins(real_margins(rows))


if __name__ == "__main__":
    main()
