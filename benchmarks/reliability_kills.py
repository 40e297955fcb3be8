"""Commands that are killed at random times: a part of reliability.py.

The commands run in forked processes, whose imports are done, so that most kills come while they compute or write.
"""

import contextlib
import importlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

TINY = {
    "model": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "intermediate_size": 16,
        "embedding_size": 8,
        "spatial_size": 8,
    },
    "templates": {"banks": {"tetrode": 1}, "units_per_bank": 12, "num_views": 2, "spikeinterface_share": 1.0},
    "training": {"max_steps": 30, "per_device_train_batch_size": 8, "save_steps": 3, "warmup_steps": 2},
}


def run_command(arguments, kill_after_s=None):
    """Exit code of `huidurep ARGUMENTS` in a forked process (its imports are done); None if it was killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.setsid()
            code = _run_here(arguments)
        os._exit(code)
    end = time.perf_counter() + (np.inf if kill_after_s is None else kill_after_s)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.perf_counter() >= end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.001)


def _run_here(arguments):
    from huidurep.cli.main import app

    try:
        app([str(each) for each in arguments], prog_name="huidurep")
    except SystemExit as error:
        return int(error.code or 0)
    return 0


def opens_result(folder):
    """Whether a result folder is whole."""
    from huidurep import SortingResult

    return SortingResult.load(folder).sorting.get_num_units() >= 0


def opens_checkpoint(folder):
    """Whether a checkpoint folder is whole."""
    from huidurep import HuiduRep

    return HuiduRep.from_pretrained(folder) is not None


def opens_phy(folder):
    """Whether a phy folder is whole."""
    return len(np.load(folder / "spike_times.npy")) == len(np.load(folder / "spike_clusters.npy"))


def make_commands(folder):
    """Small inputs in `folder`; returns command -> (arguments before OUTPUT, check of OUTPUT)."""
    from huidurep import simulate_recording

    recording, truth = simulate_recording(probe="tetrode", num_units=5, duration_s=40.0, seed=1)
    recording.save(folder=folder / "recording", n_jobs=1, progress_bar=False)
    truth.save(folder=folder / "truth")
    recording.frame_slice(0, 150_000).save(folder=folder / "short", n_jobs=1, progress_bar=False)
    (folder / "settings.json").write_text(json.dumps(TINY))
    sort = ["sort", folder / "short", "--model", "tetrode"]
    if run_command([*sort, folder / "sorted"]) != 0:
        raise SystemExit("expected that `huidurep sort` sorts a simulated recording, found an error: run it by hand.")
    finetune = ["finetune", folder / "recording", "--model", "tetrode", "--steps", 2, "--sorting", folder / "truth"]
    convert = ["convert", "--to", "phy", "--recording", folder / "short", folder / "sorted"]
    return {
        "sort": (sort, opens_result),
        "convert": (convert, opens_phy),
        "finetune": ([*finetune, "--output"], opens_checkpoint),
        "pretrain": (["pretrain", "--config", folder / "settings.json", "--output"], opens_checkpoint),
    }


def state_of(output, opens):
    """What a killed command left: "nothing", "whole" or "part"; a run of `pretrain` to continue is nothing."""
    if not output.exists() or {each.name for each in output.iterdir()} <= {"run"}:
        return "nothing"
    try:
        return "whole" if opens(output) else "part"
    except Exception as error:
        print(f"{output}: {error}", file=sys.stderr)
        return "part"


def kill_one(arguments, path, opens, kill_after_s):
    """Kill a command once; returns what it left, and whether that was right and the next run ended well."""
    run_command([*arguments, path], kill_after_s)
    again = [*arguments, path, *(["--resume"] if arguments[0] == "sort" else [])]
    left, is_continued = state_of(path, opens), (path / "run").is_dir()
    if left == "whole" and not is_continued:  # a second run refuses to replace it, as it should
        return left, True
    # pretrain writes its checkpoint at the end, file by file; the same command writes it again
    is_right = left == "nothing" or is_continued
    return left, is_right and run_command(again) == 0 and state_of(path, opens) == "whole"


def kills(count, seed=0):
    """Kill commands `count` times in all, at random times; returns what they left, and what went wrong."""
    logging.disable(logging.WARNING)
    for name in ("models.modeling_pretraining", "pipeline", "training.pretrain", "training.trainer"):
        importlib.import_module(f"huidurep.{name}")  # once, before processes are forked
    rng, left, bad = np.random.default_rng(seed), {}, []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        commands = make_commands(folder)
        for name, (arguments, opens) in commands.items():
            began = time.perf_counter()
            if run_command([*arguments, folder / "uninterrupted"]) != 0:
                raise SystemExit(f"expected that `huidurep {name}` ends well, found an error: run it by hand.")
            duration_s = time.perf_counter() - began
            shutil.rmtree(folder / "uninterrupted")
            for _ in range(-(-count // len(commands))):
                kill_after_s = rng.uniform(0, duration_s)
                found, is_good = kill_one(arguments, folder / "killed", opens, kill_after_s)
                left.setdefault(name, []).append(found)
                if not is_good:
                    bad.append(f"{name}, killed after {kill_after_s:.2f} of {duration_s:.2f} s: left {found}")
                for left_name in ("killed", "killed.stages"):
                    shutil.rmtree(folder / left_name, ignore_errors=True)
    return left, bad
