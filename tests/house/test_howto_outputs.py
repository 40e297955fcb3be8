"""The snippets of the pages on outputs and SpikeInterface run as they stand."""

import re
from pathlib import Path

import pytest

PAGES = Path(__file__).parents[2] / "docs" / "howto"


@pytest.mark.parametrize("name", ["outputs", "spikeinterface"])
def test_snippets_run(name, tmp_path, monkeypatch):
    if name == "outputs":
        pytest.importorskip("neuroconv")
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"^```python\n(.*?)^```", (PAGES / f"{name}.md").read_text(encoding="utf8"), re.M | re.S)
    assert len(snippets) >= 4
    exec(compile("\n".join(snippets), name, "exec"), {})
    assert (tmp_path / "recording").is_dir()
