"""The notebook of examples/ runs in a kernel of its own."""

from pathlib import Path

import compiled
import pytest

NOTEBOOK = Path(__file__).parents[2] / "examples" / "07_tetrode_notebook.ipynb"


def test_tetrode_notebook(tmp_path, monkeypatch):
    for name in ("nbclient", "ipykernel", "jinja2", "matplotlib", "pandas"):
        pytest.importorskip(name)
    import nbclient
    import nbformat

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)  # as it is kept in the repository
    monkeypatch.delenv("MPLBACKEND")  # figures are shown in the notebook
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "compiled.py").write_text(f"{Path(compiled.__file__).read_text()}\n\nkeep_compiled()\nprefer_numpy()\n")
    folder = tmp_path / "notebook"
    folder.mkdir()
    nbclient.NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(folder)}}).execute()
    shown = [{kind for output in cell.outputs for kind in output.get("data", {})} for cell in cells]
    assert sum("image/png" in kinds for kinds in shown) == 3
    assert any("good: it passes" in output.get("text", "") for cell in cells for output in cell.outputs)
    assert {"templates.pdf", "report.html", "sorted"} <= {path.name for path in folder.iterdir()}
