"""Results files: one JSON line for each row, and the header that describes the run.

The only reader and writer of benchmarks/results/*.json. A file is a JSON object. Each row of a list and each entry of a
dictionary (header, recordings, runs) is one line, so that a repeated run changes one line.
"""

import hashlib
import json
import os
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone before an installed package
from huidurep import provenance

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("spikeinterface", "kilosort", "mountainsort5", "torch", "numpy", "scipy", "scikit-learn")


def package_version(name):
    """Version of a package, that of this clone for huidurep; "not installed" if it is missing."""
    return (provenance.package_versions([name]) | provenance.versions())[name]


def current_commit():
    """Commit of the clone, with "+changes" if files of huidurep/ or benchmarks/*.py differ from it."""
    return provenance.current_commit(":/benchmarks/*.py") or "no commit"


def run_header(*, seed, **settings):
    """Header of a run: seed, settings, versions, commit and machine."""
    return dict(
        seed=seed,
        settings=settings,
        versions=provenance.versions() | provenance.package_versions(PACKAGES),
        commit=current_commit(),
        machine=dict(processor=provenance.processor_name(), cores=os.cpu_count(), system=platform.platform()),
    )


def read_results(path):
    """Content of a results file; {} if it does not exist."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf8")) if path.exists() else {}


def write_results(path, results):
    """Write a results file in one step, so that an interrupted run leaves the previous file."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    fields = [f" {json.dumps(name)}: {_lines(value)}" for name, value in results.items()]
    part.write_text("{\n" + ",\n".join(fields) + "\n}\n", encoding="utf8")
    part.replace(path)


def _lines(value):
    """JSON of a field of the file, one line for each entry of a dictionary or of a list of dictionaries."""
    if isinstance(value, dict) and value:
        entries = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items()]
        return "{\n  " + ",\n  ".join(entries) + "\n }"
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n  " + ",\n  ".join(json.dumps(entry) for entry in value) + "\n ]"
    return json.dumps(value)


def weights_digest(place):
    """First 12 digits of the SHA-256 of a checkpoint's weights, which identify a training; None without weights."""
    found = Path(place) / "model.safetensors"
    if not found.exists():
        return None
    return hashlib.sha256(found.read_bytes()).hexdigest()[:12]
