"""SequenceIndex: all videos of a data set as columns of numbers, in files that workers share.

A million boxes as Python objects cost gigabytes and are copied into every worker; as columns of memory-mapped
files they cost what is touched, once for all processes. Frames are not listed but described (folder, first number,
digits, suffix) where their names follow a rule.

Columns (N videos, R box rows in all; text tables hold UTF-8 bytes and offsets):
  rows [N+1]        where each video's rows begin           boxes [R 4]   xywh pixels, as published
  visible [R]       target visible                          cover [R]     GOT-10k's 0..8, only there
  lengths [N]       frames                                  visible_counts [N]
  kind [N]          0 numbered, 1 listed, 2 video file      first, digits, suffix, folder [N]   (listed: first file)
  resolution [N 2]  width, height, 0 unknown                frame_rate [N] 0 unknown
  object_class [N]  number in the table, -1 unknown         attributes [N] bits
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from seqtrack_lit.checks import shown
from seqtrack_lit.data.video.columns import Column, open_columns
from seqtrack_lit.data.video.file import VideoFrames
from seqtrack_lit.data.video.frames import ListedFrames, NumberedFrames
from seqtrack_lit.data.video.sequence import Frames, FramesPart, Video

NUMBERED, LISTED, VIDEO = 0, 1, 2
_OPEN_VIDEOS = 8  # video files a process keeps open


class Texts:
    """A table of strings in two columns: UTF-8 bytes and where each string begins."""

    def __init__(self, data: Column, starts: Column) -> None:
        self.data, self.starts = data, starts

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: int) -> str:
        return self.data[self.starts[index] : self.starts[index + 1]].tobytes().decode("utf-8", "surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(len(self)))


class _Files:
    """A run of a text table, as the file names of one video."""

    def __init__(self, texts: Texts, start: int, count: int) -> None:
        self.texts, self.start, self.count = texts, start, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> str:
        return _inside(self.texts[self.start + index])


def _inside(name: str) -> str:
    """A folder or file below another one, by its name alone: links are the user's own."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"the index names {shown(name)}, outside of its root; delete the index, it is made again")
    return name


@dataclass(frozen=True, eq=False)
class SequenceIndex:
    """Videos with boxes, opened lazily; `index[i]` is a `Video`.

    Args:
        dataset: name of the data set, for messages, result folders and logs.
        root: folder the frames lie under.
        columns: see the head of this file.
        attribute_names: meaning of the bits of the column `attributes`.
        repeats_image: the videos are single images (templates and search area come from the same one).
        hash: of the content (names, frames, boxes, flags; not the place on disk): the same data give the same hash.
        path: the folder the columns are mapped from; None when they live in memory.
        positions: the videos this index shows, in order; None for all.
    """

    dataset: str
    root: Path
    columns: Mapping[str, Column]
    attribute_names: tuple[str, ...] = ()
    repeats_image: bool = False
    hash: str = ""
    path: Path | None = None
    positions: Int64[np.ndarray, "chosen"] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.columns["kind"]) if self.positions is None else len(self.positions)

    def __getitem__(self, index: int) -> Video:
        return Video(
            name=self.name(index),
            frames=self.frames(index),
            boxes=self.boxes(index),
            visible=self.visible(index),
            meta=self.meta(index),
        )

    def __iter__(self) -> Iterator[Video]:
        return (self[i] for i in range(len(self)))

    @property
    def lengths(self) -> Integer[np.ndarray, "sequences"]:
        """Number of frames of each video."""
        return self._column("lengths")

    @property
    def visible_counts(self) -> Integer[np.ndarray, "sequences"]:
        """Number of frames of each video in which the target can be seen."""
        return self._column("visible_counts")

    @property
    def names(self) -> list[str]:
        """Names of all videos."""
        texts = self._texts["names"]
        return list(texts) if self.positions is None else [texts[i] for i in self.positions.tolist()]

    def name(self, index: int) -> str:
        """Name of one video."""
        return self._texts["names"][self._at(index)]

    def boxes(self, index: int) -> Float64[np.ndarray, "rows 4"]:
        """Boxes of one video: image boxes xywh in pixels, as published."""
        return np.asarray(self.columns["boxes"][self._rows(index)], np.float64)

    def visible(self, index: int) -> Bool[np.ndarray, "rows"]:
        """Where the target can be seen, one value a row of `boxes`."""
        return np.asarray(self.columns["visible"][self._rows(index)], np.bool_)

    def frames(self, index: int) -> Frames:
        """The frames of one video; nothing is opened yet, but a video file is scanned for its time stamps.

        Raises:
            ValueError: the index leads out of its root.
        """
        at = self._at(index)
        kind, count = int(self.columns["kind"][at]), int(self.columns["lengths"][at])
        first = int(self.columns["first"][at])
        place = _inside(self._texts["folders"][int(self.columns["folder"][at])])
        folder = os.path.normpath(self.root / place)
        if kind == VIDEO:
            return FramesPart(self._video(folder), first, count)
        if kind == LISTED:
            return ListedFrames(folder, _Files(self._texts["files"], first, count))
        suffix = self._texts["suffixes"][int(self.columns["suffix"][at])]
        return NumberedFrames(folder, first, int(self.columns["digits"][at]), _inside(suffix), count)

    def meta(self, index: int) -> dict[str, object]:
        """What is known of one video beside its boxes; unknown things are left out."""
        at = self._at(index)
        meta: dict[str, object] = {}
        object_class = int(self.columns["object_class"][at])
        if object_class >= 0:
            meta["object_class"] = self._texts["classes"][object_class]
        width, height = (int(value) for value in self.columns["resolution"][at])
        if width:
            meta["resolution"] = (width, height)
        if self.columns["frame_rate"][at] > 0:
            meta["frame_rate"] = float(self.columns["frame_rate"][at])
        if self.attribute_names:
            bits = int(self.columns["attributes"][at])
            meta["attributes"] = tuple(name for bit, name in enumerate(self.attribute_names) if bits >> bit & 1)
        if len(self.columns["cover"]):
            meta["cover"] = np.asarray(self.columns["cover"][self._rows(index)], np.int64)
        return meta

    def select(self, names: Iterable[str]) -> "SequenceIndex":
        """The videos with these names, in this order.

        Raises:
            ValueError: a name is not here.
        """
        places = {name: i for i, name in enumerate(self.names)}
        wanted = list(names)
        unknown = [name for name in wanted if name not in places]
        if unknown:
            raise ValueError(f"{self.dataset} has no sequence {unknown[0]!r}; its names look like {self.name(0)!r}")
        return self.subset(np.array([places[name] for name in wanted], np.int64))

    def subset(self, chosen: Int64[np.ndarray, "chosen"]) -> "SequenceIndex":
        """The videos at these places of this index, in this order; the columns stay shared."""
        return replace(self, positions=chosen if self.positions is None else self.positions[chosen])

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is not None:
            return open_index, (self.path, self.root, self.hash, self.positions)  # another process gets no copy
        values = (self.dataset, self.root, dict(self.columns), self.attribute_names, self.repeats_image, self.hash)
        return SequenceIndex, (*values, None, self.positions)

    @cached_property
    def _texts(self) -> dict[str, Texts]:
        return {
            name.removesuffix(".starts"): Texts(self.columns[name.removesuffix(".starts")], starts)
            for name, starts in self.columns.items()
            if name.endswith(".starts")
        }

    @cached_property
    def _videos(self) -> dict[str, VideoFrames]:
        return {}

    def _video(self, path: str) -> VideoFrames:
        """A video file stays open for the next sample from it; of the others the stamps are kept."""
        video = self._videos.pop(path, None) or VideoFrames(path)
        self._videos[path] = video
        if len(self._videos) > _OPEN_VIDEOS:
            self._videos[next(islice(reversed(self._videos), _OPEN_VIDEOS, None))].close()
        return video

    def _at(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"sequence {index} of {self.dataset}, which has {len(self)}")
        index %= len(self)
        return index if self.positions is None else int(self.positions[index])

    def _rows(self, index: int) -> slice:
        at = self._at(index)
        return slice(int(self.columns["rows"][at]), int(self.columns["rows"][at + 1]))

    def _column(self, name: str) -> Column:
        return self.columns[name] if self.positions is None else self.columns[name][self.positions]


def open_index(
    path: Path,
    root: Path,
    expected: str | None = None,
    positions: Int64[np.ndarray, "chosen"] | None = None,
) -> SequenceIndex:
    """The index in a folder written by `data.build`.

    Args:
        path: the folder.
        root: folder the frames lie under.
        expected: hash of the index that another process has checked; None: check it here, which reads all of it once.
        positions: see `SequenceIndex`.

    Raises:
        ValueError: no such index, a damaged one, or another one than expected.
    """
    columns, info = open_columns(path, compare=expected is None)
    if expected is not None and info["hash"] != expected:
        raise ValueError(f"{path} was made again by another process meanwhile; start again")
    return SequenceIndex(
        dataset=info["dataset"],
        root=root,
        columns=columns,
        attribute_names=tuple(info["attribute_names"]),
        repeats_image=info["repeats_image"],
        hash=info["hash"],
        path=path,
        positions=positions,
    )
