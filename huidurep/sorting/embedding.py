"""Embeddings of spikes of a recording, by an encoder that is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from spikeinterface.core import BaseRecording

from ..clustering.disk_arrays import release, zeros_on_disk
from .job_kwargs import map_in_threads, resolve_job_kwargs
from .parameters import SortingParameters
from .waveforms import WaveformBatch, align_to_trough, iterate_waveforms


def embed_spikes(
    encoder: Any,
    recording: BaseRecording,
    spikes: np.ndarray,
    parameters: SortingParameters,
    *,
    start_thread: Callable[[], None] | None = None,
    job_kwargs: dict | None = None,
) -> np.ndarray:
    """Embed spikes, batch by batch; `n_jobs` batches at a time, with the same result.

    Parameters
    ----------
    encoder : HuiduRep
        Its method embed, and num_channels, sampling_frequency and embedding_size of its config.
    recording : BaseRecording
        One channel group: filtered, uV, with contacts.
    spikes : ndarray, (num_spikes,)
        SpikeInterface's peak dtype, in order of time within segments. On a group of more channels than the encoder has,
        a spike is embedded on those nearest to its channel_index; its amplitude has its sign.
    parameters : SortingParameters
        The window, and whether waveforms are denoised.
    start_thread : callable | None
        Called in each of several threads, to tell the encoder's library that there are more of them.
    job_kwargs : dict | None
        SpikeInterface's job keyword arguments.

    Returns
    -------
    ndarray of float32, (num_spikes, embedding_size)
        A large one lies in a temporary file.
    """
    sampling_frequency, config = recording.get_sampling_frequency(), encoder.config
    embeddings = zeros_on_disk((len(spikes), config.embedding_size))
    # the phase of the sampling would tell clusters apart that nothing else does
    is_aligned = sampling_frequency < config.sampling_frequency or recording.get_num_channels() == 1
    options: dict[str, Any] = dict(num_channels=config.num_channels, job_kwargs=job_kwargs)

    def embed_batch(batch: WaveformBatch) -> np.ndarray:
        return encoder.embed(
            (align_to_trough(batch) if is_aligned else batch).waveforms,
            sampling_frequency=sampling_frequency,
            peak_index=batch.peak_index,
            peak_sign=np.where(spikes["amplitude"][batch.spike_indices] > 0, "pos", "neg"),
            channel_positions=batch.channel_positions_um,
            denoise=parameters.denoise,
        )

    batches = iterate_waveforms(recording, spikes, parameters, **options)
    num_threads = resolve_job_kwargs(job_kwargs)["n_jobs"]
    for batch, embedded in map_in_threads(embed_batch, batches, num_threads, start_thread):
        embeddings[batch.spike_indices] = embedded
        release(embeddings)
    return embeddings
