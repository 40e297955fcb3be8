"""Facts of a pretraining run for its model card: commit, time, machine, versions, losses."""

from __future__ import annotations

import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..models.modeling_pretraining import LOSSES
from ..provenance import current_commit, machine, versions

FACTS_FILE = "training.json"


class SessionClock(TrainerCallback):
    """Adds the seconds trained so far and the commit to every entry of the loss curve.

    The curve is stored with the resumable checkpoints, so that a run of several sessions has the time and the commits
    of all of them, and counts no step twice.
    """

    def __init__(self) -> None:
        self._commit = current_commit()  # now: another one may be checked out while the run goes on
        self._began, self._before = time.perf_counter(), 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock at the seconds of earlier sessions."""
        seconds = [entry["training_seconds"] for entry in state.log_history if "training_seconds" in entry]
        self._began, self._before = time.perf_counter(), seconds[-1] if seconds else 0.0

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Add time and commit to the newest entry."""
        seconds = self._before + time.perf_counter() - self._began
        entry: dict[str, Any] = state.log_history[-1]
        entry.update(training_seconds=round(seconds, 1), commit=self._commit)


def write_training_facts(
    output_dir: str | Path, *, commit: str | None = None, command: str | None = None
) -> dict[str, Any]:
    """Write ``training.json`` beside the weights of a finished run.

    Parameters
    ----------
    output_dir : str or Path
        Of :func:`huidurep.training.pretrain.pretrain`; ``run/trainer_state.json`` in it holds the loss curve.
    commit, command : str, optional
        By default the commits in the loss curve, and the command line of this process.

    Returns
    -------
    dict
        The content of the file: ``commit`` (None where the package ran from no clone; several are separated by commas),
        ``minutes`` over all sessions, ``machine``, ``versions``, those of ``prototype_loss``, ``contrastive_loss`` and
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
    # The curves of older versions have the time of the last session only.
    seconds = max(entry.get("training_seconds", entry.get("train_runtime", 0.0)) for entry in history)
    facts: dict[str, Any] = dict(commit=commit or ", ".join(commits) or None, minutes=round(seconds / 60, 1))
    facts |= dict(machine=machine(), versions=versions())
    facts |= {name: losses[-1][name] for name in LOSSES if name in losses[-1]}
    facts["loss_steps"] = losses[-1]["step"] - (losses[-2]["step"] if len(losses) > 1 else 0)
    facts["command"] = command or _command()
    (output_dir / FACTS_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf8")
    return facts


def _command() -> str:
    """Command line of this process, with the bare name of the program."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return shlex.join([name, *sys.argv[1:]])
