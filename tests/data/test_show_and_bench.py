"""Contact sheets show boxes where they are; the profiler accounts for the time."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from tests.data.fixtures import Made

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule
from seqtrack_lit.data.samples.sampling import FrameSampling
from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.tools.contact_sheet import BOX, LABEL, draw_box, samples_sheet, sequences_sheet
from seqtrack_lit.data.tools.speed import SampleSettings, measure

SETTINGS = SampleSettings(
    CropSettings(search_size=32, template_size=24), FrameSampling(), Augmentation(), JitterSchedule()
)


def test_box_is_drawn_where_it_is() -> None:
    picture = draw_box(np.zeros((40, 60, 3), np.uint8), np.array([10.0, 5, 20, 30]))
    ys, xs = np.nonzero((picture == BOX).all(2))
    assert (xs.min(), ys.min()) == (9, 4)  # lines are 2 px wide, half of them outside
    assert (xs.max() - xs.min() + 1, ys.max() - ys.min() + 1) == (22, 32)
    for absent in ([0.0] * 4, [np.nan] * 4, [1.0, 1, -5, 5]):
        assert not draw_box(np.zeros((40, 60, 3), np.uint8), np.array(absent)).any()


def test_sequences_sheet(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder")
    sheet = sequences_sheet(readers.folder(root), count=4, shown=3, columns=2, height=48)
    assert sheet.shape == (2 * (48 + 2 * LABEL + 8), 2 * (3 * 64 + 2 * 3 + 8), 3)
    assert (sheet == BOX).all(2).any()


def test_samples_sheet(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("folder")
    samples = SETTINGS.samples(readers.folder(root), 6)
    sheet = samples_sheet((samples[0, k][0] for k in range(6)), columns=3, side=40)
    assert sheet.shape == (2 * (40 + LABEL + 8), 3 * (3 * 40 + 2 * 3 + 8), 3)
    assert (sheet == BOX).all(2).any()
    with pytest.raises(ValueError, match="nothing to show"):
        samples_sheet([])


def test_bench(make_dataset: Callable[..., Made]) -> None:
    root, _ = make_dataset("got10k")
    steps: list[tuple[int, int]] = []
    speed = measure(
        partial(readers.got10k, root), SETTINGS, samples=8, batch=4, workers=(0,), step=lambda *at: steps.append(at)
    )
    assert list(speed.stages) == ["index", "read", "crop", "augment", "collate", "rest"]
    assert all(ms > 0 for ms in speed.stages.values())  # each stage is a function that is called
    assert speed.loader[0] > 0
    assert steps == [(4, 16), (8, 16), (16, 16)]
    text = speed.markdown("title")
    assert text.startswith("# title\n\nOpened in ")
    assert "| read |" in text
    assert "| 0 |" in text
