"""Results of sessions with known neurons, from simulated templates, without recordings."""

import numpy as np
from spikeinterface.core.base import minimum_spike_dtype

from huidurep import SortingParameters, SortingResult
from huidurep.simulation.templates import draw_templates
from huidurep.sorting.postprocessing import UnitMeasurements, make_sorting

RATE_HZ = 30000.0
BEFORE, AFTER = 30, 60
MAX_CHANNELS = 16


def column(num_contacts=16, pitch_um=20.0):
    """Contacts of one column."""
    return np.column_stack([np.zeros(num_contacts), pitch_um * np.arange(num_contacts)])


def draw_neurons(num_neurons, shifts_um, *, positions_um=None, seed=0):
    """Templates (num_sessions, num_neurons, num_samples, num_channels) uV of neurons that lie higher by `shifts_um`."""
    positions_um = column() if positions_um is None else positions_um
    moves = np.zeros((len(shifts_um) + 1, 3))
    moves[1:, 2] = shifts_um
    units = draw_templates(
        np.random.default_rng(seed), positions_um, num_neurons, displacements_um=moves, amplitude_range_uv=(80, 400)
    )
    window = slice(units.peak_index - BEFORE, units.peak_index + AFTER)
    return units.waveforms[:, 1:, window].swapaxes(0, 1)


def make_result(templates_uv, positions_um=None, *, unit_ids=None, rate_hz=RATE_HZ, name="", groups=None, seed=0):
    """Result with these templates (num_units, num_samples, num_channels) and random spikes."""
    rng, num_units = np.random.default_rng(seed), len(templates_uv)
    positions_um = column() if positions_um is None else positions_um
    spikes = np.zeros(20 * num_units, dtype=minimum_spike_dtype)
    spikes["unit_index"] = np.tile(np.arange(num_units), 20)
    spikes["sample_index"] = np.sort(rng.integers(100, int(60 * rate_hz), len(spikes)))
    sorting = make_sorting(spikes, rate_hz, np.arange(num_units) if unit_ids is None else np.array(unit_ids), 1)
    groups = np.zeros(len(positions_um), dtype=int) if groups is None else groups
    main = (-templates_uv.min(axis=1)).argmax(axis=1)
    sorting.set_property("main_channel_id", main)
    sorting.set_property("group", groups[main])
    sorting.set_property("quality", np.full(num_units, "good"))
    distances = np.linalg.norm(positions_um[main][:, None] - positions_um[None], axis=2)
    distances += 1e6 * (groups[main][:, None] != groups[None])
    near = np.argsort(distances, axis=1, kind="stable")[:, :MAX_CHANNELS]
    kept = np.take_along_axis(templates_uv, near[:, None, :], axis=2)
    padding = ((0, 0), (0, MAX_CHANNELS - near.shape[1]))
    measurements = UnitMeasurements(
        channel_ids=np.arange(len(positions_um)),
        channel_groups=groups,
        channel_positions_um=positions_um,
        templates_uv=np.pad(kept, ((0, 0), *padding), constant_values=np.nan).astype("float32"),
        template_channels=np.pad(near, padding, constant_values=-1),
        peak_index=np.array(BEFORE),
        amplitudes_uv=np.zeros(len(spikes), "float32"),
        positions_um=np.zeros((len(spikes), 2), "float32"),
        motion_um=np.zeros(len(spikes), "float32"),
    )
    facts = {"sha256": name, "num_samples": [int(60 * rate_hz)], "num_channels": len(positions_um)} if name else {}
    return SortingResult(
        sorting,
        np.zeros((len(spikes), 4), "float32"),
        np.ones(len(spikes), "float32"),
        SortingParameters(),
        measurements=measurements,
        provenance={"recording": facts} if facts else {},
    )
