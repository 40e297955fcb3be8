"""The wrapper for SpikeInterface in contrib/, as if it were installed with SpikeInterface."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import spikeinterface
import spikeinterface.sorters as sorters
from spikeinterface.sorters import launcher

import huidurep

NAME = "spikeinterface.sorters.external.huidurep"
FILE = Path(__file__).parents[2] / "contrib" / "spikeinterface" / "src" / Path(*NAME.split(".")).with_suffix(".py")


@pytest.fixture
def sorter(monkeypatch):
    """The class, in SpikeInterface's lists as if it came with it."""
    spec = importlib.util.spec_from_file_location(NAME, FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, NAME, module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sorters.sorter_dict, "huidurep", module.HuiduRepSorter)
    others = [each for each in sorters.sorter_full_list if each.sorter_name != "huidurep"]
    monkeypatch.setattr(sorters.sorterlist, "sorter_full_list", [*others, module.HuiduRepSorter])
    return module.HuiduRepSorter


def test_its_parameters_are_those_of_the_package(sorter):
    assert sorters.get_default_sorter_params("huidurep") == huidurep.HuiduRepSorter.default_params()
    described = sorters.get_sorter_params_description("huidurep")
    assert described == huidurep.HuiduRepSorter.params_description()
    for name in ("requires_locations", "gpu_capability", "handle_multi_segment", "compatible_with_parallel"):
        assert getattr(sorter, name) == getattr(huidurep.HuiduRepSorter, name)
    assert sorter.is_installed() and sorter.get_sorter_version() == huidurep.__version__


def test_it_sorts_as_the_packages_own(sorter, tetrode_recording, tmp_path):
    recording = tetrode_recording[0].save(folder=tmp_path / "recording", progress_bar=False)
    options = dict(model="tetrode", num_units=4, matching="none")
    sorting = sorters.run_sorter("huidurep", recording, folder=tmp_path / "out", delete_output_folder=True, **options)
    expected = huidurep.sort(recording, "tetrode", num_units=4, matching=None)
    np.testing.assert_array_equal(sorting.to_spike_vector(), expected.to_spike_vector())
    assert "main_channel_id" in sorting.get_property_keys()
    log = json.loads((tmp_path / "out" / "spikeinterface_log.json").read_text())
    assert log["sorter_version"] == huidurep.__version__ and log["runtime_trace"]


def test_groups_that_were_sorted_one_by_one_name_units_by_their_new_ids(sorter, tetrode_folder, tmp_path, monkeypatch):
    for name in ("run_sorter", "aggregate_units", "_slurm_script"):
        monkeypatch.setattr(launcher, name, getattr(launcher, name))  # comes back, whatever the sorter does
    launcher.aggregate_units = spikeinterface.aggregate_units
    options = dict(model="tetrode", num_units=2, matching="none", min_unit_spikes=5)
    pair = spikeinterface.load(tetrode_folder)
    pair.set_property("group", np.repeat([0, 1], 2))
    sorting = sorters.run_sorter_by_property("huidurep", pair, "group", folder=tmp_path / "out", **options)
    groups, overlapping = sorting.get_property("group"), sorting.get_property("overlapping_unit")
    has_other = overlapping >= 0
    assert has_other[groups == 1].any()
    assert (groups[overlapping[has_other]] == groups[has_other]).all()


def test_registering_ours_takes_its_place(sorter, monkeypatch):
    monkeypatch.setattr("huidurep.integrations.spikeinterface_sorter.sorter_full_list", listed := [sorter])
    huidurep.register()
    assert listed == [huidurep.HuiduRepSorter]
    assert sorters.sorter_dict["huidurep"] is huidurep.HuiduRepSorter
