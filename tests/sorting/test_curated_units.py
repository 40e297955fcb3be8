"""Spikes of curated units, and what is known of units on many channels without their recording."""

import numpy as np
import pytest
from spikeinterface.core import NumpySorting
from spikeinterface.core.base import minimum_spike_dtype
from synthetic_result import synthetic

from huidurep.sorting.curated_units import parts_of_units, recompute_posteriors, trace_spikes


def vector(*spikes):
    """Of (segment, sample, unit)."""
    made = np.zeros(len(spikes), dtype=minimum_spike_dtype)
    made["segment_index"], made["sample_index"], made["unit_index"] = np.array(spikes).T
    return made


def test_coincident_spikes_go_to_the_unit_with_most_in_common():
    earlier = vector((0, 5, 0), (0, 9, 0), (0, 9, 1), (0, 20, 1), (0, 30, 1), (1, 9, 1))
    # unit 0 is unit 1 of before, unit 1 is unit 0; the last spike is of no earlier unit
    spikes = vector((0, 5, 1), (0, 9, 0), (0, 9, 1), (0, 20, 0), (0, 30, 0), (1, 9, 0), (1, 10, 0))
    traced = trace_spikes(earlier, spikes, 2, np.array([0, 0]))
    assert traced.rows.tolist() == [0, 2, 1, 3, 4, 5, -1]
    assert traced.counts.tolist() == [[0, 4], [2, 0]] and traced.is_changed.tolist() == [True, False]
    assert parts_of_units(traced).tolist() == [0]  # a fifth of its spikes is new
    # two curated units that claim one earlier spike: one of them has it
    twice = trace_spikes(earlier, vector((0, 20, 0), (0, 20, 1)), 2, np.array([0, 0]))
    assert sorted(twice.rows.tolist()) == [-1, 3]
    # a spike at the same sample on another tetrode is not the unit's own
    apart = trace_spikes(earlier, vector((0, 9, 0), (0, 20, 0), (0, 30, 0), (0, 5, 0)), 1, np.array([0, 1]))
    assert apart.rows.tolist() == [2, 3, 4, -1] and apart.unit_groups.tolist() == [1]
    assert parts_of_units(apart).tolist() == [0]
    nothing = trace_spikes(earlier[:0], vector((0, 5, 0)), 1, np.zeros(0, dtype="int64"))
    assert nothing.rows.tolist() == [-1] and nothing.is_changed.all() and nothing.unit_groups.tolist() == [-1]


@pytest.mark.parametrize("seed", range(5))
def test_every_earlier_spike_is_used_once(seed):
    rng = np.random.default_rng(seed)
    made = np.unique(
        np.stack([rng.integers(0, 2, 300), rng.integers(0, 60, 300), rng.integers(0, 5, 300)], axis=1), axis=0
    )
    earlier = vector(*made)
    changed = earlier.copy()
    became = np.array([2, 0, 0, 1, 3])  # 1 and 2 merged
    changed["unit_index"] = became[earlier["unit_index"]]
    order = np.lexsort((changed["unit_index"], changed["sample_index"], changed["segment_index"]))
    traced = trace_spikes(earlier, changed[order], 4, np.zeros(5, dtype="int64"))
    assert sorted(traced.rows) == list(range(len(earlier)))
    assert (became[traced.origins] == changed[order]["unit_index"]).all()
    assert traced.is_changed.tolist() == [True, False, False, False]


def test_posteriors_of_units_that_changed():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(centre, 1, (300, 3)) for centre in (0, 10, 10, 50)]).astype("float32")
    units = np.repeat([0, 1, 2, 3], 300)  # 1 and 2 are one cloud
    kept = np.full(1200, 0.25, dtype="float32")
    centres = np.zeros(1200, dtype="int64")
    found = recompute_posteriors(points, kept, units, units, centres, np.array([True, True, False, False]))
    assert (found[units >= 2] == 0.25).all()
    assert found[units == 0].mean() > 0.99 and found[units == 1].mean() == pytest.approx(0.5, abs=0.05)
    # around another channel they are not compared
    centres[units == 2] = 7
    found = recompute_posteriors(points, kept, units, units, centres, np.array([True, True, False, False]))
    assert found[units == 1].mean() > 0.99


def merged(result, *units):
    spikes = result.sorting.to_spike_vector().copy()
    ids = result.sorting.unit_ids
    spikes["unit_index"][np.isin(spikes["unit_index"], units)] = units[0]
    return result.with_sorting(NumpySorting(spikes, result.sorting.sampling_frequency, ids))


def test_merged_units_of_many_channels():
    result = synthetic(60, 40)  # 31 channels; a unit has the 16 nearest to its main channel
    result.sorting.set_property("contamination_p_value", np.ones(60))
    near = merged(result, 20, 22)  # main channels 10 and 11
    place = near.sorting.unit_ids.tolist().index(20)
    assert near.sorting.get_property("main_channel_id")[place] in (10, 11)
    assert near.sorting.get_num_units() == 59 and near.sorting.get_property("num_spikes")[place] == 80
    channels, templates_uv = near.measurements.template_channels[place], near.measurements.templates_uv[place]
    known = set(result.measurements.template_channels[20]) & set(result.measurements.template_channels[22])
    assert set(channels[channels >= 0]) == known and np.isnan(templates_uv[:, channels < 0]).all()
    expected = np.zeros((2, 90, 31))
    for row, unit in enumerate((20, 22)):
        expected[row][:, result.measurements.template_channels[unit]] = result.measurements.templates_uv[unit]
    assert np.allclose(templates_uv[:, channels >= 0], expected.mean(axis=0)[:, channels[channels >= 0]], atol=1e-4)
    others = np.flatnonzero(~np.isin(result.sorting.unit_ids, (20, 22)))
    kept = np.flatnonzero(near.sorting.unit_ids != 20)
    before, after = (each.measurements.templates_uv for each in (result, near))
    assert np.array_equal(before[others], after[kept], equal_nan=True)
    # amplitudes of the unit whose main channel is another one are those of its template there
    spikes = near.sorting.to_spike_vector()["unit_index"] == place
    assert np.median(near.measurements.amplitudes_uv[spikes]) == pytest.approx(
        near.sorting.get_property("peak_uv")[place], rel=0.35
    )
