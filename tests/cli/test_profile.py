"""seqtrack-profile with a checkpoint."""

import json
import sys
from pathlib import Path

import pytest

from seqtrack_lit.cli import profile

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "s1"


def test_an_official_checkpoint(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    checkpoint = GOLDEN / "SEQTRACK_ep0007.pth.tar"
    arguments = [f"checkpoint={checkpoint}", "device=cpu", "frames=1", "image_size=[64,48]", "out=out"]
    monkeypatch.setattr(sys, "argv", ["seqtrack-profile", *arguments])
    with pytest.raises(SystemExit) as stop:
        profile.main()
    assert stop.value.code == 2
    assert "official_config=FILE" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["seqtrack-profile", *arguments, f"official_config={GOLDEN / 'cfg.yaml'}"])
    profile.main()
    facts = json.loads((tmp_path / "out" / "SEQTRACK_ep0007.pth.json").read_text())
    assert facts["macs"]["everything"] > 0
    # cfg.yaml: search region of 96 px in patches of 16 px, decoder of width 32
    assert facts["parameters"]["memory_position"] == 36 * 32


def test_counting_asks_for_no_weights(tmp_path, monkeypatch):
    """The paper's models start from MAE, which is not here."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqtrack-profile", "model=seqtrack_b256", "frames=0", "out=out", "device=cpu"])
    profile.main()
    assert json.loads((tmp_path / "out" / "seqtrack_b256.json").read_text())["parameters"]["total"] == 90_596_002


@pytest.mark.parametrize(
    ("model", "encoder", "take"),
    [
        ("seqtrack_l256", "mae_b16", "take model/encoder=mae_l16, or"),
        ("seqtrack_b384", "dinov2_l14", "take model/encoder=dinov2_b14, or"),
        ("seqtrack_l384", "siglip2_b16", "take a model of the encoder's size"),
    ],
)
def test_an_encoder_of_another_size(tmp_path, monkeypatch, capsys, model, encoder, take):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqtrack-profile", f"model={model}", f"model/encoder={encoder}", "frames=0"])
    with pytest.raises(SystemExit) as stop:
        profile.main()
    assert stop.value.code == 2
    assert take in capsys.readouterr().err


def test_counting_without_timing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["seqtrack-profile", "model=seqtrack_tiny", "frames=0", "out=out", "device=cpu"])
    profile.main()
    facts = json.loads((tmp_path / "out" / "seqtrack_tiny.json").read_text())
    assert facts["parameters"]["total"] == 664_387
    assert "fps" not in facts
    assert "frames per second" not in capsys.readouterr().out
