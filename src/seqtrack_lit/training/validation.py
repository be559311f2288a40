"""Validation by doing what the model is for: tracking whole held-out videos. And pictures of what it sees.

`val/auc` and `val/ao` are percent; best.ckpt is the one with the largest `val/auc`.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from seqtrack_lit.boxes import Boxes, cxcywh_to_xyxy
from seqtrack_lit.checks import whole
from seqtrack_lit.crops import Image
from seqtrack_lit.data.sampling import Batch
from seqtrack_lit.data.sequence import Sequence as Video
from seqtrack_lit.evaluation.overlap import PRECISION_THRESHOLDS, SUCCESS_THRESHOLDS
from seqtrack_lit.evaluation.scores import Scores, score_sequences, truth_of
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.together import track_together
from seqtrack_lit.tracking.tracker import Track
from seqtrack_lit.tracking.video import write_clip
from seqtrack_lit.training.module import SeqTrackModule
from seqtrack_lit.training.recording import Sink

_TARGET, _FOUND = (80, 220, 80), (240, 80, 80)  # RGB: where it is, what the model says


class TrackHeldOut(Callback):
    """Tracks videos that training never sees, in the precision of training; processes share the videos.

    All videos of a process go through the network together, frame by frame.

    Args:
        videos: gives the videos when first needed; the same in all processes.
        tracker: arguments of SeqTrackTracker but the model and the device.
        every: validations between two trackings; the last validation always tracks.
        sinks: take the table of scores per video, the success and precision curves, and clips.
        clips: how many of the first videos are shown as clips, the same ones after each validation.
    """

    def __init__(
        self,
        videos: Callable[[], Sequence[Video]],
        *,
        tracker: Mapping[str, Any],
        every: int = 1,
        sinks: Sequence[Sink] = (),
        clips: int = 0,
    ) -> None:
        whole("callbacks", 1, track_every=every)
        whole("callbacks", 0, clips=clips)
        self.videos, self.tracker, self.sinks = videos, dict(tracker), sinks
        self.every, self.clips = every, clips

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget the last validation, whose numbers Lightning would show again where none is tracked now."""
        for name in [name for name in trainer.callback_metrics if name.startswith("val/")]:
            del trainer.callback_metrics[name]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Track, score, log."""
        if (trainer.current_epoch + 1) % self.every and trainer.current_epoch + 1 != trainer.max_epochs:
            return
        assert isinstance(pl_module, SeqTrackModule)
        videos = self.videos()
        if not videos:
            return
        tracker = SeqTrackTracker(pl_module.tracked_net, device=pl_module.device, **self.tracker)
        low = getattr(trainer.precision_plugin, "scaler", None) is None  # fp16 may overflow
        with trainer.precision_plugin.forward_context() if low else nullcontext():
            mine = track_together(tracker, videos[trainer.global_rank :: trainer.world_size])
        tracks = _gather(mine, trainer.world_size)
        boxes = {name: track.boxes for name, track in tracks.items()}
        truths = [truth_of(v.name, v.boxes, v.visible, _meta(v), benchmark="validation") for v in videos]
        auc = score_sequences(truths, boxes)
        ao = score_sequences(truths, boxes, convention="got10k_ao")
        values = {"val/auc": auc.values["AUC"], "val/ao": ao.values["AO"]}  # the same in all processes
        pl_module.log_dict(values, sync_dist=trainer.world_size > 1)
        if trainer.is_global_zero and self.sinks:
            self._show(videos[: self.clips], tracks, auc, ao, trainer.global_step)

    def _show(self, videos: Sequence[Video], tracks: Mapping[str, Track], auc: Scores, ao: Scores, step: int) -> None:
        """Hand table, curves and clips to the sinks."""
        rows = [
            {"video": name, **{kind: round(value, 1) for kind, value in {**values, **ao.per_sequence[name]}.items()}}
            for name, values in auc.per_sequence.items()
        ]
        curves = {"success": ("overlap", SUCCESS_THRESHOLDS), "precision": ("pixels", PRECISION_THRESHOLDS)}
        with tempfile.TemporaryDirectory() as folder:
            clips = {}
            for number, video in enumerate(videos):
                track, score = tracks[video.name], auc.per_sequence[video.name]["AUC"]
                path = write_clip(Path(folder) / f"{number}.mp4", video, track.boxes, track.confidences, shrink=True)
                clips[f"{video.name}, AUC {score:.1f}"] = path
            for sink in self.sinks:
                sink.table("val/videos", rows, step)
                for kind, (along, thresholds) in curves.items():
                    points = zip(thresholds.tolist(), auc.curves[kind], strict=True)
                    sink.curve(f"val/{kind}", [{along: round(x, 2), "percent": round(y, 1)} for x, y in points], step)
                if clips:
                    sink.clips("val/clips", clips, step)


def _meta(video: Video) -> dict[str, object]:
    """AO clips boxes to the image: its size is read off the first frame where the data set does not say it."""
    if "resolution" in video.meta:
        return dict(video.meta)
    height, width = video.frames[0].shape[:2]
    return {**video.meta, "resolution": (width, height)}


def _gather(mine: dict[str, Track], processes: int) -> dict[str, Track]:
    if processes == 1:
        return mine
    parts: list[Any] = [None] * processes
    torch.distributed.all_gather_object(parts, mine)
    return {name: track for part in parts for name, track in part.items()}


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
