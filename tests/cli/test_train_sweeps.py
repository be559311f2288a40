"""Sweeps of seqtrack-train, one job after the other."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.tiny import ONE_STEP, TINY

from seqtrack_lit.cli import train
from seqtrack_lit.runs.folder import read_metadata, read_rows

COMMAND = train

pytestmark = pytest.mark.filterwarnings("ignore:.*GPU available.*", "ignore:Starting from v1.9.0.*tensorboardX.*")


def test_resume_one_job_of_a_sweep(run: Callable[..., int], tmp_path: Path, stop: str, capsys: Any) -> None:
    """Also where the experiment itself asks for a sweep."""
    sizes = [item for item in TINY if not item.startswith(("model=", "debug="))]
    short = ["train.samples=64", "train.epoch_samples=32", "train.global_batch=8", "train.precision=fp32"]
    one = ["hydra.sweeper.params.ablation=temporal", "hydra.sweeper.params.seed=0"]
    assert run("experiment=tab5_temporal", *one, *sizes, *short, stop) == 143
    (job,) = (path.parent for path in tmp_path.glob("runs/tab5_temporal/*/run.json"))
    capsys.readouterr()
    assert run(f"resume={job}", stop) == 0
    assert "going on from last.ckpt" in capsys.readouterr().out
    assert len(list(tmp_path.rglob("run.json"))) == 1


@pytest.mark.slow
def test_sweep_over_bins_and_order(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    """Four runs with comparable results; the same command again finds them finished."""
    sweep = [*TINY, *ONE_STEP, "-m", "tokenizer.bins=16,32", "tokenizer.order=cxcywh,whcxcy", "hydra.sweep.dir=sweep"]
    assert run(*sweep) == 0
    assert capsys.readouterr().out.count("missing, is run") == 4
    names = {f"tokenizer.bins-{bins}__tokenizer.order-{order}" for bins in (16, 32) for order in ("cxcywh", "whcxcy")}
    assert {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()} == names
    found = {}
    for path in (tmp_path / "sweep").glob("*/checkpoints/best.ckpt"):
        saved = torch.load(path, weights_only=True)
        facts = saved["seqtrack"]["tokenizer"]
        found[facts["bins"], facts["order"]] = saved["state_dict"]["net.decoder.embedding.weight"].shape[0]
        header = set(read_rows(path.parents[1] / "metrics.csv")[-1])
        assert {"val/auc", "train/loss_cx", "train/loss_w"} <= header
    assert found == {(16, "cxcywh"): 18, (16, "whcxcy"): 18, (32, "cxcywh"): 34, (32, "whcxcy"): 34}
    screen = run(*sweep), capsys.readouterr().out
    assert screen[0] == 0
    assert "tokenizer.bins-32__tokenizer.order-whcxcy: finished, is skipped" in screen[1]
    assert screen[1].count("already finished") == 4
    assert run(*sweep, "overwrite=true", "train.device_batch=3") == 1
    assert capsys.readouterr().out.count("finished, begins anew") == 4
    assert len(list((tmp_path / "sweep").glob("*/checkpoints/best.ckpt"))) == 4


def test_a_launcher_that_knows_no_devices(
    run: Callable[..., int], capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqtrack_lit.cli.launch.sweep.gpus", lambda: ["0", "1"])
    assert run("-m", "seed=0,1", "hydra/launcher=submitit_local") == 2
    assert (
        "hydra/launcher=submitit_local begins all jobs on the first GPU: use hydra/launcher=local"
        in capsys.readouterr().err
    )


def test_a_sweep_over_a_group_in_a_group_stays_in_its_folder(run: Callable[..., int], tmp_path: Path) -> None:
    assert run(*TINY, *ONE_STEP, "-m", "model/encoder=vit_b16,vit_l16", "hydra.sweep.dir=sweep") == 0
    names = {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()}
    assert names == {"model.encoder-vit_b16", "model.encoder-vit_l16"}


@pytest.mark.slow
def test_a_sweep_ends_also_in_the_last_epoch_of_a_job(
    run: Callable[..., int], tmp_path: Path, stop: str, capsys: Any
) -> None:
    """That job is finished, the next one is not begun; the same command goes on with it."""
    sweep = [*TINY, *ONE_STEP, stop.replace("Stop", "Late"), "-m", "seed=0,1", "name=sweep"]
    assert run(*sweep) == 143
    assert "stopped by SIGTERM after its last step; the sweep ends here" in capsys.readouterr().out
    first, second = (tmp_path / f"runs/sweep/seed-{seed}" for seed in (0, 1))
    assert read_metadata(first)["status"] == "finished"
    assert not (second / "checkpoints").exists()
    assert run(*sweep) == 0
    assert read_metadata(second)["status"] == "finished"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["experiment=tab5_temporal", "seed=7"], "the experiment sweeps seed: choose by hydra.sweeper.params.seed=..."),
        (["experiment=fig6_bins", "tokenizer.bins=7"], "choose by hydra.sweeper.params='{tokenizer.bins:...}'"),
        (["-m", "seed=0,1", "dry_run=true", "hydra/launcher=local"], "give no launcher with it"),
    ],
)
def test_sweeps_that_would_not_do_what_was_meant(
    run: Callable[..., int], capsys: Any, arguments: list[str], text: str
) -> None:
    assert run(*arguments) == 2
    assert text in capsys.readouterr().err
