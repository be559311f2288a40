"""seqtrack-train on one CUDA device, through the command; runs unattended (`make test-gpu`)."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.tiny import TINY, Stop, call, numbers, weights

from seqtrack_lit.cli import train
from seqtrack_lit.runs.folder import read_metadata

# a new driver's or library's advice must not stop the only check that runs on a GPU
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]
GPU = [item for item in TINY if item != "trainer=cpu"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Run the command in a folder of its own; returns the exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    monkeypatch.setitem(sys.modules, "stopping", type(sys)("stopping"))
    sys.modules["stopping"].Stop = Stop  # type: ignore[attr-defined]
    yield lambda folder, *arguments: call(monkeypatch, train, *GPU, f"hydra.run.dir={folder}", *arguments)
    torch.use_deterministic_algorithms(False)


def test_stopped_and_resumed_bitwise(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    """fp32, deterministic kernels: stopped by a signal in the fifth step and continued; weights and numbers equal."""
    exact = ["trainer=gpu", "train.precision=fp32", "train.tf32=false", "+trainer.deterministic=true"]
    exact += ["model.decoder.dropout=0.1"]
    assert run("whole", *exact) == 0
    assert "fp32, TF32 off" in capsys.readouterr().out
    assert run("parts", *exact, "+callbacks.extra.stop._target_=stopping.Stop") == 143
    assert read_metadata(tmp_path / "parts")["status"] == "stopped"
    assert run("parts", *exact, "resume=auto") == 0
    assert "going on from last.ckpt" in capsys.readouterr().out
    whole, parts = (weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")


def test_precision_of_the_gpu_is_chosen_and_told(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert run("out") == 0
    facts, screen = read_metadata(tmp_path / "out"), capsys.readouterr().out
    wanted = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    assert facts["precision"] == wanted
    assert facts["device"] == torch.cuda.get_device_name()
    assert f"on {facts['device']}, {wanted}, TF32 allowed" in screen
    assert all(value.dtype != torch.bfloat16 for value in weights(tmp_path / "out/checkpoints/last.ckpt").values())


def test_nccl_with_one_device(run: Callable[..., int], tmp_path: Path) -> None:
    """The same weights as without DistributedDataParallel, up to rounding."""
    same = ["train.precision=fp32", "train.tf32=false", "optimizer=adamw", "model.decoder.dropout=0"]
    assert run("one", "trainer=gpu", *same) == 0
    assert run("ddp", "trainer=ddp", "trainer.accelerator=gpu", "trainer.devices=1", *same) == 0
    assert not torch.distributed.is_initialized()
    one, ddp = (weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("one", "ddp"))
    assert all(torch.allclose(one[name], ddp[name], atol=1e-3) for name in one)


def test_a_dry_run_tells_the_memory_of_the_gpu(run: Callable[..., int], capsys: Any) -> None:
    assert run("out", "dry_run=true") == 0
    total = torch.cuda.get_device_properties(0).total_memory / 1e9
    assert f" GB of {total:.0f} GB" in capsys.readouterr().out
