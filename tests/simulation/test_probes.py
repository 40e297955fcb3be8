"""Windows of contacts: the nominal ones by the probes' data sheets, the random ones as snippets show them."""

import numpy as np
import pytest

from huidurep.simulation.probes import PROBE_TYPES, contact_layout

COUNTS = dict(zip(PROBE_TYPES, (4, 8, 12, 12, 16, 2, 8), strict=True))


def distances(positions):
    return np.linalg.norm(positions[:, None] - positions[None], axis=-1)


def test_nominal_tetrode_is_a_square():
    assert contact_layout("tetrode", 4).tolist() == [[0, 0], [12.5, 0], [0, 12.5], [12.5, 12.5]]
    assert contact_layout("tetrode", 3).shape == (3, 2)


def test_nominal_linear_probe_is_a_column():
    assert contact_layout("linear", 5).tolist() == [[0, 20.0 * row] for row in range(5)]


def test_nominal_neuropixels_1_is_staggered():
    positions = contact_layout("neuropixels-1.0", 12)
    assert positions[:4].tolist() == [[16, 0], [48, 0], [0, 20], [32, 20]]
    assert np.array_equal(positions[4:8], positions[:4] + (0, 40))
    assert positions[:, 1].tolist() == [20.0 * (index // 2) for index in range(12)]


def test_nominal_neuropixels_2_has_two_columns():
    positions = contact_layout("neuropixels-2.0", 12)
    assert positions.tolist() == [[32.0 * (index % 2), 15.0 * (index // 2)] for index in range(12)]


@pytest.mark.parametrize(("count", "side"), [(16, 4), (9, 3), (10, 4)])
def test_nominal_hd_mea_is_a_square_grid(count, side):
    positions = contact_layout("hd-mea", count)
    assert positions.tolist() == [[30.0 * (index % side), 30.0 * (index // side)] for index in range(count)]


def test_nominal_single_contact_and_stereotrode():
    assert contact_layout("single-contact", 1).tolist() == [[0, 0]]
    assert contact_layout("single-contact", 2).tolist() == [[0, 0], [25, 0]]


def test_nominal_staggered_shank_has_two_columns():
    assert contact_layout("staggered", 8).tolist() == [[20.0 * (row % 2), 20.0 * row] for row in range(8)]


@pytest.mark.parametrize("kind", PROBE_TYPES)
def test_random_windows_have_distinct_contacts(kind):
    for seed in range(60):
        for count in (1, COUNTS[kind] - 1, COUNTS[kind]):
            positions = contact_layout(kind, count, np.random.default_rng(seed))
            assert positions.shape == (count, 2) and positions.dtype == np.float64 and np.isfinite(positions).all()
            apart = distances(positions) + 1e9 * np.eye(count)
            # nobody's contacts lie closer, and each has a neighbour
            assert apart.min() > 4 and (count == 1 or apart.min(1).max() < 60)


@pytest.mark.parametrize("kind", PROBE_TYPES)
def test_random_windows_are_many_and_can_be_repeated(kind):
    count = COUNTS[kind]
    drawn = [contact_layout(kind, count, np.random.default_rng(seed)) for seed in range(20)]
    again = [contact_layout(kind, count, np.random.default_rng(seed)) for seed in range(20)]
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))
    assert len({np.round(distances(each), 3).tobytes() for each in drawn}) > 3


@pytest.mark.parametrize("kind", ["neuropixels-1.0", "neuropixels-2.0"])
def test_random_windows_lie_on_the_probe(kind):
    whole = {tuple(place) for place in contact_layout(kind, 48)}
    for seed in range(30):
        positions = contact_layout(kind, 12, np.random.default_rng(seed))
        assert {tuple(place) for place in positions} <= whole


def test_random_linear_probes_are_straight_or_staggered():
    drawn = [contact_layout("linear", 8, np.random.default_rng(seed)) for seed in range(200)]
    pitches = np.array([positions[1, 1] for positions in drawn])
    assert pitches.min() >= 18 and pitches.max() <= 50
    staggered = [positions for positions in drawn if positions[:, 0].any()]
    assert 0.15 < len(staggered) / 200 < 0.35
    assert all(not positions[::2, 0].any() and 10 <= positions[1, 0] <= 25 for positions in staggered)


def test_random_tetrodes_are_squares_or_rows():
    extents = [np.ptp(contact_layout("tetrode", 4, np.random.default_rng(seed))) for seed in range(100)]
    assert min(extents) > 8 and max(extents) < 100


def test_random_stereotrodes_are_10_to_50_um_wide():
    widths = [distances(contact_layout("single-contact", 2, np.random.default_rng(seed))).max() for seed in range(100)]
    assert 10 <= min(widths) < 14 and 46 < max(widths) <= 50


def test_random_staggered_shanks_have_two_columns_three_or_a_tip():
    forms = {"two": 0, "three": 0, "tip": 0}
    for seed in range(150):
        positions = contact_layout("staggered", 8, np.random.default_rng(seed))
        columns = len(np.unique(np.round(positions[:, 0], 6)))
        forms[{2: "two", 3: "three"}.get(columns, "tip")] += 1
        # no square and no row: some neighbours are above each other, but askew
        offsets = np.abs(positions[:, None] - positions[None])
        assert (np.minimum(offsets[..., 0], offsets[..., 1]) > 4).any() and 4 < np.ptp(positions[:, 0]) <= 60
        if columns > 3:  # from one contact on it widens; the sides alternate
            assert positions[0].tolist() == [0, 0] and (np.diff(np.abs(positions[:, 0])) > 0).all()
            assert (np.sign(positions[1:-1, 0]) == -np.sign(positions[2:, 0])).all()
    assert min(forms.values()) > 25


@pytest.mark.parametrize(("kind", "count"), [("utah", 4), ("linear", 0), ("hd-mea", -1)])
def test_unknown_type_or_number_raises(kind, count):
    with pytest.raises(ValueError, match="expected one of .*at least 1 channel, found"):
        contact_layout(kind, count)


def test_a_tetrode_has_four_wires():
    with pytest.raises(ValueError, match="at most 4 channels of a tetrode, found 5"):
        contact_layout("tetrode", 5, np.random.default_rng(0))
    with pytest.raises(ValueError, match="at most 2 channels of a single contact or stereotrode, found 3"):
        contact_layout("single-contact", 3)
