"""seqtrack-train from the command line: runs, resume, what they leave."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from tests.cli.tiny import ONE_STEP, TINY, numbers, tiny, weights

from seqtrack_lit import load_tracker
from seqtrack_lit.cli import train
from seqtrack_lit.cli.launch import processes as launch
from seqtrack_lit.models.checkpoint import load_model
from seqtrack_lit.runs.folder import check_same, is_own, read_metadata, read_rows

COMMAND = train

pytestmark = pytest.mark.filterwarnings("ignore:.*GPU available.*", "ignore:Starting from v1.9.0.*tensorboardX.*")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of `tiny`, to be copied; beside it `screen`, what was printed."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as screen:
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["seqtrack-train", *tiny("run")])
        torch.set_num_threads(1)
        train.main()
    (folder / "screen").write_text(screen.getvalue())
    return folder / "run"


def test_a_run_leaves_everything_behind(finished: Path) -> None:
    out = finished
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml", "run.json", "metrics.csv", "train.log", "checkpoints/best.ckpt",
        "checkpoints/last.ckpt", "checkpoints/previous.ckpt", "pictures/train_samples_0000000.png",
        "pictures/val_pairs_0000004.png", "pictures/val_videos_0000008.csv",
    }  # fmt: skip
    facts = json.loads((out / "run.json").read_text())
    assert facts["status"] == "finished"
    assert is_own(facts)
    assert facts["length"]["steps"] == 8
    assert facts["environment"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert len(facts["environment"]["revision"]["commit"]) == 40
    assert facts["data"]["generated"]["videos"] == 4
    assert facts["learning_rates"]["muon"] == pytest.approx(3.75e-3 * (8 / 48) ** 0.5)
    rows = read_rows(out / "metrics.csv")
    assert [row["step"] for row in rows] == [str(i) for i in range(1, 9)]
    assert float(rows[-1]["val/pair_iou_narrow"]) >= 0
    assert OmegaConf.load(out / "config.yaml").model.encoder.width == 32
    screen = (finished.parent / "screen").read_text()
    for text in (
        "start    random weights",
        "64 samples = 2 epochs x 4 steps x batch 8",
        "x 0.408",
        "epoch 2/2  step 8",
        "best.ckpt",
    ):
        assert text in screen
    loaded = load_model(out / "checkpoints" / "best.ckpt")
    assert loaded.tracker == {
        "name": "debug", "search_factor": 2.5, "template_factor": 2.0, "window": True, "update": "likelihood",
        "update_interval": 25, "update_threshold": 0.015, "expectation": 0, "offset": 0.0,
    }  # fmt: skip
    assert load_tracker(out / "checkpoints" / "best.ckpt", device="cpu").search_factor == 2.5
    ema = torch.load(out / "checkpoints" / "best.ckpt", weights_only=True)["ema"]
    assert all(torch.equal(value, ema[name]) for name, value in loaded.model.state_dict().items())


def test_a_second_run_in_the_same_folder(run: Callable[..., int], tmp_path: Path, finished: Path, capsys: Any) -> None:
    shutil.copytree(finished, "out")
    first = weights(tmp_path / "out/checkpoints/last.ckpt")
    assert run(*tiny("out")) == 2
    assert "out already holds a run: go on with it by resume=auto" in capsys.readouterr().err
    assert run(*tiny("out", "resume=auto")) == 0
    assert "already finished" in capsys.readouterr().out
    assert run(*tiny("out", "resume=auto", "train.samples=96")) == 2
    assert "out was begun with train.samples=64 and cannot go on with 96" in capsys.readouterr().err
    assert run(*tiny("out", "overwrite=true", "train.device_batch=3")) == 2  # a mistake does not cost the run
    assert run(*tiny("out", "overwrite=true", "init_from=out/checkpoints/best.ckpt")) == 2
    assert "overwrite=true would delete init_from=" in capsys.readouterr().err
    assert run(*tiny("out", "overwrite=true", "seed=1", *ONE_STEP)) == 0
    second = weights(tmp_path / "out/checkpoints/last.ckpt")
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert len(read_rows(tmp_path / "out/metrics.csv")) == 1


@pytest.mark.slow
def test_stop_and_resume(run: Callable[..., int], tmp_path: Path, finished: Path, stop: str, capsys: Any) -> None:
    """By the run's folder; in a fixed folder; the newest of the dated folders under the name of the run."""
    dated = [*TINY, "name=dated"]
    assert run(*dated, stop) == 143
    newest = next((tmp_path / "runs/dated").iterdir())
    assert json.loads((newest / "run.json").read_text())["status"] == "stopped"
    assert len(read_rows(newest / "metrics.csv")) == 5
    again = {
        tmp_path / "given": ["resume=given", stop],
        tmp_path / "fixed": [*tiny("fixed", "name=dated"), "resume=auto"],
        newest: [*dated, stop, "resume=auto"],
    }
    for parts in again:
        if parts != newest:
            shutil.copytree(newest, parts)
    for parts, arguments in again.items():
        capsys.readouterr()
        spent = read_metadata(parts)["seconds"]
        assert run(*arguments) == 0
        assert "going on from last.ckpt" in capsys.readouterr().out
        facts = read_metadata(parts)
        assert facts["status"] == "finished"
        assert facts["seconds"] > spent  # of both parts
        mine, whole = (weights(folder / "checkpoints/last.ckpt") for folder in (parts, finished))
        assert all(torch.equal(whole[name], mine[name]) for name in whole)
        assert numbers(parts) == numbers(finished)
    assert run(*tiny("fresh", "resume=auto", *ONE_STEP)) == 0  # those beside it are no runs of its name
    assert "going on" not in capsys.readouterr().out
    assert (tmp_path / "fresh/run.json").exists()


@pytest.mark.parametrize(
    ("key", "then", "now"),
    [
        ("tokenizer.bins", 64, 32),
        ("optimizer.lr", 0.0015, 0.005),
        ("train.global_batch", 8, 16),
        ("train.samples", 64, 96),
        ("train.precision", "auto", "bf16"),
        ("data.frame_sampling.distractor_pairs", 1.0, 0),
        ("seed", 0, 1),
        ("init_from", None, "other.ckpt"),
    ],
)
def test_what_cannot_change_on_the_way(finished: Path, key: str, then: Any, now: Any) -> None:
    settings = OmegaConf.load(finished / "config.yaml")
    check_same(finished, settings, train._DECISIVE, harmless=train._HARMLESS)
    OmegaConf.update(settings, key, now)
    with pytest.raises(ValueError, match=re.escape(f"was begun with {key}={then} and cannot go on with {now};")):
        check_same(finished, settings, train._DECISIVE, harmless=train._HARMLESS)


@pytest.mark.slow
def test_resume_with_other_settings(
    run: Callable[..., int], tmp_path: Path, finished: Path, stop: str, capsys: Any
) -> None:
    """Refused where the result depends on them, and the attempt leaves no trace; taken where it does not."""
    assert run(*tiny("out", stop)) == 143
    assert run("resume=out", stop, "seed=1") == 2
    assert "out was begun with seed=0 and cannot go on with 1" in capsys.readouterr().err
    assert run("resume=out", stop, "train.device_batch=4") == 2
    said = "out stopped inside an epoch (step 5) on 1 device(s) x train.device_batch=8 and cannot go on with 1 x 4"
    assert said in capsys.readouterr().err
    path = tmp_path / "out/run.json"
    facts = json.loads(path.read_text())
    assert facts["status"] == "stopped"
    facts["environment"]["versions"]["torch"] = "1.13"
    facts["environment"]["revision"]["commit"] = "older"
    path.write_text(json.dumps(facts))
    assert run("resume=out", stop, "data.max_skipped=0.5") == 0
    warned = capsys.readouterr().out
    assert "not exactly the run that was begun: revision.commit older -> " in warned
    assert f"versions.torch 1.13 -> {torch.__version__.partition('+')[0]}" in warned
    mine, whole = (weights(folder / "checkpoints/last.ckpt") for folder in (tmp_path / "out", finished))
    assert all(torch.equal(whole[name], mine[name]) for name in whole)
    assert numbers(tmp_path / "out") == numbers(finished)


def test_resume_between_epochs_with_another_device_batch(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    """The samples of every step stay the same, so weights agree up to the order of sums."""
    dated = [*TINY, "name=dated", "model.decoder.dropout=0"]
    assert run(*dated) == 0
    (out,) = (tmp_path / "runs/dated").iterdir()
    first = weights(out / "checkpoints/last.ckpt")
    (out / "checkpoints/last.ckpt").unlink()  # as if killed while it was being replaced
    (out / "checkpoints/part.ckpt").write_bytes(b"half")
    facts = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**facts, "status": "running"}))
    capsys.readouterr()
    assert run(*dated, "resume=auto", "train.device_batch=4") == 0
    assert "going on from previous.ckpt" in capsys.readouterr().out
    assert not list(out.rglob("*part*"))
    second = weights(out / "checkpoints/last.ckpt")
    assert all(torch.allclose(first[name], second[name], atol=2e-2) for name in first)
    assert len(read_rows(out / "metrics.csv")) == 8
    assert len(list((tmp_path / "runs/dated").iterdir())) == 1


def test_a_damaged_checkpoint_is_told_on_screen_and_in_the_log(
    run: Callable[..., int], tmp_path: Path, stop: str, capsys: Any
) -> None:
    assert run(*tiny("out", stop, "callbacks.checkpoint_steps=2")) == 143
    path = tmp_path / "out/checkpoints/last.ckpt"
    path.write_bytes(path.read_bytes()[:-300])
    capsys.readouterr()
    assert run("resume=out", stop) == 143  # asked in its fifth step once more
    screen, log = capsys.readouterr().out, (tmp_path / "out/train.log").read_text()
    for text in (screen, log):
        assert "last.ckpt is damaged (" in text
        assert "passed over" in text
        assert re.search(r"going on from previous\.ckpt because last\.ckpt is damaged", text)


def test_two_processes_cannot_train_in_one_folder(
    run: Callable[..., int], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock goes with its process, however that ends."""
    monkeypatch.setattr(launch, "_PATIENCE", 1)
    hold = "from pathlib import Path\nfrom seqtrack_lit.cli.launch import processes\n"
    hold += "processes.first_process = lambda: True\n"  # which would import Lightning
    hold += "with processes.only_here(Path('out')):\n    print('held', flush=True)\n    input()"
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert run(*tiny("out")) == 2
        assert f"out: process {other.pid} on " in capsys.readouterr().err
        other.kill()
    with launch.only_here(tmp_path / "out"):
        assert str(os.getpid()) in (tmp_path / "out/.lock").read_text()


def test_start_from_weights(run: Callable[..., int], tmp_path: Path, finished: Path, capsys: Any) -> None:
    shutil.copytree(finished, "first")
    still = ["optimizer.lr=0", "optimizer.muon_lr=0", *ONE_STEP]
    assert run(*tiny("second", "init_from=first/checkpoints/best.ckpt", *still)) == 0
    first = torch.load(tmp_path / "first/checkpoints/best.ckpt", weights_only=True)["ema"]
    second = weights(tmp_path / "second/checkpoints/last.ckpt")
    assert all(torch.allclose(first[name], second[f"net.{name}"]) for name in first)
    assert read_metadata(tmp_path / "second")["start"] == "weights of first/checkpoints/best.ckpt"
    assert run(*tiny("third", "init_from=first/checkpoints/best.ckpt", "tokenizer.bins=32")) == 2
    assert "has shape" in capsys.readouterr().err


def test_dry_run_touches_no_run(run: Callable[..., int], tmp_path: Path, finished: Path, capsys: Any) -> None:
    """Not even that of its own folder, whatever else is asked."""
    shutil.copytree(finished, "out")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "out").rglob("*")) if path.is_file()}
    capsys.readouterr()
    assert run(*tiny("out", "dry_run=true", "train.device_batch=4", "overwrite=true")) == 0
    screen = capsys.readouterr().out
    after = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert before == after
    assert "fits     peak memory" in screen
    assert "samples/s" in screen
    assert "1 device(s) x 4 x 2 accumulated" in screen
    assert "validation: a batch of pairs and 1 video of 4 frames in" in screen


def test_the_first_validation_of_a_training_on_got10k(
    run: Callable[..., int], tmp_path: Path, make_dataset: Any, capsys: Any
) -> None:
    """Videos longer than what is tracked of them, with a cover of every frame; the dry run has tried it before."""
    make_dataset("got10k")
    generated = ("data=", "data.train.", "data.validation.open.", "data.validation.track_frames")
    arguments = [item for item in tiny("out") if not item.startswith(generated)]
    arguments += ["experiment=got10k", "name=out", "data.validation.track_frames=10", "data.workers=0"]
    arguments += ["train.epoch_samples=8", "train.samples=16"]
    assert run(*arguments, "dry_run=true") == 0
    assert "a batch of pairs and 1 video of 10 frames in" in capsys.readouterr().out
    assert run(*arguments) == 0
    facts = read_metadata(tmp_path / "out")
    assert facts["eval_checkpoint"] == "last"
    assert facts["best"] >= 0
    assert "checkpoints/last.ckpt, best val/auc" in capsys.readouterr().out


def test_a_validation_without_tracking_repeats_no_score(run: Callable[..., int], tmp_path: Path) -> None:
    assert run(*tiny("out", "callbacks.track_every=2", "train.samples=32", "train.epoch_samples=8")) == 0
    found = [bool(row["val/auc"]) for row in numbers(tmp_path / "out") if row["val/loss"]]
    assert found == [False, True, False, True]


def test_ddp_with_one_device_is_plain_training(
    run: Callable[..., int], tmp_path: Path, finished: Path, recwarn: pytest.WarningsRecorder
) -> None:
    one = tiny("one", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1")
    assert run(*[item for item in one if item != "trainer=cpu"]) == 0
    assert not [str(warning.message) for warning in recwarn if "sync_dist" in str(warning.message)]
    first, second = (weights(folder / "checkpoints/last.ckpt") for folder in (tmp_path / "one", finished))
    assert all(torch.equal(first[name], second[name]) for name in first)
