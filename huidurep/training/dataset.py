"""Template banks and the endless dataset of batches drawn from them."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import IterableDataset

NEIGHBOURS = 48
FEATURES = 24
# torch's generator takes 32 bits of a seed: the batches of different seeds lie far apart among them.
SEED_STRIDE = 2654435761


class TemplateBank:
    """Units seen by one probe, with the neighbours of each in template space.

    Parameters
    ----------
    waveforms : array_like (num_units, num_views, num_samples, num_channels)
        uV, broad-band.
    positions : array_like (num_channels, 2)
        um.
    peak_index : int
    sampling_frequency : float
        Hz.
    kind : str, default ""
        Type of the probe.
    """

    def __init__(self, waveforms, positions, peak_index, sampling_frequency, kind=""):
        self.kind = kind
        # Half precision: many banks are held at once, and its rounding is far below any noise.
        self.waveforms = torch.as_tensor(np.asarray(waveforms, np.float16))
        self.positions = torch.as_tensor(np.asarray(positions), dtype=torch.float32)
        self.peak_index, self.sampling_frequency = int(peak_index), float(sampling_frequency)
        if not torch.isfinite(self.waveforms).all():
            raise ValueError("expected finite templates, found NaN or infinity: make the bank again.")
        self.neighbours = self._find_neighbours()

    def _find_neighbours(self):
        """Units ordered by likeness of shape and size: those the encoder must learn to tell apart."""
        resting = self.waveforms[:, 0].float()
        resting = resting - resting.mean(1, keepdim=True)
        flat = (resting.sign() * (resting.abs() / 20).log1p()).flatten(1)
        flat = flat - flat.mean(0)
        # Not torch.pca_lowrank, which draws from the global generator.
        _, _, axes = torch.linalg.svd(flat, full_matrices=False)
        features = flat @ axes[:FEATURES].T
        return torch.cdist(features, features).argsort(1)[:, :NEIGHBOURS]

    def draw_neighbours(self, count, group_size, generator):
        """Draw `count` different units in groups of neighbours.

        Parameters
        ----------
        count, group_size : int
        generator : torch.Generator

        Returns
        -------
        torch.Tensor (count,) int64

        Raises
        ------
        ValueError
            If the bank has fewer units.
        """
        if count > len(self.waveforms):
            raise ValueError(
                f"expected a template bank of at least {count} units, found {len(self.waveforms)}: simulate more units "
                "a bank, or lower the batch size."
            )
        free, chosen = torch.ones(len(self.waveforms), dtype=torch.bool), []
        while len(chosen) < count:
            left = free.nonzero()[:, 0]
            anchor = left[int(torch.randint(len(left), (1,), generator=generator))]
            near = self.neighbours[anchor]
            group = near[free[near]][: min(group_size, count - len(chosen))]
            free[group] = False
            chosen.extend(group.tolist())
        return torch.tensor(chosen)


def save_banks(banks, path):
    """Write template banks into one .npz file.

    Parameters
    ----------
    banks : list of TemplateBank
    path : str or Path
    """
    arrays = {}
    for number, bank in enumerate(banks):
        arrays[f"waveforms_{number}"] = bank.waveforms.numpy()
        arrays[f"positions_{number}"] = bank.positions.numpy()
        arrays[f"kind_{number}"] = np.array(bank.kind)
        arrays[f"contract_{number}"] = np.array([bank.peak_index, bank.sampling_frequency])
    partial = Path(path).with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.rename(path)  # an interrupted run leaves no half-written bank behind


def load_banks(path):
    """Read what :func:`save_banks` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    list of TemplateBank
    """
    with np.load(path, allow_pickle=False) as arrays:
        count = sum(name.startswith("waveforms_") for name in arrays)
        return [
            TemplateBank(
                arrays[f"waveforms_{i}"], arrays[f"positions_{i}"], *arrays[f"contract_{i}"], str(arrays[f"kind_{i}"])
            )
            for i in range(count)
        ]


class ViewDataset(IterableDataset):
    """Endless batches of units, several spikes of each, the same for the same seed wherever training resumes.

    Parameters
    ----------
    maker : ViewMaker
    batch_size : int
        Units in a batch.
    seed : int
    first_batch : int, default 0
        Number of the batch to begin with.
    """

    def __init__(self, maker, *, batch_size, seed, first_batch=0):
        super().__init__()
        self.maker, self.batch_size, self.seed, self.first_batch = maker, batch_size, seed, first_batch

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        number, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        index = self.first_batch + number
        while True:
            # A generator a batch: batch `index` is the same in every run, with any number of workers.
            generator = torch.Generator().manual_seed((self.seed * SEED_STRIDE + index) % 2**32)
            yield self.maker.draw(self.batch_size, generator)
            index += stride
