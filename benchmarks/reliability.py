"""What happens to work that is killed, to a full disk, to random input, and to the memory of long runs?

    python benchmarks/reliability.py [--only kills,disk,random,sorts,hours] [--output FILE]

- kills: SIGKILL at a random moment of sort, convert, finetune and pretrain. OUTPUT must be absent or whole, and the
  same command, given again, must succeed.
- disk: sort, convert and report onto file systems (tmpfs, needs root on Linux) that are too small. The command must end
  by itself, with one sentence, and leave nothing at OUTPUT.
- random: the property-based tests (tests/properties), ten times as many cases as in `make test`.
- sorts: many sorts in one process. Its memory must not grow.
- hours: long recordings that are generated while they are read. Memory must not grow with their duration beyond the
  spikes that are found.

Each row of the results file is one line of docs/reliability.md (`python benchmarks/tables.py docs/reliability.md`).
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from results_files import ROOT, current_commit, read_results, run_header, write_results

HUIDUREP = [sys.executable, "-m", "huidurep"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
DISK_MB = (0.0625, 0.25, 0.5, 1, 2)


def command_lines(work):
    """Commands by name; each writes to work/out."""
    recording, out = work / "simulated" / "recording", work / "out"
    convert = [*HUIDUREP, "convert", str(work / "result"), str(out), "--recording", str(recording), "--to"]
    return {
        "sort": [*HUIDUREP, "sort", str(recording), str(out), "--model", "tetrode"],
        "convert to phy": [*convert, "phy"],
        "convert to analyzer": [*convert, "analyzer"],
        "report": [*HUIDUREP, "report", str(work / "result"), "--to", str(out)],
    }


def run(command, timeout_s=900):
    """Exit code, last line of stderr and seconds of a command that ends."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, timeout=timeout_s, cwd="/")
    lines = done.stderr.strip().splitlines()
    return done.returncode, lines[-1] if lines else "", time.perf_counter() - began


def prepare(work, duration_s=20):
    """Simulate a recording, and sort it, for the commands."""
    simulate = [*HUIDUREP, "simulate", "recording", str(work / "simulated"), "--num-units", "3"]
    for command in (
        [*simulate, "--duration-s", str(duration_s)],
        [*HUIDUREP, "sort", str(work / "simulated" / "recording"), str(work / "result"), "--model", "tetrode"],
    ):
        code, message, _ = run(command)
        if code != 0:
            raise RuntimeError(message)


def measure_kills(number, seed):
    """Row of the kills."""
    from reliability_kills import kills

    left, failures = kills(number, seed)
    cases = ", ".join(f"{name} {len(found)}" for name, found in left.items())
    whole = sum(found.count("whole") for found in left.values())
    what = f"killed at a random moment, then given again ({cases}; OUTPUT whole after {whole}, else absent)"
    return dict(what=what, cases=sum(map(len, left.values())), bad=failures)


def clear(path):
    """Remove what a command of ours wrote into the folder of this benchmark, hidden leftovers of the kill included."""
    hidden = map(str, path.parent.glob(f".{path.name}*"))
    subprocess.run(["rm", "-rf", str(path), f"{path}.stages", *hidden], check=True)


def measure_disk(number, seed):
    """Row of the full disks; None where no small file system can be mounted."""
    failures, cases = [], 0
    with tempfile.TemporaryDirectory() as folder:
        work, disk = Path(folder), Path(folder) / "disk"
        prepare(work)
        disk.mkdir()
        commands = {
            name: command for name, command in command_lines(work).items() if name not in ("finetune", "pretrain")
        }
        commands["report"] = [*HUIDUREP, "report", str(work / "result"), "--to", str(work / "out")]
        for size_mb in DISK_MB:
            mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(size_mb * 1024)}k", "tmpfs", str(disk)])
            if mounted.returncode != 0:
                return None
            try:
                for name, command in commands.items():
                    out = disk / "out"
                    code, message, _ = run([str(out) if word == str(work / "out") else word for word in command])
                    cases += 1
                    # finished stages are kept for --resume
                    left = sorted(path.name for path in disk.iterdir() if path.name != "out.stages")
                    if code not in (0, 1, 2) or (code != 0 and (left or not message.startswith("huidurep: "))):
                        failures.append(f"{name} on {size_mb:g} MB: exit code {code}, left {left}: {message}")
                    clear(out)
            finally:
                subprocess.run(["umount", "-l", str(disk)], check=True)
    return dict(what=f"disk full ({', '.join(commands)}; {', '.join(map(str, DISK_MB))} MB)", cases=cases, bad=failures)


def measure_random(number, seed):
    """Row of the property-based tests."""
    environment = {**ENVIRONMENT, "HUIDUREP_FUZZ_FACTOR": str(number)}
    command = [sys.executable, "-m", "pytest", "-q", "--timeout", "7200", f"--hypothesis-seed={seed}", "-n", "2"]
    done = subprocess.run([*command, "tests/properties"], capture_output=True, text=True, env=environment, cwd=ROOT)
    sources = "".join(path.read_text() for path in sorted((ROOT / "tests/properties").glob("test_*.py")))
    cases = number * sum(map(int, re.findall(r"@cases\((\d+)\)", sources)))
    failures = re.findall(r"^FAILED (.*)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 and not failures:
        failures = [done.stdout[-300:]]
    return dict(what="random recordings, waveforms, checkpoints, results and command lines", cases=cases, bad=failures)


def memory_mb(field="VmRSS"):
    """Memory of this process in MiB: VmRSS now, VmHWM at its peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+)", status)[1]) / 1024


def many_sorts(number, seed):
    """Run in a child: memory and open files after a tenth of the sorts and after all of them."""
    import huidurep

    pipeline, early = huidurep.SpikeSortingPipeline.from_pretrained("tetrode"), None
    for index in range(number):
        recording, _ = huidurep.simulate_recording(probe="tetrode", num_units=2, duration_s=3.0, seed=seed + index % 20)
        pipeline(recording)
        if index + 1 == max(20, number // 10):
            early = memory_mb(), len(os.listdir("/proc/self/fd"))
    return dict(early=early, late=(memory_mb(), len(os.listdir("/proc/self/fd"))))


def measure_sorts(number, seed):
    """Row of many sorts in one process: bad if memory grows by more than 10 % after the first tenth."""
    found = run_child("many_sorts", number, seed)
    (early_mb, early_files), (late_mb, late_files) = found["early"], found["late"]
    text = f"{early_mb:.0f} MiB and {early_files} open files after {max(20, number // 10)}, "
    text += f"{late_mb:.0f} MiB and {late_files} after all"
    is_bad = late_mb > 1.1 * early_mb or late_files > early_files + 2
    return dict(what=f"sorts of 3 s in one process: {text}", cases=number, bad=[text] if is_bad else [])


def long_recording(minutes, seed):
    """Run in a child: 32 channels, eight tetrodes, whose traces are generated while they are read."""
    from spikeinterface.core import aggregate_channels, generate_ground_truth_recording

    import huidurep

    options = dict(durations=[60.0 * minutes], sampling_frequency=20000.0, num_channels=4, num_units=2)
    options["generate_sorting_kwargs"] = dict(firing_rates=2.0, refractory_period_ms=3.0)
    tetrodes = [generate_ground_truth_recording(**options, seed=8 * seed + index)[0] for index in range(8)]
    recording = aggregate_channels(tetrodes, renamed_channel_ids=list(range(32)))
    recording.set_property("group", [index // 4 for index in range(32)])
    before_mb = memory_mb("VmHWM")
    sorting = huidurep.sort(recording, model="tetrode")
    num_spikes = len(sorting.to_spike_vector())
    return dict(before=before_mb, peak=memory_mb("VmHWM"), num_spikes=num_spikes, num_units=len(sorting.unit_ids))


def measure_hours(number, seed):
    """Row of long recordings: peak memory for a duration and four times as much, extrapolated to 24 hours."""
    short, long = number, 4 * number
    found = {minutes: run_child("long_recording", minutes, seed) for minutes in (short, long)}
    slope = (found[long]["peak"] - found[short]["peak"]) / (long - short)
    day_mb = found[long]["peak"] + max(0.0, slope) * (24 * 60 - long)
    text = ", ".join(f"{m} min {each['peak']:.0f} MiB ({each['num_spikes']} spikes)" for m, each in found.items())
    what = f"peak memory, 32 channels at 20 kHz, generated while read: {text}; "
    what += f"extrapolated to 24 h {day_mb / 1024:.1f} GiB"
    return dict(what=what, cases=2, bad=[what] if day_mb > 24 * 1024 else [])


def run_child(function, *arguments):
    """Result of a function of this file in a fresh process."""
    words = [sys.executable, __file__, "--child", function, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, env=ENVIRONMENT)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


# function and its number of cases (for `hours`: minutes of the shorter recording)
SECTIONS = {
    "kills": (measure_kills, 50),
    "disk": (measure_disk, 1),
    "random": (measure_random, 10),
    "sorts": (measure_sorts, 1000),
    "hours": (measure_hours, 10),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas")
    parser.add_argument("--number", type=int, help="another number of cases, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/reliability.json")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        function, *numbers = arguments.child
        print(json.dumps(globals()[function](*map(int, numbers))))
        return
    rows = {row["section"]: row for row in read_results(arguments.output).get("rows", [])}
    for name in arguments.only.split(","):
        measure, number = SECTIONS[name]
        row = measure(arguments.number or number, arguments.seed)
        if row is None:
            print(f"{name}: not measured, no file system can be mounted here")
            continue
        rows[name] = dict(section=name, **row, commit=current_commit())
        print(f"{name}: {row['what']}: {row['cases']} cases, {len(row['bad'])} bad")
        print("".join(f"    {failure}\n" for failure in row["bad"]), end="", flush=True)
        results = dict(header=run_header(seed=arguments.seed), rows=[rows[each] for each in SECTIONS if each in rows])
        write_results(arguments.output, results)


if __name__ == "__main__":
    main()
