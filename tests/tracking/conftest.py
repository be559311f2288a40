"""Small videos of a moving blob, made once."""

import cv2
import numpy as np
import pytest

from seqtrack_lit.data.video.sequence import Video

cv2.setNumThreads(0)


def blob_video(name: str, frames: int, seed: int = 0, size: tuple[int, int] = (96, 72)) -> Video:
    """A textured square that moves 2 px a frame over noise; boxes xywh."""
    rng = np.random.default_rng(seed)
    width, height = size
    ground = rng.integers(60, 120, (height, width, 3), dtype=np.uint8)
    texture = rng.integers(0, 255, (16, 20, 3), dtype=np.uint8)
    images, boxes = [], []
    for index in range(frames):
        x, y = 10 + 2 * index % (width - 40), 20 + index % 8
        image = ground.copy()
        image[y : y + 16, x : x + 20] = texture
        images.append(image)
        boxes.append([x, y, 20, 16])
    return Video(name, images, np.array(boxes, float), np.ones(frames, bool))


@pytest.fixture
def videos() -> list[Video]:
    return [blob_video("a", 4, 1), blob_video("longest ü", 9, 2), blob_video("c", 6, 3)]
