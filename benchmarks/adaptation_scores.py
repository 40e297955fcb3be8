"""What adapting does to spikes and to sortings, for benchmarks/adaptation.py: one draw or one recording at a time."""

import math
import time

import numpy as np
from embedding_scores import load_model, mean_and_error, principal_components, rand_index
from sorting import score

METHODS = {
    "pca12": "PCA, 12 components",
    "before": "pretrained",
    "adapted_always": "adapted, always",
    "adapted": "adapted, if accepted",
}
MIXTURE_SEEDS = (0, 100)


def adapt_always(model, waveforms, **options):
    """The adapted copy without an acceptance test, and whether the test would have accepted it."""
    from huidurep.adaptation.settings import AdaptationSettings, EvaluationSettings
    from huidurep.adaptation.unsupervised_evaluation import decide_acceptance

    accepts_all = EvaluationSettings(max_noise_decrease=math.inf, max_halves_decrease=math.inf)
    adapted = model.adapt(waveforms, settings=AdaptationSettings(evaluation=accepts_all), **options)
    return adapted, decide_acceptance(adapted.adaptation.before, adapted.adaptation.after).adopted


def score_draw(condition, draw, checkpoint, *, seed):
    """Scores of one draw: `known` by method, `adopted`, the label-free figures `before` and `after`, and seconds."""
    spikes = condition.make(draw)
    where = dict(peak_index=spikes.peak_index, sampling_frequency=spikes.sampling_frequency)
    where |= dict(channel_positions=spikes.positions_um, peak_sign="neg")
    model = load_model(checkpoint)
    adapted, adopted = adapt_always(model, spikes.waveforms, seed=seed + draw, **where)
    features = dict(pca12=principal_components(spikes.waveforms.reshape(len(spikes.waveforms), -1), 12))
    features |= dict(before=model.embed(spikes.waveforms, **where))
    features |= dict(adapted_always=adapted.embed(spikes.waveforms, **where))
    known = {
        name: np.mean([rand_index(each, spikes.labels, seed=seed + draw + more) for more in MIXTURE_SEEDS])
        for name, each in features.items()
    }
    known["adapted"] = known["adapted_always" if adopted else "before"]
    found = adapted.adaptation
    counts = dict(num_units=len(np.unique(spikes.labels)), num_spikes=len(spikes.labels))
    facts = dict(before=found.before, after=found.after, num_pseudo_units=found.num_pseudo_units)
    return dict(known=known, adopted=adopted, seconds=found.seconds, **facts, **counts)


def score_condition(condition, checkpoint, *, seed, num_jobs=1):
    """The part of a row that is measured: means over the draws of a condition."""
    from joblib import Parallel, delayed

    work = (delayed(score_draw)(condition, draw, checkpoint, seed=seed) for draw in range(condition.num_draws))
    scores = Parallel(n_jobs=num_jobs)(work)
    row = {name: scores[0][name] for name in ("num_units", "num_spikes")} | dict(num_draws=len(scores))
    row |= mean_and_error([score["known"] for score in scores])
    row["adopted"] = round(float(np.mean([score["adopted"] for score in scores])), 4)
    row["adopted_draws"] = [bool(score["adopted"]) for score in scores]
    row["num_pseudo_units"] = round(float(np.mean([score["num_pseudo_units"] for score in scores])), 1)
    # with the draws of the scores, so that their correlation can be computed
    row["evaluation"] = {when: mean_and_error([score[when] for score in scores if score[when]]) for when in EVALUATED}
    row["adapt_seconds"] = round(float(np.mean([score["seconds"] for score in scores])), 1)
    return row


EVALUATED = ("before", "after")
COUNTS = dict(accuracy="accuracy", num_units="units_found", false_positives="false_positive_units")


def score_recording(recording, truth, *, model, seed):
    """One recording sorted without and with `adapt`: accuracy, units, false positives, seconds, whether adopted."""
    from huidurep import SpikeSortingPipeline

    row = dict(num_units_true=len(truth.unit_ids), duration_s=recording.get_total_duration())
    for adapt in (False, True):
        began = time.perf_counter()
        result = SpikeSortingPipeline.from_pretrained(model, adapt=adapt, seed=seed)(recording)
        part = dict(seconds=round(time.perf_counter() - began, 1))
        found = score(truth, result.sorting)
        part |= {name: found[key] for name, key in COUNTS.items()}
        row["adapted" if adapt else "before"] = part
    messages = [entry["message"] for entry in result.log if entry["stage"] == "adaptation"]
    row["checkpoint"] = str(result.model_name)
    return row | dict(messages=messages, adopted=any("adapted weights taken" in text for text in messages))
