"""Notebooks run from top to bottom as they are, and are committed without what they printed."""

import json

import nbformat
import pytest
from nbclient import NotebookClient

from seqtrack_lit.cli.hydra.runtime import config_folder

NOTEBOOKS = sorted((config_folder().parent / "notebooks").glob("*.ipynb"))
FIGURES = {"01_attention": 5, "02_autoregressive": 5, "03_sequence": 3, "04_sweep": 2, "05_data": 4}


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
@pytest.mark.filterwarnings("default")  # of jupyter's own parts
def test_notebook_runs(path, monkeypatch):
    """On what the package has: its tracker, a photograph, generated videos, kept results."""
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows pictures, Agg would not
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert sum("image/png" in output.get("data", {}) for output in shown) == FIGURES[path.stem]


def test_notebooks_are_numbered_and_stripped():
    assert [path.stem for path in NOTEBOOKS] == sorted(FIGURES)
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text())["cells"]
        assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        assert "=" in code[0]
        assert len(code[0].splitlines()) == 1  # the only setting
