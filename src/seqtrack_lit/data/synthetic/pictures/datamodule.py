"""Training on pictures: samples by (epoch, index), and the data of a run (`data=pictures`)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from seqtrack_lit.checks import number
from seqtrack_lit.data.datamodule import DataModule
from seqtrack_lit.data.samples.augment import CropSettings
from seqtrack_lit.data.samples.batch import Sample, to_chw
from seqtrack_lit.data.samples.loader import PairLoader, Samples
from seqtrack_lit.data.samples.sampling import FrameSampling
from seqtrack_lit.data.synthetic.pictures.pool import PicturePool
from seqtrack_lit.data.synthetic.pictures.scenes import Mix, Pair, SceneDrawer

_WIDE_UNTIL = 0.5  # share of the training after which targets begin to come nearer to the middle
_NARROWEST = 0.25  # of `jitter`, at the end


class PictureSamples(Samples):
    """Samples by (epoch, index), a pure function of them and the seed; an odd one shares the scene of the one before.

    Args:
        pool: the pictures.
        crops, mix: see `SceneDrawer`.
        seed: of all random numbers.
        jitter: offset and change of size of targets at first, 0 to 1; a quarter of it at the end.
        epoch_samples, total_samples: samples of an epoch and of the whole training, for that.
    """

    def __init__(
        self,
        pool: PicturePool,
        *,
        crops: CropSettings,
        mix: Mix,
        seed: int = 0,
        jitter: float = 0.7,
        epoch_samples: int,
        total_samples: int,
    ) -> None:
        number("data", high=1, jitter=jitter)
        self.scenes, self.crops, self.seed, self.jitter = SceneDrawer(pool, crops, mix), crops, seed, jitter
        self.epoch_samples, self.total_samples = epoch_samples, total_samples
        self._last: tuple[tuple[int, int], list[Pair]] | None = (
            None  # the scene drawn last; its two pairs are samples in turn
        )

    def __getitem__(self, key: tuple[int, int]) -> tuple[Sample, list[str]]:
        epoch, index = key
        scene = epoch, index // 2
        if self._last is None or self._last[0] != scene:
            progress = (epoch * self.epoch_samples + index - index % 2) / self.total_samples
            rng = np.random.default_rng((self.seed, epoch, index // 2))
            self._last = scene, self.scenes.draw(rng, self.jitter * narrowed(progress))
        pair = self._last[1][index % 2]
        sample = Sample(
            templates=to_chw([pair.template]),
            search=to_chw([pair.search])[0],
            box=_fractions(pair.box, self.crops.search_size),
            template_boxes=_fractions(pair.template_box, self.crops.template_size)[None],
            past=torch.zeros(0, 4),
            key=torch.tensor((epoch, index, 0)),
            dataset=torch.tensor(0),
        )
        return sample, []


def narrowed(progress: float) -> float:
    """Factor on `jitter` when a share of the training is done.

    >>> narrowed(0.4), narrowed(0.75), narrowed(1.0)
    (1.0, 0.625, 0.25)
    """
    return max(_NARROWEST, 1 - 1.5 * max(0.0, progress - _WIDE_UNTIL))


def _fractions(corners: np.ndarray, side: int) -> torch.Tensor:
    x1, y1, x2, y2 = (corners / side).tolist()
    return torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


class PictureData(DataModule):
    """Training batches of pairs made of pictures; validation by pairs of kept-back pictures, and by videos.

    Args:
        pool: opens the pictures of a part: training uses "train", validation "validation".
        mix, jitter: see `PictureSamples`.
        settings: see `DataModule`; `open` of its validation opens the videos to track and, with narrow jitter, to take
            pairs of frames from.

    Raises:
        ValueError: a value out of range.
        FileNotFoundError: in `setup`, no pool.
    """

    def __init__(self, *, pool: Callable[..., PicturePool], mix: Mix, jitter: float = 0.7, **settings: Any) -> None:
        super().__init__(**settings)
        self.pool, self.mix, self.jitter = pool, mix, jitter
        self._pools: dict[str, PicturePool] = {}

    def setup(self, stage: str = "fit") -> None:
        """Read the pictures and open the videos, once."""
        for part in ("train", "validation"):
            if part not in self._pools:
                self._pools[part] = self.pool(part=part).read()
        super().setup(stage)

    def samples(self) -> PictureSamples:
        """Training samples by (epoch, index)."""
        return self._samples("train", self.seed, self.jitter, self.epoch_samples, self.total_samples)

    def val_dataloader(self) -> list[PairLoader]:
        """Fixed pairs: of kept-back pictures and, where asked for (`narrow_jitter`), of frames of the videos."""
        pairs, jitter = self.validation.pairs, self.validation.narrow_jitter
        loaders = [self.pairs(self._samples("validation", 0, self.jitter * _NARROWEST, pairs, pairs))]
        if jitter is not None:
            loaders.append(self.video_pairs(FrameSampling(templates=1, min_length=2), jitter))
        return loaders

    def summary(self) -> dict[str, dict[str, Any]]:
        """What training samples are made of, as plain values."""
        self.setup()
        pool = self._pools["train"]
        objects = sum(map(len, pool.objects.values()))
        return {"pictures": {"videos": len(pool.backgrounds) + objects, "share": 1.0, "hash": pool.hash}}

    def _samples(self, part: str, seed: int, jitter: float, epoch: int, total: int) -> PictureSamples:
        self.setup()
        return PictureSamples(
            self._pools[part],
            crops=self.crops,
            mix=self.mix,
            seed=seed,
            jitter=jitter,
            epoch_samples=epoch,
            total_samples=total,
        )
