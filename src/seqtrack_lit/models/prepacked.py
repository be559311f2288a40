"""Linear layers laid out once for the processor that runs them: inference on CPUs.

`prepack` copies a module without its weights. In the copy every linear layer is a `PrepackedLinear`, whose matrix lies
in the order that matrix products read, and GELU is part of the product where the layout allows it. That takes the
memory of the matrices a second time (SeqTrack-B256: 340 MB in float32).
"""

import copy
import math
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seqtrack_lit.models.seqtrack import SeqTrack

Layout = Literal["onednn", "transposed", "plain", "int8"]
Part = TypeVar("Part", bound=nn.Module)


class PrepackedLinear(nn.Module):
    """x W^T + b, and its GELU if asked for.

    Args:
        linear: the layer; its parameters are shared, a copy of its matrix is kept in another order.
        layout: "onednn": blocks of oneDNN's choice, through private operators of torch; "transposed": column by
            column; "plain": as it is, not copied; "int8": 8-bit integers with a scale per row (as in quantised.py), by
            oneDNN, which multiply inputs rounded to 8 bits between the smallest and the largest of each call.
        gelu: whether the (exact) GELU follows.
        norm: whose outputs are the layer's inputs. In int8, inputs that the norm makes large are divided and their
            weights multiplied before both are rounded (SmoothQuant, by the norm's weights alone).
    """

    def __init__(
        self, linear: nn.Linear, layout: Layout, *, gelu: bool = False, norm: nn.LayerNorm | None = None
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.layout, self.gelu = linear.weight, linear.bias, layout, gelu
        matrix = linear.weight.detach()
        if layout == "onednn":
            matrix = torch.ops.mkldnn._reorder_linear_weight(matrix)
        elif layout == "transposed":
            matrix = matrix.t().contiguous().t()
        elif layout == "int8":
            self._inverse = None if norm is None else _evened(norm, matrix)
            matrix = matrix if self._inverse is None else matrix / self._inverse
            self._scale = matrix.abs().amax(1).clamp(min=1e-6) / 127
            whole = (matrix / self._scale[:, None]).round().to(torch.int8)
            self._zero = torch.zeros(len(whole), dtype=torch.int64)
            matrix = torch.ops.onednn.qlinear_prepack(whole, None)
        self._matrix = matrix

    def forward(self, x: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch N"]:
        """The layer's output; without gradients."""
        after: tuple[str, list[Any], str] = ("gelu", [], "none") if self.gelu else ("none", [], "")
        if self.layout == "onednn":
            return cast(Tensor, torch.ops.mkldnn._linear_pointwise(x, self._matrix, self.bias, *after))
        if self.layout == "int8":
            given, x = x, x if self._inverse is None else x * self._inverse
            low, high = (float(one) for one in torch.aminmax(x))
            scale = max(max(high, 0) - min(low, 0), 1e-9) / 254  # 0 is a level
            if math.isfinite(scale):
                zero = round(-min(low, 0) / scale)
                rounded = torch.add(torch.tensor(zero + 0.5), x, alpha=1 / scale).to(torch.uint8)
                weights = (self._matrix, self._scale, self._zero, self.bias)
                found = torch.ops.onednn.qlinear_pointwise(rounded, scale, zero, *weights, 1.0, 0, x.dtype, *after)
                return cast(Tensor, found)
            if not self.weight.numel():  # released
                return given.new_full((*given.shape[:-1], len(self._scale)), math.nan)
            return F.linear(given, self.weight, self.bias)  # not finite either
        y = F.linear(x, self._matrix, self.bias)
        return F.gelu(y) if self.gelu else y


class PrepackedNetwork:
    """A network's copy for inference on a CPU: encoder and linear map prepacked, everything else shared.

    Args:
        model: in evaluation mode.
        layout: of all layers; None: the best one for this processor and each layer's precision.
    """

    def __init__(self, model: SeqTrack, layout: Layout | None = None) -> None:
        self.model, self.layout = model, layout
        self._weights: list[tuple[int, float]] | None = None
        self.refresh()

    def refresh(self) -> None:
        """Prepack again if weights have changed: by an optimizer, by loading, in place or anew."""
        # torch's counts of changes miss fused optimizers
        weights = self._fingerprint()
        if weights != self._weights:
            self.network = copy.copy(self.model)
            parts = {name: prepack(self.model.get_submodule(name), self.layout) for name in ("encoder", "linear")}
            self.network._modules = {**self.model._modules, **parts}
            self._weights = weights

    def release(self) -> None:
        """Free the matrices of which there are others: from now on the network computes, the model itself cannot."""
        for part in self.network.modules():
            if isinstance(part, PrepackedLinear):
                part.weight.data = part.weight.data.new_empty(0)
        self._weights = self._fingerprint()

    def _fingerprint(self) -> list[tuple[int, float]]:
        """What tells whether weights have changed."""
        return [(one.data_ptr(), float(one.detach().sum())) for one in self.model.parameters()]


def prepack(module: Part, layout: Layout | None = None) -> Part:
    """A copy whose linear layers are prepacked and that shares everything else with the module."""
    return _prepack(module, layout, {} if layout != "int8" else _norms(module))


def _prepack(module: Part, layout: Layout | None, norms: Mapping[nn.Module, nn.LayerNorm]) -> Part:
    if isinstance(module, nn.Linear):
        chosen = layout or best_layout(module.weight.dtype)
        return cast(Part, PrepackedLinear(module, chosen, norm=norms.get(module)))
    twin = copy.copy(module)
    parts = {name: child for name, child in module._modules.items() if child is not None}
    twin._modules = dict(module._modules) | {name: _prepack(child, layout, norms) for name, child in parts.items()}
    if isinstance(module, nn.Sequential):
        for (name, first), (after, second) in zip(list(parts.items()), list(parts.items())[1:], strict=False):
            if isinstance(first, nn.Linear) and isinstance(second, nn.GELU) and second.approximate == "none":
                chosen = layout or best_layout(first.weight.dtype)
                twin._modules[name] = PrepackedLinear(first, chosen, gelu=True, norm=norms.get(first))
                del twin._modules[after]
    return twin


def _norms(module: nn.Module) -> dict[nn.Module, nn.LayerNorm]:
    """The norm before each linear layer of a transformer's blocks that has one."""
    found: dict[nn.Module, nn.LayerNorm] = {}
    for block in module.modules():
        for norm, reader in (("norm1", "qkv"), ("norm2", "fc1")):
            linears = [one for name, one in block.named_modules() if name in (f"attn.{reader}", f"mlp.{reader}")]
            if linears and isinstance(before := getattr(block, norm, None), nn.LayerNorm):
                found[linears[0]] = before
    return found


def _evened(norm: nn.LayerNorm, matrix: Float[Tensor, "N K"]) -> Float[Tensor, "K"]:
    """What a norm's outputs are multiplied by, so that rounding costs them and the matrix alike."""
    extent = (norm.bias.abs() + 3 * norm.weight.abs()).clamp(min=1e-5)  # outputs are rarely larger
    size = extent**0.75 / matrix.abs().amax(0).clamp(min=1e-5) ** 0.25
    return (size.log().mean().exp() / size).detach()


@cache
def best_layout(dtype: torch.dtype) -> Layout:
    """What is fastest where it was measured (experiments/tab1_profile): Intel's own library on Intel, else oneDNN."""
    if dtype == torch.float32 and str(capabilities().get("cpu_name", "")).startswith("Intel"):
        return "transposed"
    return "onednn" if dtype in (torch.float32, torch.bfloat16) and onednn_works(dtype) else "plain"


def capabilities() -> Mapping[str, object]:
    """What torch tells of this processor; nothing in versions that tell nothing."""
    return cast(Mapping[str, object], getattr(torch.cpu, "get_capabilities", dict)())


def computes_bfloat16() -> bool:
    """Whether the processor multiplies in bfloat16; others convert to float32 and back, several times slower."""
    return any(capabilities().get(name) is True for name in ("amx_bf16", "avx512_bf16", "bf16"))  # bf16: on ARM


def computes_int8() -> bool:
    """Whether the processor multiplies 8-bit integers by instructions of their own."""
    return any(capabilities().get(name) is True for name in ("avx512_vnni", "avx_vnni", "amx_int8"))


@cache
def onednn_works(dtype: torch.dtype, layout: Layout = "onednn") -> bool:
    """Whether the private operators are there, take these arguments, and compute what torch's own do."""
    matrix, bias, x = (torch.linspace(-1, 1, n, dtype=dtype) for n in (512, 16, 96))
    linear = nn.Linear(32, 16, dtype=dtype, device="meta").requires_grad_(False)
    linear.weight, linear.bias = (nn.Parameter(one, requires_grad=False) for one in (matrix.view(16, 32), bias))
    try:
        found = PrepackedLinear(linear, layout, gelu=True)(x.view(1, 3, 32))
    except (AttributeError, RuntimeError, TypeError):
        return False
    margin = 0.1 if dtype.itemsize == 2 or layout == "int8" else 1e-4
    return torch.allclose(found, F.gelu(linear(x.view(1, 3, 32))), rtol=0, atol=margin)
