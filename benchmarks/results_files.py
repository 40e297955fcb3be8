"""Results files: how they are written, and what each says of the run that made it. The standard library only."""

import hashlib
import json
import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("huidurep", "spikeinterface", "kilosort", "mountainsort5", "torch", "numpy", "scipy", "scikit-learn")


def package_version(name):
    """Installed version of a package, or "not installed"; huidurep's is that of this clone, which is what runs."""
    if name == "huidurep":
        return re.search(r'^__version__ = "(.+)"$', (ROOT / "huidurep/__init__.py").read_text(), re.MULTILINE).group(1)
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def current_commit():
    """Commit of the repository, with "+changes" when files in huidurep/ or benchmarks/ differ from it."""

    def git(*words):
        return subprocess.run(("git", "-C", str(ROOT), *words), capture_output=True, text=True)

    found = git("rev-parse", "--short=12", "--verify", "HEAD")
    if found.returncode:
        return "no commit"
    changed = git("status", "--porcelain", "--", "huidurep", "benchmarks/*.py").stdout.strip()
    return found.stdout.strip() + ("+changes" if changed else "")


def processor_name():
    """Model name of the processor, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return found.group(1).strip() if found else platform.processor() or platform.machine()


def run_header(*, seed, **settings):
    """What a reader needs to repeat a run: seed, settings, versions, commit, machine."""
    return dict(
        seed=seed,
        settings=settings,
        versions={name: package_version(name) for name in PACKAGES} | dict(python=platform.python_version()),
        commit=current_commit(),
        machine=dict(processor=processor_name(), cores=os.cpu_count(), system=platform.platform()),
    )


def write_results(path, results):
    """Write a results file in one step, so that a broken-off run leaves the last whole one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n")
    part.replace(path)


def weights_digest(place):
    """First digits of the SHA-256 of a checkpoint's weights, to tell one training from another (or None)."""
    found = Path(place) / "model.safetensors"
    if not found.exists():
        return None
    return hashlib.sha256(found.read_bytes()).hexdigest()[:12]
