"""Pictures of training samples, of the boxes that validation predicts, and of the attention behind their tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from seqtrack_lit.attention_maps import attention_of, strip
from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Image
from seqtrack_lit.data.samples.batch import Batch
from seqtrack_lit.pictures import samples_sheet
from seqtrack_lit.training.callbacks.metrics import RunLogger
from seqtrack_lit.training.module import SeqTrackModule

ATTENTION = 4  # samples whose attention is shown


class SamplePictures(Callback):
    """Pictures of the first training batch with its targets, and of boxes predicted in held-out pairs.

    Args:
        loggers: take the pictures.
        count: samples in a picture.
    """

    def __init__(self, loggers: Sequence[RunLogger], *, count: int = 8) -> None:
        whole("callbacks", 1, pictures=count)
        self.loggers, self.count = loggers, count

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        """Draw the first batch of a run."""
        if trainer.global_step == 0 and batch_idx == 0 and trainer.is_global_zero:
            self._show("train/samples", samples_sheet(batch, count=self.count, columns=self.count), 0)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw boxes predicted in the first pairs, those with wide jitter, and the attention in the first few."""
        if batch_idx or dataloader_idx or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SeqTrackModule)
        few = Batch(*(field[: self.count] for field in batch))
        predicted = pl_module.predict(few, attention=pl_module.net.memory != "mean")  # of which there is no map
        sheet = samples_sheet(few, predicted.boxes, count=self.count, columns=self.count)
        self._show("val/pairs", sheet, trainer.global_step)
        if predicted.attention is not None:
            crops = few.search.permute(0, 2, 3, 1).cpu().numpy()
            maps = attention_of(pl_module.net, predicted, crops)[:ATTENTION]
            self._show("val/attention", np.vstack([strip(one, side=128) for one in maps]), trainer.global_step)

    def _show(self, name: str, image: Image, step: int) -> None:
        for logger in self.loggers:
            logger.image(name, image, step)
