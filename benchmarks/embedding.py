"""Adjusted Rand index of HuiduRep embeddings against principal components, with the number of units known.

    python benchmarks/embedding.py [--model tetrode] [--draws 20] [--seed 0] [--output FILE]

The same spikes are described by `model.embed` and by principal components of the same windows, flattened over channels;
each description goes through the same full-covariance Gaussian mixture. Sources of spikes:
  cells    detailed neuron models on a tetrode (make_templates.py of --tools with --cells): ten units a draw that no
           training has seen, 100 spikes each, coloured noise correlated over the contacts, collisions p 0.15; "drift"
           draws each spike from one of eight views of its unit (moved a few um, most along the probe)
  package  the same with templates of huidurep.simulation (its procedural cells; SpikeInterface's generator), under a
           seed of their own
  axona    hand-cut spikes of real tetrodes: one person's labels, so agreement with a person and no truth
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
from tables import ROOT, run_header, write_results

SHARED = ROOT.parent / "shared"
SAMPLING_HZ = 30000.0
BEFORE, AFTER = 30, 60  # samples of a window: 1 ms before the trough, 2 ms after it
NUM_UNITS, SPIKES_PER_UNIT, NUM_VIEWS = 10, 100, 9
POOL_UNITS = 200
UNSEEN_SEED = 910_000  # seeds from here on are the benchmark's: training must stay below
ALIGN = 10  # samples to either side in which a view may have its trough
COLLISION_PROBABILITY = 0.15
CONDITIONS = tuple((noise_uv, drift) for noise_uv in (10.0, 20.0) for drift in (False, True))
METHODS = {
    "huidurep": "HuiduRep",
    "huidurep_pca12": "HuiduRep, 12 components",
    "pca12": "PCA, 12 components",
    "pca24": "PCA, 24 components",
}
TETRODE_UM = np.array([(0, 0), (12.5, 0), (0, 12.5), (12.5, 12.5)])
AXONA_SAMPLING_HZ = 48000.0
AXONA_MIN_SPIKES = 50


def cells_views(tools, cells, *, seed):
    """Views (units, NUM_VIEWS, samples, channels) of detailed cells in uV at 30 kHz, trough at 30, and contacts in um.

    Runs make_templates.py itself, so that templates are the ones training would get, under another seed.
    """
    sys.path.insert(0, str(tools))
    from eap import probe_positions

    with tempfile.TemporaryDirectory(prefix="benchmark_views_") as folder:
        out = Path(folder) / "views.npz"
        command = [sys.executable, str(tools / "make_templates.py"), "--cells", str(cells), "--probe", "tetrode"]
        command += ["--units", str(POOL_UNITS), "--views", str(NUM_VIEWS), "--channels", "4"]
        subprocess.run([*command, "--seed", str(UNSEEN_SEED + seed), "--out", str(out)], check=True)
        with np.load(out) as made:
            views, channels = made["views"].astype("f4"), made["channels"]
    # back from "nearest the peak first" to the order of the contacts: a recording knows no other
    order = np.argsort(channels, axis=1)[:, None, :, None]
    return np.take_along_axis(views, order, axis=2).swapaxes(2, 3), probe_positions("tetrode")[:, 1:]


def package_views(kind, *, seed):
    """The same from huidurep.simulation ("cells" or "spikeinterface"), or None where it offers no templates.

    Every view is set on its own trough, where a detector would set it.
    """
    sys.path.insert(0, str(ROOT))
    try:
        from huidurep.simulation.templates import draw_templates
    except ImportError:
        return None
    rng = np.random.default_rng(UNSEEN_SEED + seed)
    made = draw_templates(rng, TETRODE_UM, POOL_UNITS, num_views=NUM_VIEWS, source=kind)
    lowest = made.waveforms.min(axis=3)
    near = slice(made.peak_index - ALIGN, made.peak_index + ALIGN + 1)
    start = made.peak_index - ALIGN + lowest[:, :, near].argmin(axis=2) - BEFORE
    index = (start[:, :, None] + np.arange(BEFORE + AFTER))[..., None]
    return np.take_along_axis(made.waveforms, index, axis=2).astype("f4"), TETRODE_UM


def draw_noise(rng, num_spikes, num_samples, positions_um, noise_uv):
    """Noise (num_spikes, num_samples, num_channels) of one standard deviation, coloured as in make_recording.py."""
    from scipy.signal import butter, lfilter

    distance = np.linalg.norm(positions_um[:, None] - positions_um[None], axis=-1)
    mix = np.linalg.cholesky(0.6 * np.exp(-distance / 40) + 0.4 * np.eye(len(positions_um)))
    settle = 50
    shared = rng.standard_normal((num_spikes, num_samples + settle, len(mix)), "f4") @ mix.T.astype("f4")
    shared = lfilter(*butter(1, 1500, fs=SAMPLING_HZ), shared, axis=1)[:, settle:]
    noise = 1.8 * shared + 0.8 * rng.standard_normal((num_spikes, num_samples, len(mix)), "f4")
    return (noise_uv / noise.std() * noise).astype("f4")


def draw_spikes(rng, views, positions_um, *, noise_uv, drift):
    """Waveforms (NUM_UNITS * SPIKES_PER_UNIT, 90, channels) in uV and labels of ten units drawn from the views.

    A collision adds another of the ten, x0.2-1.0 and shifted by 5-59 samples to either side (the paper's distortion).
    """
    chosen = rng.choice(len(views), NUM_UNITS, replace=False)
    labels = np.repeat(np.arange(NUM_UNITS), SPIKES_PER_UNIT)
    view = rng.integers(1, views.shape[1], len(labels)) if drift else np.zeros(len(labels), int)
    waveforms = views[chosen[labels], view, : BEFORE + AFTER].copy()
    for index in np.flatnonzero(rng.random(len(labels)) < COLLISION_PROBABILITY):
        other = (labels[index] + rng.integers(1, NUM_UNITS)) % NUM_UNITS
        shift = int(rng.integers(5, 60)) * rng.choice([-1, 1])
        padded = np.pad(views[chosen[other], view[index]], ((60, 60), (0, 0)))
        waveforms[index] += rng.uniform(0.2, 1.0) * padded[60 - shift : 60 - shift + BEFORE + AFTER]
    return waveforms + draw_noise(rng, *waveforms.shape[:2], positions_um, noise_uv), labels


def read_axona(path, step_uv):
    """Waveforms (num_spikes, 50, 4) in uV, labels and peak sample of one file, or the reason why it is not scored.

    int8 steps are turned to uV with one nominal step (the files store no gain) and turned over, for Axona stores
    depolarisation upwards. Spikes without label and units below 50 spikes are left out.
    """
    with np.load(path) as data:
        waveforms, labels = data["waveforms"].astype("f4"), data["label"]
        if float(data["fs"]) != AXONA_SAMPLING_HZ:
            raise ValueError(f"{path}: expected {AXONA_SAMPLING_HZ} Hz, found {float(data['fs'])} Hz; check the file")
    units, counts = np.unique(labels[labels > 0], return_counts=True)
    keep = np.isin(labels, units[counts >= AXONA_MIN_SPIKES])
    waveforms, labels = -step_uv * waveforms[keep], labels[keep]
    if len(np.unique(labels)) < 2:
        return None, f"{len(np.unique(labels))} unit of {AXONA_MIN_SPIKES} spikes or more: nothing to tell apart"
    # the trigger stands at 0.2 ms (sample 10) and the trough just after it
    return (waveforms, labels, int(np.median(waveforms.min(2).argmin(1)))), ""


def describe_spikes(waveforms, model, *, peak_index, sampling_frequency, channel_positions):
    """Features of each method: name -> (num_spikes, num_features)."""
    from sklearn.decomposition import PCA

    flat = waveforms.reshape(len(waveforms), -1)
    features = {f"pca{n}": PCA(n, svd_solver="full").fit_transform(flat) for n in (12, 24)}
    if model is not None:
        where = dict(peak_index=peak_index, sampling_frequency=sampling_frequency, channel_positions=channel_positions)
        features["huidurep"] = model.embed(waveforms, **where)
        features["huidurep_pca12"] = PCA(12, svd_solver="full").fit_transform(features["huidurep"])
    return features


def rand_index(features, labels, *, seed):
    """Adjusted Rand index of a full-covariance mixture with the true number of units.

    One scale for all features (the root of their mean variance): regularisation means the same for every method and the
    relative sizes of components, which carry information, stay.
    """
    from sklearn.metrics import adjusted_rand_score
    from sklearn.mixture import GaussianMixture

    centred = np.asarray(features, float) - np.mean(features, axis=0)
    scaled = centred / np.sqrt(centred.var(axis=0).mean())
    mixture = GaussianMixture(len(np.unique(labels)), n_init=3, reg_covar=1e-3, random_state=seed, max_iter=200)
    return float(adjusted_rand_score(labels, mixture.fit_predict(scaled)))


def summarise(source, name, scores, *, num_units, num_spikes):
    """One row of the results: mean and standard error over draws (none for a single file)."""
    methods = list(scores[0])
    values = {method: [round(score[method], 4) for score in scores] for method in methods}
    row = dict(source=source, name=name, num_units=num_units, num_spikes=num_spikes, num_draws=len(scores))
    row["mean"] = {method: round(float(np.mean(values[method])), 4) for method in methods}
    row["standard_error"] = {method: None for method in methods}
    if len(scores) > 1:
        error = {method: np.std(values[method], ddof=1) / len(scores) ** 0.5 for method in methods}
        row["standard_error"] = {method: round(float(value), 4) for method, value in error.items()}
    return row | dict(draws=values)


def score_simulator(source, views, positions_um, model, *, num_draws, seed):
    """Rows of one simulator: every condition, every draw; the same ten units in each condition of a draw."""
    rows = []
    for noise_uv, drift in CONDITIONS:
        scores = []
        for draw in range(num_draws):
            rng = np.random.default_rng((seed, draw))
            waveforms, labels = draw_spikes(rng, views, positions_um, noise_uv=noise_uv, drift=drift)
            where = dict(peak_index=BEFORE, sampling_frequency=SAMPLING_HZ, channel_positions=positions_um)
            features = describe_spikes(waveforms, model, **where)
            scores.append({name: rand_index(feature, labels, seed=draw) for name, feature in features.items()})
        name = f"{noise_uv:.0f} uV noise" + ", drift" * drift
        rows.append(summarise(source, name, scores, num_units=NUM_UNITS, num_spikes=len(labels)))
        print_row(rows[-1])
    return rows


def score_axona(folder, model, *, step_uv, seed):
    """Rows of the real files, and the files left out with the reason."""
    rows, left_out = [], {}
    for path in sorted(folder.glob("*.npz")):
        found, reason = read_axona(path, step_uv)
        if found is None:
            left_out[path.stem] = reason
            print(f"axona: {path.stem} left out, {reason}")
            continue
        waveforms, labels, peak_index = found
        where = dict(peak_index=peak_index, sampling_frequency=AXONA_SAMPLING_HZ, channel_positions=TETRODE_UM)
        features = describe_spikes(waveforms, model, **where)
        scores = [{name: rand_index(feature, labels, seed=seed) for name, feature in features.items()}]
        rows.append(summarise("axona", path.stem, scores, num_units=len(np.unique(labels)), num_spikes=len(labels)))
        print_row(rows[-1])
    return rows, left_out


def print_row(row):
    def text(name):
        error = row["standard_error"][name]
        return f"{name} {row['mean'][name]:.3f}" + (f" +-{error:.3f}" if error is not None else "")

    scores = ", ".join(text(name) for name in METHODS if name in row["mean"])
    print(f"{row['source']}: {row['name']}: {scores}", flush=True)


def print_means(rows):
    for source in dict.fromkeys(row["source"] for row in rows):
        group = [row for row in rows if row["source"] == source]
        names = [name for name in METHODS if name in group[0]["mean"]]
        means = [f"{name} {np.mean([row['mean'][name] for row in group]):.3f}" for name in names]
        print(f"{source}, mean of {len(group)}: {', '.join(means)}")


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tetrode", help='name, folder or repository; "none" for PCA alone')
    parser.add_argument("--cells", type=Path, default=SHARED / "data/cells")
    parser.add_argument("--axona", type=Path, default=SHARED / "data/real/axona_tetrodes")
    parser.add_argument("--tools", type=Path, default=SHARED / "tools", help="folder of eap.py and make_templates.py")
    parser.add_argument("--axona-step-uv", type=float, default=1.17, help="uV of an int8 step: 1.5 V / 128 / 10000")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/embedding.json")
    return parser.parse_args()


def main():
    arguments = parse()
    model = None
    if arguments.model != "none":
        sys.path.insert(0, str(ROOT))
        from huidurep import HuiduRep

        model = HuiduRep.from_pretrained(arguments.model)
    sources, skipped, rows = {}, {}, []
    if arguments.cells.is_dir() and (arguments.tools / "eap.py").exists():
        sources["cells"] = cells_views(arguments.tools, arguments.cells, seed=arguments.seed)
    else:
        skipped["cells"] = f"no cells in {arguments.cells} or no eap.py in {arguments.tools}"
    for kind in ("cells", "spikeinterface"):
        views = package_views(kind, seed=arguments.seed)
        if views is None:
            skipped[f"package {kind}"] = "huidurep.simulation.templates.draw_templates is missing"
        else:
            sources[f"package {kind}"] = views
    for source, (views, positions_um) in sources.items():
        rows += score_simulator(source, views, positions_um, model, num_draws=arguments.draws, seed=arguments.seed)
    if arguments.axona.is_dir():
        real, left_out = score_axona(arguments.axona, model, step_uv=arguments.axona_step_uv, seed=arguments.seed)
        rows, skipped = rows + real, skipped | left_out
    else:
        skipped["axona"] = f"no folder {arguments.axona}"
    for name, reason in skipped.items():
        print(f"not measured: {name}: {reason}")
    print_means(rows)
    settings = {name: getattr(arguments, name) for name in ("model", "draws", "axona_step_uv")}
    header = run_header(seed=arguments.seed, **settings)
    methods = [name for name in METHODS if any(name in row["mean"] for row in rows)]
    results = dict(header=header, methods=methods, method_labels=METHODS, skipped=skipped, rows=rows)
    write_results(arguments.output, results)


if __name__ == "__main__":
    main()
