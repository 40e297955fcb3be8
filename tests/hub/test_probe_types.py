"""Types of probe are told apart by their contacts."""

import numpy as np
import pytest
from probeinterface import generate_linear_probe, generate_multi_columns_probe, generate_tetrode
from probeinterface.neuropixels_tools import build_neuropixels_probe

from huidurep.hub.probe_types import PROBE_TYPES, SPECIAL_TYPES, TETRODE_SPAN_UM, recognise_probe
from huidurep.simulation.probes import contact_layout


def column(num_contacts, pitch_um):
    return np.column_stack([np.zeros(num_contacts), pitch_um * np.arange(num_contacts)])


def grid(num_columns, num_rows, pitch_um):
    x, y = np.meshgrid(np.arange(num_columns), np.arange(num_rows))
    return pitch_um * np.column_stack([x.ravel(), y.ravel()]).astype(float)


# One shank of NeuroNexus' Buzsaki64: a tip that widens from one contact.
BUZSAKI_UM = np.array(
    [(0, 0), (-8.5, 20), (8.5, 40), (-12.5, 60), (12.5, 80), (-16.5, 100), (16.5, 120), (-20.5, 140)], float
)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_few_contacts_close_together_are_a_tetrode(number):
    positions = generate_tetrode().contact_positions[:number]
    name, reason = recognise_probe(positions, SPECIAL_TYPES)
    assert name == "tetrode" and f"{number} contacts within 60 um" in reason
    assert recognise_probe(positions)[0] == ("tetrode" if number > 1 else "single-contact")


def test_single_contacts():
    assert recognise_probe(np.zeros((1, 2))) == ("single-contact", "1 contact")
    for width_um in (10.0, 25.0, 50.0):  # stereotrodes, which the checkpoint of tetrodes sorts better
        assert recognise_probe(np.array([(0, 0), (width_um, 0)]))[0] == "tetrode"
    assert recognise_probe(np.array([(0.0, 0), (0, 250)]))[0] == "single-contact"  # two microwires
    utah = grid(10, 10, 400.0)
    name, reason = recognise_probe(utah)
    assert name == "single-contact" and "100 contacts, none less than 150 um apart" in reason
    assert recognise_probe(utah[:1])[0] == recognise_probe(utah[[3, 7, 50]])[0] == "single-contact"
    # neighbours 100 um apart may see the same spikes
    assert recognise_probe(column(16, 100.0))[0] == "linear" and recognise_probe(grid(8, 8, 100.0))[0] == "hd-mea"


def test_one_column_is_a_shank():
    for positions in (column(4, 25.0), column(16, 20.0), column(32, 50.0), column(16, 20.0)[:, ::-1]):
        assert recognise_probe(positions)[0] == "linear"
    jittered = column(16, 20.0) + np.random.default_rng(0).uniform(-0.4, 0.4, (16, 2))
    assert recognise_probe(jittered)[0] == "linear"
    wide = column(16, 55.0)  # farther apart than on staggered shanks
    wide[1::2, 0] = 17.3
    assert recognise_probe(wide)[0] == "linear"


def test_staggered_shanks_and_what_they_are_without_their_checkpoint():
    """Of NeuroNexus: A1x32-Poly2 (two column distances), A1x32-Poly3 at 25 um, Buzsaki64; and others like them."""
    poly2, wide = column(32, 25.0), column(32, 25.0)
    poly2[1::2, 0], wide[1::2, 0] = 17.3, 43.3
    middle = [(18.0, 25.0 * row) for row in range(12)]
    poly3 = np.array(middle + [(x, 12.5 + 25.0 * row) for x in (0.0, 36.0) for row in range(10)])
    level = generate_multi_columns_probe(3, num_contact_per_column=10, xpitch=18, ypitch=25).contact_positions
    pairs = generate_multi_columns_probe(2, num_contact_per_column=16, xpitch=32, ypitch=30).contact_positions
    for positions, before in (
        (poly2, "linear"),
        (wide, "base"),
        (poly3, "base"),
        (level, "base"),
        (pairs, "base"),
        (BUZSAKI_UM, "hd-mea"),
        (contact_layout("staggered", 16), "linear"),
        (np.delete(poly3, [3, 8, 20], 0), "base"),  # some channels are bad
        (wide * (1, 0.8), "neuropixels-1.0"),
    ):
        assert recognise_probe(positions)[0] == recognise_probe(positions[:, ::-1])[0] == "staggered", positions
        assert recognise_probe(positions, SPECIAL_TYPES)[0] == before, positions
    # several shanks at once are none
    shanks = np.concatenate([BUZSAKI_UM + (200.0 * shank, 0) for shank in range(8)])
    assert recognise_probe(shanks)[0] == "base"
    assert recognise_probe(np.concatenate([column(16, 25.0), column(16, 25.0) + (200, 0)]))[0] == "base"


@pytest.mark.parametrize(
    ("part", "expected"),
    [("NP1000", "neuropixels-1.0"), ("NP1010", "neuropixels-1.0"), ("NP2003", "neuropixels-2.0"), ("NP1110", "hd-mea")],
)
def test_neuropixels(part, expected):
    positions = build_neuropixels_probe(part).contact_positions
    assert recognise_probe(positions)[0] == recognise_probe(positions[:384])[0] == expected
    # some channels are always bad
    kept = np.sort(np.random.default_rng(0).permutation(384)[:300])
    assert recognise_probe(positions[kept])[0] == expected


def test_four_shanks_at_once_are_none_of_the_types():
    probe = build_neuropixels_probe("NP2013")
    name, reason = recognise_probe(probe.contact_positions)
    assert name == "base" and "8 columns, rows 15 um apart" in reason
    assert recognise_probe(probe.contact_positions[probe.shank_ids == probe.shank_ids[0]])[0] == "neuropixels-2.0"


def test_dense_arrays():
    assert recognise_probe(grid(64, 64, 42.0))[0] == "hd-mea"
    assert recognise_probe(grid(4, 4, 30.0))[0] == "hd-mea"
    electrodes = grid(220, 120, 17.5)
    selected = np.random.default_rng(0).permutation(len(electrodes))[:1000]
    assert recognise_probe(electrodes[selected])[0] == "hd-mea"


def test_anything_else_is_for_the_base():
    rng = np.random.default_rng(0)
    three = generate_multi_columns_probe(3, num_contact_per_column=10, xpitch=70, ypitch=25).contact_positions
    for positions in (rng.uniform(0, 400, (32, 2)), three, 100 * rng.uniform(size=(4, 2))):
        name, reason = recognise_probe(positions)
        assert name == "base" and f"{len(positions)} contacts" in reason
    assert "base" in PROBE_TYPES


@pytest.mark.parametrize("positions", [np.zeros((0, 2)), np.zeros((4, 3)), np.zeros(4)])
def test_other_shapes_are_refused(positions):
    with pytest.raises(ValueError, match="expected positions"):
        recognise_probe(positions)


def turned(positions, rng):
    """The same contacts elsewhere, in another order, with the axes swapped at times."""
    moved = positions[rng.permutation(len(positions))] + rng.uniform(-1000, 1000, 2)
    return moved[:, ::-1] if rng.random() < 0.5 else moved


@pytest.mark.parametrize(
    ("kind", "count"),
    [("tetrode", 4), ("linear", 8), ("neuropixels-1.0", 12), ("neuropixels-2.0", 12), ("hd-mea", 16)],
)
def test_random_windows_of_every_type(kind, count):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        positions = contact_layout(kind, count, rng)
        # four contacts in a row longer than a tetrode's are a shank, whatever they were drawn as
        is_row = kind == "tetrode" and np.ptp(positions[:, 1]) > TETRODE_SPAN_UM
        expected = "linear" if is_row else kind
        is_staggered = kind == "linear" and positions[1, 0] > 0 and np.linalg.norm(positions[1]) <= 51
        found = recognise_probe(turned(positions, rng), SPECIAL_TYPES if is_staggered else ())[0]
        assert found == expected, (seed, positions)


@pytest.mark.parametrize("count", [8, 16])
def test_random_staggered_shanks(count):
    for seed in range(300):
        rng = np.random.default_rng(seed)
        positions = contact_layout("staggered", count, rng)
        if np.ptp(positions[:, 1]) > 1.3 * np.ptp(positions[:, 0]):  # a window may be wider than long; no shank is
            assert recognise_probe(turned(positions, rng))[0] == "staggered", (seed, positions)


def test_neighbourhoods_of_a_dense_array():
    for seed in range(300):
        rng = np.random.default_rng(seed)
        # 15 and 20 um are the row pitches of Neuropixels, too
        pitch_um = rng.uniform(15, 60) if seed % 2 else rng.choice([15.0, 17.5, 20.0, 30.0, 42.0, 60.0])
        assert recognise_probe(turned(grid(4, 4, pitch_um), rng))[0] == "hd-mea", (seed, pitch_um)
    assert recognise_probe(grid(12, 2, 20.0))[0] == "hd-mea"


def test_whole_probes():
    def columns(count, per_column, xpitch, ypitch, stagger=0.0):
        shift = [stagger * (index % 2) for index in range(count)]
        made = generate_multi_columns_probe(count, per_column, xpitch=xpitch, ypitch=ypitch, y_shift_per_column=shift)
        return made.contact_positions

    assert recognise_probe(generate_linear_probe(num_elec=32, ypitch=25).contact_positions)[0] == "linear"
    assert recognise_probe(generate_tetrode(r=12).contact_positions)[0] == "tetrode"
    # (columns, contacts a column, pitch across, pitch along, shift of every other column) -> type
    for layout, expected in {
        (2, 16, 17, 25, 12.5): "staggered",
        (2, 32, 32, 15, 0): "neuropixels-2.0",
        (2, 16, 32, 30, 0): "staggered",  # every other row of it is no square lattice
        (2, 32, 32, 20, 0): "neuropixels-1.0",
        (4, 48, 16, 40, 20): "neuropixels-1.0",
        (4, 48, 16, 20, 0): "hd-mea",  # columns like those of Neuropixels, but not staggered
        (3, 16, 18, 25, 0): "staggered",
        (3, 10, 50, 50, 0): "hd-mea",  # NeuroNexus A1x32-Poly3 at 50 um, a square lattice
        (2, 16, 200, 25, 0): "base",  # two shanks
        (16, 16, 60, 60, 0): "hd-mea",
    }.items():
        assert recognise_probe(columns(*layout))[0] == expected, layout


@pytest.mark.parametrize(
    ("part", "expected"),
    [("NP1015", "neuropixels-1.0"), ("NP1030", "neuropixels-1.0"), ("NP2006", "neuropixels-2.0"), ("NP1121", "linear")],
)
def test_variants_of_neuropixels(part, expected):
    assert recognise_probe(build_neuropixels_probe(part).contact_positions)[0] == expected
