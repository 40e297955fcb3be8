"""The settings of one sorting: checked when made, and checked against the recording before anything is computed."""

from __future__ import annotations

import difflib
import logging
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from .presets import PRESETS, check_preset, preset_values, refuse_changed_preset

logger = logging.getLogger(__name__)

MIN_SAMPLING_FREQUENCY_HZ = 5000.0  # below it the trough of a spike falls between two samples
MOTION_PRESETS = (
    "dredge",
    "dredge_fast",
    "nonrigid_accurate",
    "nonrigid_fast_and_accurate",
    "rigid_fast",
    "kilosort_like",
)
DETECTION_METHODS = ("locally_exclusive", "matched_filtering")
MATCHING_METHODS = ("wobble", "tdc-peeler", "circus-omp")
FINITE_CHECK_BYTES = 64 * 2**20  # one chunk of the search for NaN and infinite samples


@dataclass(frozen=True, kw_only=True)
class SortingParameters:
    """How a recording is sorted. Frozen; an unknown name raises and names the nearest valid one.

    Parameters
    ----------
    freq_min_hz, freq_max_hz : float
        Edges of the band-pass filter; the upper one is lowered where the recording's rate asks for it.
    common_reference : bool | None
        Subtract the median over the channels of a group. None: where a group has 32 channels or more.
    motion : str | Path | None
        Motion of the tissue is undone before detection by a preset of SpikeInterface's `correct_motion`. "auto":
        "dredge_fast", on shanks of 32 channels or more, at most 60 um wide, recorded for 30 s or longer. The folder of
        a `Motion` that was saved: that one, whatever the probe. None: never.
    detection : {"locally_exclusive", "matched_filtering"}
        SpikeInterface's detector: troughs of the traces, or of the traces filtered by the shape of the recording's own
        large spikes, which also finds some that noise hides. Both give the sample and channel of the trough.
    detect_threshold : float
        Smallest trough that is a spike, in noise levels (median absolute deviation / 0.6745) of its channel, or of what
        the filter makes of it; so is `unit_threshold`.
    peak_sign : {"neg", "pos", "both"}
        Which deflections are spikes.
    exclude_sweep_ms, radius_um : float
        Within this time and distance only the largest peak is kept. Groups of 4 channels or fewer count as one place.
    ms_before, ms_after : float
        Snippet around the peak.
    num_units : int | None
        Units in each channel group. None: found from the data.
    unit_threshold : float
        Smallest median trough of a unit's detected spikes, in noise levels. Noise thins out from `detect_threshold` on,
        so that a value a little above it drops clusters of noise. When num_units is given, no smaller peak is detected.
    merge_bias : float
        The one knob between splitting and merging: above 0 merges more, below 0 splits more.
    min_unit_spikes : int
        Smaller units are dropped (not when num_units is given).
    max_fit_spikes : int
        At most so many spikes, drawn with `seed`, fit the mixture.
    max_dimensions : int
        At most so many principal components of the embeddings are what the mixture sees.
    denoise : bool
        Embed the snippet after the model's decoder has cleaned it.
    adapt : bool
        Train the encoder for some seconds on the recording's own spikes before they are embedded, group by group; a
        guard keeps the pretrained weights where the adapted ones are worse.
    matching : {"wobble", "tdc-peeler", "circus-omp"} | None
        Template matching that finds overlapping and small spikes again. None keeps the clusters as they are.
    template_interval_s : float | None
        Stretch of time over which templates are taken not to move. None: the whole recording.
    preset : {"paper"} | None
        "paper" clusters as the paper did, for comparison: a mixture of `num_units` (required) Gaussians with full
        covariances, fitted to the embeddings of a group. No motion, no matching, no adaptation, nothing merged or
        dropped afterwards. Groups have at most as many channels as the model takes.
    seed : int
        Same seed, same result.
    bad_channel_ids : sequence
        Channels of the recording to leave out. Flat, copied and noisy channels are found without being named.

    Raises
    ------
    TypeError
        Unknown name.
    ValueError
        A value outside its range, one that `preset` sets otherwise, or a preset without `num_units`.
    """

    freq_min_hz: float = 300.0
    freq_max_hz: float = 6000.0
    common_reference: bool | None = None
    motion: str | None = "auto"
    detection: str = "locally_exclusive"
    detect_threshold: float = 4.5
    peak_sign: str = "neg"
    exclude_sweep_ms: float = 0.3
    radius_um: float = 75.0
    ms_before: float = 1.0
    ms_after: float = 2.0
    num_units: int | None = None
    unit_threshold: float = 0.0
    merge_bias: float = 0.0
    min_unit_spikes: int = 30
    max_fit_spikes: int = 20000
    max_dimensions: int = 20
    denoise: bool = False
    adapt: bool = False
    matching: str | None = "wobble"
    template_interval_s: float | None = 60.0
    preset: str | None = None
    seed: int = 0
    bad_channel_ids: tuple = ()

    def __new__(cls, *args, **kwargs):
        """Refuse unknown names."""
        # here and not in __init__, which dataclass writes: only here can the message name the nearest valid name
        valid = [field.name for field in fields(cls)]
        for name in kwargs:
            if name not in valid:
                nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)[0]
                raise TypeError(
                    f"unknown sorting parameter {name!r}: expected one of {', '.join(valid)}; did you mean {nearest!r}?"
                )
        refuse_changed_preset(kwargs)  # as above: later on, what was given looks like what is left out
        return super().__new__(cls)

    def __post_init__(self):
        object.__setattr__(self, "bad_channel_ids", _as_tuple(self.bad_channel_ids))
        if isinstance(self.motion, Path):
            object.__setattr__(self, "motion", str(self.motion))
        for name, value in preset_values(self.preset).items():
            object.__setattr__(self, name, value)
        for name, (is_valid, expected) in _VALID.items():
            value = getattr(self, name)
            if not is_valid(value):
                raise ValueError(f"expected {name} to be {expected}, found {value!r}; change {name}")
        if self.freq_min_hz >= self.freq_max_hz:
            raise ValueError(
                f"expected freq_min_hz below freq_max_hz, found {self.freq_min_hz} and {self.freq_max_hz}; "
                "exchange or change them"
            )
        check_preset(self.preset, self.num_units)

    def to_dict(self) -> dict:
        """The parameters as plain values, ready for JSON.

        Returns
        -------
        dict
            One entry a field.
        """
        values = asdict(self)
        values["bad_channel_ids"] = [_plain(channel_id) for channel_id in self.bad_channel_ids]
        return {name: _plain(value) for name, value in values.items()}

    @classmethod
    def from_dict(cls, values: dict) -> SortingParameters:
        """The opposite of `to_dict`.

        Parameters
        ----------
        values : dict
            Names and values; missing ones take their defaults.

        Returns
        -------
        SortingParameters

        Raises
        ------
        TypeError
            Unknown name.
        """
        return cls(**values)

    def num_samples_before(self, sampling_frequency: float) -> int:
        """Samples of a snippet before its peak.

        Parameters
        ----------
        sampling_frequency : float
            Hz.

        Returns
        -------
        int
        """
        return int(self.ms_before * sampling_frequency / 1000.0)  # as SpikeInterface's ms_to_samples

    def num_samples(self, sampling_frequency: float) -> int:
        """Samples of a snippet.

        Parameters
        ----------
        sampling_frequency : float
            Hz.

        Returns
        -------
        int
        """
        return self.num_samples_before(sampling_frequency) + int(self.ms_after * sampling_frequency / 1000.0)

    def check_recording(self, recording) -> None:
        """Refuse what cannot be sorted. A recording without any sample is accepted: its sorting is empty.

        Parameters
        ----------
        recording : BaseRecording
            SpikeInterface recording.

        Raises
        ------
        TypeError
            Not a recording.
        ValueError
            Sampling frequency, channels, bad channel ids, duration, a motion of other segments, or samples that are
            not finite.
        """
        if not hasattr(recording, "get_traces") or not hasattr(recording, "get_num_channels"):
            raise TypeError(
                f"expected a SpikeInterface recording, found {type(recording).__name__}; "
                "open files with spikeinterface.load or spikeinterface.extractors, arrays with NumpyRecording"
            )
        self._check_sampling_frequency(float(recording.get_sampling_frequency()))
        channel_ids = self._check_channels(recording)
        num_samples = [recording.get_num_samples(index) for index in range(recording.get_num_segments())]
        needed = self.num_samples(recording.get_sampling_frequency())
        if sum(num_samples) > 0 and max(num_samples) < needed:
            raise ValueError(
                f"expected a segment of at least one snippet ({needed} samples = {self.ms_before + self.ms_after} ms), "
                f"found {max(num_samples)} samples in the longest one; check that the file's axes are (time, channel), "
                "or lower ms_before and ms_after"
            )
        if is_motion_folder(self.motion):
            _check_motion(self.motion, len(num_samples))
        _check_finite(recording, channel_ids)

    def _check_sampling_frequency(self, sampling_frequency: float) -> None:
        if not sampling_frequency >= MIN_SAMPLING_FREQUENCY_HZ:  # written so that NaN is refused too
            raise ValueError(
                f"expected a sampling frequency of at least {MIN_SAMPLING_FREQUENCY_HZ:g} Hz, found "
                f"{sampling_frequency:g} Hz; sort the wide-band recording, not the LFP, and check its unit"
            )
        if self.freq_min_hz >= 0.45 * sampling_frequency:
            raise ValueError(
                f"expected freq_min_hz below {0.45 * sampling_frequency:g} Hz (0.45 of the sampling frequency), found "
                f"{self.freq_min_hz:g} Hz; lower freq_min_hz"
            )

    def _check_channels(self, recording) -> list:
        channel_ids = list(recording.channel_ids)
        unknown = [channel_id for channel_id in self.bad_channel_ids if channel_id not in channel_ids]
        if unknown:
            raise ValueError(
                f"expected bad_channel_ids among the recording's channels {_shorten(channel_ids)}, found {unknown}; "
                "take them from recording.channel_ids"
            )
        kept = [channel_id for channel_id in channel_ids if channel_id not in self.bad_channel_ids]
        if not kept:
            raise ValueError(
                f"expected at least one channel to sort, found {len(channel_ids)} channels of which "
                f"{len(self.bad_channel_ids)} are in bad_channel_ids; give a recording with channels"
            )
        return kept


def is_motion_folder(value) -> bool:
    """Whether a value of `motion` is the folder of a saved Motion.

    Parameters
    ----------
    value : object
        Presets and None are not.

    Returns
    -------
    bool
    """
    return isinstance(value, str) and (Path(value) / "displacement_seg0.npy").is_file()


def _check_motion(folder: str, num_segments: int) -> None:
    """Raise ValueError where a saved Motion is not of a recording of so many segments."""
    found = len(list(Path(folder).glob("displacement_seg*.npy")))
    if found != num_segments:
        raise ValueError(
            f"expected the motion of {num_segments} segments, found {found} in {folder}; estimate it on this recording"
        )


def _check_finite(recording, channel_ids: list) -> None:
    """Raise ValueError for the first NaN or infinite sample of a float recording; reads it once, in chunks."""
    if recording.get_dtype().kind != "f":
        return
    chunk = max(1, FINITE_CHECK_BYTES // (recording.get_dtype().itemsize * len(channel_ids)))
    for segment_index in range(recording.get_num_segments()):
        for start in range(0, recording.get_num_samples(segment_index), chunk):
            end = min(start + chunk, recording.get_num_samples(segment_index))
            traces = recording.get_traces(segment_index, start, end, channel_ids=channel_ids)
            if np.isfinite(traces.sum(dtype="float64")):  # one number tells for the whole chunk, without a mask
                continue
            found = np.argwhere(~np.isfinite(traces))
            if len(found) == 0:  # finite samples so large that their sum is not
                continue
            sample, channel = found[0]
            raise ValueError(
                f"expected finite samples, found {traces[sample, channel]} in segment {segment_index} at sample "
                f"{start + sample} of channel {_plain(channel_ids[channel])!r}; cut it out, replace it by noise "
                "(silence_periods of spikeinterface.preprocessing, mode='noise') or name the channel in bad_channel_ids"
            )


def _is_number(value) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))


def _is_whole(value) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_positive(value) -> bool:
    return _is_number(value) and value > 0


def _is_count(value) -> bool:
    return _is_whole(value) and value >= 1


# field -> whether a value is valid, and what to say where it is not
_VALID = {
    **dict.fromkeys(
        ("freq_min_hz", "freq_max_hz", "detect_threshold", "radius_um", "ms_before", "ms_after"),
        (_is_positive, "a number above 0"),
    ),
    **dict.fromkeys(("min_unit_spikes", "max_fit_spikes", "max_dimensions"), (_is_count, "a whole number from 1 on")),
    **dict.fromkeys(
        ("exclude_sweep_ms", "unit_threshold"), (lambda value: _is_number(value) and value >= 0, "a number from 0 on")
    ),
    "merge_bias": (_is_number, "a finite number"),
    "peak_sign": (lambda value: value in ("neg", "pos", "both"), '"neg", "pos" or "both"'),
    "motion": (
        lambda value: value is None or value in ("auto", *MOTION_PRESETS) or is_motion_folder(value),
        f'None, "auto", one of {MOTION_PRESETS} or a folder that Motion.save of SpikeInterface wrote',
    ),
    "detection": (lambda value: value in DETECTION_METHODS, f"one of {DETECTION_METHODS}"),
    "matching": (lambda value: value is None or value in MATCHING_METHODS, f"None or one of {MATCHING_METHODS}"),
    "template_interval_s": (lambda value: value is None or _is_positive(value), "None or a number above 0"),
    "num_units": (lambda value: value is None or _is_count(value), "None or a whole number from 1 on"),
    "common_reference": (lambda value: value is None or isinstance(value, bool), "None, True or False"),
    **dict.fromkeys(("denoise", "adapt"), (lambda value: isinstance(value, bool), "True or False")),
    "preset": (lambda value: value is None or value in tuple(PRESETS), f"None or one of {tuple(PRESETS)}"),
    "seed": (lambda value: _is_whole(value) and value >= 0, "a whole number from 0 on"),
}


def _as_tuple(value) -> tuple:
    if value is None:
        return ()
    return (value,) if isinstance(value, str | int | np.integer) else tuple(value)


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value


def _shorten(values: list, num_shown: int = 8) -> str:
    shown = ", ".join(repr(_plain(value)) for value in values[:num_shown])
    return f"[{shown}{', ...' if len(values) > num_shown else ''}]"
