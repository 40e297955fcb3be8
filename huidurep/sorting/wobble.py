"""SpikeInterface's template matching `wobble`, with the same spikes in less than half the time on large probes."""

from __future__ import annotations

import numpy as np
from scipy import fft
from spikeinterface.core import BaseRecording, Templates
from spikeinterface.sortingcomponents.matching.base import BaseTemplateMatching
from spikeinterface.sortingcomponents.matching.wobble import (
    TemplateData,
    TemplateMetadata,
    WobbleMatch,
    WobbleParameters,
    WobbleSparsity,
    compress_templates,
    compute_template_norm,
    upsample_and_jitter,
)

BLOCK_UNITS = 32  # whose filters are applied to the channels that any of them has
FRAME_SAMPLES = 1024  # at least, of the Fourier transforms of `_convolve`; 512 to 2048 take the same time


class FoldedWobble(WobbleMatch):
    """`wobble` on traces that are not whitened: its filters are whitened instead, which gives the same sums.

    SpikeInterface's own class needs whitened traces, filters them on all channels by templates that have few, and
    transforms back each rank of a template.

    Parameters
    ----------
    recording : BaseRecording
        Filtered traces, uV.
    templates : Templates
        Sparse, of whitened traces.
    whitening : ndarray, (num_channels, num_channels)
        Whitened traces are traces @ whitening.
    parameters : dict
        Fields of SpikeInterface's `WobbleParameters`.
    """

    def __init__(self, recording: BaseRecording, templates: Templates, whitening: np.ndarray, parameters: dict) -> None:
        BaseTemplateMatching.__init__(self, recording, templates, return_output=True)
        self.shared_memory, self.shm = False, None  # what the parent cleans up
        self.params = params = WobbleParameters(**parameters)
        arrays = templates.get_dense_templates().astype("float32")
        self.template_meta = TemplateMetadata.from_parameters_and_templates(params, arrays)
        self.sparsity = sparsity = WobbleSparsity.from_templates(params, templates)
        visible = sparsity.visible_channels
        temporal, singular, spatial = compress_templates(np.where(visible[:, None], arrays, 0), params.approx_rank)
        jittered = upsample_and_jitter(temporal, params.jitter_factor, self.template_meta.num_samples)
        scaled = np.where(visible[:, None], spatial, 0) * singular[:, :, None]
        self.neighbours = [np.flatnonzero(row) for row in sparsity.unit_overlap[:: params.jitter_factor]]
        self.template_data = TemplateData(
            compressed_templates=(temporal, singular, spatial, jittered),
            pairwise_convolution=self._pairwise_convolution(temporal, scaled, jittered),
            norm_squared=compute_template_norm(visible, arrays),
        )
        # (num_units, rank, num_samples) and, in blocks of units, (num_units * rank, num_block_channels)
        self.kernels = np.ascontiguousarray(temporal.swapaxes(1, 2))
        self.blocks = list(_blocks(scaled @ whitening.T.astype("float32")))
        self.nbefore, self.nafter, self.margin = templates.nbefore, templates.nafter, 300

    def _pairwise_convolution(self, temporal: np.ndarray, scaled: np.ndarray, jittered: np.ndarray) -> list[np.ndarray]:
        """For each shifted template, (num_neighbours, 2 * num_samples - 1): what its spike adds to their objectives."""
        num_samples, factor = temporal.shape[1], self.params.jitter_factor
        length = 2 * num_samples - 1
        size = fft.next_fast_len(length, real=True)
        kernels = fft.rfft(temporal, size, axis=1)  # (num_units, num_frequencies, rank)
        shifted = fft.rfft(jittered[:, ::-1], size, axis=1)
        shifted = shifted.reshape(len(temporal), factor, *shifted.shape[1:])
        convolutions: list[np.ndarray] = []
        for own, each, near in zip(scaled, shifted, self.neighbours, strict=True):
            products = np.einsum("ac,nbc->nab", own, scaled[near])
            responses = np.matmul(products[:, None], kernels[near][..., None])[..., 0]  # (near, frequencies, rank)
            sums = np.einsum("jfa,nfa->jnf", each, responses, optimize=True)
            convolutions += list(fft.irfft(sums, size, axis=2)[..., :length].astype("float32"))
        return convolutions

    def compute_matching(self, traces: np.ndarray, start_frame: int, end_frame: int, segment_index: int) -> np.ndarray:
        """Spikes in a chunk of traces (num_samples, num_channels), as the parent finds them on whitened traces."""
        data, meta = self.template_data, self.template_meta
        objective = self._objective(traces)
        normalized = 2 * objective - data.norm_squared[:, None]
        found = []
        for _ in range(self.params.max_iter):
            none_before = np.zeros(0)  # the parent does not use them
            spikes, scalings, _ = self.find_peaks(objective, normalized, none_before, self.params, data, meta)
            if len(spikes) == 0:
                break
            found.append(spikes)
            self._subtract(spikes, scalings, objective, normalized)
        matched = np.zeros(sum(map(len, found)), dtype=self.get_dtype())
        if found:
            spikes = np.concatenate(found)
            spikes = spikes[np.argsort(spikes[:, 0])]
            matched["sample_index"] = spikes[:, 0] + self.nbefore
            matched["cluster_index"] = spikes[:, 1] // self.params.jitter_factor
            deflections = np.abs(traces[matched["sample_index"]])  # uV, where the parent gives whitened ones
            matched["channel_index"], matched["amplitude"] = deflections.argmax(axis=1), deflections.max(axis=1)
        return matched

    def _objective(self, traces: np.ndarray) -> np.ndarray:
        """Sums of products (num_units, num_samples + num_template_samples - 1) of the whitened traces and templates."""
        objective = np.empty((len(self.kernels), len(traces) + self.kernels.shape[2] - 1), dtype="float32")
        channels_first = np.ascontiguousarray(traces.T)
        for units, channels, filters in self.blocks:
            filtered = (filters @ channels_first[channels]).reshape(len(units), -1, len(traces))
            objective[units] = _convolve(filtered, self.kernels[units])
        return objective

    def _subtract(
        self, spikes: np.ndarray, scalings: np.ndarray, objective: np.ndarray, normalized: np.ndarray
    ) -> None:
        """Take new spikes out of the objectives. The parent sets refractory periods anew after each template."""
        length = 2 * self.template_meta.num_samples - 1
        for (start, index), scaling in zip(spikes, scalings, strict=True):
            near = self.neighbours[index // self.params.jitter_factor]
            convolution = self.template_data.pairwise_convolution[index]
            normalized[near, start : start + length] -= 2 * convolution
            objective[near, start : start + length] -= convolution * scaling
        self.enforce_refractory(spikes, objective, normalized, self.params, self.template_meta)


def _blocks(filters: np.ndarray):
    """Units near each other, a span of channels with all of theirs, and filters (num_units * rank, num_channels)."""
    is_used = (filters != 0).any(axis=1)
    order = np.argsort(is_used.argmax(axis=1), kind="stable")
    for first in range(0, len(order), BLOCK_UNITS):
        units = order[first : first + BLOCK_UNITS]
        channels = np.flatnonzero(is_used[units].any(axis=0))
        span = slice(channels[0], channels[-1] + 1)  # unlike a list of channels, it copies no traces
        yield units, span, np.ascontiguousarray(filters[units, :, span]).reshape(-1, span.stop - span.start)


def _convolve(traces: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    """Sum over ranks of the convolutions (num_units, num_samples + num_kernel_samples - 1) of traces with kernels.

    Both (num_units, rank, ...). By overlapping frames; ranks are summed before the transform back.
    """
    overlap, num_samples = kernels.shape[2] - 1, traces.shape[2]
    size = fft.next_fast_len(max(FRAME_SAMPLES, 4 * overlap), real=True)  # long windows at high rates need more
    step = size - overlap
    num_frames = -(-(num_samples + overlap) // step)
    padded = np.zeros((*traces.shape[:2], num_frames * step + overlap), dtype="float32")
    padded[..., overlap : overlap + num_samples] = traces
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=2)[:, :, ::step]
    product = fft.rfft(frames[:, 0]) * fft.rfft(kernels[:, 0], size)[:, None]
    for rank in range(1, traces.shape[1]):
        product += fft.rfft(frames[:, rank]) * fft.rfft(kernels[:, rank], size)[:, None]
    convolved = fft.irfft(product, size)[..., overlap:]
    return convolved.reshape(len(traces), -1)[:, : num_samples + overlap]
