"""The encoder as a transformer of scikit-learn: waveforms in, embeddings out."""

from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from ..models.input_contract import nominal_positions
from ..models.waveform_checks import check_waveforms
from .encoder import choose_encoder, load_encoder


class SpikeEmbedder(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Embeds waveforms (num_spikes, num_samples, num_channels) in uV, band-passed.

    Nothing is learnt by `fit`: it checks the waveforms and loads the encoder. What is decided for an array as a whole,
    that its spikes point up or where their troughs lie, is decided anew in each `transform`.

    Parameters
    ----------
    model : str, Path or HuiduRep, default "auto"
        "auto" picks an embedded checkpoint by the channels; otherwise whatever `HuiduRep.from_pretrained` opens, or a
        model.
    sampling_frequency : float, default 30000.0
        Hz.
    peak_index : int, optional
        Sample of the trough, the same for all spikes. Default: each spike's own.
    channel_positions : array_like (num_channels, 2), optional
        um.
    denoise : bool, default False
        Embed the snippet after the model's decoder has cleaned it.
    batch_size : int, default 1024
    device : str or torch.device, optional
        Default: where the model is.

    Attributes
    ----------
    model_ : HuiduRep
    waveform_shape_ : tuple of int
        (num_samples, num_channels) of the waveforms of `fit`; `transform` takes no others.
    n_features_in_ : int
        num_samples, as scikit-learn counts features: along the second axis.
    """

    def __init__(
        self,
        model="auto",
        *,
        sampling_frequency=30000.0,
        peak_index=None,
        channel_positions=None,
        denoise=False,
        batch_size=1024,
        device=None,
    ):
        self.model = model
        self.sampling_frequency = sampling_frequency
        self.peak_index = peak_index
        self.channel_positions = channel_positions
        self.denoise = denoise
        self.batch_size = batch_size
        self.device = device

    def __sklearn_tags__(self):
        """For scikit-learn: the input has three axes, the output is float32."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def fit(self, X, y=None):
        """Check the waveforms and load the encoder.

        Parameters
        ----------
        X : array_like (num_spikes, num_samples, num_channels)
            uV.
        y : None
            Ignored.

        Returns
        -------
        SpikeEmbedder
            Itself.

        Raises
        ------
        OSError
            No such checkpoint.
        TypeError, ValueError
            Waveforms or parameters that cannot be used; the sentence says what to change.
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

    def transform(self, X):
        """Embed.

        Parameters
        ----------
        X : array_like (num_spikes, num_samples, num_channels)
            uV, cut as those of `fit`.

        Returns
        -------
        ndarray (num_spikes, embedding_size) float32

        Raises
        ------
        sklearn.exceptions.NotFittedError
            `fit` comes first.
        TypeError, ValueError
            Waveforms that cannot be used, or cut otherwise than those of `fit`.
        """
        check_is_fitted(self)
        waveforms = self._check(X)
        if waveforms.shape[1:] != self.waveform_shape_:
            raise ValueError(
                f"expected waveforms of {self.waveform_shape_} samples and channels as in fit, found "
                f"{waveforms.shape[1:]}: cut them alike, or fit again."
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

    def _check(self, X):
        """Waveforms float32, if they can be used."""
        options = {"sampling_frequency": self.sampling_frequency, "peak_index": self.peak_index}
        return check_waveforms(X, **options, channel_positions=self.channel_positions)[0]
