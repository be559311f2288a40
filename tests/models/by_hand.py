"""The official arithmetic once more, in the plainest form: what the model and the tracker are compared with.

Works on official state dicts, re-reads the whole sentence for every token, keeps no cache and shares no code with
seqtrack_lit. Checked against outputs of the official code (test_golden_options.py runs it on the recorded cases).
"""

import math
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor


@dataclass(frozen=True)
class Options:
    """One official model and tracker, in official words."""

    order: str = "xywh"  # xywh | whxy | corner
    memory: str = "x"  # x | xz | token
    templates: int = 2
    search_size: int = 48
    template_size: int = 48
    search_factor: float = 4.0
    template_factor: float = 4.0
    bins: int = 60
    width: int = 32  # of the encoder
    depth: int = 2
    heads: int = 2
    hidden: int = 16
    layers: int = 2
    nheads: int = 4
    ffn: int = 24
    pre_norm: bool = False
    window: bool = True
    interval: int = 2
    threshold: float = 0.6  # official units
    patch: int = 16
    seed: int = 0

    @property
    def grids(self) -> tuple[int, int]:
        return self.search_size // self.patch, self.template_size // self.patch


def shapes_of(o: Options) -> dict[str, tuple[int, ...]]:
    """The official layout: names and shapes."""
    s, t = (grid**2 for grid in o.grids)
    memory = {"x": s, "xz": s + o.templates * t, "token": 1}[o.memory]
    shapes: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, memory, o.hidden),
        "encoder.body.pos_embed": (1, s + t, o.width),
        "encoder.body.patch_embed.proj.weight": (o.width, 3, o.patch, o.patch),
        "encoder.body.patch_embed.proj.bias": (o.width,),
        "decoder.embedding.word_embeddings.weight": (o.bins + 2, o.hidden),
        "decoder.embedding.position_embeddings.weight": (5, o.hidden),
    }

    def linear(name: str, out: int, into: int, *, packed: bool = False) -> None:
        shapes[f"{name}_weight" if packed else f"{name}.weight"] = (out, into)
        shapes[f"{name}_bias" if packed else f"{name}.bias"] = (out,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    for i in range(o.depth):
        block = f"encoder.body.blocks.{i}"
        norm(f"{block}.norm1", o.width)
        linear(f"{block}.attn.qkv", 3 * o.width, o.width)
        linear(f"{block}.attn.proj", o.width, o.width)
        norm(f"{block}.norm2", o.width)
        linear(f"{block}.mlp.fc1", 4 * o.width, o.width)
        linear(f"{block}.mlp.fc2", o.width, 4 * o.width)
    norm("encoder.body.norm", o.width)
    linear("bottleneck", o.hidden, o.width)
    norm("decoder.embedding.LayerNorm", o.hidden)
    for i in range(o.layers):
        layer = f"decoder.body.layers.{i}"
        for attention in ("self_attn", "multihead_attn"):
            linear(f"{layer}.{attention}.in_proj", 3 * o.hidden, o.hidden, packed=True)
            linear(f"{layer}.{attention}.out_proj", o.hidden, o.hidden)
        linear(f"{layer}.linear1", o.ffn, o.hidden)
        linear(f"{layer}.linear2", o.hidden, o.ffn)
        for n in (1, 2, 3):
            norm(f"{layer}.norm{n}", o.hidden)
    norm("decoder.body.norm", o.hidden)
    for i, out in enumerate((o.hidden, o.hidden, o.bins + 2)):
        linear(f"vocab_embed.layers.{i}", out, o.hidden)
    return shapes


def state_of(o: Options) -> dict[str, Tensor]:
    """Random weights in the official layout; large enough that probabilities differ from token to token."""
    generator = torch.Generator().manual_seed(o.seed)

    def draw(name: str, shape: tuple[int, ...]) -> Tensor:
        noise = torch.randn(shape, generator=generator)
        if "pos_embed" in name or "position" in name:
            return 0.5 * noise
        if len(shape) == 1:
            return 0.2 * noise + (1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)
        return noise * (2.0 if name == "vocab_embed.layers.2.weight" else 1.0) / math.sqrt(math.prod(shape[1:]))

    return {name: draw(name, shape) for name, shape in shapes_of(o).items()}


def write_checkpoint(folder: Path, o: Options, **more: object) -> tuple[Path, Path]:
    """An official checkpoint and its configuration file, as they lie on a user's disk."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, config = folder / "SEQTRACK_ep0500.pth.tar", folder / "seqtrack.yaml"
    content = {"epoch": 500, "net_type": "SEQTRACK", "net": state_of(o), "stats": None, "settings": None, **more}
    torch.save(content, checkpoint)
    config.write_text(yaml.safe_dump(config_of(o)))
    return checkpoint, config


def config_of(o: Options) -> dict[str, object]:
    """The official configuration of these options."""
    return {
        "DATA": {
            "SEQ_FORMAT": o.order,
            "SEARCH": {"SIZE": o.search_size, "NUMBER": 1},
            "TEMPLATE": {"SIZE": o.template_size, "NUMBER": o.templates},
        },
        "MODEL": {
            "HIDDEN_DIM": o.hidden,
            "BINS": o.bins,
            "FEATURE_TYPE": o.memory,
            "ENCODER": {"TYPE": "vit_tiny_patch16"},
            "DECODER": {
                "NHEADS": o.nheads,
                "DEC_LAYERS": o.layers,
                "DIM_FEEDFORWARD": o.ffn,
                "PRE_NORM": o.pre_norm,
            },
        },
        "TEST": {
            "SEARCH_SIZE": o.search_size,
            "TEMPLATE_SIZE": o.template_size,
            "SEARCH_FACTOR": o.search_factor,
            "TEMPLATE_FACTOR": o.template_factor,
            "NUM_TEMPLATES": o.templates,
            "WINDOW": o.window,
            "UPDATE_INTERVALS": {"DEFAULT": o.interval},
            "UPDATE_THRESHOLD": {"DEFAULT": o.threshold},
        },
        "_GOLDEN": {"tiny_vit": {"depth": o.depth, "embed_dim": o.width, "num_heads": o.heads}},
    }


class ByHand:
    """The model on one sample, and the tracker."""

    def __init__(self, o: Options, state: dict[str, Tensor]) -> None:
        self.o, self.state = o, state

    def w(self, *names: str) -> tuple[Tensor, Tensor]:
        name = ".".join(names)
        return self.state[f"{name}.weight"], self.state[f"{name}.bias"]

    def norm(self, x: Tensor, *names: str, eps: float = 1e-5) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *self.w(*names), eps=eps)

    def encode(self, templates: Tensor, search: Tensor) -> Tensor:
        """[T 3 h w], [3 H W] -> features of all tokens [N+TM C], search first."""
        side = self.o.grids[0] ** 2
        table = self.state["encoder.body.pos_embed"][0]

        def patches(image: Tensor) -> Tensor:
            return F.conv2d(image[None], *self.w("encoder.body.patch_embed.proj"), stride=self.o.patch)[0].flatten(1).T

        x = torch.cat([patches(search) + table[:side], *(patches(image) + table[side:] for image in templates)])
        for i in range(self.o.depth):
            block = f"encoder.body.blocks.{i}"
            q, k, v = F.linear(self.norm(x, block, "norm1", eps=1e-6), *self.w(block, "attn.qkv")).chunk(3, dim=-1)
            x = x + F.linear(attend(q, k, v, self.o.heads), *self.w(block, "attn.proj"))
            hidden = F.gelu(F.linear(self.norm(x, block, "norm2", eps=1e-6), *self.w(block, "mlp.fc1")))
            x = x + F.linear(hidden, *self.w(block, "mlp.fc2"))
        return self.norm(x, "encoder.body.norm", eps=1e-6)

    def remember(self, features: Tensor) -> Tensor:
        """Features -> memory [M D]; the linear map is left out where the widths are equal."""
        if self.o.memory == "x":
            features = features[: self.o.grids[0] ** 2]
        elif self.o.memory == "token":
            features = features.mean(0, keepdim=True)
        return features if self.o.width == self.o.hidden else F.linear(features, *self.w("bottleneck"))

    def read(self, sentence: list[int], memory: Tensor) -> Tensor:
        """Logits [L V] of the word after every word of a sentence."""
        words = self.state["decoder.embedding.word_embeddings.weight"][sentence]
        x = self.norm(words, "decoder.embedding.LayerNorm")
        place = self.state["decoder.embedding.position_embeddings.weight"][: len(sentence)]
        keys = memory + self.state["pos_embed"][0]
        causal = torch.ones(len(sentence), len(sentence)).tril().bool()
        for i in range(self.o.layers):
            layer = f"decoder.body.layers.{i}"

            def look(q: Tensor, k: Tensor, v: Tensor, name: str, seen: Tensor | None, layer: str = layer) -> Tensor:
                weight, bias = self.state[f"{layer}.{name}.in_proj_weight"], self.state[f"{layer}.{name}.in_proj_bias"]
                parts = zip((q, k, v), weight.chunk(3), bias.chunk(3), strict=True)
                answer = attend(*(F.linear(*part) for part in parts), self.o.nheads, seen)
                return F.linear(answer, *self.w(layer, name, "out_proj"))

            def mlp(y: Tensor, layer: str = layer) -> Tensor:
                return F.linear(F.relu(F.linear(y, *self.w(layer, "linear1"))), *self.w(layer, "linear2"))

            if self.o.pre_norm:
                y = self.norm(x, layer, "norm1")
                x = x + look(y + place, y + place, y, "self_attn", causal)
                y = self.norm(x, layer, "norm2")
                x = x + look(y + place, keys, memory, "multihead_attn", None)
                x = x + mlp(self.norm(x, layer, "norm3"))
            else:
                x = self.norm(x + look(x + place, x + place, x, "self_attn", causal), layer, "norm1")
                x = self.norm(x + look(x + place, keys, memory, "multihead_attn", None), layer, "norm2")
                x = self.norm(x + mlp(x), layer, "norm3")
        x = self.norm(x, "decoder.body.norm")
        x = F.relu(F.linear(x, *self.w("vocab_embed.layers.0")))
        x = F.relu(F.linear(x, *self.w("vocab_embed.layers.1")))
        return F.linear(x, *self.w("vocab_embed.layers.2"))

    def generate(self, memory: Tensor) -> tuple[list[int], list[float], float]:
        """Four tokens, their likelihoods, and the smallest ratio of a winner to its runner-up."""
        sentence, likelihoods, margin = [self.o.bins + 1], [], math.inf
        windowed = () if not self.o.window else (2, 3) if self.o.order == "whxy" else (0, 1)
        for slot in range(4):
            likely = self.read(sentence, memory)[-1].softmax(-1)[: self.o.bins]
            if slot in windowed:
                likely = likely * torch.from_numpy(np.hanning(self.o.bins))
            first, second = likely.topk(2).values.tolist()
            sentence.append(int(likely.argmax()))
            likelihoods.append(first)
            margin = min(margin, first / second)
        return sentence[1:], likelihoods, margin

    def track(self, frames: np.ndarray, box: list[float]) -> dict[str, list]:
        """All frames after the first: tokens, likelihoods, boxes (xywh), updates; `margin` as in `generate`."""
        kept: dict[str, list] = {"tokens": [], "likelihoods": [], "boxes": [], "updated": [], "margin": []}
        o, box = self.o, [float(v) for v in box]
        first, _ = cut(frames[0], box, o.template_factor, o.template_size)
        templates = [first] * o.templates
        for number, image in enumerate(frames[1:], start=1):
            search, scale = cut(image, box, o.search_factor, o.search_size)
            tokens, likelihoods, margin = self.generate(self.remember(self.encode(torch.stack(templates), search)))
            box = clip(place(tokens, o, box, scale), *image.shape[:2])
            # the sum in the likelihoods' precision: float64 with a window, else float32
            total = sum_of(likelihoods, o.window) * 10
            updated = o.templates > 1 and number % o.interval == 0 and total > o.threshold
            if updated:
                templates = [templates[0], *templates[2:], cut(image, box, o.template_factor, o.template_size)[0]]
            for name, value in zip(kept, (tokens, likelihoods, box, updated, margin), strict=True):
                kept[name].append(value)
        return kept


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, seen: Tensor | None = None) -> Tensor:
    """[L D], [N D], [N D] -> [L D], head by head."""
    answers = []
    for a, b, c in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
        scores = a @ b.T / math.sqrt(a.shape[-1])
        answers.append((scores if seen is None else scores.masked_fill(~seen, -math.inf)).softmax(-1) @ c)
    return torch.cat(answers, dim=-1)


def sum_of(likelihoods: list[float], window: bool) -> float:
    return torch.tensor(likelihoods, dtype=torch.float64 if window else torch.float32).sum().item()


def cut(image: np.ndarray, box: list[float], factor: float, size: int) -> tuple[Tensor, float]:
    """The normalised window around a box [3 size size], and crop pixels per image pixel."""
    x, y, w, h = box
    side = math.ceil(math.sqrt(w * h) * factor)
    left, top = round(x + 0.5 * w - 0.5 * side), round(y + 0.5 * h - 0.5 * side)
    height, width = image.shape[:2]
    window = np.zeros((side, side, 3), np.uint8)
    for row in range(side):
        # a window that reaches beyond the last column (row) loses it: the official padding is one too wide
        inside = range(max(0, top), top + side if top + side < height else height - 1)
        if top + row not in inside:
            continue
        low, high = max(0, left), left + side if left + side < width else width - 1
        if high > low:
            window[row, low - left : high - left] = image[top + row, low:high]
    pixels = torch.from_numpy(cv2.resize(window, (size, size))).permute(2, 0, 1).float() / 255.0
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None], size / side


def place(tokens: list[int], o: Options, box: list[float], scale: float) -> list[float]:
    """Tokens -> box in the image: float32 up to image scale, float64 from there."""
    a, b, c, d = torch.tensor(tokens)
    center = {
        "xywh": torch.stack([a, b, c, d]),
        "whxy": torch.stack([c, d, a, b]),
        "corner": torch.stack([(a + c) / 2, (b + d) / 2, c - a, d - b]),
    }[o.order]
    cx, cy, w, h = (center / (o.bins - 1) * o.search_size / scale).tolist()
    half = 0.5 * o.search_size / scale
    cx, cy = cx + (box[0] + 0.5 * box[2] - half), cy + (box[1] + 0.5 * box[3] - half)
    return [cx - 0.5 * w, cy - 0.5 * h, w, h]


def clip(box: list[float], height: int, width: int) -> list[float]:
    """At least 10 px of the box stay in the image."""
    x, y, w, h = box
    right, bottom = x + w, y + h
    x, right = min(max(0, x), width - 10), min(max(10, right), width)
    y, bottom = min(max(0, y), height - 10), min(max(10, bottom), height)
    return [x, y, max(10, right - x), max(10, bottom - y)]


def video(seed: int, count: int, size: tuple[int, int], box: list[float], speed: tuple[float, float]) -> np.ndarray:
    """A textured block that moves over a coarse random background, with noise [count H W 3]."""
    rng, (width, height) = np.random.default_rng(seed), size
    ground = cv2.resize(rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8), size)
    block = cv2.resize(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8), (int(box[2]), int(box[3])))
    frames = []
    for i in range(count):
        frame = np.pad(ground, ((height, height), (width, width), (0, 0)))
        x, y = int(box[0] + speed[0] * i) + width, int(box[1] + speed[1] * i) + height
        frame[y : y + block.shape[0], x : x + block.shape[1]] = block
        noise = rng.integers(-8, 9, (height, width, 3))
        frames.append((frame[height : 2 * height, width : 2 * width] + noise).clip(0, 255).astype(np.uint8))
    return np.stack(frames)


# Whole trackers, each with something that could go wrong: (options, image size, first box, speed in pixels a frame)
TRACKS = {
    "corner order crosses its corners": (Options(order="corner", seed=1), (160, 120), (50.5, 40.25, 30, 20), (2, 1)),
    "size first": (Options(order="whxy", memory="xz", pre_norm=True, seed=2), (160, 120), (50, 40, 30.5, 20), (2, 1)),
    "mean memory, three templates": (
        Options(memory="token", templates=3, interval=1, threshold=0.3, seed=3),
        (131, 97),
        (30, 30, 25, 31),
        (1, 2),
    ),
    "three templates in the memory": (
        Options(memory="xz", templates=3, interval=2, threshold=0.0, search_size=64, template_size=32, seed=4),
        (160, 120),
        (60, 50, 22.2, 14.6),
        (-2, 1),
    ),
    "other factors": (
        Options(search_size=64, template_size=48, search_factor=2.5, template_factor=2.0, threshold=0.2, seed=5),
        (160, 120),
        (60, 50, 22.2, 34.6),
        (3, 0),
    ),
    "leaves on the right and below": (
        Options(interval=1, threshold=0.1, search_factor=5.0, seed=6),
        (120, 100),
        (90, 75, 24, 18),
        (9, 7),
    ),
    "leaves on the left and above": (
        Options(interval=1, threshold=0.1, order="corner", window=False, seed=7),
        (120, 100),
        (4, 6, 24, 18),
        (-9, -6),
    ),
    "first box over the edge": (
        Options(window=False, seed=8, pre_norm=True),
        (97, 131),
        (-11.5, 118.0, 30.0, 28.0),
        (1, -3),
    ),
    "smaller than the margin": (
        Options(bins=1000, memory="xz", seed=9),
        (320, 200),
        (150.3, 90.6, 4.2, 3.1),
        (4, 3),
    ),
    "equal widths": (
        Options(width=24, hidden=24, order="whxy", threshold=0.2, seed=10),
        (160, 120),
        (5, 5, 30, 30),
        (4, 4),
    ),
    "a threshold nothing reaches": (
        Options(interval=1, threshold=100.0, seed=11),
        (160, 120),
        (50, 40, 30, 20),
        (2, 1),
    ),
    "a threshold everything passes": (
        Options(interval=3, threshold=-1.0, seed=12, depth=3, layers=6),
        (160, 120),
        (50, 40, 30, 20),
        (2, 1),
    ),
}
