"""Facts of a pretraining run for its card, made by the run itself: commit, time, machine, versions, losses."""

import json
import os
import platform
import re
import shlex
import sys
import time
from pathlib import Path

import torch
import transformers
from transformers import TrainerCallback

from ..models.modeling_pretraining import LOSSES
from ..provenance import current_commit

FACTS_FILE = "training.json"


class SessionClock(TrainerCallback):
    """Notes in every entry of the loss curve the seconds trained so far and the commit they were trained at.

    The curve goes with the checkpoints, so that a run of several sessions knows the time and the commits of all that
    its weights come from, and counts no step twice.
    """

    def __init__(self):
        self._commit = current_commit()  # now: another one may be checked out while the run goes on
        self._began, self._before = time.perf_counter(), 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        """Start the clock at what earlier sessions took."""
        seconds = [entry["training_seconds"] for entry in state.log_history if "training_seconds" in entry]
        self._began, self._before = time.perf_counter(), seconds[-1] if seconds else 0.0

    def on_log(self, args, state, control, **kwargs):
        """Complete the newest entry."""
        seconds = self._before + time.perf_counter() - self._began
        state.log_history[-1].update(training_seconds=round(seconds, 1), commit=self._commit)


def write_training_facts(output_dir, *, commit=None, command=None):
    """Write ``training.json`` beside the weights of a finished run.

    Parameters
    ----------
    output_dir : str or Path
        Of :func:`huidurep.training.pretrain.pretrain`; ``run/trainer_state.json`` in it holds the loss curve.
    commit, command : str, optional
        By default the commits that the loss curve names, and the command line of this process.

    Returns
    -------
    dict
        What was written: ``commit`` (None where the package ran from no clone; several apart by commas), ``minutes``
        over all sessions, ``machine``, ``versions``, those of ``prototype_loss``, ``contrastive_loss`` and
        ``reconstruction_loss`` that the run had (of the curve's last entry, a mean over ``loss_steps`` steps),
        ``command``.

    Raises
    ------
    FileNotFoundError
        If there is no loss curve.
    ValueError
        If the curve has no losses.
    """
    output_dir = Path(output_dir)
    state = output_dir / "run" / "trainer_state.json"
    if not state.is_file():
        raise FileNotFoundError(f"expected the loss curve {state}, found none: name the folder of a finished run.")
    history = json.loads(state.read_text(encoding="utf8"))["log_history"]
    losses = [entry for entry in history if not entry.keys().isdisjoint(LOSSES)]
    if not losses:
        raise ValueError(f"expected losses in {state}, found none: let the run log at least once.")
    commits = dict.fromkeys(entry["commit"] for entry in history if entry.get("commit"))
    # runs of older versions say only how long their last session took
    seconds = max(entry.get("training_seconds", entry.get("train_runtime", 0.0)) for entry in history)
    facts = dict(commit=commit or ", ".join(commits) or None, minutes=round(seconds / 60, 1), machine=_machine())
    facts["versions"] = dict(torch=torch.__version__, transformers=transformers.__version__)
    facts |= {name: losses[-1][name] for name in LOSSES if name in losses[-1]}
    facts["loss_steps"] = losses[-1]["step"] - (losses[-2]["step"] if len(losses) > 1 else 0)
    facts["command"] = command or _command()
    (output_dir / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf8")
    return facts


def _machine():
    """GPUs, or processor and threads, of this process."""
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found.group(1).strip() if found else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {os.cpu_count()} cores, {threads} thread{'s' * (threads > 1)}"


def _command():
    """Command line of this process, with the bare name of the program."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])
