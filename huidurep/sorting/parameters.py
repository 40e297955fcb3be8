"""The parameters of a sorting: checked when made, and checked against the recording before anything is computed."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import numpy as np
from pydantic import BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

MIN_SAMPLING_FREQUENCY_HZ = 5000.0  # below it the trough of a spike falls between two samples
MAX_SAMPLING_FREQUENCY_HZ = 1e6  # ten times that of any amplifier
LOWEST_CUTOFF_HZ = 100.0
MAX_CUTOFF_RATIO = 0.45  # of the sampling frequency: closer to the Nyquist frequency, the band-pass is unstable
MAX_SAMPLE_UV = 1e15  # squares of larger ones overflow float32
CHUNK_BYTES = 64 * 2**20  # read at a time by the search for samples that are not finite
MotionPreset = Literal[
    "dredge", "dredge_fast", "nonrigid_accurate", "nonrigid_fast_and_accurate", "rigid_fast", "kilosort_like"
]
MOTION_PRESETS = get_args(MotionPreset)
PAPER = "paper"
Checked = TypeVar("Checked")
# preset -> the parameters that it fixes; all others stay as given, or as they ship with the checkpoint
PRESETS: dict[str, dict[str, Any]] = {PAPER: dict(detection="locally_exclusive", motion=None, matching=None)}


def is_motion_folder(value: object) -> bool:
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


def _check_motion(value: object) -> object:
    value = str(value) if isinstance(value, Path) else value
    if value is None or (isinstance(value, str) and value in ("auto", *MOTION_PRESETS)) or is_motion_folder(value):
        return value
    raise ValueError(
        f'expected motion to be None, "auto", one of {MOTION_PRESETS} or a folder that Motion.save of SpikeInterface '
        f"wrote, found {value!r}; change motion"
    )


def _check_peak_sign(value: object) -> object:
    if value == "both":
        raise ValueError(
            'expected peak_sign to be "auto", "neg" or "pos", found "both"; "auto" looks at both signs and counts each '
            "spike once"
        )
    return value


def _as_tuple(value: Any) -> tuple:
    """Channel ids as plain values; a single one may be given bare."""
    if value is None:
        return ()
    ids = (value,) if isinstance(value, str | int) else value
    ids = tuple(_plain(channel_id) for channel_id in ids) if isinstance(ids, Iterable) else (None,)
    if not all(isinstance(channel_id, str | int) and not isinstance(channel_id, bool) for channel_id in ids):
        # True and False equal 1 and 0: a mask would leave out these channels
        raise ValueError(
            f"expected bad_channel_ids to be channel ids, text or whole numbers, found {value!r}; give "
            "recording.channel_ids[mask] for a mask"
        )
    return ids


def _as_times(value: Any) -> tuple:
    """Times in ascending order; a tuple of them for each segment where several are given."""
    is_list = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
    values = () if value is None else tuple(_plain(each) for each in value) if is_list else None
    if values is not None and any(isinstance(each, Iterable) for each in values):
        return tuple(_as_times(each) for each in values)
    # True and False are numbers to Python: a mask of samples would be artefacts at 0 and 1 s
    if values is None or not all(type(each) in (int, float) and np.isfinite(each) for each in values):
        raise ValueError(
            "expected artifact_times_s to be times in seconds, or one list of them for each segment, found "
            f"{value!r}; change artifact_times_s"
        )
    return tuple(sorted(float(each) for each in values))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _one_sentence_errors(cls: type[Checked]) -> type[Checked]:
    """Class decorator: values are checked by pydantic, and errors are one sentence with expected, found, remedy."""
    check_values: Any = cls.__init__

    @functools.wraps(check_values)
    def __init__(self: Checked, **values: Any) -> None:
        _check_names(cls, values)
        values = {name: _plain(value) for name, value in values.items()}  # pydantic knows no numpy scalars
        fixed = PRESETS.get(values["preset"], {}) if isinstance(values.get("preset"), str) else {}
        for name, value in fixed.items():
            if values.setdefault(name, value) != value:
                raise ValueError(
                    f"expected {name}={value!r}, which preset={values['preset']!r} sets, found {values[name]!r}; leave "
                    f"out {name} or the preset"
                )
        try:
            check_values(self, **values)
        except ValidationError as error:
            raise ValueError(_first_error(cls, error)) from None

    cls.__init__ = __init__  # type: ignore[method-assign,assignment]
    return cls


def _check_names(cls: type, values: dict) -> None:
    valid = [field.name for field in fields(cls)]
    for name in values:
        if name not in valid:
            nearest = difflib.get_close_matches(name, valid, n=1, cutoff=0.0)[0]
            raise TypeError(
                f"unknown sorting parameter {name!r}: expected one of {', '.join(valid)}; did you mean {nearest!r}?"
            )


def _of_this_version(saved: dict[str, Any]) -> dict[str, Any]:
    """Parameters that an earlier version may have saved, without those that were removed."""
    values = {name: value for name, value in saved.items() if name != "adapt"}
    return {**values, "peak_sign": "auto"} if values.get("peak_sign") == "both" else values


def _first_error(cls: Any, error: ValidationError) -> str:
    """The first of pydantic's complaints, as one sentence."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":  # raised by a check of ours
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    expected = first["msg"].removeprefix("Input should be ")
    if type(None) in get_args(cls.__pydantic_fields__[name].annotation):
        expected = f"None or {expected}"
    return f"expected {name} to be {expected}, found {first['input']!r}; change {name}"


Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


@_one_sentence_errors
@dataclass(
    frozen=True,
    kw_only=True,
    config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True),
)
class SortingParameters:
    """What a user sets about a sorting. Immutable; each field is described below its default.

    `describe` gives the descriptions, which are also those of `run_sorter` and of the command line. Numbers that were
    tuned once for all probes are not here but in the settings of each stage
    (:class:`huidurep.sorting.stage_settings.StageSettings`).

    Raises
    ------
    TypeError
        Unknown name; the message names the nearest valid one.
    ValueError
        A value outside its range, one that `preset` sets otherwise, or a preset without `num_units`.
    """

    freq_min_hz: Positive = 300.0
    """Lower edge of the band-pass filter."""
    freq_max_hz: Positive = 6000.0
    """Upper edge of the band-pass filter; lowered where the recording's sampling frequency demands it."""
    common_reference: bool | None = None
    """Subtract the median over the channels of a group. None: in groups of 32 channels or more."""
    motion: Annotated[str | None, BeforeValidator(_check_motion)] = "auto"
    """Motion correction before detection, by a preset of SpikeInterface's correct_motion. "auto": "dredge_fast", on
    shanks of 32 channels or more, at most 60 um wide, recorded for 30 s or longer. The folder of a saved Motion: that
    motion, on every probe. None: no motion correction."""
    detection: Literal["locally_exclusive", "matched_filtering"] = "locally_exclusive"
    """Peak detection method of SpikeInterface: threshold crossings of the traces, or of the traces after a matched
    filter with the median shape of the recording's own large spikes, which also finds spikes close to the noise. Both
    give the sample and the channel of the trough."""
    detect_threshold: Positive = 4.5
    """Detection threshold, in noise levels (median absolute deviation / 0.6745) of the channel, or of the output of the
    matched filter."""
    peak_sign: Annotated[Literal["auto", "neg", "pos"], BeforeValidator(_check_peak_sign)] = "auto"
    """Sign of the deflections that are detected as spikes. "auto": down, up or both, as the data of each channel group
    show; each spike counts once, at its largest deflection, and a unit has one sign. "neg", "pos": only these."""
    exclude_sweep_ms: NotNegative = 0.3
    """Within this time and within radius_um, only the largest peak is detected."""
    radius_um: Positive = 75.0
    """Within this distance and within exclude_sweep_ms, only the largest peak is detected. Groups of 4 channels or
    fewer count as one site, whatever their distances."""
    ms_before: Positive = 1.0
    """Length of a snippet before its peak."""
    ms_after: Positive = 2.0
    """Length of a snippet after its peak."""
    num_units: Count | None = None
    """Number of units in each channel group. None: estimated from the data."""
    unit_threshold: NotNegative = 0.0
    """Smallest median amplitude of a unit's detected spikes, in noise levels as detect_threshold; units below it are
    removed. Noise peaks crowd just above detect_threshold, so that a slightly larger value removes clusters of noise.
    When num_units is given, peaks below it are not detected either."""
    merge_bias: float = 0.0
    """Shifts the merge criterion: above 0 merges more, below 0 splits more."""
    min_unit_spikes: Count = 30
    """Smallest number of spikes of a unit; smaller units are removed, unless num_units is given."""
    max_fit_spikes: Count = 20000
    """Maximum number of spikes to which the mixture model is fitted, drawn at random."""
    max_dimensions: Count = 20
    """Maximum number of principal components of the embeddings that are clustered."""
    denoise: bool = False
    """Embed snippets after the model's decoder has denoised them."""
    matching: Literal["wobble", "tdc-peeler", "circus-omp"] | None = "wobble"
    """Template matching method of SpikeInterface, which resolves overlapping spikes and finds missed ones. None: the
    detected spikes with the labels of clustering."""
    template_interval_s: Positive | None = 60.0
    """Duration for which one set of templates is used in matching. None: the whole recording."""
    preset: Literal["paper"] | None = None
    """Named set of parameters. "paper" clusters as the paper did, for comparison: a Gaussian mixture of num_units
    (required) components with full covariances, fitted to the embeddings of a group. No motion correction and no
    template matching; nothing is merged or removed afterwards. Groups have at most as many channels as the model
    takes."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Seed of preset="paper" and of what is drawn on large groups. The units of a tetrode depend on the data alone, and
    the same seed always gives the same result."""
    bad_channel_ids: Annotated[tuple, BeforeValidator(_as_tuple)] = ()
    """Channels of the recording to leave out. Flat, duplicated and noisy channels are found automatically."""
    artifact_times_s: Annotated[tuple, BeforeValidator(_as_times)] = ()
    """Times of artefacts, such as the triggers of a stimulator, in seconds as the recording counts them
    (recording.get_times). From 0.5 ms before to 2 ms after each, and longer where the traces have not returned, nothing
    is a spike. For a recording of several segments, one list of times for each. Pulses with steep edges or beyond 3 mV,
    jumps of the offset and blanks are found automatically."""

    def __post_init__(self) -> None:
        if self.freq_min_hz < LOWEST_CUTOFF_HZ:
            raise ValueError(
                f"expected freq_min_hz of at least {LOWEST_CUTOFF_HZ:g}, below which SpikeInterface does not filter in "
                f"chunks, found {self.freq_min_hz}; raise it"
            )
        if self.freq_min_hz >= self.freq_max_hz:
            raise ValueError(
                f"expected freq_min_hz below freq_max_hz, found {self.freq_min_hz} and {self.freq_max_hz}; "
                "exchange or change them"
            )
        if self.preset == PAPER and self.num_units is None:
            raise ValueError(
                "expected num_units with preset='paper', whose mixture does not estimate the number of units, found "
                "None; give it, as in num_units=10"
            )

    @classmethod
    def describe(cls) -> dict[str, str]:
        """What each parameter means.

        Returns
        -------
        dict of str to str
            Name and description of every field, in order.
        """
        described = cls.__pydantic_fields__  # type: ignore[attr-defined]
        return {name: " ".join((field.description or "").split()) for name, field in described.items()}

    @classmethod
    def combine(cls, defaults: dict, given: dict) -> SortingParameters:
        """Parameters that ship with a checkpoint, overridden by those that a user gave and by their preset.

        Parameters
        ----------
        defaults : dict
            Fields beside the checkpoint; may be empty.
        given : dict
            Fields that the user gave.

        Returns
        -------
        SortingParameters

        Raises
        ------
        TypeError, ValueError
            As the class.
        """
        return cls(**{**_of_this_version(defaults), **PRESETS.get(given.get("preset") or "", {}), **given})

    def to_dict(self) -> dict[str, Any]:
        """The parameters as plain values, ready for JSON.

        Returns
        -------
        dict
            One entry per field.
        """
        times_s = [list(each) if isinstance(each, tuple) else each for each in self.artifact_times_s]
        values = asdict(self)  # type: ignore[call-overload]
        return {**values, "bad_channel_ids": list(self.bad_channel_ids), "artifact_times_s": times_s}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SortingParameters:
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
        TypeError, ValueError
            As the class.
        """
        return cls(**_of_this_version(values))

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

    def trigger_samples(self, recording: Any, segment_indices: np.ndarray) -> tuple[np.ndarray, ...]:
        """Samples of `artifact_times_s`.

        Parameters
        ----------
        recording : BaseRecording
            With the given segments only.
        segment_indices : ndarray of int, (num_segments,)
            Index of each in the recording that is sorted.

        Returns
        -------
        tuple of ndarray of int64
            One per segment; empty without times.
        """
        by_segment = _times_of_segments(self.artifact_times_s)
        return tuple(
            np.asarray(recording.time_to_sample_index(np.array(by_segment[index]), segment_index=number), dtype="int64")
            for number, index in enumerate(segment_indices.tolist() if by_segment else ())
        )

    def check_recording(self, recording: Any, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        """Refuse what cannot be sorted. A recording without any sample is accepted: its sorting is empty.

        Parameters
        ----------
        recording : BaseRecording
            SpikeInterface recording. Float samples are read once, to find those that are not finite.
        chunk_bytes : int
            Bytes of traces that are read at a time.

        Raises
        ------
        TypeError
            Not a recording.
        ValueError
            Sampling frequency, type of the samples, channels, bad channel ids, duration, a motion or times of artefacts
            of other segments, or samples that are not finite.
        """
        if not hasattr(recording, "get_traces") or not hasattr(recording, "get_num_channels"):
            raise TypeError(
                f"expected a SpikeInterface recording, found {type(recording).__name__}; "
                "open files with spikeinterface.load or spikeinterface.extractors, arrays with NumpyRecording"
            )
        self._check_sampling_frequency(float(recording.get_sampling_frequency()))
        if recording.get_dtype().kind not in "iuf":
            raise ValueError(
                f"expected samples that are real numbers, found {recording.get_dtype()}; give the voltages, of complex "
                "samples their real part, as in spikeinterface.preprocessing.astype(recording, 'float32')"
            )
        channel_ids = self._check_channels(recording)
        num_samples = [recording.get_num_samples(index) for index in range(recording.get_num_segments())]
        needed = self.num_samples(recording.get_sampling_frequency())
        if sum(num_samples) > 0 and max(num_samples) < needed:
            raise ValueError(
                f"expected a segment of at least one snippet ({needed} samples = {self.ms_before + self.ms_after} ms), "
                f"found {max(num_samples)} samples in the longest one; check that the file's axes are (time, channel), "
                "or lower ms_before and ms_after"
            )
        if self.motion is not None and is_motion_folder(self.motion):
            _check_motion_segments(self.motion, len(num_samples))
        _check_artifact_times(self.artifact_times_s, recording)
        _check_finite(recording, channel_ids, chunk_bytes)

    def check_groups(self, groups: list, num_model_channels: int) -> None:
        """Refuse channel groups that a preset cannot sort, before anything is computed.

        Parameters
        ----------
        groups : list of ChannelGroup
            Channel groups to sort.
        num_model_channels : int
            Number of channels that the model takes.

        Raises
        ------
        ValueError
            "paper" on a group with more channels: the channels of a snippet depend on its peak there, so that one
            mixture cannot hold all snippets.
        """
        for group in groups:
            found = group.recording.get_num_channels()
            if self.preset == PAPER and found > num_model_channels:
                raise ValueError(
                    f"expected groups of at most {num_model_channels} channels, which the model takes, for "
                    f"preset='paper' fits one mixture to all spikes of a group; found {found} in group {group.name}; "
                    "leave the preset out, or split the recording by the property 'group'"
                )

    def _check_sampling_frequency(self, sampling_frequency: float) -> None:
        # written so that NaN is refused too
        if not MIN_SAMPLING_FREQUENCY_HZ <= sampling_frequency <= MAX_SAMPLING_FREQUENCY_HZ:
            raise ValueError(
                f"expected a sampling frequency of at least {MIN_SAMPLING_FREQUENCY_HZ:g} Hz and at most "
                f"{MAX_SAMPLING_FREQUENCY_HZ:g} Hz, found {sampling_frequency:g} Hz; sort the wide-band recording, not "
                "the LFP, and check its unit"
            )
        if self.freq_min_hz >= MAX_CUTOFF_RATIO * sampling_frequency:
            raise ValueError(
                f"expected freq_min_hz below {MAX_CUTOFF_RATIO * sampling_frequency:g} Hz ({MAX_CUTOFF_RATIO} of the "
                f"sampling frequency), found {self.freq_min_hz:g} Hz; lower freq_min_hz"
            )

    def _check_channels(self, recording: Any) -> list:
        """The channel ids that are not bad."""
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


# help() does not show the docstrings of fields
_DESCRIBED = "".join(f"\n    {name}\n        {text}" for name, text in SortingParameters.describe().items())
SortingParameters.__doc__ = f"{SortingParameters.__doc__}\n    Parameters\n    ----------{_DESCRIBED}\n"


def _check_motion_segments(folder: str, num_segments: int) -> None:
    """Raise ValueError where a saved Motion is of another number of segments."""
    found = len(list(Path(folder).glob("displacement_seg*.npy")))
    if found != num_segments:
        raise ValueError(
            f"expected the motion of {num_segments} segments, found {found} in {folder}; estimate it on this recording"
        )


def _times_of_segments(times_s: tuple) -> tuple:
    """One tuple a segment, none without times."""
    return times_s if not times_s or isinstance(times_s[0], tuple) else (times_s,)


def _check_artifact_times(times_s: tuple, recording: Any) -> None:
    """Raise ValueError for times of another number of segments, or outside of their segment."""
    by_segment, num_segments = _times_of_segments(times_s), recording.get_num_segments()
    if by_segment and len(by_segment) != num_segments:
        raise ValueError(
            f"expected artifact_times_s with one list of times for each of the {num_segments} segments, found "
            f"{len(by_segment)}; give an empty list for a segment without artefacts"
        )
    for index, own in enumerate(by_segment):
        first, last = (
            recording.sample_index_to_time(each, segment_index=index)
            for each in (0, recording.get_num_samples(index) - 1)
        )
        wrong = [time_s for time_s in own if not first <= time_s <= last]
        if wrong:
            raise ValueError(
                f"expected artifact_times_s between {first:g} and {last:g} s in segment {index}, found {wrong[0]:g}; "
                "give seconds as recording.get_times counts them"
            )


def _check_finite(recording: Any, channel_ids: list, chunk_bytes: int) -> None:
    """Raise ValueError for the first impossible sample of a float recording; reads it once, in chunks."""
    if recording.get_dtype().kind != "f":
        return
    gains = recording.get_channel_gains(channel_ids=channel_ids) if recording.has_scaleable_traces() else 1.0
    # impossible gains are refused later, for their own reason
    limit = MAX_SAMPLE_UV / np.clip(np.nan_to_num(np.abs(gains)), 1.0, 1e12).max()
    chunk = max(1, chunk_bytes // (recording.get_dtype().itemsize * len(channel_ids)))
    for segment_index in range(recording.get_num_segments()):
        for start in range(0, recording.get_num_samples(segment_index), chunk):
            end = min(start + chunk, recording.get_num_samples(segment_index))
            traces = recording.get_traces(segment_index, start, end, channel_ids=channel_ids)
            if max(-traces.min(), traces.max()) <= limit:  # False with NaN; tests the chunk without a mask
                continue
            sample, channel = np.argwhere(~(np.abs(traces) <= limit))[0]
            raise ValueError(
                f"expected finite samples below {limit:.3g}, found {traces[sample, channel]} in segment "
                f"{segment_index} at sample {start + sample} of channel {_plain(channel_ids[channel])!r}; cut it out, "
                "replace it by noise (silence_periods of spikeinterface.preprocessing, mode='noise') or name the "
                "channel in bad_channel_ids"
            )


def _shorten(values: list, num_shown: int = 8) -> str:
    shown = ", ".join(repr(_plain(value)) for value in values[:num_shown])
    return f"[{shown}{', ...' if len(values) > num_shown else ''}]"
