"""Made sequences and results for the tests of scores and reports."""

from collections.abc import Callable

import numpy as np
import pytest

from seqtrack_lit.evaluation.ope import GroundTruth


@pytest.fixture
def made_truth() -> Callable[..., GroundTruth]:
    """A target of about 50 x 40 px that wanders."""

    def make(name: str, frames: int = 30, **more: object) -> GroundTruth:
        rng = np.random.default_rng((len(name), frames))
        corner = np.array([150.0, 120.0]) + rng.normal(0, 3, (frames, 2)).cumsum(0)
        size = np.array([50.0, 40.0]) + rng.normal(0, 0.5, (frames, 2)).cumsum(0)
        return GroundTruth(name, np.concatenate([corner, size.clip(10)], axis=1), **more)

    return make


@pytest.fixture
def made_result() -> Callable[..., np.ndarray]:
    """The truth with noise; the first box is right."""

    def make(truth: GroundTruth, noise: float = 4.0, seed: int = 1) -> np.ndarray:
        boxes = truth.boxes + np.random.default_rng((seed, len(truth.boxes))).normal(0, noise, truth.boxes.shape)
        boxes[:, 2:] = boxes[:, 2:].clip(1)
        boxes[0] = truth.boxes[0]
        return boxes

    return make
