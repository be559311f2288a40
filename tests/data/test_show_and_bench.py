"""The profiler accounts for the time."""

from collections.abc import Callable
from functools import partial

from tests.data.fixtures import Made

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule
from seqtrack_lit.data.samples.sampling import FrameSampling
from seqtrack_lit.data.sets import training as readers
from seqtrack_lit.data.tools.speed import SampleSettings, measure

SETTINGS = SampleSettings(
    CropSettings(search_size=32, template_size=24), FrameSampling(), Augmentation(), JitterSchedule()
)


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
