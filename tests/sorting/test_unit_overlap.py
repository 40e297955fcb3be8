import numpy as np
import pytest
from stand_in import as_recording

from huidurep.sorting.preprocessing import PreparedGroup
from huidurep.sorting.unit_overlap import OverlapSettings, measure_overlap

NUM_CHANNELS, NUM_SAMPLES, NOISE_UV = 12, 90, 8.0


def group_on_a_column():
    recording = as_recording(np.zeros((1000, NUM_CHANNELS), dtype="float32"))
    recording.set_dummy_probe_from_locations(np.column_stack([np.zeros(NUM_CHANNELS), 40.0 * np.arange(NUM_CHANNELS)]))
    noise_uv = np.full(NUM_CHANNELS, NOISE_UV)
    return PreparedGroup(name=0, recording=recording, segment_indices=np.array([0]), noise_levels_uv=noise_uv)


def template(channel, height_uv, lag=0):
    made = np.zeros((NUM_SAMPLES, NUM_CHANNELS))
    made[30 + lag : 36 + lag, channel] = -height_uv * np.array([0.3, 0.8, 1.0, 0.7, 0.3, 0.1])
    return made


def overlap_of(templates_uv, centres_of_units, embedding_of_units, num_spikes=200, **options):
    unit_index = np.repeat(np.arange(len(templates_uv)), num_spikes)
    noise = np.random.default_rng(1).normal(0, 1, (len(unit_index), 4))
    embeddings = (np.array(embedding_of_units, dtype=float)[unit_index, None] + noise).astype("float32")
    centres = np.array(centres_of_units)[unit_index]
    return measure_overlap(group_on_a_column(), np.array(templates_uv), embeddings, unit_index, centres, **options)


def test_units_that_share_embeddings_overlap_and_others_do_not():
    heights = [template(2, 100.0), template(2, 300.0), template(2, 600.0)]
    found = overlap_of(heights, [2, 2, 2], [0.0, 0.2, 30.0])
    assert found.neighbours[:2].tolist() == [1, 0] and (found.neighbour_shares[:2] > 0.3).all()
    assert found.neighbour_shares[2] == 0.0
    assert found.to_properties(0.1)["overlapping_unit"] == [1, 0, 1]  # the third by its template


def test_embeddings_around_different_channels_are_not_compared():
    found = overlap_of([template(2, 100.0), template(3, 100.0)], [2, 3], [0.0, 0.0])
    assert found.neighbour_shares.tolist() == [0.0, 0.0] and found.neighbours.tolist() == [-1, -1]


def test_templates_are_compared_at_their_best_lag_in_noise_levels():
    one, late, far = template(2, 100.0), template(2, 140.0, lag=5), template(11, 100.0)
    found = overlap_of([one, late, far], [2, 2, 11], [0.0, 9.0, 0.0])
    expected = np.linalg.norm(template(2, 40.0)) / NOISE_UV
    np.testing.assert_allclose(found.template_distances[:2], expected)
    assert found.similar_units.tolist() == [1, 0, -1] and np.isnan(found.template_distances[2])
    strict = overlap_of([one, late], [2, 2], [0.0, 9.0], settings=OverlapSettings(max_lag_ms=0.01))
    assert strict.template_distances[0] > 1.5 * expected


@pytest.mark.parametrize("num_spikes", [1, 3])
def test_few_spikes(num_spikes):
    found = overlap_of([template(2, 100.0), template(2, 100.0)], [2, 2], [0.0, 0.0], num_spikes=num_spikes)
    assert found.neighbour_shares.tolist() == [0.0, 0.0] and found.template_distances.tolist() == [0.0, 0.0]


def test_a_fragment_does_not_count_against_a_large_unit():
    unit_index = np.repeat([0, 1], [200, 10])
    templates_uv = np.array([template(2, 100.0), template(2, 110.0)])
    embeddings = np.random.default_rng(0).normal(0, 1, (210, 4)).astype("float32")
    found = measure_overlap(group_on_a_column(), templates_uv, embeddings, unit_index, np.array([2] * 200 + [3] * 10))
    assert np.isnan(found.template_distances[0]) and found.similar_units.tolist() == [-1, 0]
