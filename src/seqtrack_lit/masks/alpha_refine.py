"""Alpha-Refine for inference: windows around boxes, masks pasted back, official weights.

Official: the copy in microsoft/VideoX (SeqTrack/external/AR), whose arithmetic of windows is kept to the pixel.

Letters: H W image, S side of the crop in pixels.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, UInt8
from torch import Tensor

from seqtrack_lit.crops import Image, cut_window
from seqtrack_lit.masks.alpha_network import AlphaRefine
from seqtrack_lit.masks.refiner import Refined, finite
from seqtrack_lit.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from seqtrack_lit.models.safe_read import kind_of, read_contents

FACTOR = 2.0  # side of the window by that of the box, on each axis
THRESHOLD = 0.65  # of the probability, in SeqTrack's four scripts for VOT2020 masks
_LARGEST_SIDE = 30_000  # pixels of a window
_FILE = "Alpha-Refine's mask-only network, ARnet_seg_mask_ep0040.pth.tar"


class Window(NamedTuple):
    """The part of an image around a box: corner x, y and size in whole pixels; may reach out of the image."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def around(cls, box_xywh: Float[np.ndarray, "4"]) -> "Window":
        """The window of twice the box's width and height.

        Raises:
            ValueError: the box is not finite, has no area, or the window does not fit into memory.
        """
        x, y, w, h = finite(box_xywh)
        if not (w > 0 and h > 0 and max(w, h) * FACTOR <= _LARGEST_SIDE):
            raise ValueError(
                f"no mask can be made in box x,y,w,h = {x:g},{y:g},{w:g},{h:g}: expected width and height > 0 and at "
                f"most {_LARGEST_SIDE / FACTOR:g} pixels"
            )
        width, height = math.ceil(FACTOR * w), math.ceil(FACTOR * h)
        # Python's round is half-to-even, as in the official code
        return cls(round(x + 0.5 * w - 0.5 * width), round(y + 0.5 * h - 0.5 * height), width, height)

    def cut(self, image: Image, size: int) -> UInt8[np.ndarray, "{size} {size} 3"]:
        """The window's pixels, each axis resized on its own; padded as officially (see crops.cut_window)."""
        return cut_window(image, self, size, "official")

    def own_box(self, box_xywh: Float[np.ndarray, "4"], size: int) -> Float32[np.ndarray, "4"]:
        """The box (xywh) this window is around, in pixels of the crop; officially always about (size - 1) / 2."""
        sides = np.array([box_xywh[2] * size / self.width, box_xywh[3] * size / self.height])
        low, high = ((size - 1) / 2 + sign * sides / 2 for sign in (-1, 1))
        low, high = np.clip(low, 0, size), np.clip(high, 0, size)
        return np.concatenate([low, high - low]).astype(np.float32)

    def paste(self, crop: Float32[np.ndarray, "S S"], height: int, width: int) -> Float64[np.ndarray, "H W"]:
        """A map of the crop in the image it was cut from; zero outside of the window."""
        sized = cv2.resize(crop, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        whole = np.zeros((height, width))
        x1, y1 = max(0, self.x), max(0, self.y)
        x2, y2 = max(x1, min(width, self.x + self.width)), max(y1, min(height, self.y + self.height))
        whole[y1:y2, x1:x2] = sized[y1 - self.y : y2 - self.y, x1 - self.x : x2 - self.x]
        return whole


class AlphaRefiner:
    """Masks by Alpha-Refine: the reference kernel of the first frame serves the whole video.

    The first frame's mask is never given to it, only its box. There is no score.

    Args:
        network: with its weights.
        threshold: probability above which a pixel belongs to the target.
    """

    name = "alpha_refine"

    def __init__(self, network: AlphaRefine, *, threshold: float = THRESHOLD) -> None:
        self.network, self.threshold = network.eval(), threshold
        self._kernel: Tensor | None = None

    @classmethod
    def load(cls, path: str | Path, *, device: str = "cpu", threshold: float = THRESHOLD) -> "AlphaRefiner":
        """With the weights of an official checkpoint; raises as `load_network`."""
        return cls(load_network(path).to(device), threshold=threshold)

    @torch.inference_mode()
    def init(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> None:
        """Take the kernel from the first frame.

        Raises:
            ValueError: a box that is not finite or has no area.
        """
        window = Window.around(box_xywh)
        x, y, w, h = window.own_box(box_xywh, self.network.size).tolist()
        crop = self._input(window.cut(image, self.network.size))
        self._kernel = self.network.kernel(crop, crop.new_tensor([x, y, x + w, y + h]))

    def refine(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> Refined:
        """The mask in this box's window, all of it background where the target is not found.

        Raises:
            ValueError: no init before, or a box that is not finite or has no area.
        """
        return Refined(self.probabilities(image, box_xywh) > self.threshold)

    @torch.inference_mode()
    def probabilities(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> Float64[np.ndarray, "H W"]:
        """Probability of every pixel of the image to belong to the target; raises as `refine`."""
        if self._kernel is None:
            raise ValueError("give the target first: init(image, box_xywh) on the first frame, then refine")
        window = Window.around(box_xywh)
        logits = self.network(self._input(window.cut(image, self.network.size)), self._kernel)
        return window.paste(logits[0, 0].sigmoid().float().cpu().numpy(), *image.shape[:2])

    def _input(self, crop: UInt8[np.ndarray, "S S 3"]) -> Float[Tensor, "1 3 S S"]:
        """The crop normalised, in float64 until it is done."""
        scaled = ((crop / 255 - IMAGENET_MEAN) / IMAGENET_STD).astype(np.float32)
        return torch.from_numpy(scaled.transpose(2, 0, 1)[None]).to(next(self.network.parameters()).device)


def load_network(path: str | Path) -> AlphaRefine:
    """The network with the weights of a file: an official checkpoint, or its tensors alone (.pt, .safetensors).

    Nothing in the file is run. ResNet's unused classifier (`fc`) is left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a file of weights, or not of this network; names the key.
    """
    contents = read_contents(path)
    root = contents.root
    if not isinstance(root, Mapping):
        raise ValueError(f"{path}: expected {_FILE}; this file holds {kind_of(root)}")
    state = contents.tensors(root.get("net", root), "net" if "net" in root else "the file")
    state = {key.removeprefix("module."): value for key, value in state.items()}
    network = AlphaRefine(_bins(state, path))
    own = network.state_dict()
    unused = [key for key in state if key not in own and not key.startswith("feature_extractor.fc.")]
    if unused:
        raise ValueError(f"{path}: {_FILE} has no key {unused[0]} ({len(unused)} such); is it of another version?")
    for key, target in own.items():
        if key not in state and key.endswith("num_batches_tracked"):  # training's count of steps
            continue
        if key not in state or state[key].shape != target.shape:
            came = f"has shape {tuple(state[key].shape)}" if key in state else "is missing"
            raise ValueError(f"{path}: key {key} {came}, expected {tuple(target.shape)}; expected {_FILE}")
        target.copy_(state[key])
    return network


def _bins(state: Mapping[str, Tensor], path: str | Path) -> int:
    """Bins of the kernel's side, from the neck's width.

    Raises:
        ValueError: the tensors are of another network; says which where it is known.
    """
    if "refiner.project.conv2.weight" not in state:
        kind = "other tensors"
        if any(key.startswith(("mask_head.", "corner_head.")) for key in state):
            kind = "Alpha-Refine of CVPR 2021 (SEcmnet, with corner head), which is another network"
        elif any(key.startswith(("encoder.", "decoder.")) for key in state):
            kind = "a tracker, which is given as checkpoint=FILE"
        raise ValueError(f"{path}: expected {_FILE}; this file holds {kind} ({', '.join(list(state)[:3])}, ...)")
    gate = state.get("neck.channel_attention.fc2.weight")
    channels = gate.shape[0] if gate is not None and gate.ndim else 0
    bins = math.isqrt(channels)
    if bins * bins != channels or not 2 <= bins <= 32 or bins % 2:
        raise ValueError(
            f"{path}: key neck.channel_attention.fc2.weight must have 144 rows (or another square of an even number, "
            f"4 to 1024), it has {channels}; expected {_FILE}"
        )
    return bins
