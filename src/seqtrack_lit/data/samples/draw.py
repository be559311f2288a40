"""Training samples without a training: of one data set, with any augmentation."""

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule, brightness
from seqtrack_lit.data.samples.batch import Batch, collate
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples, Videos


def draw_samples(
    videos: Videos,
    *,
    count: int,
    templates: int = 2,
    augmentation: Augmentation | None = None,
    jitter: JitterSchedule | None = None,
    crops: CropSettings | None = None,
    seed: int = 0,
) -> Batch:
    """The first samples of a training on these videos alone; by default as `data=paper` makes them.

    Args:
        videos: the data set.
        count: how many.
        templates: of each.
        augmentation: None: the paper's.
        jitter: None: the paper's.
        crops: None: the paper's.
        seed: of all random numbers; the same one draws the same frames whatever the augmentation.

    Raises:
        ValueError: no usable video.
    """
    samples = TrainingSamples(
        {"shown": videos},
        [1.0],
        seed=seed,
        crops=crops or CropSettings(),
        frame_sampling=FrameSampling(templates=templates, min_length=2),
        augmentation=augmentation or Augmentation(photometric=brightness()),
        jitter=jitter or JitterSchedule(),
        epoch_samples=count,
        total_samples=count,
    )
    return collate([samples[0, index][0] for index in range(count)])
