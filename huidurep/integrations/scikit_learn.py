"""The encoder as a scikit-learn transformer: waveforms -> embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..models.input_contract import nominal_positions
from ..models.waveform_checks import check_waveforms
from .encoder import choose_encoder, load_encoder

if TYPE_CHECKING:
    import torch

    from ..models.modeling_huidurep import HuiduRep


class SpikeEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embed spike waveforms.

    `fit` learns nothing: it checks the waveforms and loads the encoder. `transform` finds sign and trough of each spike
    by itself: a row never depends on the other rows.

    Parameters
    ----------
    model : str, Path or HuiduRep, default "auto"
        "auto" chooses an embedded checkpoint by the positions of the channels. Otherwise an embedded checkpoint, a
        checkpoint folder, a Hub repository, or a model.
    sampling_frequency : float, default 30000.0
        Hz.
    peak_index : int, optional
        Sample of the trough of all spikes. Default: found for each spike.
    channel_positions : array_like (num_channels, 2), optional
        um. Default: the nominal positions of a tetrode or a linear probe.
    denoise : bool, default False
        Denoise the waveforms with the model's decoder before they are embedded.
    batch_size : int, default 1024
        Waveforms in a batch.
    device : str or torch.device, optional
        Default: the device of the model.

    Attributes
    ----------
    model_ : HuiduRep
    waveform_shape_ : tuple of int
        (num_samples, num_channels) of the waveforms of `fit`, required by `transform`.
    n_features_in_ : int
        num_samples: scikit-learn counts features along the second axis.
    """

    def __init__(
        self,
        model: str | Path | HuiduRep = "auto",
        *,
        sampling_frequency: float = 30000.0,
        peak_index: int | None = None,
        channel_positions: ArrayLike | None = None,
        denoise: bool = False,
        batch_size: int = 1024,
        device: str | torch.device | None = None,
    ) -> None:
        self.model = model
        self.sampling_frequency = sampling_frequency
        self.peak_index = peak_index
        self.channel_positions = channel_positions
        self.denoise = denoise
        self.batch_size = batch_size
        self.device = device

    def __sklearn_tags__(self) -> Any:
        # three input axes, float32 output
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X: ArrayLike, y: None = None) -> SpikeEmbedder:
        """Check the waveforms and load the encoder.

        Parameters
        ----------
        X : array_like (num_spikes, num_samples, num_channels)
            Band-pass filtered, uV.
        y : None
            Ignored.

        Returns
        -------
        SpikeEmbedder
            This object.

        Raises
        ------
        OSError
            No such checkpoint.
        TypeError, ValueError
            Unusable waveforms or parameters.
        """
        waveforms = self._check(X)
        _, num_samples, num_channels = waveforms.shape
        given = self.channel_positions
        positions_um = np.asarray(nominal_positions(num_channels) if given is None else given)
        self.model_ = load_encoder(choose_encoder(self.model, positions_um))
        self.waveform_shape_ = (num_samples, num_channels)
        self.n_features_in_ = num_samples
        self._n_features_out = self.model_.config.embedding_size
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Embed waveforms.

        Parameters
        ----------
        X : array_like (num_spikes, num_samples, num_channels)
            Band-pass filtered, uV; `waveform_shape_` as in `fit`.

        Returns
        -------
        ndarray (num_spikes, embedding_size) float32

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before `fit`.
        TypeError, ValueError
            Unusable waveforms, or a shape other than in `fit`.
        """
        check_is_fitted(self)
        waveforms = self._check(X)
        if waveforms.shape[1:] != self.waveform_shape_:
            raise ValueError(
                f"expected waveforms of {self.waveform_shape_} samples and channels as in fit, found "
                f"{waveforms.shape[1:]}: extract them alike, or fit again."
            )
        return self.model_.embed(
            waveforms,
            sampling_frequency=self.sampling_frequency,
            peak_index=self.peak_index,
            channel_positions=self.channel_positions,
            denoise=self.denoise,
            batch_size=self.batch_size,
            device=self.device,
        )

    def _check(self, X: ArrayLike) -> np.ndarray:
        """The waveforms as float32."""
        if type(X).__module__ == "torch":  # torch is not imported for arrays
            from ..models.inference import as_array

            X = as_array(X)
        return check_waveforms(
            X,
            sampling_frequency=self.sampling_frequency,
            peak_index=self.peak_index,
            channel_positions=self.channel_positions,
        )[0]
