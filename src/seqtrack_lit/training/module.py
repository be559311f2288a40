"""Training of SeqTrack: teacher forcing on batches of crops, validation by generation.

Numbers it logs: `train/loss`, `train/loss_<coordinate>` per token, `train/gradient_norm` (of the whole step, before
clipping), all means over the logged interval and over processes; `train/lr_<group>` of the last step; `val/loss`;
in percent `val/pair_iou` (boxes generated for held-out pairs), `val/pair_iou_other` (the same with another sample's
templates) and `val/reliance`, their difference: a model that finds "the blob near the centre" without ever looking at
its template has a reliance of 0, whatever its loss says. The second validation loader, pairs with the narrow jitter of
tracking, logs the same names with `_narrow`. Of a mix of several data sets also `data/loss_<set>`, the tokens' loss of
its samples, and `data/share_<set>`, their percentage. Tracking of whole videos: callbacks/track_videos.py.
"""

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from seqtrack_lit.boxes import cxcywh_to_xywh, cxcywh_to_xyxy, iou, xyxy_to_cxcywh
from seqtrack_lit.checks import flag, number, whole
from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.models.seqtrack import Prediction, SeqTrack
from seqtrack_lit.tokens import Tokens
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.losses import dense_loss, token_loss
from seqtrack_lit.training.optim import OptimizerSettings

log = logging.getLogger(__name__)

Sums = dict[str, tuple[float, float]]  # by name: sum of values x weights, sum of weights


class Means:
    """Means by name since they were last taken; values that are not finite are left out.

    Sums stay on the device of the values, so that adding one waits for nothing.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # pairs as in Sums, float64

    def add(self, values: Mapping[str, Tensor | float], weight: Tensor | float = 1.0) -> None:
        """Add a number by name, counted `weight` times."""
        for name, value in values.items():
            value = torch.as_tensor(value, dtype=torch.float64).detach()
            pair = torch.stack([value, torch.ones_like(value)]) * weight
            pair = torch.where(value.isfinite(), pair, 0.0)
            self._sums[name] = pair if name not in self._sums else self._sums[name] + pair

    def take(self) -> dict[str, float]:
        """The means over all processes, each of which must call this; names may differ between them. Forgets them."""
        total: Sums = {}
        for part in self.gathered().values():
            for name, (value, weight) in part.items():
                before = total.get(name, (0.0, 0.0))
                total[name] = before[0] + value, before[1] + weight
        self._sums = {}
        return {name: value / weight for name, (value, weight) in total.items() if weight}

    def gathered(self) -> dict[int, Sums]:
        """The sums of all processes by rank: plain values for a checkpoint."""
        mine = {name: tuple(pair.tolist()) for name, pair in self._sums.items()}
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return {0: mine}
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, mine)
        return dict(enumerate(parts))

    def restore(self, parts: dict[int, Sums], *, rank: int, world: int, device: torch.device) -> None:
        """Go on from the sums of a checkpoint; with another number of processes the first one takes all."""
        kept = range(rank, rank + 1) if len(parts) == world else range(len(parts) if rank == 0 else 0)
        self._sums = {}
        for other in kept:
            for name, pair in parts[other].items():
                sums = torch.tensor(pair, dtype=torch.float64, device=device)
                self._sums[name] = sums if name not in self._sums else self._sums[name] + sums


class Ema:
    """Exponential moving average of the weights: a copy of a network that follows it.

    Args:
        net: the network; copied.
        decay: share of the average that stays in a step; early steps average evenly over all steps so far.
    """

    def __init__(self, net: SeqTrack, decay: float) -> None:
        self.decay = decay
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, net: SeqTrack, steps: int) -> None:
        """Follow the network after its optimizer step number `steps` (1-based)."""
        weight = max(1 - self.decay, 1 / (steps + 1))
        torch._foreach_lerp_(list(self.net.parameters()), list(net.parameters()), weight)
        for mine, theirs in zip(self.net.buffers(), net.buffers(), strict=True):
            mine.copy_(theirs)

    def state_dict(self) -> dict[str, Tensor]:
        """The average, with the network's own names."""
        return dict(self.net.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from a stored average."""
        self.net.load_state_dict(state)


class NonFiniteError(ValueError):
    """The loss or its gradient stopped being a number."""


class SeqTrackModule(LightningModule):
    """What Lightning trains.

    Args:
        net: the network.
        optim: optimizer, learning rates, schedule and clipping.
        length: number of steps and batch.
        description: plain dictionary to rebuild the network and its tracker from, stored as ckpt["seqtrack"].
        compile: fuse the kernels of the encoder's blocks by torch.compile; rounding differs in the last bits.
        end_weight: weight of END in the loss (official 0.01).
        soft_bins: > 0: Gaussian targets of this standard deviation in bins (paper: 0).
        dense_weight: weight of the dense loss (paper: 0); needs a network with dense_head.
        ema_decay: > 0: average the weights; the average is validated, stored as ckpt["ema"] and tracked with.
        nonfinite_limit: steps in a row with a loss or gradient that is no number before training stops; each is
            left out.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        net: SeqTrack,
        *,
        optim: OptimizerSettings,
        length: TrainingLength,
        description: Mapping[str, Any] | None = None,
        compile: bool = False,
        end_weight: float = 1.0,
        soft_bins: float = 0.0,
        dense_weight: float = 0.0,
        ema_decay: float = 0.0,
        nonfinite_limit: int = 3,
    ) -> None:
        super().__init__()
        number("train", end_weight=end_weight, soft_bins=soft_bins, dense_weight=dense_weight)
        number("train", high=1, ema_decay=ema_decay)
        whole("train", 1, nonfinite_limit=nonfinite_limit)
        self.end_weight, self.soft_bins, self.dense_weight = end_weight, soft_bins, dense_weight
        self.nonfinite_limit = nonfinite_limit
        flag("train", compile=compile)
        if compile:
            for block in cast(nn.ModuleList, net.encoder.blocks):
                block.compile()
        if self.dense_weight and net.dense is None:
            raise ValueError(f"train.dense_weight = {dense_weight} needs model.dense_head=true")
        # what no loss reaches gets no gradient; several processes would wait for it
        for module, used in ((net.dense, self.dense_weight > 0), (net.linear, net.apply_linear)):
            if module is not None:
                module.requires_grad_(used)
        self.net, self.optim, self.length = net, optim, length
        self.description = dict(description or {})
        self.datasets: Sequence[str] = ()  # names in the mix, by their number in a batch
        # no submodule: its weights belong under ckpt["ema"], not into the state dict
        self._average = [Ema(net, ema_decay)] if ema_decay else []
        self.means = Means()  # numbers of training since they were last recorded
        self.latest: dict[str, float] = {}  # numbers whose last value is recorded
        self.nonfinite = 0  # steps in a row whose loss or gradient was no number
        self._validated = Means()
        self._step: list[tuple[Batch, Tensor]] = []  # batches of the present step and their losses

    @property
    def tracked_net(self) -> SeqTrack:
        """The network to judge and to track with: the average where there is one."""
        return self._average[0].net if self._average else self.net

    def configure_optimizers(self) -> Any:
        """The optimizer, its learning rates a function of the step."""
        optimizer = self.optim.build(self.net, self.length.global_batch)
        # a fused optimizer would undo fp16's scale by itself, after the norm of the gradient was taken
        optimizer._step_supports_amp_scaling = False  # type: ignore[attr-defined]
        schedule, steps = self.optim.schedule, self.length.steps
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def losses(self, net: SeqTrack, batch: Batch, features: Tensor | None = None) -> dict[str, Tensor]:
        """The loss of a batch as "loss", its parts "loss_<coordinate>" and "loss_dense", "samples" [B] of the tokens.

        Args:
            net: the network.
            batch: samples.
            features: what the network's encoder made of them, where that is known.
        """
        tokenizer = net.tokenizer
        inputs, _ = tokenizer.teacher(batch.box)
        if features is None:
            features = self._features(net, batch)
        logits = net.logits(features, inputs, self._past(net, batch))
        weights = {"end_weight": self.end_weight, "soft_bins": self.soft_bins}
        readings = list(torch.split(logits.tokens, 4, dim=1)) if net.decoder.refined else [logits.tokens]
        losses = [token_loss(one, batch.box, tokenizer, **weights) for one in readings]
        names = (*tokenizer.names, "end")
        parts = {f"loss_{name}": loss for name, loss in zip(names, losses[-1].tokens, strict=False)}
        total = torch.stack([one.total for one in losses]).mean()
        if logits.dense is not None and self.dense_weight:
            parts["loss_dense"] = dense_loss(logits.dense, batch.box)
            total = total + self.dense_weight * parts["loss_dense"]
        parts = {name: part.detach() for name, part in parts.items()}
        return {"loss": total, **parts, "samples": torch.stack([one.samples for one in losses]).mean(0)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        losses = self.losses(self.net, batch)
        self._add_datasets(batch, losses.pop("samples"))
        self._step.append((batch, losses["loss"].detach()))
        self.means.add({f"train/{name}": loss.detach() for name, loss in losses.items()})
        size, several = len(batch.box), self.trainer.world_size > 1
        # for the line after each epoch
        self.log(
            "train/loss", losses["loss"].detach(), on_epoch=True, on_step=False, batch_size=size, sync_dist=several
        )
        # a loss that is no number makes the gradient none, so that all processes see it in the norm
        return losses["loss"] * torch.where(losses["loss"].isfinite(), 1.0, torch.nan)

    def _add_datasets(self, batch: Batch, losses: Tensor) -> None:
        """Count the samples of each data set, with their losses [B]."""
        for place, name in enumerate(self.datasets if len(self.datasets) > 1 else ()):
            own = batch.dataset == place
            self.means.add({f"data/share_{name}": 100 * own.double().mean()}, len(own))
            mean = torch.where(own, losses, 0.0).sum() / own.sum()  # of none: NaN, left out
            self.means.add({f"data/loss_{name}": mean}, own.sum())

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of the whole gradient, log it, and leave out a step whose gradient is no number."""
        norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.optim.clip)
        self.means.add({"train/gradient_norm": norm})
        self.latest |= {f"train/lr_{group['name']}": float(group["lr"]) for group in optimizer.param_groups}
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        if bool(norm.isfinite()):
            self.nonfinite = 0
        elif scaler is None or scaler.get_scale() <= 1:
            self._leave_out()
        # else the scaler leaves the step out, and halves the scale at which fp16 overflowed
        self._step.clear()

    def _leave_out(self) -> None:
        """Take no step; stop, with the batches kept, when it is the last one in a row that is allowed."""
        self.nonfinite += 1
        for parameter in self.net.parameters():
            parameter.grad = None  # optimizers pass over parameters without a gradient
        text = f"loss or gradient was not finite in {self.nonfinite} steps in a row, last in step {self.global_step}"
        if self.nonfinite < self.nonfinite_limit:
            if self.trainer.is_global_zero:
                log.warning("%s: left out; training stops at train.nonfinite_limit=%d", text, self.nonfinite_limit)
            return
        path = self._keep_batches()
        self.trainer.strategy.barrier("nonfinite")  # every process has written its file
        raise NonFiniteError(
            f"{text}; its batch is in {path} (docs/scaling.md shows how to look at it); lower the learning rates "
            "(optimizer.lr ...) or optimizer.clip, or train with train.precision=fp32"
        )

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Let the average follow each step, before any checkpoint can be written."""
        super().optimizer_step(*args, **kwargs)
        for average in self._average:
            average.update(self.net, self.global_step + 1)

    def on_fit_start(self) -> None:
        """Bring the average to the device."""
        for average in self._average:
            average.net.to(self.device)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Generate boxes for held-out pairs, with the right templates and with another sample's."""
        net, size = self.tracked_net.eval(), len(batch.box)
        features = self._features(net, batch)
        values = {"loss": self.losses(net, batch, features)["loss"], "pair_iou": self._pair_iou(net, batch, features)}
        if size > 1:
            shown = {name: getattr(batch, name).roll(size // 2, 0) for name in ("templates", "template_boxes")}
            features = self._features(net, batch._replace(**shown))
            values["pair_iou_other"] = self._pair_iou(net, batch, features)
            values["reliance"] = values["pair_iou"] - values["pair_iou_other"]
        kind = "_narrow" if dataloader_idx else ""
        self._validated.add({f"val/{name}{kind}": value for name, value in values.items()}, size)

    def on_validation_epoch_end(self) -> None:
        """Log the means: the same names and values in all processes, however few pairs one of them has."""
        self.log_dict(self._validated.take(), sync_dist=self.trainer.world_size > 1)

    @torch.no_grad()
    def predict(self, batch: Batch, *, attention: bool = False) -> Prediction:
        """What the network generates for a batch; with `attention` also what the tokens attended to and were among."""
        net = self.tracked_net
        features = self._features(net, batch)
        return net.generate_from(features, past=self._past(net, batch), attention=attention, distributions=attention)

    def _features(self, net: SeqTrack, batch: Batch) -> Tensor:
        """What the network's encoder makes of the images."""
        return net.features(normalise(batch.templates), normalise(batch.search), batch.template_boxes)

    def _pair_iou(self, net: SeqTrack, batch: Batch, features: Tensor) -> Tensor:
        """Mean IoU of generated boxes with the visible part of the target, in percent."""
        target = xyxy_to_cxcywh(cxcywh_to_xyxy(batch.box).clamp(0, 1))
        boxes = net.generate_from(features, past=self._past(net, batch)).boxes
        return 100 * iou(cxcywh_to_xywh(boxes), cxcywh_to_xywh(target)).mean()

    def _past(self, net: SeqTrack, batch: Batch) -> Tokens | None:
        return net.tokenizer.encode(batch.past) if net.past else None

    def _keep_batches(self) -> Path:
        """Write what this process gave to the present step: batches whose loss is no number, or all."""
        kept = [one for one in self._step if not bool(one[1].isfinite())] or self._step
        batches = Batch(*(torch.cat(field).cpu() for field in zip(*(batch for batch, _ in kept), strict=True)))
        path = Path(self.trainer.default_root_dir) / f"nonfinite_batch_rank{self.global_rank}.pt"
        torch.save({**batches._asdict(), "loss": torch.stack([loss for _, loss in kept]).cpu()}, path)
        return path

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What rebuilds the network without its configuration, and the average of the weights."""
        checkpoint["seqtrack"] = self.description
        if self._average:
            checkpoint["ema"] = self._average[0].state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Continue the average."""
        if self._average and "ema" in checkpoint:
            self._average[0].load_state_dict(checkpoint["ema"])
