"""The encoder of a saved result, loaded when it is first used."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from huidurep.hub.json_files import read_json_object
from huidurep.hub.resolve import resolve_checkpoint


class StoredEncoder:
    """A checkpoint by its name: its config is read without torch, its weights when spikes are embedded.

    Parameters
    ----------
    name : str | None
        As `resolve_checkpoint` finds it; None: unknown.
    revision : str | None
        Commit of a Hub repository.
    """

    def __init__(self, name: str | None, revision: str | None = None) -> None:
        self.name, self.revision = name, revision

    @cached_property
    def config(self) -> SimpleNamespace:
        """The fields of config.json.

        Raises
        ------
        OSError, ValueError
            There is no such checkpoint, or it is damaged.
        """
        path = self._folder / "config.json"
        return SimpleNamespace(**read_json_object(path, "copy the checkpoint again"))

    def embed(self, waveforms: np.ndarray, **options: Any) -> np.ndarray:
        """Embed waveforms, as `HuiduRep.embed`.

        Parameters
        ----------
        waveforms : ndarray, (num_spikes, num_samples, num_channels)
        **options
            Of `HuiduRep.embed`.

        Returns
        -------
        ndarray of float32, (num_spikes, embedding_size)

        Raises
        ------
        OSError, ValueError
            There is no such checkpoint, or it is damaged.
        """
        return self._model.embed(waveforms, **options)

    @cached_property
    def _folder(self) -> Path:
        remedy = "set model_name of the result to the name or folder of its checkpoint"
        if self.name is None:
            raise OSError(f"expected the checkpoint of this result, found that it does not name one; {remedy}")
        try:
            return resolve_checkpoint(self.name, revision=self.revision)
        except OSError as error:
            raise OSError(
                f"expected the checkpoint of this result, found {str(error).rstrip('.')}; {remedy}"
            ) from error

    @cached_property
    def _model(self) -> Any:
        from .modeling_huidurep import HuiduRep

        return HuiduRep.from_pretrained(self._folder)
