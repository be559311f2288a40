"""Optimizers, which parameters they move, and learning-rate schedules: functions of the step, never of the clock.

`AdamWSettings` is the paper's. `MuonSettings` is the fast one for tiny models: Muon (Jordan 2024; torch.optim.Muon) on
the matrices of linear layers, AdamW on the rest, in one Optimizer so that clipping, schedules and resume see one.
Newton-Schulz runs once for all matrices of a shape: several times faster than torch.optim.Muon's loop over many
small matrices, and the packed query-key-value matrix is treated as the three matrices it is.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqtrack_lit.checks import number, one_of, whole
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.training.precision import cpu_flags

BatchScaling = Literal["none", "sqrt", "linear"]
Group = dict[str, Any]
# Newton-Schulz by quintics a x + b x^3 + c x^5, (a, b, c) of each iteration. Five: Keller Jordan's, as in
# torch.optim.Muon. Three: each the nearest to 1, in the largest difference, over what the one before it makes of
# [0.01, 1] (Polar Express, Amsel et al. 2025): these singular values of a matrix of norm 1 end within 0.73 and 1.27.
_NS = {
    5: ((3.4445, -4.7750, 2.0315),) * 5,
    3: ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526)),
}
Schedule = Callable[[int, int], float]  # factor on the learning rates from (step, all steps)


@dataclass(frozen=True)
class StepDecay:
    """1, then `factor` after the share `after` of the steps (paper: x 0.1 after 400 of 500 epochs)."""

    after: float = 0.8
    factor: float = 0.1

    def __post_init__(self) -> None:
        number("optimizer.schedule", high=1, after=self.after)
        number("optimizer.schedule", factor=self.factor)

    def __call__(self, step: int, steps: int) -> float:
        """Factor on the learning rates at 0-based `step` of `steps`."""
        return self.factor if step >= round(self.after * steps) else 1.0


@dataclass(frozen=True)
class WarmupConstantLinear:
    """Linearly up to 1 over the share `warmup`, 1 until the share `constant`, linearly down to 0 at the end."""

    warmup: float = 0.05
    constant: float = 0.5

    def __post_init__(self) -> None:
        number("optimizer.schedule", high=1, warmup=self.warmup)
        number("optimizer.schedule", self.warmup, 1, constant=self.constant)

    def __call__(self, step: int, steps: int) -> float:
        """Factor on the learning rates at 0-based `step` of `steps`."""
        up, down = round(self.warmup * steps), round(self.constant * steps)
        if step < up:
            return (step + 1) / up
        return 1.0 if step < down else max(0.0, (steps - step) / max(1, steps - down))


@dataclass(frozen=True)
class OptimizerSettings:
    """Settings that all optimizers share.

    Args:
        clip: largest norm of the whole gradient.
        schedule: factor on all learning rates as a function of (step, all steps).
        base_batch: global batch for which the learning rates are stated.
        batch_scaling: how they follow another global batch: not, with its square root, or linearly.
    """

    clip: float = 0.1
    schedule: Schedule = field(default_factory=StepDecay)
    base_batch: int = 64
    batch_scaling: BatchScaling = "sqrt"

    def __post_init__(self) -> None:
        number("optimizer", above=True, clip=self.clip)
        whole("optimizer", 1, base_batch=self.base_batch)
        one_of("optimizer", get_args(BatchScaling), batch_scaling=self.batch_scaling)

    def scale(self, global_batch: int) -> float:
        """Factor on the stated learning rates for this global batch."""
        ratio = global_batch / self.base_batch
        return {"none": 1.0, "sqrt": math.sqrt(ratio), "linear": ratio}[self.batch_scaling]

    def build(self, model: SeqTrack, global_batch: int) -> torch.optim.Optimizer:
        """The optimizer of a model, learning rates scaled to the batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class AdamWSettings(OptimizerSettings):
    """AdamW with a smaller rate for the encoder; weight decay on all parameters, as the official code has it.

    Official: lib/train/base_functions.py get_optimizer_scheduler; LR 1e-4, ENCODER_MULTIPLIER 0.1, decay 1e-4.
    """

    lr: float = 1e-4
    encoder_lr: float = 1e-5
    weight_decay: float = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999

    def __post_init__(self) -> None:
        super().__post_init__()
        number("optimizer", lr=self.lr, encoder_lr=self.encoder_lr, weight_decay=self.weight_decay)
        number("optimizer", high=1, beta1=self.beta1, beta2=self.beta2)

    def build(self, model: SeqTrack, global_batch: int) -> torch.optim.Optimizer:
        """AdamW on two groups: encoder, and the rest (decoder, linear map, memory positions, heads)."""
        scale = self.scale(global_batch)
        encoder = list(model.encoder.parameters())
        inside = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in inside]
        groups = [
            {"params": encoder, "lr": self.encoder_lr * scale, "name": "encoder"},
            {"params": rest, "lr": self.lr * scale, "name": "rest"},
        ]
        return torch.optim.AdamW(groups, betas=(self.beta1, self.beta2), weight_decay=self.weight_decay, fused=True)


@dataclass(frozen=True)
class MuonSettings(OptimizerSettings):
    """Muon on the matrices of linear layers, AdamW on the rest.

    Args:
        lr: AdamW's learning rate.
        weight_decay: AdamW's, on patch embedding and read-outs only (not on norms, biases, embeddings, positions).
        beta1: AdamW's.
        beta2: AdamW's.
        encoder_lr: None, or the rate of a pretrained encoder, which AdamW then moves whole: Muon's equal steps in all
            directions would soon have moved it away from what it knows.
        muon_lr: Muon's learning rate, on AdamW's scale (updates have the root mean square of AdamW's).
        muon_weight_decay: Muon's.
        momentum: Muon's.
        newton_schulz: iterations that make its updates orthogonal, 5 (Jordan's) or 3 (other polynomials).
    """

    clip: float = 1.0
    schedule: Schedule = field(default_factory=WarmupConstantLinear)
    lr: float = 1.5e-3
    encoder_lr: float | None = None
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    muon_lr: float = 3.75e-3
    muon_weight_decay: float = 0.05
    momentum: float = 0.95
    newton_schulz: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.newton_schulz not in _NS:
            raise ValueError(f"optimizer.newton_schulz must be 5 or 3, got {self.newton_schulz!r}")
        number("optimizer", lr=self.lr, weight_decay=self.weight_decay)
        if self.encoder_lr is not None:
            number("optimizer", encoder_lr=self.encoder_lr)
        number("optimizer", muon_lr=self.muon_lr, muon_weight_decay=self.muon_weight_decay)
        number("optimizer", high=1, beta1=self.beta1, beta2=self.beta2, momentum=self.momentum)

    def build(self, model: SeqTrack, global_batch: int) -> torch.optim.Optimizer:
        """One optimizer over groups: Muon matrices, packed ones, decayed rest, rest without decay."""
        scale = self.scale(global_batch)
        parts, encoder = split_parameters(model), Parts([], [], [], [])
        if self.encoder_lr is not None:
            parts, encoder = parts.without(model.encoder)
        muon = {"muon": True, "lr": self.muon_lr * scale, "weight_decay": self.muon_weight_decay}
        adamw = {"muon": False, "lr": self.lr * scale, "betas": (self.beta1, self.beta2)}
        groups: list[Group] = [
            {"params": parts.matrices, "pieces": 1, "momentum": self.momentum, "name": "muon", **muon},
            {"params": parts.packed, "pieces": 3, "momentum": self.momentum, "name": "muon_qkv", **muon},
            {"params": parts.decayed, "weight_decay": self.weight_decay, "name": "adamw", **adamw},
            {"params": parts.free, "weight_decay": 0.0, "name": "adamw_no_decay", **adamw},
        ]
        adamw["lr"] = (self.encoder_lr or 0.0) * scale
        decayed = [*encoder.matrices, *encoder.packed, *encoder.decayed]
        groups += [
            {"params": decayed, "weight_decay": self.weight_decay, "name": "encoder", **adamw},
            {"params": encoder.free, "weight_decay": 0.0, "name": "encoder_no_decay", **adamw},
        ]
        return MuonAdamW([group for group in groups if group["params"]], newton_schulz=self.newton_schulz)


@dataclass(frozen=True)
class Parts:
    """A model's parameters by the way they should be moved."""

    matrices: list[nn.Parameter]
    packed: list[nn.Parameter]  # query, key and value stacked row-wise in one matrix
    decayed: list[nn.Parameter]
    free: list[nn.Parameter]

    def without(self, module: nn.Module) -> "tuple[Parts, Parts]":
        """The parts that lie outside of a module, and those inside."""
        inside = {id(parameter) for parameter in module.parameters()}
        lists = (self.matrices, self.packed, self.decayed, self.free)
        return (
            Parts(*([p for p in part if id(p) not in inside] for part in lists)),
            Parts(*([p for p in part if id(p) in inside] for part in lists)),
        )


def split_parameters(model: SeqTrack) -> Parts:
    """Matrices of linear layers but the read-outs; read-outs and patch embedding; norms, biases, embeddings, positions.

    Read-outs (last layer of the vocabulary head, dense head) have a row per answer: orthogonal rows are wrong.
    """
    parts = Parts([], [], [], [])
    readouts = {id(module) for module in (model.decoder.head[-1], model.dense) if module is not None}
    seen: set[int] = set()
    for name, module in model.named_modules():
        for leaf, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if leaf != "weight" or parameter.ndim < 2 or isinstance(module, nn.Embedding):
                parts.free.append(parameter)
            elif isinstance(module, nn.Linear) and id(module) not in readouts:
                (parts.packed if name.endswith("qkv") else parts.matrices).append(parameter)
            else:
                parts.decayed.append(parameter)
    return parts


class MuonAdamW(torch.optim.AdamW):
    """Groups with "muon": True take Muon steps on their matrices, the others AdamW steps.

    A Muon group has "momentum" and "pieces", the number of matrices stacked row-wise in each parameter. Equal to
    torch.optim.Muon(adjust_lr_fn="match_rms_adamw", nesterov=True) for pieces = 1, up to rounding in bfloat16, in
    which both compute but on CPUs without instructions for it.
    """

    def __init__(self, groups: Iterable[Group], *, newton_schulz: int = 5) -> None:
        super().__init__(list(groups), lr=1e-3, fused=True)
        self.newton_schulz = newton_schulz
        for group in self.param_groups:
            if group["muon"] and any(parameter.ndim != 2 for parameter in group["params"]):
                raise ValueError("Muon moves matrices only")

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Not Adam's, which expects its own state on every parameter."""
        torch.optim.Optimizer.__setstate__(self, state)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self._step_matrices([group for group in groups if group["muon"]])
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    def _step_matrices(self, groups: list[Group]) -> None:
        pieces: list[tuple[Tensor, Tensor, Group]] = []  # a matrix, its direction, its group
        for group in groups:
            weights = [parameter for parameter in group["params"] if parameter.grad is not None]
            if not weights:
                continue
            gradients = [cast(Tensor, weight.grad) for weight in weights]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            momenta = [self.state[weight]["momentum_buffer"] for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            directions = torch._foreach_lerp(gradients, momenta, group["momentum"])  # Nesterov
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            for weight, direction in zip(weights, directions, strict=True):
                both = zip(weight.chunk(group["pieces"]), direction.chunk(group["pieces"]), strict=True)
                pieces += [(matrix, update, group) for matrix, update in both]
        # matrices of one shape, or of its transpose, go through Newton-Schulz together
        batches: dict[tuple[int, ...], list[tuple[Tensor, Tensor, Group]]] = defaultdict(list)
        for piece in pieces:
            batches[tuple(sorted(piece[1].shape))].append(piece)
        for (low, high), batch in batches.items():
            wide = torch.stack([update if update.shape == (low, high) else update.T for _, update, _ in batch])
            # the root mean square of an orthogonal matrix's entries is 1 / sqrt(larger side); AdamW's updates have 0.2
            dtype = _newton_schulz_dtype(wide.device.type)
            steps = orthogonalise(wide, self.newton_schulz, dtype) * (0.2 * math.sqrt(high))
            for (matrix, update, group), step in zip(batch, steps, strict=True):
                matrix.add_(step if update.shape == (low, high) else step.T, alpha=-group["lr"])


def orthogonalise(
    matrices: Float[Tensor, "K low high"], steps: int = 5, dtype: torch.dtype = torch.bfloat16
) -> Float[Tensor, "K low high"]:
    """The nearest (semi-)orthogonal matrices, roughly: singular values move towards 1 (Newton-Schulz).

    Args:
        matrices: K matrices with at least as many columns as rows.
        steps: iterations.
        dtype: what is computed in. In float32 the same polynomials of X X^T are multiplied first, and X with their
            product last, which takes half of the work where X is four times as wide as high; bfloat16 is too coarse
            for that.
    """
    x: Tensor = matrices.to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if dtype == torch.float32 and x.shape[2] > x.shape[1]:
        gram: Tensor = x @ x.mT
        product: Tensor | None = None
        for step, (a, b, c) in enumerate(_NS[steps], 1):
            factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            factor.diagonal(dim1=1, dim2=2).add_(a)
            product = factor if product is None else factor @ product
            if step < steps:
                gram = factor @ (gram @ factor)
        x = x if product is None else product @ x
        return x.to(matrices.dtype)
    for a, b, c in _NS[steps]:
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.to(matrices.dtype)


@functools.cache
def _newton_schulz_dtype(device: str) -> torch.dtype:
    """bfloat16, but on a CPU without instructions for it, where it takes four times as long as float32."""
    return torch.float32 if device == "cpu" and not cpu_flags() else torch.bfloat16
