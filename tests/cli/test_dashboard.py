"""seqtrack-dashboard without a server: the specification, and sweep files. What the dashboard shows: test_wandb.py."""

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from seqtrack_lit.cli import dashboard
from seqtrack_lit.cli.hydra.runtime import config_folder


def test_dashboard_without_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqtrack-dashboard", "out=there/look.json", "project=mine"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # in the package's own modules, when first imported
        dashboard.main()
    assert "nothing saved online: the specification is there/look.json" in capsys.readouterr().out
    written = json.loads((tmp_path / "there/look.json").read_text())
    assert [section["name"] for section in written["spec"]["section"]["panelBankConfig"]["sections"]] == [
        "Sweep", "Validation", "Benchmarks", "Pictures", "Training", "Machine"
    ]  # fmt: skip
    assert written["project"] == "mine"


@pytest.mark.parametrize(
    ("experiment", "method", "key", "wanted"),
    [
        ("search", "bayes", "optimizer.lr", {"distribution": "log_uniform_values", "min": 0.0003, "max": 0.01}),
        ("fig6_bins", "grid", "tokenizer.bins", {"values": [16, 32, 64, 128, 256, 512]}),
        ("tab4_ablations", "grid", "seed", {"values": [0, 1, 2]}),
    ],
)
def test_the_sweep_file_has_hydra_s_search_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, method: str, key: str, wanted: dict[str, Any]
) -> None:
    """And its command, filled in by wandb's own code, is one that seqtrack-train takes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqtrack-dashboard", f"sweep={experiment}"])
    dashboard.main()
    sweep = yaml.safe_load((tmp_path / f"runs/sweep_{experiment}.yaml").read_text())
    assert (sweep["method"], sweep["metric"]) == (method, {"name": "best", "goal": "maximize"})
    assert sweep["parameters"][key] == wanted
    chosen = {name: {"value": of.get("min") or of["values"][0]} for name, of in sweep["parameters"].items()}
    monkeypatch.setenv("WANDB_RUN_ID", "abc123")
    filled = create_sweep_command_args({"args": chosen})["args_no_hyphens"]
    command: list[str] = []
    for item in create_sweep_command(sweep["command"]):
        command += filled if item == "${args_no_hyphens}" else [item]
    assert command[:2] == ["seqtrack-train", f"experiment={experiment}"]
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", command[1:], return_hydra_config=True)
    assert (str(config.hydra.mode), config.hydra.run.dir) == ("RunMode.RUN", f"runs/{experiment}/abc123")
    assert OmegaConf.select(config, key) == chosen[key]["value"]
    assert config.logger._target_.endswith("WandbService")


def test_dashboard_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqtrack-dashboard"])
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    with pytest.raises(SystemExit) as stop:
        dashboard.main()
    assert stop.value.code == 2
    assert "pip install wandb-workspaces" in capsys.readouterr().err
