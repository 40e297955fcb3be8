"""Adjusted Rand index of clusters of HuiduRep embeddings and of principal components, for each type of probe.

    python benchmarks/embedding.py [--probes tetrode ...] [--sources cells ...] [--extra NAME=FOLDER ...] [--jobs 1]

Each column has features of the same spikes (`model.embed`; principal components of the snippets, flattened over
channels). They are clustered by the same full-covariance Gaussian mixture with the number of units known, and by the
package's `cluster_embeddings`, which estimates the number. Sources of spikes:
  cells    detailed neuron models: ten units in each draw that are in no training data, 100 spikes each, coloured noise
           correlated over contacts, collisions with probability 0.15; with "drift", each spike is one of eight views
           of its unit, moved by a few um, mostly along the probe
  package cells, package spikeinterface    the same with templates of huidurep.simulation and another seed
  one contact    published labelled sets of single contacts: simulations from real shapes, with true labels; microwires
           and a Utah array, labelled by persons or their programs
  axona    manually sorted spikes of real tetrodes: the labels are one person's, not ground truth
  opto     mean waveforms of real opto-tagged units of held-out sessions, with random gains, in measured noise
Columns: `huidurep` (the checkpoint of that type of probe), `huidurep_pca12` (its 12 leading components), `base`,
`pca12`, `pca24`, every `--extra` (those in the results: trained with the settings in benchmarks/columns), and `oracle`:
maximum likelihood with known templates, noise and gains, without a model of collisions.

The file is merged: a row measured again on the same spikes keeps the columns that were not measured again.
  header, runs   of the latest run, and of all runs that rows name, by their start: seed, settings, versions, commit,
                 machine, seconds
  methods, method_labels, skipped    columns in order, their names, and the reasons of missing measurements
  targets        one entry for each simulated source and probe: pca (the better one), target pca + (1 - pca) / 2, and
                 by column `mean`, `gap_closed` and `reached`
  real           one entry for each real source and column: mean and smallest of (column - the better PCA) over files;
                 `reached`: mean at least 0.05 and no file below 0
  rows           source, probe, name, num_units, num_spikes, num_draws; mean, standard_error, draws by column with the
                 number of units known; automatic: the same with the number estimated, and num_units by column; commit,
                 seed, seconds of the latest run; runs and models (checkpoint, weights) by column; spikes: a digest of
                 each draw
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from embedding_real import axona_conditions, one_contact_conditions, opto_conditions
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
SOURCES = (*SIMULATED, "one contact", "axona", "opto")


def collect_conditions(arguments):
    """Conditions of the chosen sources and probes, and the reasons of missing measurements by name."""
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
    if "one contact" in arguments.sources:
        conditions, left_out = one_contact_conditions(arguments.one_contact)
        found, skipped = found + conditions, skipped | left_out
    if "opto" in arguments.sources:
        conditions, left_out = opto_conditions(arguments.opto, arguments.noise, num_draws=draws, seed=seed)
        found, skipped = found + conditions, skipped | left_out
    return [condition for condition in found if condition.probe in arguments.probes], skipped


def checkpoint_of(name, folder):
    """Folder of an embedded checkpoint; None if it does not exist."""
    place = Path(folder) / name
    return str(place) if (place / "model.safetensors").exists() else None


def models_for(probe, arguments):
    """Checkpoint folders by column for spikes of one type of probe, without missing ones."""
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
    """Path of a checkpoint relative to the repository, or its name if it is elsewhere."""
    place = Path(place).resolve()
    return str(place.relative_to(ROOT)) if place.is_relative_to(ROOT) else place.name


def merged_row(old, new):
    """The new row, with the columns that only the old one has if both were measured on the same spikes."""
    same = ("spikes", "num_spikes", "num_units", "seed")
    if old is None or any(old.get(name) != new[name] for name in same):
        return new
    merged = dict(new)
    for name in ("mean", "standard_error", "draws", "runs", "models"):
        merged[name] = old[name] | new[name]
    merged["automatic"] = {part: old["automatic"][part] | values for part, values in new["automatic"].items()}
    return merged


def merge(results, rows, run, skipped, labels):
    """Results in which rows replace those of the same source, probe and name, in the order of the sources."""

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
    # the oracle is the last column
    methods = [name for name in [*(n for n in labels if n not in ORACLE), *ORACLE] if in_any(name, rows)]
    # missing checkpoints are those of the latest run only
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
    """Print the target and the fraction of the gap closed for each simulated source and probe."""
    for entry in targets:
        print(f"{entry['source']}, {entry['probe']}: PCA {entry['pca']:.3f}, target {entry['target']:.3f}")
        for name, mean in entry["mean"].items():
            result = "reached" if entry["reached"][name] else "missed"
            print(f"    {name} {mean:.3f}: {100 * entry['gap_closed'][name]:.0f}% of the gap closed, {result}")


def print_margins(entries):
    """Print the scores minus those of PCA on real spikes: mean and smallest."""
    for entry in entries:
        result = "reached" if entry["reached"] else "missed"
        worst = f"smallest {entry['smallest']:+.3f} ({entry['file']})"
        print(f"{entry['source']}: {entry['method']} less PCA: {entry['mean']:+.3f} on average, {worst}, {result}")


def named_folders(texts):
    """Folders by name, from texts NAME=FOLDER."""
    pairs = dict(text.partition("=")[::2] for text in texts)
    for name, folder in pairs.items():
        if name in METHODS | ORACLE or not (Path(folder) / "model.safetensors").exists():
            raise SystemExit(f"expected NAME=FOLDER of a checkpoint under a free name, found {name}={folder}")
    return pairs


def add_data_options(parser):
    """Add the options of the data, shared with ablation.py and finetuning.py."""
    parser.add_argument("--cells", type=Path, default=SHARED / "data/cells")
    parser.add_argument("--axona", type=Path, default=SHARED / "data/real/axona_tetrodes")
    parser.add_argument("--one-contact", type=Path, default=SHARED / "data/real/one_contact")
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
            skipped[f"checkpoint {name}"] = "missing"
    for name, reason in skipped.items():
        print(f"not measured: {name}: {reason}")
    rows, results = [], read_results(arguments.output)
    for condition in conditions:
        rows.append(measure(condition, models_for(condition.probe, arguments), columns, arguments, run))
        print_row(rows[-1])
        run["seconds"] = round(time.perf_counter() - started, 1)
        # after each row, so that an interrupted run keeps its measurements
        write_results(arguments.output, merge(results, rows, run, skipped, labels))
    if rows:
        print_targets(gap_targets(rows))
        print_margins(real_margins(rows))


if __name__ == "__main__":
    main()
