"""Small videos, a network of random weights."""

import cv2
import numpy as np
import pytest
import torch

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models.description import build_model
from seqtrack_lit.models.seqtrack import SeqTrack

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


@pytest.fixture(scope="module")
def video() -> Video:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 255, (60, 80, 3), dtype=np.uint8) for _ in range(9)]
    return Video("noise", frames, np.array([[30.5, 20.25, 14, 11]]), np.ones(1, bool))


def tiny(templates: int = 2, past: int = 0, order: str = "cxcywh", seed: int = 0) -> SeqTrack:
    """A random model of 32 px crops."""
    torch.manual_seed(seed)
    return build_model({"bins": 40, "order": order}, describe(templates, past)).eval()


def describe(templates: int = 2, past: int = 0) -> dict[str, object]:
    """Its plain arguments."""
    encoder = {
        "_target_": "seqtrack_lit.models.encoder.ViTEncoder",
        "search_size": 32,
        "template_size": 32,
        "templates": templates,
        "patch": 16,
        "width": 32,
        "depth": 1,
        "heads": 2,
    }
    decoder = {
        "_target_": "seqtrack_lit.models.decoder.Decoder",
        "width": 32,
        "depth": 1,
        "heads": 2,
        "ffn": 32,
        "past": past,
    }
    return {"encoder": encoder, "decoder": decoder}
