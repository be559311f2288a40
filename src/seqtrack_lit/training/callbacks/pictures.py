"""Pictures of training samples and of the boxes that validation finds."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seqtrack_lit.boxes import Boxes, cxcywh_to_xyxy
from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Image
from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.training.callbacks.metrics import Sink
from seqtrack_lit.training.module import SeqTrackModule

_TARGET, _FOUND = (80, 220, 80), (240, 80, 80)  # RGB: where it is, what the model says


class Pictures(Callback):
    """Shows the first training batch with its targets, and after each validation what was found in held-out pairs.

    Args:
        sinks: take the pictures.
        count: samples in a picture.
    """

    def __init__(self, sinks: Sequence[Sink], *, count: int = 8) -> None:
        whole("callbacks", 1, pictures=count)
        self.sinks, self.count = sinks, count

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Show what training sees, once."""
        if trainer.global_step == 0 and batch_idx == 0 and trainer.is_global_zero:
            self._show("train/samples", sheet(batch, None, self.count), 0)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show boxes found in the first pairs, those with wide jitter."""
        if batch_idx or dataloader_idx or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SeqTrackModule)
        few = Batch(*(field[: self.count] for field in batch))
        self._show("val/pairs", sheet(few, pl_module.boxes(few), self.count), trainer.global_step)

    def _show(self, name: str, image: Image, step: int) -> None:
        for sink in self.sinks:
            sink.image(name, image, step)


def sheet(batch: Batch, found_cxcywh: Boxes | None, count: int) -> Image:
    """A row of samples: templates above, search crop below with the target (green) and the found box (red)."""
    columns = []
    for i in range(min(count, len(batch.box))):
        size = max(96, batch.search.shape[-1])
        tiles = [
            _tile(batch.templates[i, t], batch.template_boxes[i, t], None, size)
            for t in range(batch.templates.shape[1])
        ]
        found = None if found_cxcywh is None else found_cxcywh[i]
        columns.append(np.concatenate([*tiles, _tile(batch.search[i], batch.box[i], found, size)]))
    return np.concatenate(columns, axis=1)


def _tile(image: UInt8[Tensor, "3 h w"], target: Boxes, found: Boxes | None, size: int) -> Image:
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    tile = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_NEAREST)
    for box, color in ((target, _TARGET), (found, _FOUND)):
        if box is not None:
            x1, y1, x2, y2 = (round(float(v) * (size - 1)) for v in cxcywh_to_xyxy(box.float().cpu()))
            cv2.rectangle(tile, (x1, y1), (x2, y2), color, 1)
    return np.asarray(tile, np.uint8)
