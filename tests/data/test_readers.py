"""Every training set is read back exactly from its layout; every odd thing is handled or named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.data.fixtures import Made, Truth

from seqtrack_lit.data import readers
from seqtrack_lit.data.index import SequenceIndex


def assert_reads(index: SequenceIndex, truth: dict[str, Truth], *, every: int = 1) -> None:
    assert sorted(index.names) == sorted(truth)
    for sequence in index:
        boxes, _, shades = truth[sequence.name]
        np.testing.assert_array_equal(sequence.boxes, boxes)
        assert len(sequence) == len(shades)
        for number in range(0, len(shades), every):
            frame = sequence.frames[number]
            assert frame.shape == (48, 64, 3)
            assert abs(int(frame[0, 0, 0]) - shades[number]) <= 4  # the next frame differs by 10


def good(boxes: np.ndarray) -> np.ndarray:
    return np.isfinite(boxes).all(1) & (boxes[:, 2:] > 0).all(1)


def test_lasot(make_dataset: Callable[..., Made]) -> None:
    root, truth = make_dataset("lasot")
    index = readers.lasot(root, complete=False)
    test_videos = ("airplane-1", "monkey-17")
    assert_reads(index, {name: value for name, value in truth.items() if name not in test_videos})
    for sequence in index:
        np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible & good(sequence.boxes))
        assert sequence.meta["object_class"] in ("airplane", "bicycle", "monkey")


@pytest.mark.parametrize(("exclude", "left"), [(True, [1, 2, 9335]), (False, [1, 2, 4, 9335])])
def test_got10k_train(make_dataset: Callable[..., Made], exclude: bool, left: list[int]) -> None:
    root, truth = make_dataset("got10k")
    index = readers.got10k(root, exclude_vot=exclude)
    assert index.names == [f"GOT-10k_Train_{number:06d}" for number in left]
    assert_reads(index, {name: truth[name] for name in index.names})
    for sequence in index:
        np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible)
        assert sequence.meta["object_class"] == "sea_snake"
        assert sequence.meta["resolution"] == (64, 48)
        assert sequence.meta["frame_rate"] == 10
        assert sequence.meta["cover"].tolist()[:5] == [8, 8, 8, 0, 0]


def test_folder(make_dataset: Callable[..., Made], tmp_path: Path) -> None:
    root, truth = make_dataset("folder")
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        index = readers.folder(root, cache=cache)
        assert_reads(index, truth)
        for sequence in index:
            np.testing.assert_array_equal(sequence.visible, truth[sequence.name].visible)
