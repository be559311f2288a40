"""metrics.csv, pictures and tables."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer

from seqtrack_lit.cli import dry_run
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.process import peak_memory, reset_peak_memory
from seqtrack_lit.runs.folder import read_rows
from seqtrack_lit.training.callbacks import metrics as recording
from seqtrack_lit.training.callbacks.metrics import FileLogger, RunLogger
from seqtrack_lit.training.callbacks.progress import _clock
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import Means, SeqTrackModule
from seqtrack_lit.training.optim import AdamWSettings


def test_rows_and_columns(tmp_path: Path) -> None:
    """A new number adds a column; numbers of the same step share a row; every call is on the disk at once."""
    folder = FileLogger(tmp_path)
    assert isinstance(folder, RunLogger)
    folder.numbers({"samples": 10, "a": 1.0}, 1)
    folder.numbers({"samples": 20, "a": 2.0}, 2)
    folder.numbers({"b": 0.5}, 2)
    assert read_rows(tmp_path / "metrics.csv")[-1] == {"step": "2", "samples": "20", "a": "2.0", "b": "0.5"}
    folder.numbers({"samples": 30, "a": 3.0}, 3)
    assert (tmp_path / "metrics.csv").read_text() == "step,samples,a,b\n1,10,1.0,\n2,20,2.0,0.5\n3,30,3.0,\n"


@pytest.mark.parametrize(("steps", "kept"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_cut(tmp_path: Path, steps: int, kept: int) -> None:
    first = FileLogger(tmp_path)
    for step in (1, 2, 3):
        first.numbers({"samples": step, "a": float(step)}, step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,")  # torn by a power cut
    again = FileLogger(tmp_path)
    again.metrics.cut(steps)
    path = tmp_path / "metrics.csv"
    assert [row["step"] for row in (read_rows(path) if path.exists() else [])] == ["1", "2", "3"][:kept]
    again.numbers({"samples": 10, "a": 9.0, "c": 1.0}, 10)
    rows = read_rows(path)
    assert len(rows) == kept + 1
    assert rows[-1] == {"step": "10", "samples": "10", "a": "9.0", "c": "1.0"}


def test_pictures_and_tables(tmp_path: Path) -> None:
    folder = FileLogger(tmp_path)
    image = np.zeros((4, 6, 3), np.uint8)
    image[..., 0] = 255  # red
    folder.image("val/pairs", image, 12)
    back = cv2.imread(str(tmp_path / "pictures/val_pairs_0000012.png"))
    assert back[0, 0].tolist() == [0, 0, 255]  # OpenCV reads blue first
    folder.table("val/videos", [{"video": "a", "AUC": 1.5}, {"video": "b", "AUC": 2.0}], 12)
    assert (tmp_path / "pictures/val_videos_0000012.csv").read_text().splitlines() == ["video,AUC", "a,1.5", "b,2.0"]
    folder.curve("val/success", [{"overlap": 0.0, "percent": 90.0}, {"overlap": 0.5, "percent": 40.0}], 12)
    curve = (tmp_path / "pictures/val_success_0000012.csv").read_text()
    assert curve.splitlines() == ["overlap,percent", "0.0,90.0", "0.5,40.0"]
    (tmp_path / "clip.mp4").write_bytes(b"film")
    folder.clips("val/clips", {"a, AUC 1.5": tmp_path / "clip.mp4"}, 12)
    assert (tmp_path / "pictures/val_clips_0_0000012.mp4").read_bytes() == b"film"


class Clock(Trainer):
    """A trainer of two processes with two accumulated batches, and a clock of its own."""

    global_step, world_size = 0, 2  # type: ignore[assignment]

    def __init__(self, monkeypatch: pytest.MonkeyPatch, net: SeqTrack) -> None:
        super().__init__(
            accelerator="cpu", accumulate_grad_batches=2, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        self.now, self.module = 0.0, SeqTrackModule(net, optim=AdamWSettings(), length=TrainingLength(160, 160, 16))
        self.datamodule = SimpleNamespace(skipped=3)
        monkeypatch.setattr(recording.time, "perf_counter", lambda: self.now)

    def batch(self, callback: Callback, waited: float, computed: float) -> None:
        batch, ready = SimpleNamespace(box=torch.zeros(4, 4)), self.fit_loop.epoch_loop.batch_progress.current
        self.now += waited
        callback.on_train_batch_start(self, self.module, batch, 0)
        self.now += computed
        ready.ready += 1
        self.global_step = ready.ready // 2  # type: ignore[misc]
        callback.on_train_batch_end(self, self.module, None, batch, 0)


class Numbers(RunLogger):
    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def numbers(self, values: Any, step: int) -> None:
        self.rows.append(dict(values))


def test_numbers_are_means_of_the_interval(monkeypatch: pytest.MonkeyPatch, make_net: Any) -> None:
    """Two batches a step, two steps a row, 16 samples a step: (1 + 2 + 3) + (3 + 4 + 1) s; a validation is left out."""
    fake, logger = Clock(monkeypatch, make_net()), Numbers()
    timer, record = recording.StepTimer(), recording.LogMetrics([logger], every=2)
    for callback in (timer, record):
        callback.on_train_start(fake, fake.module)

    def batch(waited: float, computed: float, loss: float) -> None:
        fake.module.means.add({"train/loss": torch.tensor(loss)})
        fake.batch(timer, waited, computed)
        record.on_train_batch_end(fake, fake.module)

    batch(1.0, 3.0, 2.0)
    batch(1.0, 1.0, float("nan"))
    assert not logger.rows
    stored = record.state_dict()  # a run that is stopped here ...
    assert stored == {"ranks": {0: {"train/loss": (2.0, 1.0), "time/data": (2.0, 1.0), "time/step": (4.0, 1.0)}}}
    fake.now += 100.0
    timer.on_train_epoch_start(fake, fake.module)
    fake.module.means = Means()  # ... goes on in another process
    record.load_state_dict(stored)
    record.on_train_start(fake, fake.module)
    batch(2.0, 2.0, 3.0)
    batch(2.0, 2.0, 4.0)
    (row,) = logger.rows
    assert row["train/loss"] == 3.0  # of 2, 3 and 4
    assert (row["time/data"], row["time/step"]) == (3.0, 4.0)  # of 2 and 4; of 4 and 4
    assert row["time/samples_per_second"] == 16 / 7
    assert row["data/skipped"] == 3.0
    assert record.state_dict() == {"ranks": {0: {}}}


def test_sums_of_other_processes_go_to_the_first() -> None:
    """Two processes had 3 and 5 once and thrice; one that goes on alone has (3 + 15) / 4, a third one nothing."""
    parts = {0: {"loss": (3.0, 1.0)}, 1: {"loss": (15.0, 3.0)}}
    means = Means()
    for world, rank, wanted in [(1, 0, {"loss": 4.5}), (2, 1, {"loss": 5.0}), (3, 1, {})]:
        means.restore(parts, rank=rank, world=world, device=torch.device("cpu"))
        assert means.take() == wanted


def test_dry_run_counts_whole_steps(monkeypatch: pytest.MonkeyPatch, make_net: Any) -> None:
    """The first step takes 50 s, three more 2 x 2 s each: 3 x 16 samples in 12 s, 4 samples/s."""
    fake, dry = Clock(monkeypatch, make_net()), dry_run._Watch()
    length = TrainingLength(samples=16 * 900, epoch_samples=160, global_batch=16, devices=2, device_batch=4)
    for seconds in (25, 25, 2, 2, 2, 2, 2, 2):
        fake.batch(dry, 0.0, seconds)
        if fake.global_step == 1:
            assert "too little" in dry.report(length)
    assert "4.0 samples/s, 1.0 h for 14,400 samples" in dry.report(length)
    assert "without its data workers" in dry.report(length)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux forgets a peak of memory, others do not")
def test_memory_of_a_former_run_is_forgotten() -> None:
    big = np.ones(50_000_000)  # 0.4 GB
    del big
    before = peak_memory(torch.device("cpu"))
    reset_peak_memory(torch.device("cpu"))
    assert peak_memory(torch.device("cpu")) < before - 0.3


def test_small_things() -> None:
    assert [_clock(seconds) for seconds in (5, 65, 3665)] == ["0:05", "1:05", "1:01:05"]
    assert peak_memory(torch.device("cpu")) > 0.01
    assert dry_run.STEPS > 1
