"""The encoder as a node of SpikeInterface's `run_node_pipeline`: waveforms of a chunk -> embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from spikeinterface.core import BaseRecording
from spikeinterface.core.node_pipeline import PeakSource, PipelineNode, WaveformsNode, find_parent_of_type

from ..sorting.geometry import contact_positions_um
from .encoder import choose_encoder, load_encoder

if TYPE_CHECKING:
    from ..models.modeling_huidurep import HuiduRep


class EmbedWaveforms(PipelineNode):
    """Embed the waveforms of the preceding node.

    The preceding node can be any that extracts or changes waveforms: `ExtractDenseWaveforms`, `ExtractSparseWaveforms`,
    a denoiser. With a sparse node, the channels of a waveform are the neighbours of its peak's channel. In worker
    processes a checkpoint is loaded by its name; a model object is pickled.

    Parameters
    ----------
    recording : BaseRecording
        Band-pass filtered, with a probe. Waveforms are scaled by its gains to uV; without gains they must be in uV.
    parents : list of PipelineNode
        [peak source, waveforms node].
    model : str, Path or HuiduRep, default "auto"
        "auto" chooses an embedded checkpoint by the positions of the contacts. Otherwise an embedded checkpoint, a
        checkpoint folder, a Hub repository, or a model.
    return_output : bool, default True
        Whether `run_node_pipeline` returns the embeddings.
    denoise : bool, default False
        Denoise the waveforms with the model's decoder before they are embedded.

    Raises
    ------
    OSError
        No such checkpoint.
    TypeError
        Other parents, or another type of `model`.
    """

    def __init__(
        self,
        recording: BaseRecording,
        parents: list[PipelineNode] | None = None,
        model: str | Path | HuiduRep = "auto",
        return_output: bool = True,
        denoise: bool = False,
    ) -> None:
        super().__init__(recording, return_output=return_output, parents=parents)
        source, waveforms = find_parent_of_type(parents, PeakSource), find_parent_of_type(parents, WaveformsNode)
        if source is None or waveforms is None or list(parents or []) != [source, waveforms]:
            raise TypeError(
                "expected parents=[peak source, waveforms node], found "
                f"{[type(parent).__name__ for parent in parents or []]}: give such as [PeakRetriever(recording, "
                "peaks), ExtractSparseWaveforms(recording, parents=[...], ...)]."
            )
        self._waveforms_node = waveforms
        self.denoise = denoise
        self.positions_um = contact_positions_um(recording) if recording.has_probe() else None
        self.gains_to_uv = recording.get_property("gain_to_uV")
        self.model = choose_encoder(model, self.positions_um)
        self._kwargs.update(model=self.model, denoise=denoise)
        # loaded here, so that a missing checkpoint is an error before the pipeline runs
        self._loaded: HuiduRep | None = load_encoder(self.model)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": None}

    def get_dtype(self) -> np.dtype:
        """Type of the embeddings.

        Returns
        -------
        dtype
            float32.
        """
        return np.dtype("float32")

    def compute(self, traces: np.ndarray, peaks: np.ndarray, waveforms: np.ndarray) -> np.ndarray:
        """Embed the waveforms of one chunk.

        Parameters
        ----------
        traces : ndarray (num_samples, num_channels)
            Not used.
        peaks : ndarray (num_peaks,)
            SpikeInterface's peak dtype.
        waveforms : ndarray (num_peaks, num_snippet_samples, num_snippet_channels)
            In units of the recording. Of a sparse node, channels beyond the neighbours of a peak are padding.

        Returns
        -------
        ndarray (num_peaks, embedding_size) float32
        """
        if self._loaded is None:  # in a worker process
            self._loaded = load_encoder(self.model)
        embeddings = np.zeros((len(peaks), self._loaded.config.embedding_size), dtype="float32")
        mask = self._waveforms_node.neighbours_mask
        places: list[tuple[np.ndarray, np.ndarray]]
        if mask is None:  # dense: each waveform has all channels
            places = [(np.arange(len(peaks)), np.arange(waveforms.shape[2]))]
        else:
            at = peaks["channel_index"]
            places = [(np.flatnonzero(at == channel), np.flatnonzero(mask[channel])) for channel in np.unique(at)]
        gains = 1.0 if self.gains_to_uv is None else self.gains_to_uv[peaks["channel_index"]]
        peak_signs = np.where(gains * peaks["amplitude"] > 0, "pos", "neg")
        for rows, channels in places:
            snippets = waveforms[rows][:, :, : len(channels)]
            embeddings[rows] = self._embed(self._loaded, snippets, channels, peak_signs[rows])
        return embeddings

    def _embed(self, model: HuiduRep, snippets: np.ndarray, channels: np.ndarray, peak_sign: np.ndarray) -> np.ndarray:
        """Embeddings (num_spikes, embedding_size) of snippets on these channels."""
        snippets = snippets.astype("float32")
        if self.gains_to_uv is not None:
            snippets = snippets * self.gains_to_uv[channels].astype("float32")
        return model.embed(
            snippets,
            sampling_frequency=self._waveforms_node.recording.get_sampling_frequency(),
            peak_index=self._waveforms_node.nbefore,
            peak_sign=peak_sign,
            channel_positions=None if self.positions_um is None else self.positions_um[channels],
            denoise=self.denoise,
        )
