"""metrics.csv, pictures and tables."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from seqtrack_lit.training.progress import _clock
from seqtrack_lit.training.recording import DryRun, RunFolder, Sink, peak_memory, read_metrics
from seqtrack_lit.training.validation import sheet


def test_rows_and_columns(tmp_path: Path) -> None:
    """A new number adds a column; numbers of the same step share a row; every call is on the disk at once."""
    folder = RunFolder(tmp_path)
    assert isinstance(folder, Sink)
    folder.numbers({"samples": 10, "a": 1.0}, 1)
    folder.numbers({"samples": 20, "a": 2.0}, 2)
    folder.numbers({"b": 0.5}, 2)
    assert read_metrics(tmp_path / "metrics.csv")[-1] == {"step": "2", "samples": "20", "a": "2.0", "b": "0.5"}
    folder.numbers({"samples": 30, "a": 3.0}, 3)
    assert (tmp_path / "metrics.csv").read_text() == "step,samples,a,b\n1,10,1.0,\n2,20,2.0,0.5\n3,30,3.0,\n"


@pytest.mark.parametrize(("steps", "kept"), [(0, 0), (1, 1), (2, 2), (9, 3)])
def test_cut(tmp_path: Path, steps: int, kept: int) -> None:
    first = RunFolder(tmp_path)
    for step in (1, 2, 3):
        first.numbers({"samples": step, "a": float(step)}, step)
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write("4,")  # torn by a power cut
    again = RunFolder(tmp_path)
    again.cut(steps)
    path = tmp_path / "metrics.csv"
    assert [row["step"] for row in (read_metrics(path) if path.exists() else [])] == ["1", "2", "3"][:kept]
    again.numbers({"samples": 10, "a": 9.0, "c": 1.0}, 10)
    rows = read_metrics(path)
    assert len(rows) == kept + 1
    assert rows[-1] == {"step": "10", "samples": "10", "a": "9.0", "c": "1.0"}


def test_pictures_and_tables(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
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


def test_sheet_shows_target_and_found_box(squares: Any) -> None:
    batch = next(iter(squares(size=3).train_dataloader()))
    image = sheet(batch, batch.box + 0.1, 2)
    assert image.shape == (192, 192, 3)  # template above search, two samples
    colours = {tuple(pixel) for pixel in image.reshape(-1, 3).tolist()}
    assert {(80, 220, 80), (240, 80, 80)} <= colours
    assert (240, 80, 80) not in {tuple(p) for p in sheet(batch, None, 2).reshape(-1, 3).tolist()}


def test_small_things() -> None:
    assert [_clock(seconds) for seconds in (5, 65, 3665)] == ["0:05", "1:05", "1:01:05"]
    assert peak_memory(torch.device("cpu")) > 0.01
    assert DryRun.STEPS > 1
