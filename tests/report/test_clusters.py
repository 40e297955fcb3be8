import dataclasses

import numpy as np
from synthetic_result import synthetic

from huidurep.report.clusters import draw_spikes, embedding_plane, find_overlapping, find_views, peaks_on, unit_colors
from huidurep.report.settings import ReportSettings


def test_small_groups_are_drawn_as_a_whole_and_units_of_large_ones_with_their_neighbours():
    result = synthetic(8, 40)
    views = find_views(result, result.measurements)
    assert {view.units for view in views} == {tuple(range(8))}
    assert all(len(view.contacts) == 4 and len(view.pairs) == 6 for view in views)
    small = ReportSettings(max_shared_units=7, num_view_units=3)
    views = find_views(result, result.measurements, settings=small)
    # two units on each contact; unit 0 overlaps with all of the others
    assert views[7].units == (0, 6, 7) and views[7].contacts[0] == result.measurements.template_channels[7, 0]
    assert result.measurements.template_channels[0, 0] in views[7].contacts
    assert {len(view.units) for view in views} == {3}
    bare = find_views(result, None)
    assert bare[0].units == tuple(range(8)) and bare[0].pairs == []


def test_overlapping_units_are_found_by_their_names():
    assert find_overlapping(synthetic(3, 20)) == [1, 0, 0] and find_overlapping(synthetic(1, 20)) == [-1]
    named = synthetic(2, 20, unit_ids=["x", "1"])
    named.sorting.set_property("overlapping_unit", np.array(["1", "gone"]))
    assert find_overlapping(named) == [1, -1]
    named.sorting.delete_property("overlapping_unit")
    assert find_overlapping(named) == [-1, -1]


def test_drawn_spikes_are_of_their_unit_and_point_up():
    result = synthetic(4, 100)
    units = result.sorting.to_spike_vector()["unit_index"]
    for unit, drawn in enumerate(draw_spikes(result, result.measurements, 20)):
        assert len(drawn.rows) == 20 and (units[drawn.rows] == unit).all()
        main = result.measurements.template_channels[unit, 0]
        peak_uv = -result.sorting.get_property("peak_uv")[unit]
        assert abs(np.median(peaks_on(result.measurements, drawn, unit, main)) / peak_uv - 1) < 0.4
        assert peaks_on(result.measurements, drawn, unit, 999) is None
    old = dataclasses.replace(result.measurements, drawn_spikes=None, contact_peaks_uv=None)
    for unit, drawn in enumerate(draw_spikes(result, old, 20)):
        assert len(drawn.rows) == 20 and (units[drawn.rows] == unit).all() and drawn.peaks_uv is None


def test_plane_separates_what_principal_components_do_not():
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(3), 100)
    points = rng.normal(0, [6, 6, 1, 1], (300, 4))
    points[:, 2:] += 8 * np.array([[0, 0], [1, 0], [0, 1]])[owners]
    plane = embedding_plane(points, owners, shrinkage=0.1)
    centres = np.stack([plane[owners == unit].mean(axis=0) for unit in range(3)])
    distances = np.linalg.norm(centres[:, None] - centres, axis=2)[np.triu_indices(3, 1)]
    assert distances.min() > 4 and plane[owners == 0].std(axis=0).max() < 2
    for few in (points[:1], points[:0], points[:, :1]):
        assert embedding_plane(few, np.zeros(len(few)), shrinkage=0.1).shape == (len(few), 2)


def test_units_of_results_without_measurements_have_colors():
    assert len(set(unit_colors(synthetic(8, 20), None))) == 8
