"""Boxes are drawn where they are; sheets have every sample and video."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.data.fixtures import Made

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule
from seqtrack_lit.data.samples.batch import collate
from seqtrack_lit.data.samples.sampling import FrameSampling
from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.tools.speed import SampleSettings
from seqtrack_lit.pictures import (
    COLORS,
    LABEL,
    PREDICTED,
    TARGET,
    draw_boxes,
    samples_sheet,
    strip,
    titled,
    videos_sheet,
)


def where(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[int, ...]:
    """First and last column and row of a colour."""
    ys, xs = np.nonzero((picture == color).all(2))
    return (xs.min(), xs.max(), ys.min(), ys.max()) if xs.size else ()


def test_boxes_are_drawn_where_they_are() -> None:
    image = np.full((60, 80, 3), 100, np.uint8)
    boxes = [np.array([10.0, 10, 30, 20]), np.array([np.nan, 0, 1, 1]), np.array([-50.0, -50, 500, 500])]
    drawn = draw_boxes(image, boxes)
    assert (image == 100).all()
    assert where(drawn, COLORS[0]) == (10, 40, 10, 30)
    assert {tuple(pixel) for pixel in drawn.reshape(-1, 3).tolist()} == {(100,) * 3, (20,) * 3, COLORS[0]}
    labelled = draw_boxes(image, boxes, labels=["a", "b", "0.71"])
    assert (labelled != drawn).any(2).sum() > 20


def test_samples(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder")
    settings = SampleSettings(
        CropSettings(search_size=32, template_size=24), FrameSampling(), Augmentation(), JitterSchedule()
    )
    samples = settings.samples(readers.folder(root), 6)
    batch = collate([samples[0, k][0] for k in range(6)])
    box = torch.tensor([0.5, 0.5, 0.25, 0.5]).expand(6, 4)
    moved = torch.tensor([0.125, 0.125, 0, 0])
    templates = batch.templates.shape[1]
    sheet = samples_sheet(batch._replace(box=box), box - moved, columns=4, count=5, side=40)
    assert sheet.shape == (2 * ((templates + 1) * 40 + 8), 4 * (40 + 8), 3)
    search = sheet[templates * 40 : (templates + 1) * 40, :40]
    assert where(search, PREDICTED) == (10, 20, 5, 25)  # 0.375 +- 0.125 and 0.375 +- 0.25 of 40
    assert where(search, TARGET)[1::2] == (25, 30)
    assert where(sheet[: templates * 40], TARGET)
    assert where(sheet[-48:, 48:], PREDICTED) == ()  # the fifth sample is the last
    assert where(samples_sheet(batch), PREDICTED) == ()
    assert samples_sheet(batch).shape[0] == (templates + 1) * 96 + 8
    with pytest.raises(ValueError, match="nothing to show"):
        samples_sheet(batch, count=0)


def test_videos(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder")
    sheet = videos_sheet(readers.folder(root), count=4, shown=3, columns=2, height=48)
    assert sheet.shape == (2 * (48 + 2 * LABEL + 8), 2 * (3 * 64 + 2 * 3 + 8), 3)
    assert where(sheet, TARGET)


def test_images_side_by_side() -> None:
    first, second = np.full((4, 6, 3), 10, np.uint8), np.full((2, 3, 3), 20, np.uint8)
    row = strip([first, second], gap=2, ground=(255, 255, 255))
    assert row.shape == (4, 6 + 2 + 3, 3)
    assert row[0, :, 0].tolist() == [10] * 6 + [255] * 2 + [20] * 3
    assert row[3, :, 0].tolist() == [10] * 6 + [255] * 5
    above = titled(row, "é 1")
    assert above.shape == (4 + LABEL, 11, 3)
    assert above[:LABEL].any()
    assert (above[LABEL:] == row).all()
