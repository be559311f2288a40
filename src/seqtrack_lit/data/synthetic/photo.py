"""A clip that is always at hand: matplotlib's photograph of Grace Hopper on a table, her face as the target.

The photograph is a work of the US Navy and in the public domain. Real texture and light, exact boxes; for a look at
trackers where no video is given, not for scores.
"""

from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image as Pillow

from seqtrack_lit.boxes import clip_xywh
from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Video

WIDTH, HEIGHT = 320, 240
_FACE = np.array([178.0, 100.0, 185.0, 275.0])  # xywh in the photograph of 512 x 600 pixels
_TABLE = (98, 92, 84)


def photo_clip(frames: int = 60, *, hidden: tuple[int, int] | None = None) -> Video:
    """A camera that moves over the photograph, nearer and farther, while it gets darker.

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
        shift = np.array([WIDTH, HEIGHT]) / 2 - zoom * center
        warp = np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]])
        image = cv2.warpAffine(photo, warp, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderValue=_TABLE)
        box = np.concatenate([zoom * _FACE[:2] + shift, zoom * _FACE[2:]])
        image = np.asarray(np.rint(image * max(0.4, 1 - 0.35 * t / 60)), np.uint8)
        if hidden is not None and hidden[0] <= t < hidden[1]:
            image = _cover(image, box)
        images.append(image)
        boxes.append(clip_xywh(tuple(box.tolist()), WIDTH, HEIGHT, 1.0))
    visible = np.ones(frames, bool)
    if hidden is not None:
        visible[slice(*hidden)] = False
    return Video("photograph", images, np.array(boxes), visible, {"resolution": (WIDTH, HEIGHT)})


def _cover(image: Image, box_xywh: np.ndarray) -> Image:
    x1, y1 = np.floor(box_xywh[:2] - 0.15 * box_xywh[2:]).astype(int).clip(0)
    x2, y2 = np.ceil(box_xywh[:2] + 1.15 * box_xywh[2:]).astype(int)
    covered = image.copy()
    covered[y1:y2, x1:x2] = 128
    return covered
