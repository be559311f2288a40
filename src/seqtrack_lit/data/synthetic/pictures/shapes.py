"""Random shapes: what a piece of a picture is cut out with."""

import math

import cv2
import numpy as np
from jaxtyping import Float64, UInt8

_CORNERS = 72


def blob(rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """A filled shape that touches all four sides: between ellipse and rectangle, wavy, or angular; 255 inside."""
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    kind = int(rng.integers(3))
    radius = (_superellipse, _waves, _angular)[kind](angles, rng)
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
    points = (points - points.min(0)) / np.ptp(points, 0) * [width - 1, height - 1]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return mask


def _superellipse(angles: Float64[np.ndarray, "n"], rng: np.random.Generator) -> Float64[np.ndarray, "n"]:
    power = rng.uniform(2, 8)
    return np.asarray((np.abs(np.cos(angles)) ** power + np.abs(np.sin(angles)) ** power) ** (-1 / power))


def _waves(angles: Float64[np.ndarray, "n"], rng: np.random.Generator) -> Float64[np.ndarray, "n"]:
    radius = np.ones_like(angles)
    for order in range(1, 6):
        radius += rng.normal(0, 0.22 / order) * np.cos(order * angles + rng.uniform(0, 2 * math.pi))
    return np.asarray(radius.clip(0.3, 2))


def _angular(angles: Float64[np.ndarray, "n"], rng: np.random.Generator) -> Float64[np.ndarray, "n"]:
    count = int(rng.integers(3, 8))
    at, radius = np.sort(rng.uniform(0, 2 * math.pi, count)), rng.uniform(0.5, 1, count)
    around = np.concatenate([at - 2 * math.pi, at, at + 2 * math.pi])
    return np.asarray(np.interp(angles, around, np.tile(radius, 3)))
