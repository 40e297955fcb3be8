"""Clusters that hold no spikes of their own, but a second look at another unit's.

A large spike has troughs further away, or later, than a detector excludes; they make a neat cluster, and matching would
then share the spikes of one neuron out between two templates.
"""

from __future__ import annotations

import numpy as np
from spikeinterface.core import NumpySorting

from .waveforms import to_spike_vector

ECHO_MS = 0.8  # from a spike to its echo
ECHO_SHARE = 0.5  # of a unit's spikes that are beside another's; chance makes 0.16 of them at 100 Hz
SOME = 1e-6


def drop_echoes(labels: np.ndarray, peaks: np.ndarray, recording) -> np.ndarray:
    """Take the label from the spikes of units that are echoes.

    Parameters
    ----------
    labels : ndarray of int64, (num_peaks,)
        Unit of each peak, -1 for none.
    peaks : ndarray, (num_peaks,)
        SpikeInterface's peak dtype.
    recording : BaseRecording
        The recording they are of.

    Returns
    -------
    ndarray of int64, (num_peaks,)
        -1 for the spikes of a unit more than half of which lie within 0.8 ms of spikes of one other unit, where the
        other's are larger.
    """
    # seconds of imports that tetrodes need not pay
    from spikeinterface.curation.remove_redundant import find_redundant_units

    is_labelled = labels >= 0
    unit_ids, unit_index = np.unique(labels[is_labelled], return_inverse=True)
    if len(unit_ids) < 2:
        return labels
    size = np.bincount(unit_index, np.abs(peaks["amplitude"][is_labelled])) / np.bincount(unit_index)
    vector = to_spike_vector(peaks[is_labelled], unit_index)
    sorting = NumpySorting(vector, recording.get_sampling_frequency(), np.arange(len(unit_ids)))
    pairs = find_redundant_units(sorting, delta_time=ECHO_MS, agreement_threshold=SOME, duplicate_threshold=ECHO_SHARE)
    # the pair says nothing of whose spikes they are: of a small unit beside a large one, the small one's as a rule
    echoes = {min(pair, key=lambda unit: size[unit]) for pair in pairs}
    return np.where(np.isin(labels, unit_ids[list(echoes)]), -1, labels)
