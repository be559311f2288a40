"""The data of a training: the mix of data sets, and what validation uses."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np
from lightning.pytorch import LightningDataModule

from seqtrack_lit.checks import number, whole
from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, Jitter, JitterSchedule
from seqtrack_lit.data.samples.loader import BatchOrder, PairLoader, Samples, TrainLoader, default_workers
from seqtrack_lit.data.samples.packed import geometry, packed
from seqtrack_lit.data.samples.sampling import FrameSampling, TrainingSamples, Videos, WeightedDataset, check_opener
from seqtrack_lit.data.video.index import SequenceIndex
from seqtrack_lit.data.video.sequence import Video

Opened = TypeVar("Opened")


@dataclass(frozen=True)
class Validation:
    """What a training is judged by while it runs; its videos must not be in the training mix.

    Args:
        open: opens the videos.
        pairs: samples with the jitter that training begins with, and as many with narrow jitter.
        batch: samples in a validation batch.
        narrow_jitter: jitter as in tracking, or None: no narrow pairs.
        tracks: how many videos are tracked.
        track_frames: of each, at most this many first frames; None: all.
    """

    open: Callable[[], Videos]
    pairs: int = 200
    batch: int = 50
    narrow_jitter: Jitter | None = None
    tracks: int = 10
    track_frames: int | None = None

    def __post_init__(self) -> None:
        check_opener(self.open)
        whole("data.validation", 1, pairs=self.pairs, batch=self.batch)
        whole("data.validation", 0, tracks=self.tracks)
        if self.track_frames is not None:
            whole("data.validation", 2, track_frames=self.track_frames)


class DataModule(LightningDataModule):
    """Training batches in an order that can be resumed, validation pairs, and validation videos.

    Data sets are opened by `setup`, so that wrong values are found first.

    Args:
        validation: see `Validation`.
        crops: see `CropSettings`.
        batch: samples a device takes at once.
        epoch_samples: samples of an epoch over all devices, a whole number of batches.
        total_samples: samples of the whole training, for schedules of difficulty.
        seed: of all random numbers of training samples. Validation pairs are the same for every seed.
        workers: processes that prepare batches, per device; 0: the training process itself; None: by cores and GPUs
            (`default_workers`).
        prefetch: batches that each of them prepares ahead.
        start_method: see `TrainLoader`.
        max_skipped: see `TrainLoader`.

    Raises:
        ValueError: a value out of range; in `setup`, an empty or unusable data set.
        FileNotFoundError: in `setup`, a data set that is not there.
    """

    def __init__(
        self,
        *,
        validation: Validation,
        crops: CropSettings,
        batch: int,
        epoch_samples: int,
        total_samples: int,
        seed: int = 0,
        workers: int | None = None,
        prefetch: int = 2,
        start_method: str | None = None,
        max_skipped: float = 0.01,
    ) -> None:
        super().__init__()
        whole("data", 1, batch=batch, epoch_samples=epoch_samples, total_samples=total_samples)
        whole("data", 1, prefetch=prefetch)
        whole("data", 0, seed=seed, workers=0 if workers is None else workers)
        number("data", high=1, max_skipped=max_skipped)
        self.validation, self.crops = validation, crops
        self.batch, self.epoch_samples, self.total_samples, self.seed = batch, epoch_samples, total_samples, seed
        self.workers, self.prefetch, self.start_method = workers, prefetch, start_method
        self.max_skipped = max_skipped
        self._held_out: Videos | None = None
        self._loader: TrainLoader | None = None

    def samples(self) -> Samples:
        """Training samples by (epoch, index)."""
        raise NotImplementedError

    def setup(self, stage: str = "fit") -> None:
        """Open the validation videos, once."""
        if self._held_out is None:
            self._held_out = _open("data.validation", self.validation.open)

    @property
    def rank_and_world_size(self) -> tuple[int, int]:
        """Number of this process and of all processes; (0, 1) without a trainer."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def train_dataloader(self) -> TrainLoader:
        """Training batches of this process."""
        rank, world_size = self.rank_and_world_size
        batches = self.epoch_samples // (self.batch * world_size)
        if batches == 0:
            raise ValueError(
                f"data.epoch_samples = {self.epoch_samples} is less than one batch of {self.batch} on {world_size} "
                "device(s)"
            )
        self._loader = TrainLoader(
            self.samples(),
            BatchOrder(batches, self.batch, rank=rank, world_size=world_size),
            workers=self._workers(),
            prefetch=self.prefetch,
            start_method=self.start_method,
            max_skipped=self.max_skipped,
        )
        return self._loader

    def _workers(self) -> int:
        if self.workers is not None:
            return self.workers
        gpu = self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
        return default_workers(self.trainer.num_devices if self.trainer else 1, gpu=gpu)

    def pairs(self, samples: Samples) -> PairLoader:
        """The fixed validation pairs made of these samples; this process's part of them."""
        rank, world_size = self.rank_and_world_size
        pairs, batch = self.validation.pairs, self.validation.batch
        return PairLoader(samples, pairs=pairs, batch=batch, rank=rank, world_size=world_size)

    def video_pairs(self, frame_sampling: FrameSampling, jitter: Jitter) -> PairLoader:
        """Validation pairs of frames of the validation videos, not augmented, targets only."""
        samples = TrainingSamples(
            {"validation": self._videos()},
            [1.0],
            seed=0,
            crops=self.crops,
            frame_sampling=frame_sampling,
            augmentation=Augmentation(grayscale=0.0, flip=0.0),
            jitter=JitterSchedule(jitter.center, jitter.size),
            epoch_samples=self.validation.pairs,
            total_samples=self.validation.pairs,
        )
        return self.pairs(samples)

    def val_sequences(self) -> list[Video]:
        """Videos to track in validation: spread over the held-out set, the same at every call."""
        videos = self._videos()
        count = min(self.validation.tracks, len(videos))
        return [videos[i * len(videos) // count].beginning(self.validation.track_frames) for i in range(count)]

    @property
    def skipped(self) -> int:
        """Training samples that could not be made and were replaced, in this process."""
        return 0 if self._loader is None else self._loader.skipped

    def _videos(self) -> Videos:
        self.setup()
        assert self._held_out is not None
        return self._held_out


class TrackingData(DataModule):
    """The data of a training on videos (paper section 4.1).

    Args:
        train: the training mix by name; its weights are normalised, a weight of 0 leaves a set out.
        packs: folder, or address for fsspec, of packs (data/tools/pack.py) that are read in place of the sets.
        frame_sampling, augmentation, jitter: see there.
        settings: see `DataModule`.

    Raises:
        ValueError: no data set has a weight.
    """

    def __init__(
        self,
        *,
        train: Mapping[str, WeightedDataset],
        frame_sampling: FrameSampling,
        augmentation: Augmentation,
        jitter: JitterSchedule,
        packs: str | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.mix = {name: source for name, source in train.items() if source is not None and source.weight > 0}
        if not self.mix:
            raise ValueError(f"data.train needs a data set with a weight > 0, got {', '.join(train) or 'none'}")
        self.frame_sampling, self.augmentation, self.jitter = frame_sampling, augmentation, jitter
        self.packs = packs
        self._train: dict[str, Videos] = {}

    def setup(self, stage: str = "fit") -> None:
        """Open the data sets, once."""
        if not self._train:
            self._train = {name: _open(f"data.train.{name}", self._opener(name)) for name in self.mix}
        super().setup(stage)

    def _opener(self, name: str) -> Callable[[], Videos]:
        opener = self.mix[name].open
        return opener if self.packs is None else packed(name, opener, self.packs, geometry(self.crops, self.jitter))

    def samples(self) -> TrainingSamples:
        """Training samples by (epoch, index)."""
        self.setup()
        return self.frame_sampling.samples(
            self._train,
            [source.weight for source in self.mix.values()],
            seed=self.seed,
            crops=self.crops,
            augmentation=self.augmentation,
            jitter=self.jitter,
            epoch_samples=self.epoch_samples,
            total_samples=self.total_samples,
        )

    def val_dataloader(self) -> list[PairLoader]:
        """Fixed pairs: with the jitter that training begins with and, where asked for, with narrow jitter."""
        own = self.frame_sampling
        sampling = FrameSampling(own.templates, own.past, own.past_errors)
        jitters = (self.jitter.at(0.0), self.validation.narrow_jitter)
        return [self.video_pairs(sampling, jitter) for jitter in jitters if jitter is not None]

    def summary(self) -> dict[str, dict[str, Any]]:
        """What the training mix consists of, as plain values: videos, share of the samples, hash of the index."""
        self.setup()
        total = sum(source.weight for source in self.mix.values())
        return {
            name: {
                "videos": len(videos),
                "share": self.mix[name].weight / total,
                "hash": getattr(videos, "hash", ""),
            }
            for name, videos in self._train.items()
        }


def part_by_name(
    open: Callable[[], SequenceIndex], *, part: Literal["train", "validation"], share: float = 0.1
) -> SequenceIndex:
    """The videos for training, or those kept for validation, of a data set that has no such parts.

    A video's name alone decides, so that the parts stay the same when videos come or go. Where no name falls to
    validation, as may happen with few videos, the one nearest to it does; and one always stays for training.

    Raises:
        ValueError: fewer than two videos, or a wrong part or share.
    """
    if part not in get_args(Literal["train", "validation"]) or not 0 < share < 1:
        raise ValueError(f"part must be train or validation and share within (0, 1), got {part!r} and {share!r}")
    videos = open()
    if len(videos) < 2:
        raise ValueError(
            f"{videos.root} holds {len(videos)} video(s); training and validation need one each, "
            "or data/validation=generated"
        )
    places = np.array([zlib.crc32(name.encode()) / 2**32 for name in videos.names])
    kept = (places < max(share, np.nextafter(places.min(), 1))) & (places < places.max())
    return videos.subset(np.flatnonzero(kept if part == "validation" else ~kept))


def _open(key: str, opener: Callable[[], Opened]) -> Opened:
    """Open a data set; errors name its key."""
    try:
        return opener()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{key}: {error}") from error
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
