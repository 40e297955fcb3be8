from itertools import islice

import numpy as np
import pytest
import torch
from template_libraries import COLUMN_UM, make_library
from torch.utils.data import DataLoader

from huidurep import HuiduRepConfig
from huidurep.training.dataset import TemplateLibrary, ViewDataset, load_libraries, save_libraries
from huidurep.training.views import ViewMaker, ViewRecipe


@pytest.fixture(scope="module")
def maker():
    return ViewMaker([make_library()], HuiduRepConfig(), ViewRecipe(num_recordings=1, group_size=4))


def batches(maker, count, **options):
    return list(islice(ViewDataset(maker, batch_size=6, **{"seed": 0, **options}), count))


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_batch_is_the_same_in_every_run(maker):
    first, again = batches(maker, 4), batches(maker, 4)
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    assert not same(first[0], first[1])
    assert not same(first[0], batches(maker, 1, seed=1)[0])


def test_a_resumed_run_goes_on_where_it_stopped(maker):
    whole = batches(maker, 5)
    rest = batches(maker, 3, first_batch=2)
    assert all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


@pytest.mark.parametrize("first_batch", [0, 3])
def test_workers_give_the_same_batches(maker, first_batch):
    dataset = ViewDataset(maker, batch_size=6, seed=0, first_batch=first_batch)
    found = list(islice(DataLoader(dataset, batch_size=None, num_workers=2), 4))
    expected = batches(maker, 4, first_batch=first_batch)
    assert all(same(a, b) for a, b in zip(expected, found, strict=True))


def test_drawn_units_are_different_and_in_groups_of_neighbours():
    library = make_library(num_units=30)
    units = library.draw_neighbours(24, 6, torch.Generator().manual_seed(0))
    assert len(units.unique()) == 24
    assert (units[:6] == library.neighbours[units[0]][:6]).all()


def test_neighbours_begin_with_the_unit_and_its_twin():
    rng = np.random.default_rng(0)
    waveforms = make_library(num_units=20).waveforms.numpy()
    waveforms[7] = waveforms[3] * rng.uniform(1.0, 1.01)
    library = TemplateLibrary(waveforms, np.zeros((4, 2)), 90, 30000.0)
    assert (library.neighbours[:, 0] == torch.arange(20)).all()
    assert library.neighbours[3, 1] == 7 and library.neighbours[7, 1] == 3


def test_too_few_units_raise():
    with pytest.raises(ValueError, match="at least 13 units, found 12"):
        make_library(num_units=12).draw_neighbours(13, 4, torch.Generator())


def test_templates_must_be_finite():
    waveforms = make_library().waveforms.numpy().copy()
    waveforms[2, 0, 5, 1] = np.nan
    with pytest.raises(ValueError, match="finite"):
        TemplateLibrary(waveforms, np.zeros((4, 2)), 90, 30000.0)


def test_libraries_are_kept_in_a_file(tmp_path):
    libraries = [make_library(), make_library(num_units=5, seed=3, positions=COLUMN_UM, kind="linear")]
    save_libraries(libraries, tmp_path / "templates.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["templates.npz"]
    loaded = load_libraries(tmp_path / "templates.npz")
    assert len(loaded) == 2
    for before, after in zip(libraries, loaded, strict=True):
        assert (after.peak_index, after.sampling_frequency, after.kind) == (90, 30000.0, before.kind)
        assert torch.allclose(before.waveforms, after.waveforms, rtol=2e-3, atol=0.05)
        assert torch.equal(before.positions, after.positions)
