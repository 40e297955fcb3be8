"""Sort many recordings in several processes; a failure of one does not stop the others.

    python examples/05_many_recordings.py --output many

Simulates three tetrodes and one whose samples got lost. A second run sorts only what is not there yet. With dask it is
``client.run(huidurep.register)`` and ``client.map(sort_one, paths, folders)``; on a cluster, one `huidurep sort` a job.
"""

import argparse
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import spikeinterface
import spikeinterface.sorters

import huidurep


def sort_one(path, folder):
    """In a process of its own: a recording in, a SpikeInterface sorting in `folder`."""
    recording = spikeinterface.load(path)
    sorting = spikeinterface.sorters.run_sorter("huidurep", recording, folder=folder, remove_existing_folder=True)
    return sorting.get_num_units()


def simulate(folder, num_recordings, duration_s):
    """Folders of recordings; the last one has lost its samples."""
    paths = [folder / f"rat{number}" for number in range(num_recordings)]
    for number, path in enumerate(paths):
        if not path.exists():
            recording, _ = huidurep.simulate_recording(num_units=5, duration_s=duration_s, seed=number)
            recording.save(folder=path, progress_bar=False, n_jobs=1)
    for raw in paths[-1].glob("*.raw"):
        raw.unlink()
    return paths


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("many"))
    parser.add_argument("--num-recordings", type=int, default=4)
    parser.add_argument("--duration-s", type=float, default=30.0)
    parser.add_argument("--num-workers", type=int, default=2)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ.setdefault(name, "1")  # of each worker: several with all threads each would be slower

    paths = simulate(options.output / "recordings", options.num_recordings, options.duration_s)
    folders = {path: options.output / "sortings" / path.name for path in paths}
    waiting = [path for path in paths if not (folders[path] / "sorter_output" / "sorting").exists()]
    print(f"{len(paths)} recordings, {len(waiting)} to sort, {options.num_workers} at a time")

    failed = {}
    context = multiprocessing.get_context("spawn")  # as on Windows and macOS: workers know nothing of this process
    with ProcessPoolExecutor(options.num_workers, mp_context=context, initializer=huidurep.register) as pool:
        jobs = {pool.submit(sort_one, path, folders[path]): path for path in waiting}
        for job in as_completed(jobs):
            path = jobs[job]
            if job.exception() is None:
                print(f"  {path.name}: {job.result()} units -> {folders[path]}")
            else:
                failed[path.name] = str(job.exception()).strip().splitlines()[-1]
    for name, reason in failed.items():
        print(f"  {name}: FAILED, {reason}")
    print(f"{len(waiting) - len(failed)} sorted, {len(failed)} failed")


if __name__ == "__main__":
    main()
