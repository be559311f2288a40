"""Track with the two graphs of `seqtrack-export to=onnx`: numpy, OpenCV and onnxruntime, no torch.

python track_onnx.py GRAPHS clip.mp4 120,80,64,48 > boxes.csv
"""

import json
import math
import sys
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import onnxruntime


class OnnxTracker:
    """Give it the target with init(image, box), then one image after another with update(image).

    Images are RGB uint8 [height, width, 3]; boxes x, y of the top-left corner, width, height in pixels.
    """

    def __init__(self, folder: str, threads: int = 0) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: all cores
        self.template, self.search = (
            onnxruntime.InferenceSession(str(Path(folder) / name), options, providers=["CPUExecutionProvider"])
            for name in ("template.onnx", "search.onnx")
        )
        facts = json.loads(self.search.get_modelmeta().custom_metadata_map["seqtrack"])
        self.sizes, self.count = (facts["template_size"], facts["search_size"]), facts["templates"]
        self.past, self.settings = facts["past"], facts["tracker"]

    def init(self, image: np.ndarray, box: list[float]) -> None:
        """Start on the first frame."""
        self.box, self.frame = [float(v) for v in box], 0
        self.tokens = [self.encode(image)] * self.count
        self.history = deque([self.box] * self.past, maxlen=self.past)
        self.lack = np.zeros(4)  # of the network's own box of this frame, a share of it
        if self.settings.get("offset"):
            x, y, w, h = self.predict(image)[0]
            left, top, width, height = self.box
            right, bottom = min(x + w, left + width), min(y + h, top + height)
            shared = max(0.0, right - max(x, left)) * max(0.0, bottom - max(y, top))
            if shared / (w * h + width * height - shared) > 0.5:
                apart = (left + width / 2 - x - w / 2) / max(1, w), (top + height / 2 - y - h / 2) / max(1, h)
                grown = [math.log(max(1, a) / max(1, b)) for a, b in ((width, w), (height, h))]
                self.lack = self.settings["offset"] * np.array([*apart, *grown])

    def update(self, image: np.ndarray) -> tuple[list[float], float]:
        """The target's box in the next frame, and the mean probability of its four tokens."""
        box, likelihoods = self.predict(image)
        self.box = self.clip(*box, image.shape[1], image.shape[0])
        self.frame += 1
        self.history.append(self.box)
        if self.count > 1 and self.is_due(likelihoods):  # the first template stays
            self.tokens = [self.tokens[0], *self.tokens[2:], self.encode(image)]
        return self.box, float(likelihoods.mean())

    def predict(self, image: np.ndarray) -> tuple[list[float], np.ndarray]:
        """The box around the present one in an image, and the probabilities of its tokens."""
        size = self.sizes[1]
        crop, center, side = self.cut(image, self.settings["search_factor"], size)
        inputs = {"crop": crop[None], "templates": np.concatenate(self.tokens, axis=1)}
        if self.past:
            inputs["past"] = np.stack([fractions(box, center, side) for box in self.history])[None]
        box, _, likelihoods = self.search.run(["box", "tokens", "likelihoods"], inputs)
        scale = size / side  # crop pixels per image pixel
        cx, cy, w, h = (box[0] * size / scale).astype(np.float64)  # as the tracker: float32 up to here
        x, y = (c + m - 0.5 * size / scale for c, m in zip((cx, cy), center, strict=True))
        x, y = x - 0.5 * w, y - 0.5 * h
        wide, high = w * math.exp(self.lack[2]), h * math.exp(self.lack[3])
        return [
            x + w * (0.5 + self.lack[0]) - wide / 2,
            y + h * (0.5 + self.lack[1]) - high / 2,
            wide,
            high,
        ], likelihoods

    def encode(self, image: np.ndarray) -> np.ndarray:
        """The region around the present box as a template's tokens."""
        crop, center, side = self.cut(image, self.settings["template_factor"], self.sizes[0])
        return self.template.run(["tokens"], {"crop": crop[None], "box": fractions(self.box, center, side)[None]})[0]

    def cut(self, image: np.ndarray, factor: float, size: int) -> tuple[np.ndarray, tuple[float, float], int]:
        """A square around the present box, `factor` times its size, black outside the image; its centre and side."""
        (x, y, w, h), (height, width) = self.box, image.shape[:2]
        center, side = (x + 0.5 * w, y + 0.5 * h), max(1, math.ceil(math.sqrt(w * h) * factor))
        x1, y1 = (round(c - side * 0.5) for c in center)
        lost = 1 if self.settings["padding"] == "official" else 0  # official code loses a column at the far edges
        left, top = max(0, -x1), max(0, -y1)
        right, bottom = max(x1 + side - width + lost, 0), max(y1 + side - height + lost, 0)
        inside = image[y1 + top : max(0, y1 + side - bottom), x1 + left : max(0, x1 + side - right)]
        if inside.size == 0:
            return np.zeros((size, size, 3), np.uint8), center, side
        inside = cv2.copyMakeBorder(inside, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
        return cv2.resize(inside, (size, size)), center, side

    def clip(self, x: float, y: float, w: float, h: float, width: int, height: int) -> list[float]:
        """At least `clip_margin` pixels of the box stay in the image and are its smallest size."""
        margin = self.settings["clip_margin"]
        x1, y1 = min(max(0.0, x), width - margin), min(max(0.0, y), height - margin)
        x2, y2 = min(max(margin, x + w), float(width)), min(max(margin, y + h), float(height))
        return [x1, y1, max(margin, x2 - x1), max(margin, y2 - y1)]

    def is_due(self, likelihoods: np.ndarray) -> bool:
        """Whether this frame becomes a template."""
        rule, limit = self.settings["update"], round(self.settings["update_threshold"] * 40, 12)
        if rule == "none" or self.frame % self.settings["update_interval"]:
            return False
        return rule == "naive" or likelihoods.sum() * 10 > limit


def fractions(box: list[float], center: tuple[float, float], side: int) -> np.ndarray:
    """A box in the image as centre and size in fractions of a crop."""
    x, y, w, h = box
    values = [0.5 + (x + 0.5 * w - center[0]) / side, 0.5 + (y + 0.5 * h - center[1]) / side, w / side, h / side]
    return np.array(values, np.float32)


if __name__ == "__main__":
    tracker, video = OnnxTracker(sys.argv[1]), cv2.VideoCapture(sys.argv[2])
    box = [float(v) for v in sys.argv[3].split(",")]
    tracker.init(cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB), box)
    print("0," + ",".join(f"{v:.3f}" for v in box) + ",1")
    while (frame := video.read())[0]:
        box, confidence = tracker.update(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
        print(f"{tracker.frame}," + ",".join(f"{v:.3f}" for v in box) + f",{confidence:.4f}")
