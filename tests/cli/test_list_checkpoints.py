"""`huidurep list`."""

import json

from command_line import run

import huidurep


def test_table_has_a_line_for_each_checkpoint():
    result = run("list")
    assert result.exit_code == 0
    header, *lines = result.output.splitlines()
    assert header.split()[:3] == ["NAME", "PROBE", "CHANNELS"] and len(lines) == len(huidurep.list_checkpoints())
    (line,) = [line for line in lines if line.startswith("tetrode ")]
    assert line.split()[-4:-1] == ["4", "30000", "3"] and "bundles of up to 4 contacts" in line
    assert {len(line) for line in (header, *lines)} == {len(header)}


def test_list_as_json():
    found = {each["name"]: each for each in json.loads(run("list", "--json").output)["checkpoints"]}
    assert found.keys() == huidurep.list_checkpoints().keys()
    tetrode = found["tetrode"]
    assert (tetrode["num_channels"], tetrode["sampling_frequency"], tetrode["window_ms"]) == (4, 30000.0, 3.0)
    assert tetrode["license"] == "apache-2.0" and 0 < tetrode["size_mb"] < 4
    assert tetrode["folder"] == str(huidurep.list_checkpoints()["tetrode"])
