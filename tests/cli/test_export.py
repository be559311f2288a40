"""seqtrack-export: what it writes is read again, by us and by torch."""

import sys
from pathlib import Path

import pytest
import torch

from seqtrack_lit.cli import export
from seqtrack_lit.models.checkpoint import load_model
from seqtrack_lit.models.official_names import to_official

GOLDEN = Path(__file__).parents[1] / "golden"
OURS, OFFICIAL = GOLDEN / "checkpoint" / "format1.pt", GOLDEN / "model" / "s2" / "SEQTRACK_ep0007.pth.tar"


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str) -> None:
        monkeypatch.setattr(sys, "argv", ["seqtrack-export", *arguments])
        export.main()

    return go


def test_compact(tmp_path, run, capsys):
    run(f"checkpoint={OURS}", "out=small.safetensors")
    assert "small.safetensors: 0.1 MB, compact" in capsys.readouterr().out
    was, now = load_model(OURS), load_model(tmp_path / "small.safetensors")
    assert now.tracker == was.tracker
    for (name, a), b in zip(was.model.state_dict().items(), now.model.state_dict().values(), strict=True):
        assert (a - b).abs().max() <= a.abs().max() / 254 + 1e-3, name  # half a step of 127, and fp16


def test_the_mean_of_checkpoints(tmp_path, run):
    ours = torch.load(OURS, weights_only=True)
    name = "ema" if ours.get("ema") else "state_dict"
    torch.save({**ours, name: {key: 3 * value for key, value in ours[name].items()}}, tmp_path / "three.ckpt")
    run(f"checkpoint={OURS}", "average=[three.ckpt]", "out=mean.safetensors", "storage=fp16")
    was, now = load_model(OURS).model.state_dict(), load_model(tmp_path / "mean.safetensors").model.state_dict()
    for key, value in was.items():
        torch.testing.assert_close(now[key], 2 * value, rtol=2e-3, atol=1e-4)


def test_official(tmp_path, run):
    config = OFFICIAL.with_name("cfg.yaml")
    run(f"checkpoint={OFFICIAL}", f"official_config={config}", "to=official", "out=new/SEQTRACK_ep0500.pth.tar")
    written = torch.load(tmp_path / "new" / "SEQTRACK_ep0500.pth.tar", weights_only=True)["net"]
    expected = to_official(load_model(OFFICIAL, official_config=config).model.state_dict())
    assert written.keys() == expected.keys()
    assert all(torch.equal(written[key], expected[key]) for key in expected)
    again = load_model(tmp_path / "new" / "SEQTRACK_ep0500.pth.tar", official_config=config).model.state_dict()
    assert all(
        torch.equal(again[key], value)
        for key, value in load_model(OFFICIAL, official_config=config).model.state_dict().items()
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["out=x"], "checkpoint"),
        ([f"checkpoint={OURS}"], "out"),
        ([f"checkpoint={OURS}", "out=x", "to=coreml"], "to must be one of compact, official, onnx, got 'coreml'"),
        ([f"checkpoint={OURS}", "out=x", "storage=int4"], "storage must be one of int8, fp16"),
        ([f"checkpoint={OURS}", "out=there"], "out=there exists already"),
        ([f"checkpoint={OURS}", f"average=[{OFFICIAL}]", "out=x"], "is of another model than"),
        ([f"checkpoint={OURS}", f"average=[{OURS}]", "to=official", "out=x"], "average= goes with to=compact only"),
        ([f"checkpoint={OFFICIAL}", "out=x"], "has no description of its model"),
        ([f"checkpoint={OURS}", "to=official", "out=x"], "no such model: model.map_equal_widths=true"),
    ],
    ids=[
        "no checkpoint",
        "no out",
        "to",
        "storage",
        "exists",
        "another model",
        "average of official",
        "no description",
        "no official model",
    ],
)
def test_mistakes_are_one_line(tmp_path, run, capsys, arguments, says):
    (tmp_path / "there").touch()
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2
    assert says in said
    assert len(said.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
