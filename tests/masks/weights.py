"""Weights of the recorded case: numbers that follow from the key alone (tests/golden/alpha/README.md)."""

import fnmatch
import hashlib
import json
import math
from pathlib import Path

import numpy as np
import torch

from seqtrack_lit.masks.alpha_network import AlphaRefine

GOLDEN = Path(__file__).parents[1] / "golden" / "alpha"
FACTS = json.loads((GOLDEN / "alpha_refine.json").read_text())
_UNUSED = {"feature_extractor.fc.weight": (1000, 2048), "feature_extractor.fc.bias": (1000,)}


def stream(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1) in float64: 24 bits each of a splitmix64 counter that the key seeds."""
    seed = int.from_bytes(hashlib.sha256(f"{FACTS['salt']}|{key}".encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + np.arange(1, math.prod(shape) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    z = z ^ z >> np.uint64(31)
    return (2 * ((z >> np.uint64(40)) / 2**24) - 1).reshape(shape)


def values(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """One tensor of the state dict."""
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    s = stream(key, shape)
    gain = next((gain for pattern, gain in FACTS["gains"] if fnmatch.fnmatchcase(key, pattern)), 1)
    if key.endswith("running_mean"):
        s = 0.1 * s
    elif key.endswith("running_var"):
        s = 1 + 0.2 * s
    elif key.endswith("bias"):
        s = 0.1 * s + FACTS["const"].get(key, 0)
    elif len(shape) == 1:
        s = gain * (1 + 0.2 * s)
    else:
        s = gain * math.sqrt(6 / math.prod(shape[1:])) * s
    return torch.from_numpy(s.astype(np.float32))


def state_dict(bins: int = 12) -> dict[str, torch.Tensor]:
    """All tensors as the published file has them, with ResNet's classifier."""
    shapes = {key: tuple(tensor.shape) for key, tensor in AlphaRefine(bins).state_dict().items()}
    return {key: values(key, shape) for key, shape in {**shapes, **_UNUSED}.items()}
