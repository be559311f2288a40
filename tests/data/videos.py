"""A data set in memory for tests: grey frames whose shade is the frame's number, a white target that drifts."""

from collections.abc import Collection

import numpy as np

from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Frames, Video


class Shades:
    """Frames of 64 x 48; frame t has shade t with a white target at (10 + t / 4, 20, 12, 8)."""

    def __init__(self, name: str, count: int, broken: Collection[int]) -> None:
        self.name, self.count, self.broken = name, count, broken

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int, /) -> Image:
        if index in self.broken:
            raise ValueError(f"/data/{self.name}/{index:08d}.jpg cannot be read")
        image = np.full((48, 64, 3), index % 200, np.uint8)
        left = round(10 + index / 4)
        image[20:28, left : left + 12] = 255
        return image


class ShadeVideos:
    def __init__(
        self,
        lengths: list[int],
        *,
        dataset: str = "shades",
        hidden: Collection[int] = (),
        broken: Collection[int] = (),
        bad_videos: Collection[int] = (),
        repeats_image: bool = False,
        box: tuple[float, float, float, float] | None = None,
    ) -> None:
        self.dataset, self.root, self.repeats_image = dataset, f"/data/{dataset}", repeats_image
        self.hidden, self.broken, self.bad_videos, self.box = hidden, broken, bad_videos, box
        self._lengths = lengths

    def __len__(self) -> int:
        return len(self._lengths)

    def __getitem__(self, index: int, /) -> Video:
        return Video(self.name(index), self.frames(index), self.boxes(index), self.visible(index))

    @property
    def lengths(self) -> np.ndarray:
        return np.array(self._lengths, np.int64)

    @property
    def visible_counts(self) -> np.ndarray:
        return np.array([self.visible(i).sum() for i in range(len(self))], np.int64)

    def name(self, index: int) -> str:
        return f"{self.dataset}-{index}"

    def boxes(self, index: int) -> np.ndarray:
        rows = np.tile(self.box or (10.0, 20, 12, 8), (self._lengths[index], 1))
        rows[:, 0] += np.arange(len(rows)) / 4
        return rows

    def visible(self, index: int) -> np.ndarray:
        return ~np.isin(np.arange(self._lengths[index]), list(self.hidden))

    def frames(self, index: int) -> Frames:
        broken = range(10**6) if index in self.bad_videos else self.broken
        return Shades(self.name(index), self._lengths[index], broken)
