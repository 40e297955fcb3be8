"""The command ``huidurep doctor``."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from ..provenance import current_commit, machine, package_versions, versions
from .inputs import check_writable
from .options import AsJson
from .output import only_results_on_stdout, print_result

# Names of modules and of packages, and what does not work without them.
OPTIONAL = {
    "pandas": ("pandas", "the report, tables, exports to phy and analyzers, simulated recordings: huidurep[report]"),
    "matplotlib": ("matplotlib", "pictures: huidurep[report]"),
    "jinja2": ("jinja2", "huidurep report, model cards: huidurep[report]"),
    "accelerate": ("accelerate", "huidurep finetune and pretrain: huidurep[train]"),
    "neuroconv": ("neuroconv", "huidurep convert --to nwb: huidurep[nwb]"),
    "onnxruntime": ("onnxruntime", "the encoder without torch: huidurep[onnx]"),
    "phy": ("phy", "curation of an exported phy folder: pip install phy"),
    "spikeinterface_gui": ("spikeinterface-gui", "a viewer of an exported analyzer: pip install spikeinterface-gui"),
    "sortingview": ("sortingview", "a viewer in the browser of an exported analyzer: pip install sortingview"),
}
MIN_FREE_GIB = 1.0  # below it, even a short recording may not find room
GIB = 2**30


def doctor(
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="Where results will be written.")] = Path("."),
    as_json: AsJson = False,
) -> None:
    """Check the installation: versions, devices, threads, disk, memory, and what is missing.

    Exit code 0 where recordings can be sorted, 1 where something is in the way.
    """
    with only_results_on_stdout():
        facts, problems = _examine(output)
    rows = [f"{name:16}{value}" for name, value in _describe(facts)]
    missing = [f"  {name}: {use}" for name, use in facts["missing"].items()]
    text = "\n".join([*rows, *(["not installed, and what needs it:", *missing] if missing else [])])
    said = "\n".join(f"problem: {problem}" for problem in problems) or "ready to sort"
    print_result(f"{text}\n{said}", facts | {"problems": problems}, as_json=as_json)
    if problems:
        raise typer.Exit(1)


def _examine(output: Path) -> tuple[dict[str, Any], list[str]]:
    """What was found, and the problems among it."""
    problems = _unmet_requirements()
    nearest = next(path for path in (output.absolute(), *output.absolute().parents) if path.exists())
    folders = {"output": nearest, "temporary": Path(tempfile.gettempdir())}
    free_gib = {name: round(shutil.disk_usage(folder).free / GIB, 1) for name, folder in folders.items()}
    for name, folder in folders.items():
        try:
            check_writable(folder)
        except OSError as error:
            problems.append(str(error))
        if free_gib[name] < MIN_FREE_GIB:
            problems.append(
                f"expected {MIN_FREE_GIB:g} GiB of free disk in {folder}, found {free_gib[name]}; free some space, or "
                f"choose another {'folder' if name == 'output' else 'one with the variable TMPDIR'}"
            )
    memory = _memory_gib()
    if memory["available"] < MIN_FREE_GIB:
        problems.append(
            f"expected {MIN_FREE_GIB:g} GiB of available memory, found {memory['available']:.1f}; end other programs"
        )
    facts = {
        "versions": versions(),
        "commit": current_commit(),
        "device": _device(problems),
        "encoder": _encoder(problems),
        "threads": {name: os.environ[name] for name in os.environ if name.endswith("NUM_THREADS")},
        "folders": folders,
        "free_disk_gib": free_gib,
        "memory_gib": memory,
        "missing": {package: use for module, (package, use) in OPTIONAL.items() if find_spec(module) is None},
    }
    return facts, problems


def _describe(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Lines of the text: a name and what was found."""
    commit = f", commit {facts['commit']}" if facts["commit"] else ""
    threads = ", ".join(f"{name}={number}" for name, number in facts["threads"].items())
    memory = facts["memory_gib"]
    disks = [
        (f"{name} disk", f"{facts['free_disk_gib'][name]} GiB free in {folder}")
        for name, folder in facts["folders"].items()
    ]
    return [
        ("versions", ", ".join(f"{name} {number}" for name, number in facts["versions"].items()) + commit),
        ("device", facts["device"]),
        ("threads", threads or "no limit is set by OMP_NUM_THREADS and others"),
        ("encoder", facts["encoder"]),
        ("memory", f"{memory['available']:.1f} of {memory['total']:.1f} GiB available"),
        *disks,
    ]


def _unmet_requirements() -> list[str]:
    """Required packages that are missing or of another version than the package asks for."""
    from packaging.requirements import Requirement

    try:
        lines = requires("huidurep") or []
    except PackageNotFoundError:
        return []  # runs from its sources, which name no requirements
    wanted = [Requirement(line) for line in lines if "extra ==" not in line]
    found = package_versions(each.name for each in wanted)
    return [
        f"expected {each.name}{each.specifier}, found {found[each.name]}; pip install '{each.name}{each.specifier}'"
        for each in wanted
        if found[each.name] == "not installed" or not each.specifier.contains(found[each.name], prereleases=True)
    ]


def _device(problems: list[str]) -> str:
    """What torch computes on."""
    try:
        import torch
    except Exception as error:  # a broken installation raises many classes
        problems.append(f"expected torch, found that it cannot be imported ({error}); install it again")
        return "unknown"
    is_mps = not torch.cuda.is_available() and torch.backends.mps.is_available()
    return f"{machine()}{', with the GPU of Apple silicon (mps)' * is_mps}"


def _encoder(problems: list[str]) -> str:
    """Whether the embedded checkpoints are there, and one of them computes what it computed when it was made."""
    from ..hub.embedded import list_checkpoints

    names = list_checkpoints()
    try:
        from ..models.modeling_huidurep import HuiduRep

        HuiduRep.from_pretrained("tetrode")  # its fingerprint is compared
    except Exception as error:  # a broken installation raises many classes
        problems.append(f"expected the checkpoint 'tetrode' to open, found: {error}")
    return f"{len(names)} checkpoints ({', '.join(names)})"


def _memory_gib() -> dict[str, float]:
    """Total and available memory; NaN where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {line.split(":")[0]: float(line.split()[1]) for line in lines if line.endswith("kB")}
        return {"total": kib["MemTotal"] / 2**20, "available": kib["MemAvailable"] / 2**20}
    except (OSError, KeyError):
        total = (
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB if hasattr(os, "sysconf") else float("nan")
        )
        return {"total": total, "available": float("nan")}
