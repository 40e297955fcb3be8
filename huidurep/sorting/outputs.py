"""What a result can be turned into: the methods of SortingResult that need the recording, each one call."""

from __future__ import annotations

from pathlib import Path


class ResultOutputs:
    """Mixed into `SortingResult`. What is needed for a format is imported when it is asked for."""

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
        from .analyzer import build_analyzer

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
        from .phy import export_to_phy

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
        from .nwb import export_to_nwb

        options = {"session_start_time": session_start_time, "metadata": metadata, "overwrite": overwrite}
        return export_to_nwb(self, recording, path, **options)
