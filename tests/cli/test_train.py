"""seqtrack-train from the command line, with a model that takes milliseconds a step."""

import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
from lightning.pytorch import Callback
from omegaconf import OmegaConf

from seqtrack_lit import load_tracker
from seqtrack_lit.cli import train
from seqtrack_lit.cli.launch import processes as launch
from seqtrack_lit.models.checkpoint import load_model
from seqtrack_lit.runs.folder import is_own, read_metadata, read_rows, write_metadata
from seqtrack_lit.training.precision import Precision

COMMAND = train

pytestmark = pytest.mark.filterwarnings("ignore:.*GPU available.*", "ignore:Starting from v1.9.0.*tensorboardX.*")
TINY = [
    "model=seqtrack_tiny", "model.encoder.width=32", "model.encoder.depth=1", "model.decoder.width=32",
    "model.decoder.ffn=32", "data=quickstart", "data.train.generated.open.count=4", "data.validation.open.count=4",
    "data.validation.pairs=4", "data.validation.tracks=1", "data.validation.track_frames=4", "optimizer=muon",
    "debug=fast", "trainer=cpu", "callbacks.pictures=2", "train.ema_decay=0.9",
]  # fmt: skip


def tiny(folder: str, *arguments: str) -> list[str]:
    return [*TINY, f"hydra.run.dir={folder}", *arguments]


def numbers(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without what depends on the clock."""
    rows = read_rows(folder / "metrics.csv")
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "memory/"))} for row in rows]


def weights(path: Path) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, weights_only=True)
    return saved["state_dict"]  # type: ignore[no-any-return]


class Stop(Callback):
    """Asks training to stop in its fifth step."""

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 5:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)


class Late(Callback):
    """Asks the first job to stop when nothing is left of it but its last validation."""

    def on_validation_start(self, trainer: Any, *_: Any) -> None:
        if trainer.current_epoch + 1 == trainer.max_epochs and "seed-0" in trainer.default_root_dir:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> str:
    """An override that stops a run; importable for Hydra."""
    module = ModuleType("stopping")
    module.Stop, module.Late = Stop, Late  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "stopping", module)
    return "+callbacks.extra.stop._target_=stopping.Stop"


def test_a_run_leaves_everything_behind(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert run(*tiny("out", "tracker.update_interval=7")) == 0
    out = tmp_path / "out"
    names = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert names >= {
        "config.yaml", "run.json", "metrics.csv", "train.log", "checkpoints/best.ckpt",
        "checkpoints/last.ckpt", "checkpoints/previous.ckpt", "pictures/train_samples_0000000.png",
        "pictures/val_pairs_0000004.png", "pictures/val_videos_0000008.csv",
    }  # fmt: skip
    facts = json.loads((out / "run.json").read_text())
    assert facts["status"] == "finished"
    assert is_own(facts)
    assert facts["budget"]["steps"] == 8
    assert facts["environment"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert len(facts["environment"]["revision"]["commit"]) == 40
    assert facts["data"]["generated"]["videos"] == 4
    assert facts["learning_rates"]["muon"] == pytest.approx(3.75e-3 * (8 / 48) ** 0.5)
    rows = read_rows(out / "metrics.csv")
    assert [row["step"] for row in rows] == [str(i) for i in range(1, 9)]
    assert float(rows[-1]["val/pair_iou_narrow"]) >= 0
    assert OmegaConf.load(out / "config.yaml").model.encoder.width == 32
    screen = capsys.readouterr().out
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
        "name": "debug", "search_factor": 3.0, "template_factor": 2.0, "window": True, "update": "likelihood",
        "update_interval": 7, "update_threshold": 0.015,
    }  # fmt: skip
    assert load_tracker(out / "checkpoints" / "best.ckpt", device="cpu").search_factor == 3.0
    ema = torch.load(out / "checkpoints" / "best.ckpt", weights_only=True)["ema"]
    assert all(torch.equal(value, ema[name]) for name, value in loaded.model.state_dict().items())


def test_a_second_run_in_the_same_folder(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert run(*tiny("out")) == 0
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
    assert run(*tiny("out", "overwrite=true", "seed=1")) == 0
    second = weights(tmp_path / "out/checkpoints/last.ckpt")
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert len(read_rows(tmp_path / "out/metrics.csv")) == 8


def test_stop_and_resume(run: Callable[..., int], tmp_path: Path, stop: str, capsys: Any) -> None:
    """By the run's folder; in a fixed folder; the newest of the dated folders under the name of the run."""
    same = "model.decoder.dropout=0.1"
    assert run(*tiny("whole", same)) == 0
    dated = [*TINY, same, "name=dated"]
    first = {"folder": tiny("given", same), "auto": tiny("fixed", same), "newest": dated}
    again = {
        "folder": ["resume=given", stop],
        "auto": [*tiny("fixed", same), "resume=auto"],
        "newest": [*dated, stop, "resume=auto"],
    }
    for how, arguments in first.items():
        assert run(*arguments, stop) == 143
        parts = {"folder": tmp_path / "given", "auto": tmp_path / "fixed"}.get(how)
        parts = parts or next((tmp_path / "runs/dated").iterdir())
        assert json.loads((parts / "run.json").read_text())["status"] == "stopped"
        assert len(read_rows(parts / "metrics.csv")) == 5
        capsys.readouterr()
        spent = read_metadata(parts)["seconds"]
        assert run(*again[how]) == 0
        assert "going on from last.ckpt" in capsys.readouterr().out
        facts = read_metadata(parts)
        assert facts["status"] == "finished"
        assert facts["seconds"] > spent  # of both parts
        mine, whole = weights(parts / "checkpoints/last.ckpt"), weights(tmp_path / "whole/checkpoints/last.ckpt")
        assert all(torch.equal(whole[name], mine[name]) for name in whole)
        assert numbers(parts) == numbers(tmp_path / "whole")
    assert run(*tiny("fresh", "resume=auto", "train.samples=32")) == 0  # those beside it are no runs of its name
    assert "going on" not in capsys.readouterr().out
    assert (tmp_path / "fresh/run.json").exists()


# what cannot change on the way: then and now
CHANGED = {
    "tokenizer.bins=32": ("64", "32"),
    "optimizer.lr=5e-3": ("0.0015", "0.005"),
    "train.global_batch=16": ("8", "16"),
    "train.samples=96": ("64", "96"),
    "train.precision=bf16": ("auto", "bf16"),
    "data.frame_sampling.distractor_pairs=0": ("1.0", "0"),
    "seed=1": ("0", "1"),
    "init_from=other.ckpt": ("None", "other.ckpt"),
}


def test_resume_with_other_settings(run: Callable[..., int], tmp_path: Path, stop: str, capsys: Any) -> None:
    """Refused where the result depends on them, and the attempt leaves no trace; taken where it does not."""
    assert run(*tiny("whole")) == 0
    assert run(*tiny("out", stop)) == 143
    for change, (then, now) in CHANGED.items():
        assert run("resume=out", stop, change) == 2
        setting = change.partition("=")[0]
        assert f"out was begun with {setting}={then} and cannot go on with {now}" in capsys.readouterr().err
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
    mine, whole = (weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("out", "whole"))
    assert all(torch.equal(whole[name], mine[name]) for name in whole)
    assert numbers(tmp_path / "out") == numbers(tmp_path / "whole")


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


def test_two_processes_cannot_train_in_one_folder(
    run: Callable[..., int], tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock goes with its process, however that ends."""
    monkeypatch.setattr(launch, "_PATIENCE", 1)
    hold = "from pathlib import Path\nfrom seqtrack_lit.cli.launch.processes import only_here\n"
    hold += "with only_here(Path('out')):\n    print('held', flush=True)\n    input()"
    command = [sys.executable, "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        assert run(*tiny("out")) == 2
        assert f"out: process {other.pid} on " in capsys.readouterr().err
        other.kill()
    assert run(*tiny("out", "dry_run=true")) == 0


def test_start_from_weights(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert run(*tiny("first")) == 0
    assert run(*tiny("second", "init_from=first/checkpoints/best.ckpt", "optimizer.lr=0", "optimizer.muon_lr=0")) == 0
    first = torch.load(tmp_path / "first/checkpoints/best.ckpt", weights_only=True)["ema"]
    second = weights(tmp_path / "second/checkpoints/last.ckpt")
    assert all(torch.allclose(first[name], second[f"net.{name}"]) for name in first)
    assert read_metadata(tmp_path / "second")["start"] == "weights of first/checkpoints/best.ckpt"
    assert run(*tiny("third", "init_from=first/checkpoints/best.ckpt", "tokenizer.bins=32")) == 2
    assert "has shape" in capsys.readouterr().err


def test_dry_run_touches_no_run(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    """Not even that of its own folder, whatever else is asked."""
    assert run(*tiny("out")) == 0
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


@pytest.mark.parametrize("value", ["yes", "1", "True,False", ""])
def test_a_dry_run_that_is_meant_but_not_said_touches_no_run(
    run: Callable[..., int], tmp_path: Path, capsys: Any, value: str
) -> None:
    assert run(*tiny("out", f"dry_run={value}")) == 2
    assert f"seqtrack-train: dry_run must be true or false, got {value.lower()!r}\n" == capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_first_validation_of_a_training_on_got10k(
    run: Callable[..., int], tmp_path: Path, make_dataset: Any, capsys: Any
) -> None:
    """Videos longer than what is tracked of them, with a cover of every frame; the dry run has tried it before."""
    make_dataset("got10k")
    generated = ("data=", "data.train.", "data.validation.open.", "data.validation.track_frames")
    arguments = [item for item in tiny("out") if not item.startswith(generated)]
    arguments += ["data=got10k", "data.validation.track_frames=10", "data.workers=0"]
    arguments += ["train.epoch_samples=32", "train.samples=64"]
    assert run(*arguments, "dry_run=true") == 0
    assert "a batch of pairs and 1 video of 10 frames in" in capsys.readouterr().out
    assert run(*arguments) == 0
    facts = read_metadata(tmp_path / "out")
    assert facts["which"] == "last"
    assert facts["best"] >= 0
    assert "checkpoints/last.ckpt, best val/auc" in capsys.readouterr().out


def test_without_files(run: Callable[..., int], tmp_path: Path) -> None:
    assert run(*tiny("out", "logger=none")) == 0
    assert not (tmp_path / "out/metrics.csv").exists()
    assert (tmp_path / "out/checkpoints/best.ckpt").exists()


def test_sweep_over_bins_and_order(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    """Four runs with comparable results; the same command again finds them finished."""
    sweep = [*TINY, "-m", "tokenizer.bins=16,32", "tokenizer.order=cxcywh,whcxcy", "hydra.sweep.dir=sweep"]
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
    assert run(*TINY, "-m", "model/encoder=vit_b16,vit_l16", "hydra.sweep.dir=sweep") == 0
    names = {path.name for path in (tmp_path / "sweep").iterdir() if path.is_dir()}
    assert names == {"model.encoder-vit_b16", "model.encoder-vit_l16"}


def test_a_sweep_ends_also_in_the_last_epoch_of_a_job(
    run: Callable[..., int], tmp_path: Path, stop: str, capsys: Any
) -> None:
    """That job is finished, the next one is not begun; the same command goes on with it."""
    sweep = [*TINY, stop.replace("Stop", "Late"), "-m", "seed=0,1", "name=sweep"]
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


def test_a_validation_without_tracking_repeats_no_score(run: Callable[..., int], tmp_path: Path) -> None:
    assert run(*tiny("out", "callbacks.track_every=2", "train.samples=128")) == 0
    found = [bool(row["val/auc"]) for row in numbers(tmp_path / "out") if row["val/loss"]]
    assert found == [False, True, False, True]


WRONG = {
    "train.global_batch=abc": "train.global_batch must be a whole number >= 1, got 'abc'",
    "train.device_batch=3": "train.global_batch = 8 is no multiple of 1 device(s) x train.device_batch = 3",
    "tokenizer.bins=one": "tokenizer.bins must be a whole number >= 2, got 'one'",
    "optimizer.lr=fast": "optimizer.lr must be a number >= 0, got 'fast'",
    "train.precision=fp8": "train.precision must be one of fp32, bf16, fp16, auto, got 'fp8'",
    "train.precision=fp16": "train.precision=fp16 needs a GPU; on a CPU train with bf16 or fp32",
    "train.tf32=yes": "train.tf32 must be true or false, got 'yes'",
    "train.dense_weight=3 model.dense_head=false": "train.dense_weight = 3 needs model.dense_head=true",
    "tracker.update_interval=-1": "update_interval",
    "which=newest": "which must be one of best, last, got 'newest'",
    "trainer.accelerator=mps": "trainer.accelerator=mps: Apple's GPUs (MPS) have no float64",
    "seed=x": "seed must be a whole number >= 0, got 'x'",
    "model.encoder.search_size=50": "model.encoder.search_size must be a multiple of the patch size 8, got 50",
    "+model.encoder.widht=3": "unknown key model.encoder.widht",
    "+trainer.gradient_clip=3": "unknown key",
    "+trainer.gradient_clip_val=3": "trainer.gradient_clip_val is set by this project: use optimizer.clip instead",
    "+trainer.precision=16": "use train.precision instead",
    "+trainer.max_epochs=3": "use train.samples instead",
    "+trainer.limit_train_batches=3": "use train.epoch_samples instead",
    "+trainer.logger=false": "use logger= instead",
    "data.train.generated.open.count=0": "data.train.generated",
    "logger=wandb logger.service.mode=fast": "logger.service.mode must be online, offline, disabled or null",
    "trainer.devices=0": "trainer",
    "+foo=1": "unknown key foo=1; keys: ",
    "trainer.strategy={_target_:lightning.pytorch.strategies.ModelParallelStrategy}": "trainer.strategy shards the",
    "model=seqtrack_l256 model/encoder=mae_b16": "but model=seqtrack_l256 has a ViT-L: take model/encoder=mae_l16",
    "name=": "cannot name the folder of a run",
}
if not torch.cuda.is_available():
    WRONG["trainer.accelerator=gpu"] = "finds no GPU here"


def test_the_words_for_precision() -> None:
    assert set(train._PRECISIONS) == {*get_args(Precision), "auto"}


def test_ddp_with_one_device_is_plain_training(
    run: Callable[..., int], tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    one = tiny("one", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1")
    assert run(*[item for item in one if item != "trainer=cpu"]) == 0
    assert not [str(warning.message) for warning in recwarn if "sync_dist" in str(warning.message)]
    assert run(*tiny("plain")) == 0
    first, second = (weights(tmp_path / name / "checkpoints/last.ckpt") for name in ("one", "plain"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_wrong_values_are_one_line_and_exit_2(tmp_path: Path) -> None:
    """All in one process without the tests' type checks, which would stop a wrong type earlier."""
    script = (
        "import sys, json\nfrom seqtrack_lit.cli.train import main\n"
        "tiny, cases = json.loads(sys.argv[1])\n"
        "for number, case in enumerate(cases):\n"
        "    sys.argv = ['seqtrack-train', *tiny, f'hydra.run.dir=out{number}', *case.split()]\n"
        "    print('#', case, file=sys.stderr)\n"
        "    try:\n        main()\n    except SystemExit as stop:\n        print('exit', stop.code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, json.dumps([TINY, list(WRONG)])],
        capture_output=True, text=True, cwd=tmp_path, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers = {part.splitlines()[0].strip(): part.splitlines()[1:] for part in done.stderr.split("# ")[1:]}
    for case, text in WRONG.items():
        lines = answers[case]
        assert len(lines) == 2, (case, lines)
        assert lines[1] == "exit 2"
        assert lines[0].startswith("seqtrack-train: ")
        assert text in lines[0], (case, lines[0])
    assert not list(tmp_path.glob("out*/checkpoints"))


@pytest.mark.slow
def test_a_paper_s_model_without_network(run: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    assert run("model=seqtrack_b256", "data=quickstart", "trainer=cpu") == 2
    line = capsys.readouterr().err
    assert "set model.encoder.pretrained=mae_pretrain_vit_base.pth, or start at random with model.encoder" in line
    assert line.count("\n") == 1


def test_a_full_disk_leaves_the_facts_and_the_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room for a new file: the status is written over the old one, the rest stays."""
    write_metadata(tmp_path, {"status": "running", "seed": 1})

    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        write_metadata(tmp_path, {"status": "failed", "seconds": 3.0})
    assert read_metadata(tmp_path) == {"status": "failed", "seed": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
