"""One checkpoint a type of probe: they are listed, and "auto" finds each."""

import json
import shutil
from pathlib import Path

import pytest

from huidurep.hub.probe_types import PROBE_TYPES
from huidurep.hub.select import resolve_auto
from huidurep.simulation.probes import contact_layout

TETRODE = Path(__file__).parents[2] / "huidurep" / "checkpoints" / "tetrode"
CHANNELS = {
    "single-contact": 2,
    "tetrode": 4,
    "linear": 8,
    "staggered": 8,
    "neuropixels-1.0": 12,
    "neuropixels-2.0": 12,
    "hd-mea": 16,
    "base": 16,
}


@pytest.fixture
def all_types(tmp_path, monkeypatch):
    for name, num_channels in CHANNELS.items():
        shutil.copytree(TETRODE, tmp_path / name)
        config = json.loads((TETRODE / "config.json").read_text()) | dict(num_channels=num_channels)
        (tmp_path / name / "config.json").write_text(json.dumps(config))
    (tmp_path / "no_checkpoint").mkdir()
    monkeypatch.setattr("huidurep.hub.embedded.EMBEDDED", tmp_path)
    return tmp_path


def test_all_are_listed(all_types):
    from typer.testing import CliRunner

    from huidurep.cli.main import app

    listed = json.loads(CliRunner().invoke(app, ["list", "--json"]).stdout)["checkpoints"]
    assert {each["name"]: each["num_channels"] for each in listed} == CHANNELS
    assert {each["probe_type"] for each in listed} == set(PROBE_TYPES.values())
    assert {each["license"] for each in listed} == {"apache-2.0"}
    table = CliRunner().invoke(app, ["list"]).stdout.splitlines()
    assert len({len(line.rstrip()) for line in table}) == 1  # every column keeps its width
    assert [line.split()[0] for line in table[1:]] == sorted(CHANNELS)


@pytest.mark.parametrize("kind", [kind for kind in CHANNELS if kind != "base"])
def test_auto_finds_each(all_types, kind):
    assert (
        resolve_auto(
            [contact_layout(kind, 1 if kind == "single-contact" else CHANNELS[kind] * (1 if CHANNELS[kind] < 8 else 2))]
        )[0]
        == kind
    )


def test_auto_takes_the_base_where_contacts_are_unknown(all_types):
    assert resolve_auto([])[0] == "base"
