"""Sort many recordings on a dask cluster; a worker is killed midway, and only its recording is sorted again.

    python examples/05_many_recordings.py --output many

Simulates six tetrodes and starts two workers on this computer. ``Client("tcp://ADDRESS:8786")`` connects to workers on
other computers that see the same disk. A failure does not stop the others; a second run sorts what is missing.
"""

import argparse
import os
import time
from pathlib import Path

import spikeinterface

import huidurep

try:
    import psutil
    from dask.distributed import Client, LocalCluster, as_completed
except ImportError as error:
    raise SystemExit(f'{error}: expected dask.distributed; install it with pip install ".[dask]"') from error


def sort_one(path, folder):
    """In a worker: sort into `folder`, unless it is there. Returns the seconds that this took."""
    started = time.perf_counter()
    if not folder.exists():  # a result appears under its name only when it is complete
        with open(folder.parent / "started.txt", "a") as file:
            file.write(f"{path.name}\n")
        huidurep.SpikeSortingPipeline.from_pretrained("auto")(spikeinterface.load(path)).save(folder)
    return time.perf_counter() - started


def kill_a_worker(client):
    """End the process of a worker that sorts, without warning. Another one is started in its place."""
    worker = next(worker for worker, jobs in client.processing().items() if jobs)
    psutil.Process(client.run(os.getpid, workers=[worker])[worker]).kill()
    print("  a worker was killed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("many"))
    parser.add_argument("--num-recordings", type=int, default=6)
    parser.add_argument("--duration-s", type=float, default=60.0)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--no-kill", action="store_true")
    options = parser.parse_args()
    os.environ["NUMBA_NUM_THREADS"] = "1"  # of each worker; dask itself limits the other threads

    paths = [options.output / "recordings" / f"rat{number}" for number in range(options.num_recordings)]
    for seed, path in enumerate(paths):
        if not path.exists():
            recording, _ = huidurep.simulate_recording(num_units=5, duration_s=options.duration_s, seed=seed)
            recording.save(folder=path, progress_bar=False, n_jobs=1)
    sortings = options.output / "sortings"
    sortings.mkdir(exist_ok=True)
    waiting = [path for path in paths if not (sortings / path.name).exists()]
    print(f"{len(paths)} recordings, {len(waiting)} to sort")
    began, took = time.perf_counter(), []
    cluster = LocalCluster(n_workers=options.num_workers, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        client.run(getattr, huidurep, "SpikeSortingPipeline")  # workers import what they need
        ready = time.perf_counter()
        jobs = {client.submit(sort_one, path, sortings / path.name): path.name for path in waiting}
        for number, job in enumerate(as_completed(jobs), 1):
            if job.status == "finished":
                took.append(job.result())
            print(f"  {jobs[job]}: {f'FAILED, {job.exception()}' if job.exception() else f'{took[-1]:.1f} s'}")
            if number == len(waiting) // 2 and not options.no_kill:
                kill_a_worker(client)
        wall_s = time.perf_counter() - ready
    gain = sum(took) / wall_s
    print(f"{len(took)} sorted, {len(waiting) - len(took)} failed; speed-up {gain:.2f}, {wall_s:.0f} s in all")
    print(f"{ready - began:.0f} s to start the workers, which repeated or waited {1 - gain / options.num_workers:.0%}")


if __name__ == "__main__":
    main()
