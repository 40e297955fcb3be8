"""What `huidurep.finetune` gives on recordings of units, probes and rates that its checkpoint was not trained on.

    python benchmarks/finetuning.py [--only hybrid-0 ring ...] [--methods resampling curated] [--steps 200]

Each recording is made here, with a seed: `hybrid-N` puts opto-tagged units that training holds out into noise of
measured covariance (benchmarks/hybrid_recordings.py: eight contacts, 10 uV); `ring` (six contacts at 15 kHz) and
`column` (twelve contacts, 40 um apart) are simulated. Its first 90 s are fine-tuned on, without labels; 60 s after
them, of the same units, are the test. Both are separate recordings. Methods: `resampling` of the units that the
checkpoint finds, and `curated`, resampling of the true units of the 90 s.

Each row (recording, checkpoint, method) is written as soon as it is there. One that stands in the file with the same
settings and weights is kept, unless --again is given.
  header, runs            of the latest run, and of every run that a row names
  rows                    kind, name, method, checkpoint, weights; outcome, gain, tolerance, figures of the
                          report; num_units_true; finetune_seconds, seconds
  pca12                   rand_index alone
  before, trained, delivered
                          of the checkpoint, of the trained weights, and of those that the acceptance test keeps:
                          rand_index, the adjusted Rand index of a full-covariance mixture of the true spikes with the
                          number of units known (mean over two seeds of the mixture); accuracy, num_units and
                          false_positives of the sorting (means over three seeds)
"""

import argparse
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import numpy as np
from embedding import add_data_options
from embedding_scores import principal_components, rand_index
from hybrid_recordings import hybrid_recording
from results_files import ROOT, read_results, run_header, weights_digest, write_results
from sorting import score

TRAIN_S, TEST_S = 90.0, 60.0
HYBRID_UV, SIMULATED_UV = 10.0, 10.0
RING_UM, PITCH_UM = 20.0, 40.0
SORTINGS = 3  # of a test, each with a seed of its own: one alone moves by .05
MAX_SPIKES = 4000  # of a test, drawn where there are more
METHODS = ("resampling", "curated")
MIXTURE_SEEDS = (0, 100)
COUNTS = dict(accuracy="accuracy", num_units="units_found", false_positives="false_positive_units")
# What "auto" takes, but for hybrids: that of shanks, which they come from, and then that of "auto".
CHECKPOINTS = {"hybrid": ("linear", "neuropixels-1.0"), "ring": ("base",), "column": ("linear",)}


def make_hybrid(arguments, seed):
    """Units of a shank."""
    data = dict(opto=arguments.opto, noise=arguments.noise, duration_s=TRAIN_S + TEST_S)
    return hybrid_recording("linear", noise_uv=HYBRID_UV, seed=arguments.seed + seed, **data)


def make_simulated(arguments, places, **options):
    """Units around these contacts (num_contacts, 2) um."""
    import probeinterface

    import huidurep

    probe = probeinterface.Probe(ndim=2)
    probe.set_contacts(places, shapes="circle", shape_params={"radius": 6})
    probe.set_device_channel_indices(np.arange(len(places)))
    options |= dict(duration_s=TRAIN_S + TEST_S, noise_uv=SIMULATED_UV, seed=arguments.seed)
    return huidurep.simulate_recording(probe=probe, **options)


def make_ring(arguments):
    """A bundle of wires at a low rate."""
    angles = 2 * np.pi * np.arange(6) / 6
    places = RING_UM * np.stack([np.cos(angles), np.sin(angles)], 1)
    return make_simulated(arguments, places, num_units=8, sampling_frequency=15000.0)


def make_column(arguments):
    """Contacts so far apart that few see a unit."""
    places = np.stack([np.zeros(12), PITCH_UM * np.arange(12)], 1)
    return make_simulated(arguments, places, num_units=16)


RECORDINGS = {
    "hybrid-0": ("hybrid, 8 contacts", lambda arguments: make_hybrid(arguments, 0)),
    "hybrid-1": ("hybrid, 8 contacts", lambda arguments: make_hybrid(arguments, 1)),
    "ring": ("simulated ring of 6 contacts, 15 kHz", make_ring),
    "column": ("simulated column of 12 contacts, 40 um apart", make_column),
}


class Test:
    """The later part of a recording, on which checkpoints are compared.

    True spikes are cut from the filtered traces. Where there are more contacts than the checkpoint takes, spikes of the
    units of either end of the probe are clustered apart, on as many contacts of that end.
    """

    def __init__(self, recording, truth, num_channels, seed):
        self.recording, self.truth, self.seed = recording, truth, seed
        self.parts = list(self._cut(num_channels))

    def _cut(self, num_channels):
        """Yield (waveforms, labels, where) of each part."""
        from spikeinterface.core.node_pipeline import base_peak_dtype

        from huidurep import SortingParameters
        from huidurep.sorting.preprocessing import preprocess, split_groups
        from huidurep.sorting.run_log import RunLog
        from huidurep.sorting.waveforms import has_whole_snippet, iterate_waveforms

        parameters = SortingParameters()
        (group,) = split_groups(self.recording, parameters, RunLog())
        prepared = preprocess(group, parameters, RunLog()).recording
        vector = self.truth.to_spike_vector()
        peaks = np.zeros(len(vector), base_peak_dtype)
        peaks["sample_index"] = vector["sample_index"]
        rows = np.flatnonzero(has_whole_snippet(peaks, prepared, parameters))
        rows = np.sort(np.random.default_rng(self.seed).permutation(rows)[:MAX_SPIKES])
        total = prepared.get_num_channels()
        batches = list(iterate_waveforms(prepared, peaks[rows], parameters, num_channels=total))
        waveforms, labels = np.concatenate([batch.waveforms for batch in batches]), vector["unit_index"][rows]
        where = dict(peak_index=batches[0].peak_index, sampling_frequency=prepared.get_sampling_frequency())
        positions_um = prepared.get_channel_locations()
        order = np.lexsort(positions_um.T)
        ends = [order] if total <= num_channels else [order[:num_channels], order[-num_channels:]]
        means = {unit: waveforms[labels == unit].mean(0) for unit in np.unique(labels)}
        place = {unit: int(np.argmax(order == mean.min(0).argmin())) for unit, mean in means.items()}
        for number, channels in enumerate(ends):
            its = [unit for unit in means if place[unit] * len(ends) // total == number]
            chosen = np.isin(labels, its)
            if len(its) > 1:
                part = waveforms[chosen][:, :, np.sort(channels)]
                yield part, labels[chosen], where | dict(channel_positions=positions_um[np.sort(channels)])

    def rand_index(self, describe):
        """Mean over the parts, weighted by their spikes, of the adjusted Rand index of descriptions of spikes."""
        found = []
        for waveforms, labels, where in self.parts:
            features = describe(waveforms, where)
            found.append(np.mean([rand_index(features, labels, seed=self.seed + more) for more in MIXTURE_SEEDS]))
        return round(float(np.average(found, weights=[len(labels) for _, labels, _ in self.parts])), 4)

    def score_pca(self):
        """The same for principal components."""
        flat = self.rand_index(lambda waveforms, _: principal_components(waveforms.reshape(len(waveforms), -1), 12))
        return dict(rand_index=flat)

    def score(self, place):
        """Figures of a checkpoint by name or folder."""
        import huidurep

        model = huidurep.HuiduRep.from_pretrained(place).eval()
        index = self.rand_index(lambda waveforms, where: model.embed(waveforms, **where))
        found = [
            score(self.truth, huidurep.sort(self.recording, model=place, seed=self.seed + more))
            for more in range(SORTINGS)
        ]
        means = {name: round(float(np.mean([each[key] for each in found])), 4) for name, key in COUNTS.items()}
        return dict(rand_index=index) | means


def measure(make, *, checkpoint, num_channels, method, arguments, kept):
    """What is measured of a row; `kept` has what does not depend on the method."""
    import huidurep
    from huidurep.finetuning.settings import FinetuningSettings

    if not kept:
        recording, truth = make(arguments)
        rate = recording.get_sampling_frequency()
        cut, end = int(TRAIN_S * rate), recording.get_num_samples()
        kept["train"], kept["units"] = recording.frame_slice(0, cut), truth.frame_slice(0, cut)
        kept["test"] = Test(recording.frame_slice(cut, end), truth.frame_slice(cut, end), num_channels, arguments.seed)
        kept["pca12"], kept["before"] = kept["test"].score_pca(), kept["test"].score(checkpoint)
    options = dict(steps=arguments.steps, seed=arguments.seed, model=checkpoint)
    options |= dict(sortings=kept["units"]) if method == "curated" else {}
    options |= dict(settings=FinetuningSettings(keep_trained_weights=True))
    with tempfile.TemporaryDirectory(prefix="finetuning_") as folder:
        report = huidurep.finetune(kept["train"], output_dir=Path(folder) / "out", **options)
        trained = kept["test"].score(Path(folder) / "out")
    row = dict(outcome=report.outcome, gain=round(report.gain, 4), tolerance=round(report.tolerance, 4))
    row |= dict(figures=dict(before=report.before, after=report.after), recording=report.recordings[0])
    row |= dict(num_units_true=len(kept["test"].truth.unit_ids), finetune_seconds=report.seconds)
    row |= dict(pca12=kept["pca12"], before=kept["before"], trained=trained)
    return row | dict(delivered=trained if report.outcome == "better" else kept["before"])


def key_of(row):
    """What a row is of; its place in the file is taken by the next one of the same."""
    return row["name"], row["checkpoint"], row["method"]


def merge(results, row, run):
    """Results with a row in its place."""
    rows = [old for old in results.get("rows", []) if key_of(old) != key_of(row)] + [row]
    order = {name: number for number, name in enumerate(RECORDINGS)}
    # the reverse alphabet: resampling before curated; older rows have a method that is not measured any more
    rows.sort(key=lambda row: row["method"], reverse=True)
    rows.sort(key=lambda row: (order[row["name"]], row["checkpoint"]))
    named = {row["run"] for row in rows}
    runs = {start: each for start, each in results.get("runs", {}).items() if start in named}
    return dict(header=run, runs=runs | {run["started"]: run}, rows=rows)


def print_row(row):
    """One line."""
    parts = [f"{when} {row[when]['rand_index']:.3f} / {row[when]['accuracy']:.3f}" for when in ("before", "trained")]
    text = f"{row['name']}, {row['checkpoint']}, {row['method']}: {'; '.join(parts)} (rand index / accuracy; PCA "
    text += f"{row['pca12']['rand_index']:.3f}); {row['outcome']}, gain {row['gain']:+.3f}, {row['finetune_seconds']} s"
    print(text, flush=True)


def parse(words=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_data_options(parser)
    parser.add_argument("--only", nargs="+", choices=RECORDINGS, default=list(RECORDINGS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--checkpoints", type=Path, default=ROOT / "huidurep/checkpoints", help="folder of folders")
    parser.add_argument("--again", action="store_true", help="measure rows again that the file has")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/finetuning.json")
    return parser.parse_args(words)


def jobs(arguments):
    """(recording, method, checkpoint); comparisons come last."""
    found = []
    for name in arguments.only:
        if name.startswith("hybrid") and not (arguments.opto.exists() and arguments.noise.exists()):
            print(f"not measured: {name}: {arguments.opto} or {arguments.noise} is missing")
            continue
        for rank, checkpoint in enumerate(CHECKPOINTS[name.split("-")[0]]):
            for number, method in enumerate(METHODS):
                if method in arguments.methods and (method == "resampling" or rank == 1):
                    found.append((2 * rank + number, name, method, checkpoint))
    return [job[1:] for job in sorted(found, key=lambda job: job[0])]


def main():
    import spikeinterface

    from huidurep import HuiduRepConfig

    arguments = parse()
    spikeinterface.set_global_job_kwargs(n_jobs=1, progress_bar=False)
    run = run_header(seed=arguments.seed, steps=arguments.steps, train_s=TRAIN_S, test_s=TEST_S)
    run["started"], started = datetime.now(UTC).isoformat(timespec="seconds"), time.perf_counter()
    kept = {}
    for name, method, checkpoint in jobs(arguments):
        began, (kind, make) = time.perf_counter(), RECORDINGS[name]
        place = arguments.checkpoints / checkpoint
        wanted = dict(kind=kind, name=name, method=method, checkpoint=checkpoint, weights=weights_digest(place))
        wanted |= dict(seed=arguments.seed, steps=arguments.steps, sortings=SORTINGS)
        results = read_results(arguments.output)
        old = next((row for row in results.get("rows", []) if key_of(row) == key_of(wanted)), None)
        if old and not arguments.again and all(old.get(key) == value for key, value in wanted.items()):
            print(f"{name}, {method}: kept, measured at commit {old['commit']}", flush=True)
            continue
        num_channels = HuiduRepConfig.from_pretrained(place).num_channels
        options = dict(checkpoint=str(place), num_channels=num_channels, method=method, arguments=arguments)
        known = kept.setdefault((name, checkpoint), {})
        row = wanted | measure(make, **options, kept=known) | dict(run=run["started"], commit=run["commit"])
        row["seconds"] = round(time.perf_counter() - began, 1)
        run["seconds"] = round(time.perf_counter() - started, 1)
        write_results(arguments.output, merge(results, row, run))
        print_row(row)


if __name__ == "__main__":
    main()
