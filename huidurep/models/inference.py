"""Embedding of waveforms of any window, rate and channel count, in batches."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from .input_contract import MappedWaveforms, map_waveforms

if TYPE_CHECKING:
    from .modeling_huidurep import HuiduRep


def embed(  # noqa: PLR0913 - each describes the waveforms or where they are computed
    model: "HuiduRep",
    waveforms: ArrayLike,
    *,
    sampling_frequency: float = 30000.0,
    peak_index: int | None = None,
    peak_sign: str | None = None,
    channel_positions: ArrayLike | None = None,
    denoise: bool | None = None,
    batch_size: int = 1024,
    device: str | torch.device | None = None,
) -> np.ndarray:
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
    peak_sign : {"neg", "pos"}, optional
        Whether the spikes point down or up; by default each spike's own, found at its trough. Trough and sign are found
        spike by spike: a row never depends on the other rows of the array.
    channel_positions : array_like (num_channels, 2), optional
        um. The channels nearest to the peak channel are kept; missing channels are masked.
    denoise : bool, optional
        Embed the decoder's reconstruction instead of the snippet. Default: no.
    batch_size : int, default 1024
    device : str or torch.device, optional
        Default: the device of the model.

    Returns
    -------
    ndarray (num_spikes, embedding_size) float32

    Raises
    ------
    ValueError, TypeError
        If the waveforms cannot be mapped; see :func:`huidurep.models.waveform_checks.check_waveforms`.
    """
    options: dict[str, Any] = dict(
        sampling_frequency=sampling_frequency,
        peak_index=peak_index,
        peak_sign=peak_sign,
        channel_positions=channel_positions,
    )
    with _evaluation_mode(model, device, batch_size):
        mapped = map_waveforms(waveforms, model.config, **options)
        return embed_mapped(model, mapped, batch_size, denoise=bool(denoise))


@torch.no_grad()
def embed_mapped(
    model: "HuiduRep", mapped: MappedWaveforms, batch_size: int = 1024, *, denoise: bool = False
) -> np.ndarray:
    """Embed snippets that meet the contract.

    Parameters
    ----------
    model : HuiduRep
        In evaluation mode.
    mapped : MappedWaveforms
    batch_size, denoise
        As in :func:`embed`.

    Returns
    -------
    ndarray (num_spikes, embedding_size) float32
    """
    embeddings = [np.zeros((0, model.config.embedding_size), np.float32)]
    for rows in _batches(mapped, batch_size):
        batch = model_inputs(mapped, rows, model.device, model.dtype)
        if denoise:
            batch["waveforms"] = model(**batch, output_reconstruction=True).reconstruction
        embeddings.append(model(**batch).embeddings.float().cpu().numpy())
    return np.concatenate(embeddings)


@contextmanager
def _evaluation_mode(model: "HuiduRep", device: str | torch.device | None, batch_size: int) -> Iterator[None]:
    """Put a model in evaluation mode on a device, and restore both afterwards."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, found {batch_size!r}: give a positive whole number.")
    training, home = model.training, model.device
    target = home if device is None else torch.device(device)
    if target.type == "meta":
        raise ValueError("expected a device that computes, found 'meta': name a cpu or an accelerator.")
    model.eval().to(target)
    try:
        yield
    finally:
        model.train(training).to(home)


def _batches(mapped: MappedWaveforms, batch_size: int) -> list[slice]:
    return [slice(start, start + batch_size) for start in range(0, len(mapped.snippets), batch_size)]


def model_inputs(
    mapped: MappedWaveforms, rows: slice | np.ndarray, device: torch.device, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    """Arguments of :meth:`huidurep.HuiduRep.forward` for some spikes; a mask only if something is missing.

    Parameters
    ----------
    mapped : MappedWaveforms
    rows : slice or ndarray of int
        Spikes of the batch.
    device, dtype
        Of the tensors.

    Returns
    -------
    dict of str to torch.Tensor
    """
    batch = {"waveforms": torch.from_numpy(mapped.snippets[rows]).to(device, dtype)}
    for name in ("channel_mask", "sample_mask"):
        mask = getattr(mapped, name)[rows]
        if not mask.all():
            batch[name] = torch.from_numpy(mask).to(device, dtype)
    if mapped.positions_um is not None:
        batch["channel_positions"] = torch.from_numpy(mapped.positions_um[rows]).to(device)
    return batch
