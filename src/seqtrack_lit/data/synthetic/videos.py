"""Generated videos with exact boxes: data for learning and testing without a download.

A video is a pure function of (seed, stream, number). Training, validation and test videos come from different
streams, which are part of the random key, so that they are disjoint whatever the seeds are.

F: frames.
"""

from collections import OrderedDict
from collections.abc import Sequence as Pair
from pathlib import Path
from typing import NamedTuple, get_args

import cv2
import matplotlib
import numpy as np
import torch.utils.data
from jaxtyping import Bool, Float64, Int64
from PIL import Image as Pillow

from seqtrack_lit.boxes import clip_xywh
from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Image
from seqtrack_lit.data.synthetic.scenes import Geometry, Objects, Scene, Stream
from seqtrack_lit.data.video.sequence import Frames, Video, position


class SceneFrames:
    """The frames of a scene, rendered when asked for; the scene is drawn at the first access and kept."""

    def __init__(self, seed: int, stream: Stream, number: int, geometry: Geometry) -> None:
        self.key = seed, stream, number, geometry
        self._scene: Scene | None = None

    def __len__(self) -> int:
        return self.key[3].length

    def __getitem__(self, index: int, /) -> Image:
        at = position(index, len(self), "a generated video")
        if self._scene is None:
            self._scene = Scene(*self.key)
        return self._scene.frame(at)

    def __reduce__(self) -> tuple[type["SceneFrames"], tuple[int, Stream, int, Geometry]]:
        return SceneFrames, self.key


class _Opened(NamedTuple):
    """A video as it is kept: what it shows, and the scene it was taken from."""

    objects: Objects
    frames: Frames
    scene: Objects
    kept: Int64[np.ndarray, "F"]  # number in the scene of each frame of the video


class GeneratedVideos:
    """Generated videos as a data set: the access of `SequenceIndex`, and the boxes of all objects of a scene.

    Args:
        count: number of videos.
        stream: which of the three disjoint worlds they come from.
        seed: of the videos; another seed gives other videos.
        width, height, length, target: see `Geometry`.
        kept_frames: None, or how many frames of each video there are at all, drawn once from the video at random:
            a pool for training, each rendered once. The video then has that many frames.
        cache_gb: gigabytes of rendered frames to keep in memory per process; workers of one loader share them out.
            The videos used last are kept. 5000 videos of 6 frames at 192 x 144 take 2.5.
    """

    repeats_image = False

    def __init__(
        self,
        count: int,
        *,
        stream: Stream = "train",
        seed: int = 0,
        width: int = 192,
        height: int = 144,
        length: int = 60,
        target: Pair[float] = (18.0, 48.0),
        kept_frames: int | None = None,
        cache_gb: float = 2.5,
    ) -> None:
        if stream not in get_args(Stream):
            raise ValueError(f"stream must be one of {', '.join(get_args(Stream))}, got {stream!r}")
        whole("", 1, 1_000_000, count=count)
        if kept_frames is not None and not 1 <= kept_frames <= length:
            raise ValueError(f"kept_frames must lie within 1 and length = {length}, got {kept_frames}")
        if len(target) != 2:
            raise ValueError(f"target must be two numbers, the smallest and the largest in pixels, got {list(target)}")
        self.count, self.stream, self.seed = count, stream, seed
        self.geometry = Geometry(width, height, length, (target[0], target[1]))
        self.kept_frames, self.cache_gb = kept_frames, cache_gb
        self.dataset = f"generated-{stream}"
        self.root = "(generated, no files)"
        self._cache: OrderedDict[int, _Opened] = OrderedDict()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Video:
        meta = {"resolution": (self.geometry.width, self.geometry.height), "frame_rate": 30.0}
        return Video(self.name(index), self.frames(index), self.boxes(index), self.visible(index), meta)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_cache": OrderedDict()}  # other processes fill their own

    @property
    def lengths(self) -> Int64[np.ndarray, "videos"]:
        """Number of frames of each video."""
        return np.full(self.count, self.kept_frames or self.geometry.length, np.int64)

    @property
    def visible_counts(self) -> Int64[np.ndarray, "videos"]:
        """Number of frames with a visible target of each video, at most: paths that leave the image are very rare."""
        return self.lengths

    def name(self, index: int) -> str:
        """Name of one video."""
        return f"{self.dataset}-{self.seed}-{index:05d}"

    def boxes(self, index: int) -> Float64[np.ndarray, "F 4"]:
        """The target's image boxes, xywh in pixels, clipped to the image."""
        return np.asarray(self._open(index).objects.boxes[0])

    def visible(self, index: int) -> Bool[np.ndarray, "F"]:
        """Where the target can be seen."""
        return np.asarray(self._open(index).objects.visible[0])

    def objects(self, index: int) -> Objects:
        """Boxes and visibility of all objects of a scene, the target first."""
        return self._open(index).objects

    def moment(self, index: int, frame: int) -> tuple[Objects, int]:
        """Boxes and visibility of all objects over the whole scene, and which of its frames a frame of the video is."""
        opened = self._open(index)
        return opened.scene, int(opened.kept[frame])

    def frames(self, index: int) -> Frames:
        """The frames of one video."""
        return self._open(index).frames

    def _open(self, index: int) -> "_Opened":
        """Boxes and frames of a video, from the cache when it was opened lately."""
        if not 0 <= index < self.count:
            raise IndexError(f"video {index} of {self.dataset}, which has {self.count}")
        if index in self._cache:
            self._cache.move_to_end(index)
            return self._cache[index]
        scene, frames = Scene(self.seed, self.stream, index, self.geometry), self.kept_frames
        if frames is None:
            rendered = SceneFrames(self.seed, self.stream, index, self.geometry)
            opened = _Opened(scene.objects, rendered, scene.objects, np.arange(self.geometry.length))
        else:
            key = np.random.SeedSequence(self.seed, spawn_key=(get_args(Stream).index(self.stream), index, _POOL_KEY))
            kept = np.sort(np.random.default_rng(key).choice(self.geometry.length, frames, replace=False))
            objects = Objects(scene.objects.boxes[:, kept], scene.objects.visible[:, kept])
            opened = _Opened(objects, [scene.frame(int(t)) for t in kept], scene.objects, kept)
        self._cache[index] = opened
        while len(self._cache) > self._capacity():
            self._cache.popitem(last=False)
        return opened

    def _capacity(self) -> int:
        """Videos to keep in this process. A video whose frames are rendered on demand keeps its scene only."""
        if self.kept_frames is None:
            return _OPEN_SCENES
        worker = torch.utils.data.get_worker_info()
        share = self.cache_gb * 1e9 / (1 if worker is None else worker.num_workers)
        return max(1, int(share / (self.kept_frames * self.geometry.width * self.geometry.height * 3)))


_POOL_KEY = 1000  # beyond the three keys a scene spawns for itself
_OPEN_SCENES = 64


def held_out(
    count: int = 40,
    *,
    seed: int = 0,
    width: int = 192,
    height: int = 144,
    length: int = 60,
    target: Pair[float] = (18.0, 48.0),
) -> list[Video]:
    """Videos that no training can have seen, whatever its seed: the test of the quickstart."""
    videos = GeneratedVideos(count, stream="test", seed=seed, width=width, height=height, length=length, target=target)
    return [videos[i] for i in range(count)]


_WIDTH, _HEIGHT = 320, 240
_FACE = np.array([178.0, 100.0, 185.0, 275.0])  # xywh in the photograph of 512 x 600 pixels
_TABLE = (98, 92, 84)


def photo_clip(frames: int = 60, *, hidden: tuple[int, int] | None = None) -> Video:
    """A clip that is always at hand: a camera moves over a photograph, nearer and farther, while it gets darker.

    Matplotlib's photograph of Grace Hopper on a table, her face as the target; a work of the US Navy, in the public
    domain. Real texture and light, exact boxes; for a look at trackers where no video is given, not for scores.

    Args:
        frames: number of frames.
        hidden: first frame and the one after the last in which something grey stands before the face.
    """
    photo = np.array(Pillow.open(Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg").convert("RGB"))
    images, boxes = [], []
    for t in range(frames):
        phase = 2 * np.pi * t / 60
        zoom = 0.5 * (1 + 0.15 * np.sin(0.8 * phase))
        center = _FACE[:2] + _FACE[2:] / 2 + np.array([70 * np.sin(phase), 45 * np.sin(1.7 * phase)])
        shift = np.array([_WIDTH, _HEIGHT]) / 2 - zoom * center
        warp = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        image = cv2.warpAffine(photo, warp, (_WIDTH, _HEIGHT), flags=cv2.INTER_AREA, borderValue=_TABLE)
        box = np.concatenate([zoom * _FACE[:2] + shift, zoom * _FACE[2:]])
        image = np.asarray(np.rint(image * max(0.4, 1 - 0.35 * t / 60)), np.uint8)
        if hidden is not None and hidden[0] <= t < hidden[1]:
            x1, y1 = np.floor(box[:2] - 0.15 * box[2:]).astype(int).clip(0)
            x2, y2 = np.ceil(box[:2] + 1.15 * box[2:]).astype(int)
            image[y1:y2, x1:x2] = 128
        images.append(image)
        boxes.append(clip_xywh(tuple(box.tolist()), _WIDTH, _HEIGHT, 1.0))
    visible = np.ones(frames, bool)
    if hidden is not None:
        visible[slice(*hidden)] = False
    return Video("photograph", images, np.array(boxes), visible, {"resolution": (_WIDTH, _HEIGHT)})
