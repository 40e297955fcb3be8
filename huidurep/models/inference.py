"""Embedding of waveforms of any window, rate and channel count, in batches."""

import copy
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from .input_contract import MappedWaveforms, map_waveforms

if TYPE_CHECKING:
    from .modeling_huidurep import HuiduRep

logger = logging.getLogger(__name__)
FEW_SPIKES, ALIGNED_MS, ALIGNED_SHARE, OTHER_SHARE = 20, 0.1, 0.6, 0.01  # spikes are aligned if most troughs are


def embed(  # noqa: PLR0913 - each describes the waveforms or where they are computed
    model: "HuiduRep",
    waveforms: ArrayLike,
    *,
    sampling_frequency: float = 30000.0,
    peak_index: int | None = None,
    peak_sign: ArrayLike | None = None,
    channel_positions: ArrayLike | None = None,
    denoise: bool | None = None,
    location: bool = False,
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
        Sample of the trough, the same for all spikes; by default each spike's own. Give it where a detector has aligned
        the spikes: a trough that is found in noise is a sample or two off.
    peak_sign : {"neg", "pos"} or array_like of them (num_spikes,), optional
        Whether the spikes point down or up; by default each spike's own, found at its trough. Trough and sign are found
        spike by spike: a row never depends on the other rows of the array.
    channel_positions : array_like (num_channels, 2), optional
        um. The channels nearest to the peak channel are kept; missing channels are masked.
    denoise : bool, optional
        Embed the decoder's reconstruction instead of the snippet. Default: no.
    location : bool, default False
        Append the place of each spike; see :func:`append_places`. For arrays of more contacts than the encoder takes,
        whose embedding does not tell where on the array they were.
    batch_size : int, default 1024
    device : str or torch.device, optional
        Default: the device of the model.

    Returns
    -------
    ndarray (num_spikes, embedding_size, or embedding_size + 2 with `location`) float32

    Raises
    ------
    ValueError, TypeError
        Of waveforms as :func:`huidurep.models.waveform_checks.check_waveforms`; a location without positions.
    """
    options: dict[str, Any] = dict(
        sampling_frequency=sampling_frequency,
        peak_index=peak_index,
        peak_sign=peak_sign,
        channel_positions=as_array(channel_positions),
    )
    model = ready_for_inference(model, device)
    mapped = map_waveforms(as_array(waveforms), model.config, **options)
    _warn_of_other_troughs(mapped.peak_index, sampling_frequency)
    embeddings = embed_mapped(model, mapped, batch_size, denoise=bool(denoise))
    places = (options["channel_positions"], model.config.peak_index)
    return append_places(embeddings, mapped, *places) if location else embeddings


def _warn_of_other_troughs(peaks: np.ndarray, sampling_frequency: float) -> None:
    """Log a warning where the spikes seem to be aligned, but some troughs were found elsewhere."""
    if len(peaks) < FEW_SPIKES:
        return
    most = int(np.bincount(np.round(peaks).astype(int)).argmax())
    share = np.mean(np.abs(peaks - most) <= max(1, ALIGNED_MS * 1e-3 * sampling_frequency))
    if ALIGNED_SHARE <= share < 1 - OTHER_SHARE:
        found = f"{share:.0%} of the troughs were found at sample {most}, the others elsewhere"
        logger.warning("%s: if the spikes are aligned, pass peak_index=%d, or noise moves these", found, most)


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
    embeddings = np.zeros((len(mapped.snippets), model.config.embedding_size), np.float32)

    def embed_rows(rows: slice) -> None:
        batch = model_inputs(mapped, rows, model.device, model.dtype)
        if denoise:
            batch["waveforms"] = model(**batch, output_reconstruction=True, return_dict=True).reconstruction
        embeddings[rows] = model(**batch, return_dict=True).embeddings.float().cpu().numpy()

    in_batches(embed_rows, len(embeddings), batch_size)
    return embeddings


def append_places(
    embeddings: np.ndarray, mapped: MappedWaveforms, channel_positions: ArrayLike | None, peak_index: int
) -> np.ndarray:
    """Append the place of each spike to its embedding.

    The centre of mass of the kept contacts, as in SpikeInterface's ``LocalizeCenterOfMass``, but weighted by squared
    deflections at the trough; relative to the first contact. The unit is twice the median distance of a contact from
    its nearest neighbour: noise scatters places of most units about as much as embeddings.

    Parameters
    ----------
    embeddings : ndarray (num_spikes, embedding_size) float32
    mapped : MappedWaveforms
        Their waveforms.
    channel_positions : array_like (num_channels, 2)
        um, of all channels.
    peak_index : int
        Sample of the trough in the snippets.

    Returns
    -------
    ndarray (num_spikes, embedding_size + 2) float32

    Raises
    ------
    ValueError
        If the positions are unknown, or the encoder does not use them.
    """
    if channel_positions is None or mapped.positions_um is None:
        raise ValueError(
            "expected channel_positions and an encoder that reads them for location=True, found none: give both."
        )
    contacts_um = np.asarray(channel_positions, float)
    distances_um = np.linalg.norm(contacts_um[:, None] - contacts_um[None], axis=-1)
    np.fill_diagonal(distances_um, np.inf)
    unit_um = 2 * max(np.median(distances_um.min(1)), 1.0)
    weights = (mapped.snippets[:, peak_index] ** 2 + 1e-6) * mapped.channel_mask  # of a flat trace: all alike
    places_um = (weights[:, :, None] * mapped.positions_um).sum(1) / weights.sum(1)[:, None]
    return np.concatenate([embeddings, (places_um / unit_um).astype(np.float32)], axis=1)


def as_array(values: Any) -> Any:
    """Waveforms or positions that numpy can read: tensors of any device, with gradients or in half precision.

    Parameters
    ----------
    values : array_like, torch.Tensor or None

    Returns
    -------
    array_like or None
        An array of a tensor; anything else as it is.
    """
    if not torch.is_tensor(values):
        return values
    tensor = values.detach().cpu()
    return (tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor).numpy()


def ready_for_inference(model: "HuiduRep", device: str | torch.device | None = None) -> "HuiduRep":
    """The model in evaluation mode on a device: the given one if it is so already, else a copy.

    The given model is never changed, because other threads may be using or training it.

    Parameters
    ----------
    model : HuiduRep
    device : str or torch.device, optional
        Default: the device of the model.

    Returns
    -------
    HuiduRep

    Raises
    ------
    ValueError
        If there is no such device, or it computes nothing.
    """
    try:
        target = model.device if device is None else torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"expected a device of torch, found {device!r}: name 'cpu' or an accelerator.") from error
    if target.type == "meta" or (target.type == "cuda" and not torch.cuda.is_available()):
        raise ValueError(
            f"expected a device that computes on this machine, found {str(target)!r}: name 'cpu' or another."
        )
    if target.type == model.device.type and target.index is None:
        target = model.device
    if target == model.device and not any(module.training for module in model.modules()):
        return model
    copied = copy.deepcopy(model).eval().to(target)
    vars(copied).pop("forward", None)  # accelerate's, for mixed precision, which would run the given model
    return copied


def in_batches(compute: Callable[[slice], None], num_spikes: int, batch_size: int = 1024) -> None:
    """Compute all spikes in batches, which are halved when the memory of the device is full.

    As ``accelerate.utils.find_executable_batch_size``, but batches that are computed already are not computed again.

    Parameters
    ----------
    compute : callable
        Receives the rows of a batch.
    num_spikes : int
    batch_size : int

    Raises
    ------
    ValueError
        If the batch size is no positive whole number.
    RuntimeError
        Of torch, if there is no memory for a single spike.
    """
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"expected batch_size >= 1, found {batch_size!r}: give a positive whole number.")
    start, size = 0, int(batch_size)
    while start < num_spikes:
        is_full = False
        try:
            compute(slice(start, start + size))
        except RuntimeError as error:
            if size == 1 or not _is_out_of_memory(error):
                raise
            is_full = True
        if is_full:  # the error, whose traceback holds the tensors of the batch, is gone
            size = min(size, num_spikes - start) // 2 or 1
            logger.info("the memory of the device is full: batches of %d spikes", size)
            _free_cached_memory()
        else:
            start += size


def _is_out_of_memory(error: RuntimeError) -> bool:
    # MPS and the CPU have no error class of their own
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(each in str(error) for each in words)


def _free_cached_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()


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
