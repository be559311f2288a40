"""Objects to paint: cut-outs with alpha, how they appear in a scene, how they are bent, and the box they cover.

Coordinates are continuous: pixel i of an image covers [i, i + 1], its centre is i + 0.5. A box is what the painted
alpha covers, measured where it crosses one half, so that it follows every warp and every blur.

n: points of an outline, H, W: height and width of a canvas in pixels.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

Rgba = UInt8[np.ndarray, "_ _ 4"]
Canvas = Float32[np.ndarray, "H W 3"]
Corners = Float64[np.ndarray, "4"]  # x1 y1 x2 y2, pixels of a canvas
Matrix = Float64[np.ndarray, "2 2"]
Rng = np.random.Generator

_SOLID = 110  # alpha above which a pixel belongs to the outline
_POINTS = 120  # of an outline
_SMALLEST = 36  # pixels below which no smaller copy of a cut-out is kept
_EDGE = 0.5  # alpha at the edge of a box


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object with alpha.

    Args:
        picture: RGBA, trimmed to the object; its colour goes on a little outside of the alpha.
        group: name of the list it stands in, in which neighbours are of the same kind; "" for none.
        index: its place there.
    """

    picture: Rgba
    group: str = ""
    index: int = 0

    @cached_property
    def levels(self) -> list[Rgba]:
        """The picture and copies of it, each half as large as the one before."""
        levels = [self.picture]
        while max(levels[-1].shape[:2]) > _SMALLEST:
            height, width = (max(4, side // 2) for side in levels[-1].shape[:2])
            levels.append(np.asarray(cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA)))
        return levels

    @cached_property
    def half(self) -> Float32[np.ndarray, "2"]:
        """Half of width and height."""
        height, width = self.picture.shape[:2]
        return np.array([width / 2, height / 2], np.float32)

    @cached_property
    def outline(self) -> Float32[np.ndarray, "n 2"]:
        """Points of the outline about the centre of the picture; those furthest out are among them."""
        solid = (self.picture[..., 3] > _SOLID).astype(np.uint8)
        found, _ = cv2.findContours(solid, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        points = np.concatenate([line[:, 0] for line in found]).astype(np.float32)
        extreme = points[[*points.argmin(0), *points.argmax(0)]]
        spread = points[np.linspace(0, len(points) - 1, min(_POINTS, len(points))).astype(int)]
        centered = np.concatenate([spread, extreme]) + np.float32(0.5) - self.half
        return np.asarray(centered + 0.5 * np.sign(centered), np.float32)  # from the centres of pixels to their rims


class Appearance(NamedTuple):
    """What an object keeps from the template to the search crop."""

    angle: float  # radians
    aspect: float  # log of width over height, on top of its own
    mirrored: bool
    gain: Float32[np.ndarray, "3"]
    offset: float
    soft: bool  # edges blurred
    lit: bool  # takes on the brightness of what is behind it


def draw_appearance(rng: Rng) -> Appearance:
    """An appearance at random."""
    turned = rng.normal(0, 0.15) if rng.random() < 0.75 else rng.uniform(-math.pi, math.pi)
    soft, lit, mirrored = rng.random(3) < (0.6, 0.5, 0.5)
    gain = np.exp(rng.normal(0, 0.12, 3) * rng.random()).astype(np.float32)
    return Appearance(
        float(turned), rng.normal(0, 0.15), bool(mirrored), gain, rng.normal(0, 12), bool(soft), bool(lit)
    )


class Change(NamedTuple):
    """How an object differs from its appearance in one crop."""

    angle: float
    aspect: float
    shear: float
    mirrored: bool
    bending: float  # standard deviation of the displacement over the object's length


def draw_change(rng: Rng, strength: float = 1.0) -> Change:
    """A change at random; one in five is two and a half times as strong."""
    s = strength * (2.5 if rng.random() < 0.2 else 1.0)
    angle, aspect, shear = (rng.normal(size=3) * s * (0.13, 0.13, 0.07)).tolist()
    return Change(angle, aspect, shear, bool(rng.random() < 0.05 * strength), 0.05 * float(rng.random()) * s)


class Bend:
    """A smooth displacement of an object: the sum of three waves."""

    def __init__(self, rng: Rng, half: Float32[np.ndarray, "2"], strength: float) -> None:
        length = float(half.max())
        self.waves = rng.normal(0, 1.6 / length, (2, 3)).astype(np.float32)
        self.phases = rng.uniform(0, 2 * math.pi, 3).astype(np.float32)
        self.amplitudes = (rng.normal(0, 1, (3, 2)) * strength * length / 1.7).astype(np.float32)

    def __call__(self, points: Float32[np.ndarray, "*n 2"]) -> Float32[np.ndarray, "*n 2"]:
        """Displacement of points of the picture, pixels."""
        return np.asarray(np.sin(points @ self.waves + self.phases) @ self.amplitudes)

    def inverse(self, points: Float32[np.ndarray, "n 2"]) -> Float32[np.ndarray, "n 2"]:
        """Points that are displaced to the given ones, nearly."""
        found = points
        for _ in range(3):
            found = points - self(found)
        return found


class Placed(NamedTuple):
    """A cut-out in a canvas: canvas = matrix @ picture + shift, after bending."""

    cutout: Cutout
    appearance: Appearance
    matrix: Matrix
    shift: Float64[np.ndarray, "2"]
    bend: Bend
    box: Corners  # of the bent outline, perhaps beyond the canvas


def place(
    cutout: Cutout, appearance: Appearance, change: Change, rng: Rng, *, size: float, center: Float64[np.ndarray, "2"]
) -> Placed:
    """Turn and bend a cut-out so that the box around it has sqrt(width * height) = size and the given centre."""
    angle, aspect = appearance.angle + change.angle, math.exp(0.5 * (appearance.aspect + change.aspect))
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[aspect, change.shear], [0, 1 / aspect]])
    if appearance.mirrored ^ change.mirrored:
        matrix[:, 0] *= -1
    bend = Bend(rng, cutout.half, change.bending)
    points = bend.inverse(cutout.outline) @ matrix.T
    low, high = points.min(0), points.max(0)
    scale = size / math.sqrt(float(np.prod(np.maximum(high - low, 1e-3))))
    shift = center - scale * (low + high) / 2
    return Placed(
        cutout, appearance, matrix * scale, shift, bend, np.concatenate([scale * low + shift, scale * high + shift])
    )


class Painted(NamedTuple):
    """What a placed object covers of a canvas: its box, and its alpha in a window whose corner is (x, y)."""

    box: Corners
    alpha: Float32[np.ndarray, "h w"]
    x: int
    y: int

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the canvas."""
        height, width = self.alpha.shape
        return slice(self.y, self.y + height), slice(self.x, self.x + width)


def paint(canvas: Canvas, placed: Placed) -> Painted | None:
    """Paint an object into a canvas; None where it covers nothing of it."""
    cutout, appearance, matrix, shift, bend, box = placed
    x1, y1 = np.maximum(np.floor(box[:2] - 3), 0).astype(int)
    x2, y2 = np.minimum(np.ceil(box[2:] + 3), canvas.shape[1::-1]).astype(int)
    if x2 - x1 < 2 or y2 - y1 < 2:
        return None
    scale, level = math.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])), 0
    while level + 1 < len(cutout.levels) and scale * 2 ** (level + 1) <= 1:
        level += 1
    source, whole = cutout.levels[level], cutout.picture.shape
    columns = np.arange(x1, x2, dtype=np.float32) + np.float32(0.5 - shift[0])
    rows = np.arange(y1, y2, dtype=np.float32) + np.float32(0.5 - shift[1])
    points = np.stack(np.meshgrid(columns, rows), -1) @ np.linalg.inv(matrix).astype(np.float32).T
    points = points + bend(points) + cutout.half
    points *= np.array([source.shape[1] / whole[1], source.shape[0] / whole[0]], np.float32)
    points -= np.float32(0.5)  # cv2 counts from the centre of the first pixel
    seen = cv2.remap(source, points, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    alpha = seen[..., 3].astype(np.float32) / 255
    if appearance.soft:
        alpha = np.asarray(cv2.GaussianBlur(alpha, (3, 3), 0))
    edges = covered(alpha)
    if edges is None:
        return None
    behind, cover = canvas[y1:y2, x1:x2], alpha[..., None]
    color = seen[..., :3].astype(np.float32)
    if appearance.lit:
        own = float((color * cover).sum()) / (3 * float(alpha.sum()) + 1)
        color *= 1 + 0.5 * (min(max((float(behind.mean()) + 20) / (own + 20), 0.4), 1.6) - 1)
    color = color * appearance.gain + np.float32(appearance.offset)
    behind += cover * (color.clip(0, 255) - behind)
    return Painted(edges + np.array([x1, y1, x1, y1]), alpha, int(x1), int(y1))


def covered(alpha: Float32[np.ndarray, "h w"]) -> Corners | None:
    """The box that alpha covers, between pixels where it crosses one half; None where it stays below."""
    (left, right), (top, bottom) = _span(alpha.max(0)), _span(alpha.max(1))
    return None if left is None or top is None else np.array([left, top, right, bottom])


def _span(profile: Float32[np.ndarray, "n"]) -> tuple[float, float] | tuple[None, None]:
    """Where a row of values first and last crosses one half, in pixels; the ends of the row where it begins above."""
    above = np.flatnonzero(profile >= _EDGE)
    if not len(above):
        return None, None
    first, last = int(above[0]), int(above[-1])
    low, high = 0.0, float(len(profile))
    if first > 0:
        before, here = float(profile[first - 1]), float(profile[first])
        low = first + 0.5 - (here - _EDGE) / max(here - before, 1e-6)
    if last + 1 < len(profile):
        here, after = float(profile[last]), float(profile[last + 1])
        high = last + 0.5 + (here - _EDGE) / max(here - after, 1e-6)
    return low, high


_CORNERS = 72


def blob(rng: np.random.Generator, width: int, height: int) -> UInt8[np.ndarray, "height width"]:
    """A filled shape that touches all four sides: between ellipse and rectangle, wavy, or angular; 255 inside."""
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    match int(rng.integers(3)):
        case 0:
            power = rng.uniform(2, 8)
            radius = (np.abs(np.cos(angles)) ** power + np.abs(np.sin(angles)) ** power) ** (-1 / power)
        case 1:
            radius = np.ones_like(angles)
            for order in range(1, 6):
                radius += rng.normal(0, 0.22 / order) * np.cos(order * angles + rng.uniform(0, 2 * math.pi))
            radius = radius.clip(0.3, 2)
        case _:
            count = int(rng.integers(3, 8))
            at, corners = np.sort(rng.uniform(0, 2 * math.pi, count)), rng.uniform(0.5, 1, count)
            around = np.concatenate([at - 2 * math.pi, at, at + 2 * math.pi])
            radius = np.interp(angles, around, np.tile(corners, 3))
    points = np.stack([radius * np.cos(angles), radius * np.sin(angles)], 1)
    points = (points - points.min(0)) / np.ptp(points, 0) * [width - 1, height - 1]
    mask = np.zeros((height, width), np.uint8)
    cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 255)
    return mask
