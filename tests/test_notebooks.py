"""Notebooks run from top to bottom, and are committed without what they printed."""

import json
from pathlib import Path

import nbformat
import pytest
import torch
from hydra import compose, initialize_config_dir
from nbclient import NotebookClient
from omegaconf import OmegaConf

from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.models.description import FORMAT, build_model

NOTEBOOKS = sorted((config_folder().parent / "notebooks").glob("*.ipynb"))


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """An untrained tiny model in a checkpoint of ours."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", ["model=seqtrack_tiny", "data=quickstart"])
    description = {
        "format": FORMAT,
        "tokenizer": OmegaConf.to_container(config.tokenizer, resolve=True),
        "model": OmegaConf.to_container(config.model, resolve=True),
        "tracker": {"search_factor": 3.0, "template_factor": 2.0},
    }
    model = build_model(description["tokenizer"], description["model"])
    state = {f"net.{key}": value for key, value in model.state_dict().items()}
    torch.save({"seqtrack": description, "state_dict": state}, tmp_path / "tiny.ckpt")
    return tmp_path / "tiny.ckpt"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
@pytest.mark.filterwarnings("default")  # of jupyter's own parts
def test_notebook_runs(path, checkpoint, monkeypatch):
    monkeypatch.setenv("SEQTRACK_CHECKPOINT", str(checkpoint))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the kernel shows pictures, Agg would not
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebook_is_stripped(path):
    cells = json.loads(path.read_text())["cells"]
    assert [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")] == []
