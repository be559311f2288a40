"""What seqtrack-train refuses, in one line and before it begins."""

import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from tests.cli.tiny import TINY, tiny

from seqtrack_lit.cli import train
from seqtrack_lit.runs.folder import read_metadata, write_metadata
from seqtrack_lit.training.precision import Precision

COMMAND = train


@pytest.mark.parametrize("value", ["yes", "1", "True,False", ""])
def test_a_dry_run_that_is_meant_but_not_said_touches_no_run(
    run: Callable[..., int], tmp_path: Path, capsys: Any, value: str
) -> None:
    assert run(*tiny("out", f"dry_run={value}")) == 2
    assert f"seqtrack-train: dry_run must be true or false, got {value.lower()!r}\n" == capsys.readouterr().err
    assert not list(tmp_path.iterdir())


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
    "eval_checkpoint=newest": "eval_checkpoint must be one of best, last, got 'newest'",
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
    "logger=wandb logger.mode=fast": "logger.mode must be online, offline, disabled or null",
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


@pytest.mark.slow
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
        capture_output=True, text=True, cwd=tmp_path, check=False, timeout=900,
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
