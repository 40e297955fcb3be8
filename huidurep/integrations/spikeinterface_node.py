"""The encoder as a node of SpikeInterface's `run_node_pipeline`: waveforms of a chunk in, embeddings out."""

from __future__ import annotations

import os

import numpy as np
from spikeinterface.core.node_pipeline import PeakSource, PipelineNode, WaveformsNode, find_parent_of_type

from .encoder import choose_encoder, load_encoder


class EmbedWaveforms(PipelineNode):
    """Embeds the waveforms that a node before it has cut, for anybody's pipeline.

    Whichever node cuts or changes waveforms can stand before it: `ExtractDenseWaveforms`, `ExtractSparseWaveforms`, a
    denoiser. Where it is sparse, the channels of a snippet are those of its peak's channel. A node that goes to
    a worker process takes along the name of its checkpoint and loads it there; a model given as such travels whole.

    Parameters
    ----------
    recording : BaseRecording
        Band-passed, with contacts. Where it has gains to uV, waveforms are scaled by them; otherwise they are in uV.
    parents : list of PipelineNode
        [source of peaks, node of waveforms].
    model : str, Path or HuiduRep, default "auto"
        "auto" picks an embedded checkpoint by the contacts; otherwise whatever `HuiduRep.from_pretrained` opens, or a
        model.
    return_output : bool, default True
        Whether the pipeline returns the embeddings.
    denoise : bool, default False
        Embed the snippet after the model's decoder has cleaned it.

    Raises
    ------
    OSError
        No such checkpoint.
    TypeError
        Other parents, or something else for a model.
    """

    def __init__(self, recording, parents=None, model="auto", return_output=True, denoise=False):
        super().__init__(recording, return_output=return_output, parents=parents)
        self._source = find_parent_of_type(parents, PeakSource)
        self._waveforms = find_parent_of_type(parents, WaveformsNode)
        if self._source is None or self._waveforms is None or list(parents) != [self._source, self._waveforms]:
            raise TypeError(
                "expected parents=[source of peaks, node of waveforms], found "
                f"{[type(parent).__name__ for parent in parents or []]}; such as [PeakRetriever(recording, peaks), "
                "ExtractSparseWaveforms(recording, parents=[...], ...)]"
            )
        self.denoise = denoise
        self.positions_um = recording.get_channel_locations() if recording.has_probe() else None
        self.gains = recording.get_channel_gains() if recording.has_scaleable_traces() else None
        self.model = choose_encoder(model, self.positions_um)
        self._kwargs.update(model=self.model, denoise=denoise)
        self._process = os.getpid()
        self._loaded = load_encoder(self.model)  # here, so that a wrong name is an error before anything runs

    def __getstate__(self):
        return {**self.__dict__, "_loaded": None}

    def get_dtype(self):
        """Of the output.

        Returns
        -------
        dtype
        """
        return np.dtype("float32")

    def compute(self, traces, peaks, waveforms):
        """Embed the waveforms of one chunk.

        Parameters
        ----------
        traces : ndarray (num_samples, num_channels)
            Not used: the node before this one has cut the waveforms.
        peaks : ndarray (num_peaks,)
            SpikeInterface's peak dtype.
        waveforms : ndarray (num_peaks, num_snippet_samples, num_snippet_channels)

        Returns
        -------
        ndarray (num_peaks, embedding_size) float32
        """
        if os.getpid() != self._process:
            self._use_one_thread()
        if self._loaded is None:  # in a process that this node was sent to
            self._loaded = load_encoder(self.model)
        model = self._loaded
        embeddings = np.zeros((len(peaks), model.config.embedding_size), dtype="float32")
        mask = self._waveforms.neighbours_mask
        if mask is None:  # dense: every snippet has every channel
            groups = [(slice(None), np.arange(waveforms.shape[2]))]
        else:
            at = peaks["channel_index"]
            groups = [(np.flatnonzero(at == channel), np.flatnonzero(mask[channel])) for channel in np.unique(at)]
        for rows, channels in groups:
            snippets = waveforms[rows][:, :, : len(channels)].astype("float32")
            embeddings[rows] = model.embed(
                snippets if self.gains is None else snippets * self.gains[channels].astype("float32"),
                sampling_frequency=self._waveforms.recording.get_sampling_frequency(),
                peak_index=self._waveforms.nbefore,
                channel_positions=None if self.positions_um is None else self.positions_um[channels],
                denoise=self.denoise,
            )
        return embeddings

    def _use_one_thread(self):
        """In a worker: a forked one would wait for ever for threads of torch that only its parent has."""
        import torch

        torch.set_num_threads(1)
        self._process = os.getpid()
