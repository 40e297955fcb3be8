"""Other ways to find the same neurons in two sessions: UnitMatchPy, and correlation of templates with nearest place."""

import contextlib
import io
import warnings
from itertools import combinations

import numpy as np
from scipy.optimize import linear_sum_assignment

PEERS = ("unitmatch", "correlation")
WIDTH, PEAK = 82, 41  # UnitMatchPy's window at 30 kHz
MAX_LAG, MAX_DISTANCE_UM = 9, 100.0


class _OldNumpy:
    """numpy for UnitMatchPy 3.6, which asks for numpy < 2: arange of arrays that hold one number."""

    def __getattr__(self, name):
        return getattr(np, name)

    @staticmethod
    def arange(*limits, **options):
        return np.arange(*(each.item() if isinstance(each, np.ndarray) else each for each in limits), **options)


def has_unitmatch():
    """Whether UnitMatchPy is installed."""
    with contextlib.suppress(ImportError):
        import UnitMatchPy.overlord  # noqa: F401

        return True
    return False


def unitmatch(sessions):
    """Probabilities (num_units, num_units) of UnitMatchPy with its default parameters, units of all sessions in order.

    Called as in its demonstration notebooks; two halves of the spikes, as it asks for.
    """
    import UnitMatchPy.bayes_functions as bayes
    import UnitMatchPy.overlord as overlord
    import UnitMatchPy.param_functions as functions
    import UnitMatchPy.utils as utils
    from UnitMatchPy.default_params import get_default_param

    functions.np = _OldNumpy()
    first, contacts_um = sessions[0].peak_index - PEAK, sessions[0].positions_um
    waves = [each.halves_uv[:, :, first : first + WIDTH].transpose(1, 2, 3, 0) for each in sessions]
    waves = np.concatenate(waves).astype(float)
    contacts = [np.column_stack([np.ones(len(contacts_um)), each.positions_um]) for each in sessions]
    counts = np.array([len(each.neurons) for each in sessions])
    param = get_default_param({"spike_width": WIDTH, "n_xchannelpos": len(np.unique(contacts_um[:, 0]))})
    param["n_units"], session_id, switch, param["n_sessions"] = utils.get_session_data(counts)
    within = utils.get_within_session(session_id, param)
    param |= {"n_channels": waves.shape[2], "n_units_per_session": counts}
    param = utils.get_probe_geometry(contacts_um, param)
    info = {"session_switch": switch, "session_id": session_id}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        properties = overlord.extract_parameters(waves, contacts, info, param)
        _, candidates, scores, predictors = overlord.extract_metric_scores(properties, switch, within, param, niter=2)
        prior = 1 - param["n_expected_matches"] / param["n_units"] ** 2
        labels = candidates.astype(int)
        conditions = np.unique(labels)
        kernels = bayes.get_parameter_kernels(scores, labels, conditions, param, add_one=1)
        found = bayes.apply_naive_bayes(kernels, np.array((prior, 1 - prior)), predictors, param, conditions)
    probability = np.nan_to_num(found[:, 1]).reshape(labels.shape)
    return (probability + probability.T) / 2


def correlation(sessions, *, nearest):
    """Cosine (num_units, num_units) of templates on all contacts at their best lag; -1 beyond 100 um.

    With `nearest`, only for units of which one is the nearest of its session to the other.
    """
    templates = np.concatenate([each.templates_uv for each in sessions])
    templates = templates / np.linalg.norm(templates, axis=(1, 2), keepdims=True)
    num_units, num_samples = templates.shape[:2]
    cosine = np.full((num_units, num_units), -1.0)
    for lag in range(-MAX_LAG, MAX_LAG + 1):
        early = templates[:, max(0, lag) : num_samples + min(0, lag)].reshape(num_units, -1)
        late = templates[:, max(0, -lag) : num_samples - max(0, lag)].reshape(num_units, -1)
        cosine = np.maximum(cosine, early @ late.T)
    places = np.concatenate([_places(each) for each in sessions])
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)
    allowed = distances <= MAX_DISTANCE_UM
    if nearest:
        chosen = np.zeros_like(allowed)
        for own, other in _pairs_of_sessions(sessions):
            block = distances[np.ix_(own, other)]
            chosen[own, other[block.argmin(axis=1)]] = True
            chosen[own[block.argmin(axis=0)], other] = True
        allowed &= chosen | chosen.T
    return np.where(allowed, cosine, -1.0)


def one_to_one(scores, sessions):
    """Scores (num_units, num_units) lowered by 1000 for pairs that the best assignment of two sessions leaves out."""
    kept = scores - 1000.0
    for own, other in _pairs_of_sessions(sessions):
        rows, columns = linear_sum_assignment(-scores[np.ix_(own, other)])
        kept[own[rows], other[columns]] = scores[own[rows], other[columns]]
    return kept


def _pairs_of_sessions(sessions):
    starts = np.cumsum([0, *[len(each.neurons) for each in sessions]])
    rows = [np.arange(*starts[index : index + 2]) for index in range(len(sessions))]
    return list(combinations(rows, 2))


def _places(session):
    sizes = np.ptp(session.templates_uv, axis=1) ** 2
    contacts_um = session.positions_um
    near = np.linalg.norm(contacts_um[sizes.argmax(axis=1)][:, None] - contacts_um[None], axis=2) <= 75
    weights = sizes * near
    return (weights[:, :, None] * contacts_um).sum(axis=1) / weights.sum(axis=1)[:, None]
