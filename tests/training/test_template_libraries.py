"""The template libraries of a run: shares of their sources, files kept and used again."""

import collections
import json

import numpy as np
import pytest
import torch

from huidurep.simulation.probes import contact_layout
from huidurep.training import template_libraries as module
from huidurep.training.dataset import load_libraries
from huidurep.training.pretrain import DEFAULT_SETTINGS
from huidurep.training.template_libraries import NUM_CHANNELS, make_libraries

WANTED = DEFAULT_SETTINGS["templates"] | dict(units_per_bank=4, num_views=2)


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A file of two real units, as wide as those of the real file."""
    path = tmp_path_factory.mktemp("real") / "units.npz"
    positions, time_ms = contact_layout("neuropixels-1.0", 16), (np.arange(100) - 32) / 30.0
    waveform = -np.exp(-((time_ms / 0.15) ** 2)) * np.exp(-((np.arange(16)[:, None] - 8) ** 2) / 20) * 100
    arrays = {}
    for number in range(2):
        arrays |= {f"waveform_uv_{number}": (1 + number) * waveform, f"position_um_{number}": positions}
        arrays[f"time_ms_{number}"] = time_ms
    np.savez(path, **arrays)
    path.with_suffix(".json").write_text(json.dumps([dict(unit=0, session="a"), dict(unit=1, session="b")]))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, real):
    """Two types of probe; half of the libraries are of real units."""
    path = tmp_path_factory.mktemp("libraries") / "templates.npz"
    wanted = WANTED | dict(banks={"tetrode": 2, "linear": 2}, real=str(real), real_share=0.5, spikeinterface_share=0.5)
    return path, wanted, make_libraries(path, wanted, seed=1)


@pytest.fixture
def sources(monkeypatch):
    """What each library was drawn from, as (number of channels, source); nothing is simulated."""
    drawn = []

    def draw(rng, positions, source, wanted, real):
        drawn.append((len(positions), source))
        return rng.normal(size=(4, 2, 256, len(positions))), 90, 30000.0

    monkeypatch.setattr(module, "_draw", draw)
    return drawn


def test_libraries_of_two_types_of_probe(made):
    path, _, libraries = made
    assert [library.kind for library in libraries] == ["tetrode", "tetrode", "linear", "linear"]
    assert path.is_file() and [each.name for each in path.parent.iterdir()] == ["templates.npz"]
    for library in libraries:
        assert library.waveforms.shape == (4, 2, 256, NUM_CHANNELS[library.kind])
        assert library.positions.shape == (NUM_CHANNELS[library.kind], 2)
        assert (library.peak_index, library.sampling_frequency) == (90, 30000.0)
        troughs = library.waveforms[:, 0].float().amin(2).argmin(1)
        assert (troughs - 90).abs().max() <= 1 and library.waveforms[:, 0].amin((1, 2)).max() <= -24.9
    assert not torch.equal(libraries[0].positions, libraries[1].positions)


def test_libraries_are_read_where_they_were_made(made, sources):
    path, wanted, libraries = made
    before = path.stat().st_mtime_ns
    again = make_libraries(path, wanted, seed=1)
    assert not sources and path.stat().st_mtime_ns == before
    for one, other in zip(libraries, again, strict=True):
        assert one.kind == other.kind and torch.equal(one.waveforms, other.waveforms)
        assert torch.equal(one.positions, other.positions) and torch.equal(one.neighbours, other.neighbours)


def test_the_same_seed_makes_the_same_libraries(tmp_path, real):
    wanted = WANTED | dict(banks={"tetrode": 1}, real=str(real), real_share=1.0)
    first, again, other = (make_libraries(tmp_path / f"{i}.npz", wanted, seed)[0] for i, seed in enumerate((3, 3, 4)))
    assert torch.equal(first.waveforms, again.waveforms) and torch.equal(first.positions, again.positions)
    assert not torch.equal(first.waveforms, other.waveforms)


def test_libraries_of_another_run_can_be_used(made, sources, tmp_path):
    path, wanted, libraries = made
    found = make_libraries(tmp_path / "own.npz", wanted | dict(banks={"linear": 9}, reuse=str(path)), seed=7)
    assert not sources and [library.kind for library in found] == ["linear", "linear"]
    assert torch.equal(found[0].waveforms, libraries[2].waveforms)
    # a copy of them is this run's own: it goes on where the other run's folder is gone
    moved = tmp_path / "elsewhere" / "own.npz"
    moved.parent.mkdir()
    (tmp_path / "own.npz").rename(moved)
    again = make_libraries(moved, wanted | dict(banks={"linear": 9}, reuse=str(tmp_path / "none.npz")), seed=7)
    for one, other in zip(libraries[2:], again, strict=True):
        assert torch.equal(one.waveforms, other.waveforms) and torch.equal(one.neighbours, other.neighbours)
        assert torch.equal(one.positions, other.positions) and one.peak_index == other.peak_index


def test_libraries_to_reuse_must_be_there(made, sources, tmp_path):
    path, wanted, _ = made
    with pytest.raises(FileNotFoundError, match=r"none\.npz.*templates\.reuse"):
        make_libraries(tmp_path / "own.npz", wanted | dict(reuse=str(tmp_path / "none.npz")), seed=7)
    with pytest.raises(ValueError, match=r"\['hd-mea'\] .*\['linear', 'tetrode'\]"):
        make_libraries(tmp_path / "own.npz", wanted | dict(banks={"linear": 1, "hd-mea": 1}, reuse=str(path)), seed=7)
    assert not sources and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, dict(spikeinterface=7, cells=13)),  # 0.35 of 20; without a file there are no real units
        (dict(real_share=0.5), dict(spikeinterface=7, cells=13)),
        (dict(real=True, real_share=0.2), dict(real=4, spikeinterface=7, cells=9)),
        (dict(cells="folder", cells_share=0.4), dict(detailed=8, spikeinterface=7, cells=5)),
        (dict(real=True, real_share=1.0), dict(real=20)),
        (dict(spikeinterface_share=0.0), dict(cells=20)),
    ],
)
def test_sources_have_their_shares(sources, tmp_path, real, settings, expected):
    settings = settings | ({"real": str(real)} if "real" in settings else {})
    make_libraries(tmp_path / "t.npz", WANTED | dict(banks={"tetrode": 20, "hd-mea": 20}) | settings, seed=0)
    for channels in (4, 16):
        assert collections.Counter(source for count, source in sources if count == channels) == expected


def test_some_libraries_have_one_contact_less(sources, tmp_path):
    wanted = WANTED | dict(banks={"tetrode": 8, "single-contact": 6, "staggered": 2})
    make_libraries(tmp_path / "few.npz", wanted | dict(fewer_contacts={"tetrode": 0.25, "single-contact": 0.5}), seed=0)
    counts = [count for count, _ in sources]
    assert counts == [4, 4, 4, 3, 4, 4, 4, 3] + [2, 1, 2, 1, 2, 1] + [8, 8]  # of each source some
    sources.clear()
    make_libraries(tmp_path / "plain.npz", wanted, seed=0)
    assert [count for count, _ in sources] == [4] * 8 + [2, 1, 2, 1, 2, 1] + [8, 8]


def test_templates_of_one_contact(tmp_path):
    wanted = WANTED | dict(banks={"single-contact": 4}, spikeinterface_share=0.5)
    libraries = make_libraries(tmp_path / "t.npz", wanted, seed=0)
    assert [library.waveforms.shape for library in libraries] == [(4, 2, 256, 2), (4, 2, 256, 1)] * 2
    assert all(-650 < float(library.waveforms.min()) < -24 for library in libraries)


def test_unknown_type_of_probe_raises_before_anything_is_made(sources, tmp_path):
    with pytest.raises(ValueError, match=r"\['octrode'\].*`banks`"):
        make_libraries(tmp_path / "t.npz", WANTED | dict(banks={"tetrode": 1, "octrode": 2}), seed=0)
    assert not sources and not list(tmp_path.iterdir())


def test_missing_file_of_real_units_raises(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.npz"):
        make_libraries(tmp_path / "t.npz", WANTED | dict(banks={"tetrode": 1}, real=str(tmp_path / "no.npz")), seed=0)


def test_other_sources_are_padded_to_one_length(tmp_path):
    wanted = WANTED | dict(banks={"tetrode": 2}, spikeinterface_share=0.5)
    make_libraries(tmp_path / "t.npz", wanted, seed=2)
    for library in load_libraries(tmp_path / "t.npz"):
        assert library.waveforms.shape == (4, 2, 256, 4)
        assert (library.waveforms[:, 0].float().amin(2).argmin(1) - library.peak_index).abs().max() <= 1
