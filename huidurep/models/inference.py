"""Embedding and denoising of waveform arrays: the encoder behind its input contract, in batches."""

import numpy as np
import torch

from .input_contract import map_waveforms, unmap_waveforms


@torch.no_grad()
def embed(
    model,
    waveforms,
    *,
    sampling_frequency=30000.0,
    peak_index=None,
    channel_positions=None,
    denoise=None,
    batch_size=1024,
    device=None,
):
    """Embed spikes of any window, rate and channel count.

    Parameters
    ----------
    model : HuiduRep
    waveforms : array_like (num_spikes, num_samples, num_channels)
        uV, band-passed.
    sampling_frequency : float, default 30000.0
        Hz.
    peak_index : int, optional
        Sample of the trough, the same for all spikes; by default each spike's own.
    channel_positions : array_like (num_channels, 2), optional
        um. Channels nearest the peak channel are kept, those missing are masked, none is repeated.
    denoise : bool, optional
        Embed the decoder's reconstruction instead of the snippet. Default: no.
    batch_size : int, default 1024
    device : str or torch.device, optional
        Default: where the model is.

    Returns
    -------
    ndarray (num_spikes, embedding_size) float32

    Raises
    ------
    ValueError, TypeError
        If the waveforms cannot be mapped; the sentence says what to change.
    """
    rows = [np.zeros((0, model.config.embedding_size), np.float32)]
    options = dict(sampling_frequency=sampling_frequency, peak_index=peak_index, channel_positions=channel_positions)
    for _, _, batch in _batches(model, waveforms, batch_size, device, options):
        if denoise:
            batch["waveforms"] = model(**batch, output_reconstruction=True).reconstruction
        rows.append(model(**batch).embeddings.float().cpu().numpy())
    return np.concatenate(rows)


@torch.no_grad()
def denoise(
    model,
    waveforms,
    *,
    sampling_frequency=30000.0,
    peak_index=None,
    channel_positions=None,
    batch_size=1024,
    device=None,
):
    """Denoise spikes with the decoder that was trained.

    Parameters
    ----------
    model : HuiduRep
    waveforms : array_like (num_spikes, num_samples, num_channels)
        uV.
    sampling_frequency, peak_index, channel_positions, batch_size, device
        As in :func:`embed`.

    Returns
    -------
    ndarray like `waveforms`, float32
        uV. Samples and channels that the model does not see are returned as they were.

    Raises
    ------
    ValueError, TypeError
        If the waveforms cannot be mapped.
    """
    options = dict(sampling_frequency=sampling_frequency, peak_index=peak_index, channel_positions=channel_positions)
    result = np.array(waveforms, np.float32)
    for rows, mapped, batch in _batches(model, waveforms, batch_size, device, options):
        clean = model(**batch, output_reconstruction=True).reconstruction.float().cpu().numpy()
        result[rows] = unmap_waveforms(clean, mapped, result[rows], model.config, sampling_frequency=sampling_frequency)
    return result


def _batches(model, waveforms, batch_size, device, options):
    """Yield (slice, MappedWaveforms, model inputs); the model is in evaluation mode meanwhile."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, found {batch_size!r}: give a positive whole number.")
    home = model.device
    device = torch.device(device) if device is not None else home
    if device.type == "meta":
        raise ValueError("expected a device that computes, found 'meta': name a cpu or an accelerator.")
    mapped = map_waveforms(waveforms, model.config, **options)
    training = model.training
    model.eval().to(device)
    try:
        for start in range(0, len(mapped.snippets), batch_size):
            rows = slice(start, start + batch_size)
            yield rows, rows_of(mapped, rows), model_inputs(mapped, rows, device, model.dtype)
    finally:
        model.train(training).to(home)


def rows_of(mapped, rows):
    """Some of the spikes.

    Parameters
    ----------
    mapped : MappedWaveforms
    rows : slice or ndarray of int
        Which, and in what order.

    Returns
    -------
    MappedWaveforms
    """
    return type(mapped)(**{name: None if value is None else value[rows] for name, value in vars(mapped).items()})


def model_inputs(mapped, rows, device, dtype):
    """Tensors of one batch; masks only where something is missing, so that the whole window needs no mask.

    Parameters
    ----------
    mapped : MappedWaveforms
    rows : slice or ndarray of int
        Spikes of the batch.
    device : torch.device
    dtype : torch.dtype
        Of waveforms and masks.

    Returns
    -------
    dict of str to torch.Tensor
        Arguments of :meth:`huidurep.HuiduRep.forward`.
    """
    batch = {"waveforms": torch.from_numpy(mapped.snippets[rows]).to(device, dtype)}
    for name in ("channel_mask", "sample_mask"):
        mask = getattr(mapped, name)[rows]
        if not mask.all():
            batch[name] = torch.from_numpy(mask).to(device, dtype)
    if mapped.positions_um is not None:
        batch["channel_positions"] = torch.from_numpy(mapped.positions_um[rows]).to(device)
    return batch


@torch.no_grad()
def embed_mapped(model, mapped, batch_size=1024):
    """Embed spikes that meet the contract already.

    Parameters
    ----------
    model : HuiduRep
        In evaluation mode.
    mapped : MappedWaveforms
    batch_size : int, default 1024

    Returns
    -------
    ndarray (num_spikes, embedding_size) float32
    """
    starts = range(0, len(mapped.snippets), batch_size)
    batches = (model_inputs(mapped, slice(i, i + batch_size), model.device, model.dtype) for i in starts)
    return np.concatenate([model(**batch).embeddings.float().cpu().numpy() for batch in batches])
