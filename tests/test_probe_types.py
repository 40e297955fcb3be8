"""Types of probe are told apart by their contacts."""

import numpy as np
import pytest
from probeinterface import generate_multi_columns_probe, generate_tetrode
from probeinterface.neuropixels_tools import build_neuropixels_probe

from huidurep.probe_types import PROBE_TYPES, recognise_probe


def column(num_contacts, pitch_um):
    return np.column_stack([np.zeros(num_contacts), pitch_um * np.arange(num_contacts)])


def grid(num_columns, num_rows, pitch_um):
    x, y = np.meshgrid(np.arange(num_columns), np.arange(num_rows))
    return pitch_um * np.column_stack([x.ravel(), y.ravel()]).astype(float)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_few_contacts_close_together_are_a_tetrode(number):
    name, reason = recognise_probe(generate_tetrode().contact_positions[:number])
    assert name == "tetrode" and f"{number} contacts within 60 um" in reason


def test_one_column_is_a_shank():
    for positions in (column(4, 25.0), column(16, 20.0), column(32, 50.0), column(16, 20.0)[:, ::-1]):
        assert recognise_probe(positions)[0] == "linear"
    jittered = column(16, 20.0) + np.random.default_rng(0).uniform(-0.4, 0.4, (16, 2))
    assert recognise_probe(jittered)[0] == "linear"
    staggered = column(16, 25.0)
    staggered[1::2, 0] = 17.3
    assert recognise_probe(staggered)[0] == "linear"
    staggered[1::2, 0] = 43.3
    assert recognise_probe(staggered)[0] == "base"


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
    three = generate_multi_columns_probe(3, num_contact_per_column=10, xpitch=18, ypitch=25).contact_positions
    for positions in (rng.uniform(0, 400, (32, 2)), three, 100 * rng.uniform(size=(4, 2))):
        name, reason = recognise_probe(positions)
        assert name == "base" and "none of the types known" in reason
    assert "base" in PROBE_TYPES


@pytest.mark.parametrize("positions", [np.zeros((0, 2)), np.zeros((4, 3)), np.zeros(4)])
def test_other_shapes_are_refused(positions):
    with pytest.raises(ValueError, match="expected positions"):
        recognise_probe(positions)
