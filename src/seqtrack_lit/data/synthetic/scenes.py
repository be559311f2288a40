"""One generated video: the paths of its objects, their exact boxes, and the rendering of any frame alone.

A textured object moves, grows, turns and shears smoothly before a panning background, among objects that look like
it and behind objects that cross in front, under changing light.

O: objects of a scene (0 is the target), F: frames, H, W: height and width in pixels.
"""

import functools
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64

from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Image
from seqtrack_lit.data.synthetic.textures import SPRITE_HALF, SPRITE_SIDE, Outline, Sprite, background, outline

Stream = Literal["train", "validation", "test"]


class Objects(NamedTuple):
    """Where all objects of a video are.

    boxes: image boxes xywh in pixels, clipped to the image, zeros where nothing of the object is inside it.
    visible: whether an object can be a sample's target. The video's target: at least 3 px wide and high, occluded or
        not. Any other object: more than 60 % of it inside the image, wider and higher than 6 px, and less than half
        covered by the boxes of objects in front of it.
    """

    boxes: Float64[np.ndarray, "O F 4"]
    visible: Bool[np.ndarray, "O F"]


def waves(
    rng: np.random.Generator, length: int, amplitudes: Float64[np.ndarray, "waves"], periods: list[tuple[float, float]]
) -> Float64[np.ndarray, "waves F"]:
    """Smooth paths about 0, |value| <= amplitude: sums of three sinusoids, periods (frames) drawn from a range."""
    low, high = np.array(periods).T[..., None]
    shape = (len(amplitudes), 3)
    frequency = 2 * np.pi / rng.uniform(low, high, shape)
    phase, share = rng.uniform(0, 2 * np.pi, shape), rng.uniform(0.2, 1, shape)
    share *= amplitudes[:, None] / share.sum(1, keepdims=True)
    angle = frequency[..., None] * np.arange(length) + phase[..., None]
    return np.asarray(np.matmul(share[:, None], np.sin(angle))[:, 0])


def _rotation(angle: Float64[np.ndarray, "F"]) -> Float64[np.ndarray, "F 2 2"]:
    """Rotation matrices."""
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], -1), np.stack([s, c], -1)], -2)


def _affine(linear: Float64[np.ndarray, "F 2 2"], shift: Float64[np.ndarray, "F 2"]) -> Float64[np.ndarray, "F 2 3"]:
    """Matrices [linear | shift]."""
    return np.concatenate([linear, shift[..., None]], -1)


@dataclass(frozen=True)
class Geometry:
    """Size of a generated video: picture in pixels, length in frames, range of the target's size in pixels."""

    width: int = 192
    height: int = 144
    length: int = 60
    target: tuple[float, float] = (18.0, 48.0)

    def __post_init__(self) -> None:
        whole("", 16, 4096, width=self.width, height=self.height)
        whole("", 1, 100_000, length=self.length)
        if not 4 <= self.target[0] <= self.target[1] <= min(self.width, self.height):
            raise ValueError(
                f"target must be a range (smallest, largest) of pixels within 4 and the picture's shorter side "
                f"{min(self.width, self.height)}, got {tuple(self.target)}"
            )


@dataclass(frozen=True, eq=False)
class _Object:
    """A shape and its path; `poses` map the outline's square [-1, 1]^2 to image pixels (continuous coordinates)."""

    shape: Outline
    size: float
    poses: Float64[np.ndarray, "F 2 3"]
    front: bool  # painted after the target

    @functools.cached_property
    def corners(self) -> tuple[Float64[np.ndarray, "F 2"], Float64[np.ndarray, "F 2"]]:
        """Low and high corner of the box around the moved outline, not clipped."""
        points = self.poses[..., :2] @ self.shape.T + self.poses[..., 2:]  # F 2 points
        return points.min(-1), points.max(-1)

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        geometry: Geometry,
        *,
        size: float,
        speed: float,
        shape: Outline | None = None,
        aspect_spread: float = 0.3,
        front: bool = False,
    ) -> "_Object":
        """Draw a path: position, log-size, log-aspect, rotation (two fifths spin steadily) and shear."""
        W, H, length = geometry.width, geometry.height, geometry.length
        drift = (35 / speed, 160 / speed)
        x, y, log_size, log_aspect, turn, shear = waves(
            rng,
            length,
            rng.uniform([0.1 * W, 0.1 * H, 0, 0, 0, 0], [0.38 * W, 0.36 * H, 0.45, 0.3, 0.8, 0.15]),
            [drift, drift, (40, 150), (30, 150), (40, 160), (30, 120)],
        )
        center = rng.uniform(0.35, 0.65, 2) * (W, H)
        spin = rng.normal(0, 0.015) if rng.random() < 0.4 else 0.0
        angle = rng.uniform(0, 2 * np.pi) + turn + spin * np.arange(length)
        half, stretch = size / 2 * np.exp(log_size), np.exp(0.5 * (rng.normal(0, aspect_spread) + log_aspect))
        scaled = np.zeros((length, 2, 2))  # shear @ diag(half * stretch, half / stretch)
        scaled[:, 0, 0], scaled[:, 1, 1] = half * stretch, half / stretch
        scaled[:, 0, 1] = shear * scaled[:, 1, 1]
        poses = _affine(_rotation(angle) @ scaled, center + np.stack([x, y], -1))
        return cls(outline(rng) if shape is None else shape, size, poses, front)


class Scene:
    """One generated video. Paths and boxes are there at once; textures are drawn when the first frame is rendered."""

    def __init__(self, seed: int, stream: Stream, number: int, geometry: Geometry | None = None) -> None:
        self.geometry = geometry or Geometry()
        # spawn_key, not a longer seed: (seed, stream, number) -> state is then one-to-one for any size of the seed
        key = np.random.SeedSequence(seed, spawn_key=(get_args(Stream).index(stream), number))
        motion_key, self._look_key, light_key = key.spawn(3)
        self._copies: list[Literal["nothing", "shape", "texture"]] = ["nothing"]
        self._objects = self._draw_objects(np.random.default_rng(motion_key))
        self._order = sorted(range(len(self._objects)), key=lambda o: (self._objects[o].front, o == 0))
        self._draw_light(np.random.default_rng(light_key))
        self._look: tuple[Image, list[Sprite]] | None = None

    def _draw_objects(self, rng: np.random.Generator) -> list[_Object]:
        """The target, 0-4 distractors (a quarter has its shape, a fifth its texture), in half of the scenes a bar."""
        draw = functools.partial(_Object.draw, rng, self.geometry)
        target = draw(size=rng.uniform(*self.geometry.target), speed=rng.uniform(0.5, 1.6))
        objects = [target]
        for _ in range(int(rng.integers(0, 5))):
            likeness = rng.random()
            self._copies.append("shape" if likeness < 0.25 else "texture" if likeness < 0.45 else "nothing")
            objects.append(
                draw(
                    size=target.size * rng.uniform(0.6, 1.5),
                    speed=rng.uniform(0.4, 1.6),
                    shape=target.shape if self._copies[-1] == "shape" else None,
                    front=bool(rng.random() < 0.25),
                )
            )
        if rng.random() < 0.5:  # the bar: smaller than the target, often thin, in front of everything
            self._copies.append("nothing")
            objects.append(draw(size=target.size * rng.uniform(0.35, 0.7), speed=1.0, aspect_spread=0.9, front=True))
        return objects

    def _draw_light(self, rng: np.random.Generator) -> None:
        """Camera (pan, zoom, roll of the ground), gain, offset and tint over time, sensor noise, blur."""
        W, H, length = self.geometry.width, self.geometry.height, self.geometry.length
        scale = W / 256
        pan = rng.uniform(0, 70) * scale if rng.random() < 0.8 else 0.0
        x, y, zoom, roll = waves(
            rng,
            length,
            np.array([pan, 0.6 * pan, rng.uniform(0, 0.12), rng.uniform(0, 0.08)]),
            [(40, 160), (40, 160), (50, 200), (50, 200)],
        )
        linear = _rotation(roll) * (4 / 3 * 1.15 * np.exp(zoom))[:, None, None]
        ground_center = np.array([W * 3 // 4, H * 3 // 4]) / 2
        self._camera = _affine(linear, np.array([W, H]) / 2 + np.stack([x, y], -1) - linear @ ground_center)
        gain, offset, *tint = waves(
            rng,
            length,
            rng.uniform(0, [0.3, 20, 0.08, 0.08, 0.08]),
            [(30, 200), (30, 200), (40, 200), (40, 200), (40, 200)],
        )
        self._gain = ((1 + gain) * (1 + np.array(tint))).T.astype(np.float32)  # F 3
        self._offset = offset.astype(np.float32)
        self._noise = rng.uniform(0, 8) if rng.random() < 0.7 else 0.0
        self._noise_start = int(rng.integers(_NOISE_STARTS))
        self._blur = rng.uniform(0.4, 1.0) * scale if rng.random() < 0.3 else 0.0

    @functools.cached_property
    def objects(self) -> Objects:
        """Boxes and visibility of all objects in all frames."""
        limit = np.array([self.geometry.width, self.geometry.height], np.float64)
        low, high = (np.stack(c) for c in zip(*(o.corners for o in self._objects), strict=True))
        full = (high - low).prod(-1)
        low, high = low.clip(0, limit), high.clip(0, limit)
        size = high - low
        inside = size.prod(-1)
        boxes = np.concatenate([low, size], -1) * (size.min(-1) > 0)[..., None]
        visible = (size.min(-1) > 6) & (inside > 0.6 * full)
        visible[0] = size[0].min(-1) >= 3
        for place, o in enumerate(self._order):
            if o == 0:
                continue
            above = self._order[place + 1 :]
            shared = (np.minimum(high[o], high[above]) - np.maximum(low[o], low[above])).clip(0).prod(-1)
            visible[o] &= shared.sum(0) < 0.5 * inside[o]
        return Objects(boxes, visible)

    def frame(self, t: int) -> Image:
        """Render frame `t`."""
        if self._look is None:
            rng = np.random.default_rng(self._look_key)
            ground = background(rng, self.geometry.height * 3 // 4, self.geometry.width * 3 // 4)
            sprites = [Sprite.draw(rng, self._objects[0].shape)]
            for thing, copies in zip(self._objects[1:], self._copies[1:], strict=True):
                sprites.append(Sprite.draw(rng, thing.shape, sprites[0].surface if copies == "texture" else None))
            self._look = ground, sprites
        ground, sprites = self._look
        size = self.geometry.width, self.geometry.height
        image = cv2.warpAffine(ground, self._camera[t], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        for o in self._order:
            _paint(image, sprites[o], self._objects[o], t)
        if self._blur:
            image = cv2.GaussianBlur(image, (0, 0), self._blur)
        levels = np.arange(256, dtype=np.float32)[:, None] * self._gain[t] + self._offset[t]
        image = cv2.LUT(image, levels.clip(0, 255).astype(np.uint8)[None])
        if self._noise:
            start = (self._noise_start + 7919 * t) % _NOISE_STARTS
            noise = _noise_bank(*image.shape[:2])[start:, start * 13 % _NOISE_STARTS :]
            noise = noise[: image.shape[0], : image.shape[1]]
            image = cv2.addWeighted(image, 1.0, noise, self._noise, 0.0, dtype=cv2.CV_8U)
        return np.asarray(image)


_NOISE_STARTS = 200


@functools.cache
def _noise_bank(H: int, W: int) -> Float32[np.ndarray, "rows columns 3"]:
    """White noise of which a frame uses a window; the same for all scenes, and a constant."""
    return np.random.default_rng(12345).standard_normal((H + _NOISE_STARTS, W + _NOISE_STARTS, 3), np.float32)


def _paint(image: Image, sprite: Sprite, thing: _Object, t: int) -> None:
    """Blend a sprite into the image where the object is in frame `t`, in place."""
    low, high = (corner[t].tolist() for corner in thing.corners)
    x0, y0 = max(math.floor(low[0]) - 1, 0), max(math.floor(low[1]) - 1, 0)
    x1, y1 = min(math.ceil(high[0]) + 2, image.shape[1]), min(math.ceil(high[1]) + 2, image.shape[0])
    if x1 - x0 < 2 or y1 - y0 < 2:
        return
    (a, b, x), (c, d, y) = thing.poses[t].tolist()
    side = 2 * math.sqrt(abs(a * d - b * c))
    level = 0 if side > 0.7 * SPRITE_SIDE else 1 if side > 0.35 * SPRITE_SIDE else 2
    rgba = sprite.levels[level]
    # texture pixel (index) -> outline square -> image (continuous) -> pixel index of the region
    scale, middle = SPRITE_SIDE / (SPRITE_HALF * rgba.shape[0]), rgba.shape[0] / 2 - 0.5
    a, b, c, d = a * scale, b * scale, c * scale, d * scale
    warp = np.array([[a, b, x - (a + b) * middle - 0.5 - x0], [c, d, y - (c + d) * middle - 0.5 - y0]])
    layer = cv2.warpAffine(rgba, warp, (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    region = image[y0:y1, x0:x1]
    under = region.astype(np.float32)
    alpha = layer[..., 3:] * np.float32(1 / 255)
    region[:] = under + alpha * (layer[..., :3] - under) + np.float32(0.5)
