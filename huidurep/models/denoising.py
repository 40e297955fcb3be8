"""Denoising of waveforms of any window, rate and channel count."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from .inference import as_array, in_batches, model_inputs, ready_for_inference
from .input_contract import MappedWaveforms, _lanczos_weights, map_waveforms

if TYPE_CHECKING:
    from .configuration_huidurep import HuiduRepConfig
    from .modeling_huidurep import HuiduRep


@torch.no_grad()
def denoise(
    model: "HuiduRep",
    waveforms: ArrayLike,
    *,
    sampling_frequency: float = 30000.0,
    peak_index: int | None = None,
    peak_sign: str | None = None,
    channel_positions: ArrayLike | None = None,
    batch_size: int = 1024,
    device: str | torch.device | None = None,
) -> np.ndarray:
    """Denoise spikes with the decoder.

    Parameters
    ----------
    model, waveforms, sampling_frequency, peak_index, peak_sign, channel_positions, batch_size, device
        As in :func:`huidurep.models.inference.embed`.

    Returns
    -------
    ndarray (num_spikes, num_samples, num_channels) float32
        uV. Samples and channels outside of the model's snippets are returned as they were.

    Raises
    ------
    ValueError, TypeError
        As in :func:`huidurep.models.inference.embed`.
    """
    options: dict[str, Any] = dict(
        sampling_frequency=sampling_frequency,
        peak_index=peak_index,
        peak_sign=peak_sign,
        channel_positions=as_array(channel_positions),
    )
    waveforms = as_array(waveforms)
    model = ready_for_inference(model, device)
    mapped = map_waveforms(waveforms, model.config, **options)  # refuses what is no waveform
    result = np.array(waveforms, np.float32)

    def denoise_rows(rows: slice) -> None:
        batch = model_inputs(mapped, rows, model.device, model.dtype)
        clean = model(**batch, output_reconstruction=True, return_dict=True).reconstruction.float().cpu().numpy()
        result[rows] = unmap_waveforms(
            clean, mapped[rows], result[rows], model.config, sampling_frequency=sampling_frequency
        )

    in_batches(denoise_rows, len(result), batch_size)
    return result


def unmap_waveforms(
    snippets: np.ndarray,
    mapped: MappedWaveforms,
    waveforms: np.ndarray,
    config: "HuiduRepConfig",
    *,
    sampling_frequency: float,
) -> np.ndarray:
    """Write snippets back into the window and channels that they came from; other samples and channels are kept.

    Parameters
    ----------
    snippets : ndarray (num_spikes, config.num_samples, config.num_channels)
    mapped : MappedWaveforms
        From :func:`map_waveforms` of `waveforms`.
    waveforms : ndarray (num_spikes, num_samples, num_channels)
    config : HuiduRepConfig
    sampling_frequency : float
        Of `waveforms`, Hz.

    Returns
    -------
    ndarray (num_spikes, num_samples, num_channels) float32
    """
    result = np.array(waveforms, np.float32)
    ratio = config.sampling_frequency / sampling_frequency
    for peak in np.unique(mapped.peak_index):
        rows = np.flatnonzero(mapped.peak_index == peak)
        at = (np.arange(result.shape[1]) - peak) * ratio + config.peak_index
        covered = np.flatnonzero((at >= -1e-9) & (at <= config.num_samples - 1 + 1e-9))
        matrix = _lanczos_weights(at[covered], config.num_samples, ratio)
        back = np.matmul((matrix / matrix.sum(1, keepdims=True)).astype(np.float32), snippets[rows])
        back = back * mapped.polarity[rows, None, None]
        for column in range(mapped.channels.shape[1]):
            into = mapped.channels[rows, column]
            exists = into >= 0
            result[rows[exists, None], covered[None], into[exists, None]] = back[exists, :, column]
    return result
