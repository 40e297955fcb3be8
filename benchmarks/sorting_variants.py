"""Further sorters of benchmarks/sorting.py: HuiduRep without one of its parts or with another, and an upper bound.

    python benchmarks/sorting.py FOLDER --sorters huidurep-pca,huidurep-no-matching,...

`huidurep-pca`: principal components of the snippets, fitted to the recording, instead of the embedding;
`huidurep-no-matching`: the clusters as they are; `huidurep-no-motion`: motion not corrected; `huidurep-no-following`:
clusters do not track drift either; `huidurep-known-k`: the number of true units given (of each recording, where
it is one group); `huidurep-paper`: that number, and clustering as in the paper (tetrodes only);
`huidurep-matched-filter`: spikes detected by a matched filter; `huidurep-tdc-peeler` and `huidurep-circus-omp`: these
matching methods instead of wobble; `true-templates`: HuiduRep's matching with the templates of the true spikes, what no
clustering can pass.
"""

import numpy as np

PCA_COMPONENTS = 24
TRUE_SORTER = "true-templates"
# variant -> the parameters that differ
OPTIONS = {
    "huidurep-pca": {},
    "huidurep-no-matching": dict(matching=None),
    "huidurep-no-motion": dict(motion=None),
    "huidurep-no-following": dict(motion=None),
    "huidurep-known-k": {},
    "huidurep-paper": dict(preset="paper"),
    "huidurep-matched-filter": dict(detection="matched_filtering"),
    "huidurep-tdc-peeler": dict(matching="tdc-peeler"),
    "huidurep-circus-omp": dict(matching="circus-omp"),
}
KNOWN_UNITS = ("huidurep-known-k", "huidurep-paper")  # receive the number of true units
VARIANTS = (*OPTIONS, TRUE_SORTER)


class PcaEncoder:
    """Principal components of snippets in the place of a model: what the pipeline asks of one."""

    def __init__(self, model, seed):
        import copy

        self.config = copy.deepcopy(model.config)
        self.config.embedding_size = PCA_COMPONENTS
        self._fitted, self._seed = {}, seed

    def embed(self, waveforms, *, channel_positions, **_):
        """Components (num_spikes, PCA_COMPONENTS); those of a place are fitted to the first spikes seen there."""
        from sklearn.decomposition import PCA

        flat = np.asarray(waveforms, "f4").reshape(len(waveforms), -1)
        key = np.asarray(channel_positions).tobytes()
        if key not in self._fitted:
            count = min(PCA_COMPONENTS, *flat.shape)
            self._fitted[key] = PCA(count, svd_solver="randomized", random_state=self._seed).fit(flat)
        components = self._fitted[key].transform(flat)
        return np.pad(components, ((0, 0), (0, PCA_COMPONENTS - components.shape[1]))).astype("f4")


def sort_variant(sorter, recording, truth, *, model, seed):
    """Sorting of one of VARIANTS."""
    from huidurep import SpikeSortingPipeline

    if sorter == TRUE_SORTER:
        return match_truth(recording, truth, model=model, seed=seed)
    options = dict(OPTIONS[sorter])
    if sorter in KNOWN_UNITS:
        options["num_units"] = len(truth.unit_ids)
    settings = without_drift_tracking() if sorter == "huidurep-no-following" else None
    checkpoint = checkpoint_of(recording, model)
    pipeline = SpikeSortingPipeline.from_pretrained(checkpoint, seed=seed, settings=settings, **options)
    if sorter == "huidurep-pca":
        pipeline = SpikeSortingPipeline(PcaEncoder(pipeline.model, seed), pipeline.parameters, model_name="pca")
    return pipeline(recording).sorting


def without_drift_tracking():
    """Stage settings in which clusters do not track drift."""
    from huidurep.clustering.drift import DriftSettings
    from huidurep.clustering.unit_mixture import MixtureSettings
    from huidurep.sorting.clustering import ClusteringSettings
    from huidurep.sorting.stage_settings import StageSettings

    mixture = MixtureSettings(drift=DriftSettings(enabled=False))
    return StageSettings(clustering=ClusteringSettings(mixture=mixture))


def checkpoint_of(recording, model):
    """The checkpoint that "auto" stands for on a recording."""
    from huidurep.hub.select import resolve_auto

    return resolve_auto([recording.get_channel_locations()])[0] if model == "auto" else model


def match_truth(recording, truth, *, model, seed):
    """Sorting by HuiduRep's matching, with templates of all true spikes."""
    import spikeinterface as si
    from spikeinterface.core.base import base_peak_dtype

    from huidurep import SpikeSortingPipeline
    from huidurep.sorting.clustering import Assignment, UnitModel
    from huidurep.sorting.matching import match_spikes
    from huidurep.sorting.motion import correct_motion
    from huidurep.sorting.preprocessing import preprocess, split_groups
    from huidurep.sorting.run_log import RunLog

    parameters = SpikeSortingPipeline.from_pretrained(checkpoint_of(recording, model), seed=seed).parameters
    log = RunLog()
    (group,) = split_groups(recording, parameters, log)
    group = correct_motion(preprocess(group, parameters, log), parameters, log)
    vector = truth.to_spike_vector()
    spikes = np.zeros(len(vector), dtype=base_peak_dtype)
    for name in ("sample_index", "segment_index"):
        spikes[name] = vector[name]
    labels = vector["unit_index"].astype("int64")
    # units without components: no spike is kept for its posterior alone
    units = UnitModel(np.zeros(len(truth.unit_ids), dtype="int64"))
    assignment = Assignment(labels, np.ones(len(labels), dtype="float32"))
    spikes, labels = match_spikes(group, spikes, units, assignment, parameters, log)
    rate = recording.get_sampling_frequency()
    return si.NumpySorting.from_samples_and_labels([spikes["sample_index"]], [labels], rate)
