"""The result of a sorting: saved, loaded, plotted and exported."""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import spikeinterface
from spikeinterface.core import BaseSorting

from .output_files import INFO_FILE, check_output_folder
from .sorting.parameters import SortingParameters
from .sorting.postprocessing import Measures

FORMAT = "huidurep-sorting"
FORMAT_VERSION = 1
MEASURES_FILE = "measures.npz"


@dataclass
class SortingResult:
    """What a sorting gives.

    Attributes
    ----------
    sorting : BaseSorting
        Units with the properties main_channel_id (of the recording that was given), group, snr, peak_uv, num_spikes,
        and refractory_violations, isolation, presence and quality as `unit_confidence` has them.
    embeddings : ndarray of float32, (num_spikes, embedding_size)
        One row a spike, in the order of `sorting.to_spike_vector()`.
    posteriors : ndarray of float32, (num_spikes,)
        Probability of the spike's unit, given its embedding; low for a spike that overlaps with another.
    parameters : SortingParameters
    model_name, model_revision : str | None
    log : list of dict
        stage, seconds, message; is_warning where the user should look at it.
    measures : Measures | None
        Templates, and size and place of every spike; None for results of versions that did not measure them.
    provenance : dict
        What was sorted, when and by which versions, as `describe_run` has it; empty for results of earlier versions.
    """

    sorting: BaseSorting
    embeddings: np.ndarray
    posteriors: np.ndarray
    parameters: SortingParameters
    model_name: str | None = None
    model_revision: str | None = None
    log: list = field(default_factory=list)
    measures: Measures | None = None
    provenance: dict = field(default_factory=dict)

    def save(self, folder, *, overwrite: bool = False) -> Path:
        """Write everything into one folder, which may be moved; `spikeinterface.load(folder)` gives the sorting.

        Parameters
        ----------
        folder : str or Path
            Made if it does not exist.
        overwrite : bool
            Replace an earlier result of this package. Other files are never removed.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        FileExistsError
            The folder is not empty.
        """
        folder = Path(folder)
        check_output_folder(folder, overwrite=overwrite)
        folder.absolute().parent.mkdir(parents=True, exist_ok=True)
        # what is interrupted leaves no half result behind, and an earlier result as it was
        work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
        new, old = work / "new", work / "old"
        try:
            new.mkdir()
            self._write(new)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            if old.exists() and not folder.exists():
                old.rename(folder)
            shutil.rmtree(work, ignore_errors=True)
        return folder

    def _write(self, folder: Path) -> None:
        """Write all files into a new folder."""
        with warnings.catch_warnings():  # that the recording is not saved with its sorting needs no warning
            warnings.filterwarnings("ignore", category=UserWarning, module="spikeinterface")
            saved = self.sorting.save(folder=folder / "sorting", format="numpy_folder")
        # the top folder opens too: SpikeInterface reads this file, whose path to sorting/ is relative
        saved.dump_to_json(folder / "si_folder.json", relative_to=folder, include_annotations=False)
        np.save(folder / "embeddings.npy", self.embeddings)
        np.save(folder / "posteriors.npy", self.posteriors)
        if self.measures is not None:
            self.measures.save(folder / MEASURES_FILE)
        info = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "model_name": self.model_name,
            "model_revision": self.model_revision,
            "parameters": self.parameters.to_dict(),
            "log": self.log,
            "provenance": self.provenance,
        }
        (folder / INFO_FILE).write_text(json.dumps(info, indent=2), encoding="utf8")

    @classmethod
    def load(cls, folder) -> SortingResult:
        """Read what `save` wrote.

        Parameters
        ----------
        folder : str or Path
            Wherever it is now.

        Returns
        -------
        SortingResult

        Raises
        ------
        FileNotFoundError
            Not such a folder.
        ValueError
            Files that do not belong together.
        """
        folder = Path(folder)
        if not (folder / INFO_FILE).is_file():
            raise FileNotFoundError(
                f"expected a folder with {INFO_FILE} as SortingResult.save writes it, found none at {folder}; "
                "give the OUTPUT folder itself"
            )
        info = json.loads((folder / INFO_FILE).read_text(encoding="utf8"))
        if info.get("format") != FORMAT or info.get("format_version", 0) > FORMAT_VERSION:
            raise ValueError(
                f"expected {FORMAT} up to version {FORMAT_VERSION}, found {info.get('format')} "
                f"{info.get('format_version')} in {folder}; update huidurep"
            )
        sorting = spikeinterface.load(folder)
        embeddings, posteriors = np.load(folder / "embeddings.npy"), np.load(folder / "posteriors.npy")
        num_spikes = len(sorting.to_spike_vector())
        if not len(embeddings) == len(posteriors) == num_spikes:
            raise ValueError(
                f"expected one embedding and one posterior a spike ({num_spikes}), found {len(embeddings)} and "
                f"{len(posteriors)} in {folder}; copy the folder again or sort again"
            )
        measures = Measures.load(folder / MEASURES_FILE)
        if measures is not None and len(measures.amplitudes_uv) != num_spikes:
            raise ValueError(
                f"expected one amplitude a spike ({num_spikes}), found {len(measures.amplitudes_uv)} in {folder}; copy "
                f"the folder again, or remove {MEASURES_FILE}, which can be measured again"
            )
        return cls(
            sorting,
            embeddings,
            posteriors,
            SortingParameters.from_dict(info["parameters"]),
            info["model_name"],
            info["model_revision"],
            info["log"],
            measures,
            info.get("provenance", {}),
        )

    def to_analyzer(self, recording, folder=None, *, extensions=None, overwrite: bool = False):
        """A SortingAnalyzer, which spikeinterface-gui and all of SpikeInterface's metrics and plots take.

        Parameters
        ----------
        recording : BaseRecording
            The raw recording that was sorted.
        folder : str or Path, optional
            Folder to write, with the result in its subfolder "huidurep"; None: in memory.
        extensions : sequence of str, optional
            What to compute. Default: waveforms, templates, noise levels, amplitudes, locations, correlograms,
            similarity, quality metrics.
        overwrite : bool
            Replace an earlier analyzer there.

        Returns
        -------
        SortingAnalyzer
            Sparse, of the preprocessed traces; rows of `embeddings` and `posteriors` are those of its spike vector.

        Raises
        ------
        TypeError, ValueError, FileExistsError
            Not the recording that was sorted, no units, or something is in the way.
        """
        from .exporters.analyzer import build_analyzer

        return build_analyzer(self, recording, folder, extensions=extensions, overwrite=overwrite)

    def export_to_phy(self, recording, folder, *, copy_recording: bool = True, overwrite: bool = False) -> Path:
        """A folder that phy opens with ``phy template-gui params.py``; it may be moved.

        Parameters
        ----------
        recording : BaseRecording
            The raw recording that was sorted; one segment.
        folder : str or Path
            Folder to write.
        copy_recording : bool
            Write the preprocessed traces along (float32, 4 bytes a sample and channel), which phy's waveform and trace
            views need.
        overwrite : bool
            Replace an earlier export there.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        TypeError, ValueError, FileExistsError
            As `to_analyzer`; several segments.
        """
        from .exporters.phy import export_to_phy

        return export_to_phy(self, recording, folder, copy_recording=copy_recording, overwrite=overwrite)

    def export_to_nwb(
        self, recording, path, *, session_start_time, metadata: dict | None = None, overwrite: bool = False
    ) -> Path:
        """An NWB file of the units, without traces. Needs ``pip install huidurep[nwb]``.

        Parameters
        ----------
        recording : BaseRecording
            The raw recording that was sorted.
        path : str or Path
            File to write, ending in .nwb.
        session_start_time : datetime
            When the recording began, with its time zone.
        metadata : dict, optional
            In neuroconv's form, such as {"NWBFile": {"experimenter": [...]}, "Subject": {...}}.
        overwrite : bool
            Replace a file there.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        ImportError
            neuroconv is not installed.
        TypeError, ValueError, FileExistsError
            As `to_analyzer`; no time zone; several segments that do not say when they began.
        """
        from .exporters.nwb import export_to_nwb

        options = {"session_start_time": session_start_time, "metadata": metadata, "overwrite": overwrite}
        return export_to_nwb(self, recording, path, **options)

    def plot_templates(self, recording=None):
        """Mean waveform of every unit, drawn at the contacts of the probe.

        Parameters
        ----------
        recording : BaseRecording | None
            The recording that was sorted; only needed for results of versions that did not keep templates.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            Neither kept templates nor a recording.
        """
        from .report.plots import plot_templates

        return plot_templates(self, recording)

    def plot_raster(self, *, segment_index: int = 0):
        """When each unit fires.

        Parameters
        ----------
        segment_index : int
            Segment of the recording.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .report.plots import plot_raster

        return plot_raster(self, segment_index=segment_index)

    def plot_embedding(self, *, seed: int = 0):
        """The spikes in the plane of the two largest principal components of their embeddings.

        Parameters
        ----------
        seed : int
            Which spikes are drawn where there are more than 20000.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .report.plots import plot_embedding

        return plot_embedding(self, seed=seed)

    def plot_autocorrelograms(self):
        """Lags between the spikes of each unit, by SpikeInterface's widget.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from .report.plots import plot_autocorrelograms

        return plot_autocorrelograms(self)

    def plot_amplitudes(self, recording=None, *, segment_index: int = 0):
        """Amplitude of the spikes of each unit over time.

        Parameters
        ----------
        recording : BaseRecording | None
            As for `plot_templates`.
        segment_index : int
            Segment of the recording.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ValueError
            Neither kept amplitudes nor a recording.
        """
        from .report.plots import plot_amplitudes

        return plot_amplitudes(self, recording, segment_index=segment_index)

    def write_report(self, path, *, recording=None, overwrite: bool = False) -> Path:
        """Write the report: one HTML file that needs nothing else.

        Parameters
        ----------
        path : str or Path
            File to write.
        recording : BaseRecording | None
            As for `plot_templates`; without it the page says what is missing.
        overwrite : bool
            Replace a file.

        Returns
        -------
        Path
            The file.

        Raises
        ------
        FileExistsError
            The file is there.
        """
        from .report.page import write_page

        return write_page(self, path, recording=recording, overwrite=overwrite)
