"""The pictures of a sorting as methods of its result."""

from __future__ import annotations

from pathlib import Path


class Pictures:
    """Methods of `SortingResult` that draw with matplotlib, imported when one is called; each gives a Figure."""

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
        from ..report import plot_templates

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
        from ..report import plot_raster

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
        from ..report import plot_embedding

        return plot_embedding(self, seed=seed)

    def plot_autocorrelograms(self):
        """Lags between the spikes of each unit, by SpikeInterface's widget.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..report import plot_autocorrelograms

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
        from ..report import plot_amplitudes

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
        from ..report_html import write_page

        return write_page(self, path, recording=recording, overwrite=overwrite)
