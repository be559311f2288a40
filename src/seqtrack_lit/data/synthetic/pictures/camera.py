"""What a camera does to a crop: light, colour, resolution, motion, defocus, noise, compression; and the picture's end.

Canvases are square. All values are drawn from a generator that is passed in.
"""

import math

import cv2
import numpy as np
from jaxtyping import Float32

from seqtrack_lit.crops import Image
from seqtrack_lit.data.synthetic.pictures.cutouts import Canvas, Corners, Rng


def photograph(canvas: Canvas, rng: Rng, *, strength: float = 1.0, blurred: bool = True) -> Image:
    """A canvas as a camera would have taken it.

    Args:
        canvas: colours from 0 to 255, perhaps a little beyond.
        rng: of all that is drawn.
        strength: of the changes of light and colour.
        blurred: whether resolution and motion may spoil it, too.
    """
    size = len(canvas)
    gain = np.exp(rng.normal(0, 0.12 * strength) + rng.normal(0, 0.04 * strength, 3)).astype(np.float32)
    image = canvas * gain + np.float32(rng.normal(0, 8 * strength))
    contrast, grey, low, moved, defocused, noisy, packed = rng.random(7)
    if contrast < 0.25:
        mean = image.mean()
        image = (image - mean) * np.float32(math.exp(rng.normal(0, 0.2))) + mean
    if grey < 0.08:
        image = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    image = image.clip(0, 255)
    if blurred and low < 0.3:
        few = max(8, int(size / rng.uniform(1.2, 3.5)))
        small = cv2.resize(image, (few, few), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_LINEAR))
    if blurred and moved < 0.2:
        image = np.asarray(cv2.filter2D(image, -1, _streak(rng)))
    elif defocused < 0.15:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.4)))
    if noisy < 0.25:
        grain = rng.standard_normal((size, size, 1), np.float32)
        image = image + grain * np.float32(rng.uniform(1, 7))
    pixels = image.clip(0, 255).astype(np.uint8)
    if packed < 0.2:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(25, 80))])
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
    return np.asarray(pixels, np.uint8)


def _streak(rng: Rng) -> Float32[np.ndarray, "length length"]:
    """A kernel of motion: a line of 3 to 9 pixels."""
    length, angle = int(rng.integers(3, 10)), rng.uniform(0, math.pi)
    along = np.linspace(-(length - 1) / 2, (length - 1) / 2, 2 * length)
    kernel = np.zeros((length, length), np.float32)
    rows = np.round((length - 1) / 2 + along * math.sin(angle)).astype(int).clip(0, length - 1)
    columns = np.round((length - 1) / 2 + along * math.cos(angle)).astype(int).clip(0, length - 1)
    kernel[rows, columns] = 1
    return np.asarray(kernel / kernel.sum())


def cut_off(canvas: Canvas, box: Corners, rng: Rng, probability: float) -> Corners:
    """The picture may end inside the crop: black beyond it, perhaps through the object, whose box is cut there."""
    if rng.random() >= probability:
        return box
    size, side, through = len(canvas), int(rng.integers(4)), rng.uniform(0, 0.35)
    gap = (rng.random() < 0.6) * rng.uniform(0, 0.5) * size
    box, axis = box.copy(), side % 2
    length = box[2 + axis] - box[axis]
    lines = canvas if axis else canvas.transpose(1, 0, 2)
    if side < 2:  # left or top
        end = int(np.clip(box[axis] + through * length - gap, 0, 0.6 * size))
        lines[:end] = 0
        box[axis] = max(box[axis], end)
    else:
        end = int(np.clip(box[2 + axis] - through * length + gap, 0.4 * size, size))
        lines[end:] = 0
        box[2 + axis] = min(box[2 + axis], end)
    return box
