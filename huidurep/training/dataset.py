"""Template libraries and the endless dataset of batches drawn from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from torch import Tensor
from torch.utils.data import IterableDataset

# torch's generator uses 32 bits of a seed: the batches of different seeds lie far apart among them.
SEED_STRIDE = 2654435761


class TemplateLibrary:
    """Templates of units on one probe, with the nearest neighbours of each unit in template space.

    Parameters
    ----------
    waveforms : array_like (num_units, num_views, num_samples, num_channels)
        uV, broad-band.
    positions : array_like (num_channels, 2)
        um.
    peak_index : int
        Sample of the trough.
    sampling_frequency : float
        Hz.
    kind : str, default ""
        Type of the probe.
    num_neighbours, num_components : int, default 48 and 24
        Neighbours that are kept of each unit, and principal components in which distances are measured.

    Raises
    ------
    ValueError
        If a template is not finite.
    """

    def __init__(
        self,
        waveforms: ArrayLike,
        positions: ArrayLike,
        peak_index: int,
        sampling_frequency: float,
        kind: str = "",
        *,
        num_neighbours: int = 48,
        num_components: int = 24,
    ) -> None:
        self.kind = kind
        # Half precision: many libraries are in memory at once, and its rounding is far below any noise.
        self.waveforms = torch.as_tensor(np.asarray(waveforms, np.float16))
        self.positions = torch.as_tensor(np.asarray(positions), dtype=torch.float32)
        self.peak_index, self.sampling_frequency = int(peak_index), float(sampling_frequency)
        if not torch.isfinite(self.waveforms).all():
            raise ValueError("expected finite templates, found NaN or infinity: make the template library again.")
        self.neighbours = self._find_neighbours(num_neighbours, num_components)

    def _find_neighbours(self, num_neighbours: int, num_components: int) -> Tensor:
        """Units ordered by similarity of shape and amplitude (num_units, <= num_neighbours): the hard negatives."""
        first_views = self.waveforms[:, 0].float()
        first_views = first_views - first_views.mean(1, keepdim=True)
        # Logarithmic amplitudes above some 20 uV, so that large units do not take all principal components.
        flat = (first_views.sign() * (first_views.abs() / 20).log1p()).flatten(1).numpy()
        with np.errstate(invalid="ignore"):  # templates that are all alike have no variance to take shares of
            features = PCA(min(num_components, *flat.shape), random_state=0).fit_transform(flat)
        scores = torch.from_numpy(features)
        return torch.cdist(scores, scores).argsort(1)[:, :num_neighbours]

    def draw_neighbours(self, count: int, group_size: int, generator: torch.Generator) -> Tensor:
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
            If the library has fewer units.
        """
        if count > len(self.waveforms):
            raise ValueError(
                f"expected a template library of at least {count} units, found {len(self.waveforms)}: increase "
                "units_per_bank, or lower the batch size."
            )
        free = torch.ones(len(self.waveforms), dtype=torch.bool)
        chosen: list[int] = []
        while len(chosen) < count:
            left = free.nonzero()[:, 0]
            anchor = left[int(torch.randint(len(left), (1,), generator=generator))]
            near = self.neighbours[anchor]
            group = near[free[near]][: min(group_size, count - len(chosen))]
            free[group] = False
            chosen.extend(group.tolist())
        return torch.tensor(chosen)


def save_libraries(libraries: Sequence[TemplateLibrary], path: str | Path) -> None:
    """Write template libraries into one .npz file.

    Parameters
    ----------
    libraries : list of TemplateLibrary
    path : str or Path
    """
    arrays = {}
    for number, library in enumerate(libraries):
        arrays[f"waveforms_{number}"] = library.waveforms.numpy()
        arrays[f"positions_{number}"] = library.positions.numpy()
        arrays[f"kind_{number}"] = np.array(library.kind)
        arrays[f"contract_{number}"] = np.array([library.peak_index, library.sampling_frequency])
    partial = Path(path).with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.rename(path)  # an interrupted run leaves no incomplete file behind


def load_libraries(path: str | Path) -> list[TemplateLibrary]:
    """Read what :func:`save_libraries` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    list of TemplateLibrary
    """
    with np.load(path, allow_pickle=False) as arrays:
        count = sum(name.startswith("waveforms_") for name in arrays)
        libraries = []
        for number in range(count):
            waveforms, positions = arrays[f"waveforms_{number}"], arrays[f"positions_{number}"]
            peak_index, rate = arrays[f"contract_{number}"]
            libraries.append(TemplateLibrary(waveforms, positions, peak_index, rate, str(arrays[f"kind_{number}"])))
    return libraries


class BatchMaker(Protocol):
    """What draws batches: :class:`huidurep.training.views.ViewMaker` and its like."""

    def draw(self, num_units: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Draw a batch of `num_units` units."""


class ViewDataset(IterableDataset):
    """Endless batches of units, several spikes of each; the same for the same seed wherever training resumes.

    Parameters
    ----------
    maker : ViewMaker
    batch_size : int
        Units in a batch.
    seed : int
    first_batch : int, default 0
        Number of the batch to begin with.
    process, num_processes : int
        With several processes each draws every n-th batch: number of this process, and how many there are.
    """

    def __init__(
        self,
        maker: BatchMaker,
        *,
        batch_size: int,
        seed: int,
        first_batch: int = 0,
        process: int = 0,
        num_processes: int = 1,
    ) -> None:
        super().__init__()
        self.maker, self.batch_size, self.seed, self.first_batch = maker, batch_size, seed, first_batch
        self.process, self.num_processes = process, num_processes

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        number, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        number, stride = self.process + self.num_processes * number, self.num_processes * stride
        index = self.first_batch + number
        while True:
            # A generator for each batch: batch `index` is the same in every run, with any number of workers.
            generator = torch.Generator().manual_seed((self.seed * SEED_STRIDE + index) % 2**32)
            yield self.maker.draw(self.batch_size, generator)
            index += stride
