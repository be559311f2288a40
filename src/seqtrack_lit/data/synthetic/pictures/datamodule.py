"""Training on pictures: samples by (epoch, index), and the data of a run (`data=pictures`)."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule

from seqtrack_lit.checks import number, whole
from seqtrack_lit.data.datamodule import Validation
from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule
from seqtrack_lit.data.samples.batch import Sample, to_chw
from seqtrack_lit.data.samples.loader import BatchOrder, PairLoader, Samples, TrainLoader, rank_and_world_size
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples, Videos
from seqtrack_lit.data.synthetic.pictures.pool import PicturePool
from seqtrack_lit.data.synthetic.pictures.scenes import Mix, Pair, Scenes
from seqtrack_lit.data.video.sequence import Video

_WIDE_UNTIL = 0.5  # share of the training after which targets begin to come nearer to the middle
_NARROWEST = 0.25  # of `wide`, at the end


class PictureSamples(Samples):
    """Samples by (epoch, index), a pure function of them and the seed; an odd one shares the scene of the one before.

    Args:
        pool: the pictures.
        crops, mix: see `Scenes`.
        seed: of all random numbers.
        wide: offset and change of size of targets at first, 0 to 1; a quarter of it at the end.
        epoch_samples, total_samples: samples of an epoch and of the whole training, for that.
    """

    def __init__(
        self,
        pool: PicturePool,
        *,
        crops: CropSettings,
        mix: Mix,
        seed: int = 0,
        wide: float = 0.7,
        epoch_samples: int,
        total_samples: int,
    ) -> None:
        number("data", high=1, wide=wide)
        self.scenes, self.crops, self.seed, self.wide = Scenes(pool, crops, mix), crops, seed, wide
        self.epoch_samples, self.total_samples = epoch_samples, total_samples
        self._last: tuple[tuple[int, int], list[Pair]] | None = (
            None  # the scene drawn last: its pairs are asked in turn
        )

    def __getitem__(self, key: tuple[int, int]) -> tuple[Sample, list[str]]:
        epoch, index = key
        scene = epoch, index // 2
        if self._last is None or self._last[0] != scene:
            progress = (epoch * self.epoch_samples + index - index % 2) / self.total_samples
            rng = np.random.default_rng((self.seed, epoch, index // 2))
            self._last = scene, self.scenes.draw(rng, self.wide * narrowed(progress))
        pair = self._last[1][index % 2]
        sample = Sample(
            templates=to_chw(pair.template[None]),
            search=to_chw(pair.search),
            box=_fractions(pair.box, self.crops.search_size),
            template_boxes=_fractions(pair.template_box, self.crops.template_size)[None],
            past=torch.zeros(0, 4),
            key=torch.tensor((epoch, index, 0)),
            dataset=torch.tensor(0),
        )
        return sample, []


def narrowed(progress: float) -> float:
    """Factor on `wide` when a share of the training is done.

    >>> narrowed(0.4), narrowed(0.75), narrowed(1.0)
    (1.0, 0.625, 0.25)
    """
    return max(_NARROWEST, 1 - 1.5 * max(0.0, progress - _WIDE_UNTIL))


def _fractions(corners: np.ndarray, side: int) -> torch.Tensor:
    x1, y1, x2, y2 = (corners / side).tolist()
    return torch.tensor([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


class PictureData(LightningDataModule):
    """Training batches of pairs made of pictures; validation by pairs of kept-back pictures, and by videos.

    Args:
        pool: opens the pictures of a part: training uses "train", validation "validation".
        validation: its `open` gives the videos to track and, with narrow jitter, pairs of their frames.
        crops, mix, wide: see `PictureSamples`.
        batch, epoch_samples, total_samples, seed, workers, start_method: see `TrackingData`.

    Raises:
        ValueError: a value out of range.
        FileNotFoundError: in `setup`, no pool.
    """

    def __init__(
        self,
        *,
        pool: Callable[..., PicturePool],
        validation: Validation,
        crops: CropSettings,
        mix: Mix,
        wide: float = 0.7,
        batch: int,
        epoch_samples: int,
        total_samples: int,
        seed: int = 0,
        workers: int = 2,
        start_method: str | None = None,
    ) -> None:
        super().__init__()
        whole("data", 1, batch=batch, epoch_samples=epoch_samples, total_samples=total_samples)
        whole("data", 0, seed=seed, workers=workers)
        self.pool, self.validation, self.crops, self.mix, self.wide = pool, validation, crops, mix, wide
        self.batch, self.epoch_samples, self.total_samples, self.seed = batch, epoch_samples, total_samples, seed
        self.workers, self.start_method, self.skipped = workers, start_method, 0
        self._pools: dict[str, PicturePool] = {}
        self._videos: Videos | None = None

    def setup(self, stage: str = "fit") -> None:
        """Read the pictures and open the videos, once."""
        for part in ("train", "validation"):
            if part not in self._pools:
                self._pools[part] = self.pool(part=part).read()
        if self._videos is None:
            self._videos = self.validation.open()

    def samples(self) -> PictureSamples:
        """Training samples by (epoch, index)."""
        return self._samples("train", self.seed, self.wide, self.epoch_samples, self.total_samples)

    def train_dataloader(self) -> TrainLoader:
        """Training batches of this process."""
        rank, world_size = rank_and_world_size(self.trainer)
        batches = self.epoch_samples // (self.batch * world_size)
        order = BatchOrder(batches, self.batch, rank=rank, world_size=world_size)
        return TrainLoader(self.samples(), order, workers=self.workers, start_method=self.start_method)

    def val_dataloader(self) -> list[PairLoader]:
        """Fixed pairs: of kept-back pictures and, where asked for (`narrow`), of frames of the videos."""
        self.setup()
        (rank, world_size), pairs, batch = (
            rank_and_world_size(self.trainer),
            self.validation.pairs,
            self.validation.batch,
        )
        made = self._samples("validation", 0, self.wide * _NARROWEST, pairs, pairs)
        loaders = [PairLoader(made, pairs=pairs, batch=batch, rank=rank, world_size=world_size)]
        jitter, videos = self.validation.narrow, self._videos
        if jitter is not None:
            assert videos is not None
            real = TrainingSamples(
                {"validation": videos},
                [1.0],
                seed=0,
                crops=self.crops,
                frame_sampling=FrameSampling(templates=1, min_length=2),
                augmentation=Augmentation(grayscale=0.0, flip=0.0),
                jitter=JitterSchedule(jitter.center, jitter.size),
                epoch_samples=pairs,
                total_samples=pairs,
            )
            loaders.append(PairLoader(real, pairs=pairs, batch=batch, rank=rank, world_size=world_size))
        return loaders

    def val_sequences(self) -> list[Video]:
        """Videos to track in validation: spread over the held-out set, the same at every call."""
        self.setup()
        videos = self._videos
        assert videos is not None
        count = min(self.validation.tracks, len(videos))
        return [videos[i * len(videos) // count].beginning(self.validation.track_frames) for i in range(count)]

    def summary(self) -> dict[str, dict[str, Any]]:
        """What training samples are made of, as plain values."""
        self.setup()
        pool = self._pools["train"]
        objects = sum(map(len, pool.objects.values()))
        return {"pictures": {"videos": len(pool.backgrounds) + objects, "share": 1.0, "hash": pool.hash}}

    def _samples(self, part: str, seed: int, wide: float, epoch: int, total: int) -> PictureSamples:
        self.setup()
        return PictureSamples(
            self._pools[part],
            crops=self.crops,
            mix=self.mix,
            seed=seed,
            wide=wide,
            epoch_samples=epoch,
            total_samples=total,
        )
