"""Ground-truth recordings: units on a probe, their spike trains, drift and correlated noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.signal import butter, lfilter, sosfilt

from .probes import contact_layout
from .templates import UnitTemplates, draw_templates

if TYPE_CHECKING:
    from probeinterface import Probe
    from spikeinterface import BaseRecording, BaseSorting

BAND_HZ = (300.0, 6000.0)  # in which `noise_uv` is the standard deviation
DRIFT_STEP_UM = 1.0  # between the templates that are interpolated
DRIFT_RATE_HZ = 10.0  # at which drift is sampled
SPIKE_GAIN_JITTER = 0.05
UM_PER_UNIT = {"um": 1.0, "mm": 1e3, "m": 1e6}  # si_units of probeinterface
TRAIN_REFRACTORY_MS = 3.0


def simulate_recording(
    *,
    probe: str | Probe = "tetrode",
    num_units: int = 10,
    duration_s: float = 60.0,
    noise_uv: float = 8.0,
    drift_um: float = 0.0,
    amplitude_range_uv: tuple[float, float] = (40.0, 300.0),
    sampling_frequency: float = 30000.0,
    seed: int = 0,
) -> tuple[BaseRecording, BaseSorting]:
    """Simulate a recording with known units (procedural neurons, SpikeInterface spike trains and injection).

    Parameters
    ----------
    probe : str or probeinterface.Probe, default "tetrode"
        ``"tetrode"``, ``"linear-N"`` (N contacts, 20 um apart) or a probe; one in mm or m comes back in um.
    num_units, duration_s : int and float, default 10 and 60.0
    noise_uv : float, default 8.0
        Standard deviation between 300 and 6000 Hz.
    drift_um : float, default 0.0
        Peak-to-peak drift along the probe, a slow sine.
    amplitude_range_uv : tuple of float
        Largest negative peak of a unit before filtering.
    sampling_frequency : float, default 30000.0 (Hz)
    seed : int, default 0

    Returns
    -------
    recording : spikeinterface.BaseRecording
        In memory, float32, in uV.
    sorting : spikeinterface.BaseSorting
        The truth, with the unit property ``peak_uv``.

    Raises
    ------
    ValueError
        If a value is impossible, or too few units fall into the amplitude range.
    """
    _check_numbers(num_units, duration_s, noise_uv, drift_um, sampling_frequency)
    rng, made_probe = np.random.default_rng(seed), _make_probe(probe)
    along = _drift_steps(drift_um)
    options: dict[str, Any] = dict(amplitude_range_uv=amplitude_range_uv, sampling_frequency=sampling_frequency)
    displacements_um = np.stack([0 * along, 0 * along, along], 1)
    units = draw_templates(rng, made_probe.contact_positions, num_units, displacements_um=displacements_um, **options)
    sorting = _draw_trains(rng, num_units, duration_s, sampling_frequency)
    noise = _noise(rng, made_probe, int(duration_s * sampling_frequency), noise_uv, sampling_frequency)
    gains = (1 + SPIKE_GAIN_JITTER * rng.standard_normal(sorting.count_total_num_spikes())).astype(np.float32)
    recording = _inject(sorting, units, along, noise, gains, _drift(duration_s, drift_um))
    sorting.set_property("peak_uv", -units.waveforms[:, 0].min((1, 2)))
    return recording, sorting


def _check_numbers(
    num_units: int, duration_s: float, noise_uv: float, drift_um: float, sampling_frequency: float
) -> None:
    is_finite = np.isfinite([duration_s, noise_uv, drift_um, sampling_frequency]).all()
    if not is_finite or num_units < 1 or duration_s <= 0 or noise_uv < 0 or drift_um < 0:
        raise ValueError(
            "expected num_units >= 1, duration_s > 0, noise_uv >= 0 and drift_um >= 0, finite ones, found "
            f"{num_units}, {duration_s}, {noise_uv} and {drift_um}: correct them."
        )
    if sampling_frequency < 4 * BAND_HZ[0] or duration_s * sampling_frequency < 1:
        raise ValueError(
            f"expected a sampling_frequency of at least {4 * BAND_HZ[0]:g} Hz and one sample or more, found "
            f"{sampling_frequency:g} Hz and {duration_s * sampling_frequency:g} samples: correct them."
        )


def _drift_steps(drift_um: float) -> np.ndarray:
    """Drift along the probe (um) at which templates are made; 0 first, as draw_templates requires."""
    along = np.arange(0, drift_um / 2 + DRIFT_STEP_UM / 2, DRIFT_STEP_UM)
    return np.concatenate([along, -along[:0:-1]])


def _draw_trains(rng: np.random.Generator, num_units: int, duration_s: float, sampling_frequency: float) -> BaseSorting:
    """Spike trains of log-normal rates around 6 Hz, with a refractory period."""
    from spikeinterface.core import generate_sorting

    rates = rng.lognormal(np.log(6), 0.5, num_units).clip(1, 30)
    return generate_sorting(
        num_units=num_units,
        sampling_frequency=sampling_frequency,
        durations=[duration_s],
        firing_rates=list(rates),
        refractory_period_ms=TRAIN_REFRACTORY_MS,
        seed=int(rng.integers(2**31)),
    )


def _inject(
    sorting: BaseSorting,
    units: UnitTemplates,
    along: np.ndarray,
    noise: BaseRecording,
    gains: np.ndarray,
    drift: np.ndarray,
) -> BaseRecording:
    """Recording of the noise and of every spike: its unit's template, displaced by the drift at the spike's time."""
    from spikeinterface.generation.drift_tools import DriftingTemplates, InjectDriftingTemplatesRecording

    order, probe = along.argsort(), noise.get_probe()
    drifting = DriftingTemplates.from_precomputed_templates(
        units.waveforms[:, order].swapaxes(0, 1),
        np.stack([0 * along, along[order]], 1),
        units.sampling_frequency,
        units.peak_index,
        probe,
    )
    recording = InjectDriftingTemplatesRecording(
        sorting,
        drifting,
        displacement_vectors=[drift],
        displacement_sampling_frequency=DRIFT_RATE_HZ,
        displacement_unit_factor=np.ones((len(units.waveforms), 1)),
        parent_recording=noise,
        amplitude_factor=gains,
    )
    return _in_microvolts(recording.get_traces().astype(np.float32), units.sampling_frequency, probe)


def _in_microvolts(traces: np.ndarray, sampling_frequency: float, probe: Probe) -> BaseRecording:
    """Recording of traces (num_samples, num_channels) in uV on a probe."""
    from spikeinterface.core import NumpyRecording

    recording: Any = NumpyRecording([traces], sampling_frequency)
    # Since SpikeInterface 0.105 the probe is set in place, before that a new recording came back.
    recording = recording.set_probe(probe) or recording
    recording.set_channel_gains(1.0)
    recording.set_channel_offsets(0.0)
    return recording


def _make_probe(probe: str | Probe) -> Probe:
    import probeinterface

    if isinstance(probe, probeinterface.Probe):
        return _in_micrometres(probe)
    kind, _, count = str(probe).partition("-")
    if kind == "tetrode" and not count:
        made = probeinterface.Probe(ndim=2)
        made.set_contacts(contact_layout("tetrode", 4), shapes="circle", shape_params={"radius": 6})
    elif kind == "linear" and count.isdigit() and int(count) > 0:
        made = probeinterface.generate_linear_probe(int(count), ypitch=20.0)
    else:
        raise ValueError(
            f"expected probe 'tetrode', 'linear-N' or a probeinterface.Probe, found {probe!r}: use one of them."
        )
    made.set_device_channel_indices(np.arange(made.get_contact_count()))
    return made


def _in_micrometres(probe: Probe) -> Probe:
    """The probe with positions in um; the same one where they are."""
    if probe.si_units == "um":
        return probe
    if probe.si_units not in UM_PER_UNIT:
        raise ValueError(f"expected a probe with si_units 'um', 'mm' or 'm', found {probe.si_units!r}: set them.")
    described = probe.to_dict(array_as_list=False)
    described["contact_positions"] = UM_PER_UNIT[probe.si_units] * described["contact_positions"]
    described |= dict(si_units="um", probe_planar_contour=None)
    return type(probe).from_dict(described)


def _drift(duration_s: float, drift_um: float) -> np.ndarray:
    """Drift (num_times, 2, 1) in um at 10 Hz: one and a quarter periods of a sine along the probe."""
    time_s = np.arange(0, duration_s + 2 / DRIFT_RATE_HZ, 1 / DRIFT_RATE_HZ)
    along = 0.5 * drift_um * np.sin(2 * np.pi * 1.25 * time_s / duration_s)
    return np.stack([0 * along, along], 1)[:, :, None]


def _noise(
    rng: np.random.Generator, probe: Probe, num_samples: int, noise_uv: float, sampling_frequency: float
) -> BaseRecording:
    """Recording of low-passed, spatially correlated noise plus white noise."""
    positions = probe.contact_positions
    distance = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    mixing = np.linalg.cholesky(0.6 * np.exp(-distance / 40) + 0.4 * np.eye(len(positions)))
    white = rng.standard_normal((2, num_samples, len(positions)), dtype=np.float32)
    b, a = butter(1, min(1500.0, 0.4 * sampling_frequency), fs=sampling_frequency)
    noise = 1.8 * lfilter(b, a, white[0] @ mixing.T.astype(np.float32), axis=0) + 0.8 * white[1]
    edges = BAND_HZ[0], min(BAND_HZ[1], 0.45 * sampling_frequency)
    band = butter(3, edges, "bandpass", fs=sampling_frequency, output="sos")
    in_band_uv = sosfilt(band, noise[: int(5 * sampling_frequency)], axis=0).std()
    return _in_microvolts((noise * (noise_uv / in_band_uv)).astype(np.float32), sampling_frequency, probe)
