"""Scaling of traces in single precision."""

from __future__ import annotations

import numpy as np
import spikeinterface.preprocessing as spre
from spikeinterface.core import BaseRecording


def scale_traces(
    recording: BaseRecording, gains: float | np.ndarray, offsets: float | np.ndarray = 0.0
) -> BaseRecording:
    """Multiply traces by gains and add offsets.

    SpikeInterface's `scale` with arrays of float32. With its own float64 it computes chunk by chunk in double
    precision, which takes three times as long; on 384 channels that was an eighth of a sorting.

    Parameters
    ----------
    recording : BaseRecording
    gains, offsets : float or ndarray of float, (num_channels,)

    Returns
    -------
    BaseRecording
        float32, lazy. It keeps the properties `gain_to_uV` and `offset_to_uV` of the recording.
    """
    gain, offset = (np.full(recording.get_num_channels(), each, dtype="float32") for each in (gains, offsets))
    return spre.scale(recording, gain=gain, offset=offset, dtype="float32")
