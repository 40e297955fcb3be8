"""What each ingredient of training gave: adjusted Rand index of several checkpoints on one fixed list of conditions.

    python benchmarks/ablation.py --run default=FOLDER --run no-hard-negatives=FOLDER ... [--jobs 1] [--default LABEL]

Conditions are those of benchmarks/embedding.py (number of units known): detailed cells on the tetrode and on twelve
Neuropixels contacts, both simulators of the package on the tetrode, hand-cut tetrodes, held-out opto-tagged units. The
better PCA column and the oracle stand beside the runs. results/ablation.json is merged by label:
  header, default, conditions   of the latest run; label with whose settings others are compared; names in order
  rows    label, checkpoint, weights, commit, seed, num_draws; mean and standard_error by condition (the error over
          draws, None where there is one); automatic: the mean with the number of units found; settings_difference:
          setting -> [default's, own]; training_seconds (None where the trainer left no log)
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from embedding import ROOT, add_data_options, collect_conditions, named_folders, relative
from embedding_scores import mean_and_error, score_condition
from results_files import read_results, run_header, weights_digest, write_results

# name -> sources and probes whose rows are averaged
CONDITIONS = {
    "cells, tetrode": (("cells",), "tetrode"),
    "cells, neuropixels-1.0": (("cells",), "neuropixels-1.0"),
    "package, tetrode": (("package cells", "package spikeinterface"), "tetrode"),
    "axona": (("axona",), "tetrode"),
    "opto": (("opto",), None),
}
REFERENCES = ("pca12", "pca24", "oracle")


def flatten(settings, prefix=""):
    """Nested settings as one dict of dotted names."""
    flat = {}
    for name, value in settings.items():
        inner = flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
        flat |= inner
    return flat


def read_settings(folder):
    """Settings a checkpoint was trained with, dotted; empty where none are stored."""
    path = Path(folder) / "pretraining.json"
    if not path.exists():
        return {}
    stored = json.loads(path.read_text())
    # run folders of older versions keep the loss curve beside the settings
    return flatten(stored.get("settings", stored))


def settings_difference(default, own):
    """Setting -> [default's value, own value] for what differs, seeds included."""
    names = [*default, *(name for name in own if name not in default)]
    return {name: [default.get(name), own.get(name)] for name in names if default.get(name) != own.get(name)}


def training_seconds(folder):
    """Seconds the trainer says a run took: the largest of its logs, for a resumed run logs its last part too."""
    found = []
    for path in Path(folder).glob("**/trainer_state.json"):
        log = json.loads(path.read_text())["log_history"]
        found += [entry["train_runtime"] for entry in log if "train_runtime" in entry]
    return round(max(found), 1) if found else None


def summarise(by_condition, name):
    """Means and errors over draws of one column, with K known and found, by name of the condition."""
    mean, error, automatic = {}, {}, {}
    for key, conditions in by_condition.items():
        known = [[score["known"].get(name) for score in scores] for scores in conditions]
        if not known or None in sum(known, []):
            continue
        mean[key] = round(sum(sum(draws) / len(draws) for draws in known) / len(known), 4)
        error[key] = standard_error(known)
        found = [mean_and_error([s["automatic"] for s in scores])["mean"].get(name) for scores in conditions]
        automatic |= {key: round(sum(found) / len(found), 4)} if None not in found else {}
    return dict(mean=mean, standard_error=error, automatic=automatic)


def standard_error(known):
    """Over draws of the mean over conditions, for conditions of a draw share their units."""
    draws = [sum(values) / len(values) for values in zip(*known, strict=True)]
    if len(draws) < 2:
        return None
    middle = sum(draws) / len(draws)
    variance = sum((value - middle) ** 2 for value in draws) / (len(draws) - 1)
    return round((variance / len(draws)) ** 0.5, 4)


def score_all(arguments, models):
    """Scores of every draw of every condition: name of the condition -> list over its rows."""
    by_condition = {}
    columns = [*models, *REFERENCES]
    for key, (sources, probe) in CONDITIONS.items():
        arguments.sources = sources
        arguments.probes = [probe] if probe else ["linear", "neuropixels-1.0"]
        conditions, skipped = collect_conditions(arguments)
        for name, reason in skipped.items():
            print(f"not measured: {name}: {reason}")
        options = dict(seed=arguments.seed, num_jobs=arguments.jobs, device=arguments.device)
        options["automatic_draws"] = arguments.automatic_draws
        by_condition[key] = [score_condition(one, models, columns, **options) for one in conditions]
        for label in columns:
            mean = summarise({key: by_condition[key]}, label)["mean"]
            print(f"{key}: {label} {mean.get(key, float('nan')):.3f}", flush=True)
    return by_condition


def make_rows(by_condition, runs, header, arguments):
    """A row for each run, and one for each reference that is no run."""
    default = read_settings(runs.get(arguments.default, ""))
    rows = []
    for label in (*runs, *REFERENCES):
        row = dict(label=label, checkpoint=None, weights=None, commit=header["commit"], seed=arguments.seed)
        row |= dict(num_draws=arguments.draws, settings_difference={}, training_seconds=None)
        if label in runs:
            folder = runs[label]
            row |= dict(checkpoint=relative(folder), weights=weights_digest(folder))
            row |= dict(training_seconds=training_seconds(folder), settings=read_settings(folder))
            row["settings_difference"] = settings_difference(default, row["settings"])
        rows.append(row | summarise(by_condition, label))
    return rows


def merge(path, rows, header, default):
    """Results with these rows in the place of those of the same label; differences taken anew against the default."""
    stored = read_results(path).get("rows", [])
    found = {row["label"]: row for row in stored} | {row["label"]: row for row in rows}
    ordered = sorted(found.values(), key=lambda row: (row["label"] in REFERENCES, row["label"] != default))
    settings = found.get(default, {}).get("settings", {})
    for row in ordered:
        if "settings" in row:
            row["settings_difference"] = settings_difference(settings, row["settings"])
    return dict(header=header, default=default, conditions=list(CONDITIONS), rows=ordered)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    parser.add_argument("--run", action="append", required=True, metavar="LABEL=FOLDER")
    parser.add_argument("--default", help="label with whose settings the others are compared (default: the first)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/ablation.json")
    return parser.parse_args()


def main():
    arguments = parse()
    runs = named_folders(arguments.run)
    arguments.default = arguments.default or next(iter(runs))
    header = run_header(seed=arguments.seed, draws=arguments.draws, axona_step_uv=arguments.axona_step_uv)
    with tempfile.TemporaryDirectory(prefix="benchmark_cache_") as folder:
        arguments.cache = arguments.cache or Path(folder)
        by_condition = score_all(arguments, runs)
    rows = make_rows(by_condition, runs, header, arguments)
    write_results(arguments.output, merge(arguments.output, rows, header, arguments.default))


if __name__ == "__main__":
    main()
