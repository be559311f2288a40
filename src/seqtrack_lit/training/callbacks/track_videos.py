"""Validation by doing what the model is for: tracking whole held-out videos, scored on one process or several.

`val/auc` and `val/ao` are percent; best.ckpt is the one with the largest `val/auc`. `val/confidence` is the mean over
all tracked frames, `val/updates` the number of templates taken, where the tracker takes any.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torchmetrics import Metric

from seqtrack_lit.checks import whole
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.metrics import convention_of, curve_lengths
from seqtrack_lit.evaluation.ope import PRECISION_THRESHOLDS, SUCCESS_THRESHOLDS, GroundTruth, SequenceCurves
from seqtrack_lit.evaluation.scores import Scores, ground_truth, score_curves
from seqtrack_lit.tracking.batched import track_together
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import Track
from seqtrack_lit.tracking.video_io import write_clip
from seqtrack_lit.training.callbacks.metrics import RunLogger
from seqtrack_lit.training.module import SeqTrackModule


class TrackHeldOut(Callback):
    """Tracks videos that training never sees, in the precision of training; processes share the videos.

    The videos of a process go through the network together, frame by frame (tracking/batched.py).

    Args:
        videos: gives the videos when first needed; the same in all processes.
        tracker: arguments of SeqTrackTracker but the model and the device.
        every: validations between two trackings; the last validation always tracks.
        loggers: take the table of scores per video, the success and precision curves, the histogram of confidences, and
            clips.
        clips: how many of the first videos are shown as clips, the same ones after each validation.
    """

    def __init__(
        self,
        videos: Callable[[], Sequence[Video]],
        *,
        tracker: Mapping[str, Any],
        every: int = 1,
        loggers: Sequence[RunLogger] = (),
        clips: int = 0,
    ) -> None:
        whole("callbacks", 1, track_every=every)
        whole("callbacks", 0, clips=clips)
        self.videos, self.tracker, self.loggers = videos, dict(tracker), loggers
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
        several = trainer.world_size > 1
        truths = [ground_truth(v.name, v.boxes, v.visible, _meta(v), benchmark="validation") for v in videos]
        auc, ao = TrackingScores(truths), TrackingScores(truths, "got10k_ao")
        for metric in (auc, ao):
            if several:  # NCCL reduces states on the device only
                metric.to(pl_module.device)
            for index, video in enumerate(videos):
                if video.name in mine:
                    metric.update(index, mine[video.name].boxes)
        tracks = _gather(mine, trainer.world_size)
        values = {"val/auc": auc.compute()["AUC"].item(), "val/ao": ao.compute()["AO"].item()}
        values["val/confidence"] = float(np.mean(_confidences(tracks)))
        if tracker.model.templates > 1 and tracker.rule.rule != "none":
            values["val/updates"] = float(sum(track.updated.sum() for track in tracks.values()))
        pl_module.log_dict(values, sync_dist=several)  # the same in all processes
        if trainer.is_global_zero and self.loggers:
            assert auc.scores is not None
            assert ao.scores is not None
            self._show(videos[: self.clips], tracks, auc.scores, ao.scores, trainer.global_step)

    def _show(self, videos: Sequence[Video], tracks: Mapping[str, Track], auc: Scores, ao: Scores, step: int) -> None:
        """Hand table, curves, histogram and clips to the loggers."""
        rows = [
            {
                "video": name,
                **{kind: round(value, 1) for kind, value in {**values, **ao.per_sequence[name]}.items()},
                "confidence": round(float(tracks[name].confidences[1:].mean()), 3),
                "updates": int(tracks[name].updated.sum()),
            }
            for name, values in auc.per_sequence.items()
        ]
        curves = {"success": ("overlap", SUCCESS_THRESHOLDS), "precision": ("pixels", PRECISION_THRESHOLDS)}
        with tempfile.TemporaryDirectory() as folder:
            clips = {}
            for number, video in enumerate(videos):
                track, score = tracks[video.name], auc.per_sequence[video.name]["AUC"]
                path = write_clip(Path(folder) / f"{number}.mp4", video, track.boxes, track.confidences, shrink=True)
                clips[f"{video.name}, AUC {score:.1f}"] = path
            for logger in self.loggers:
                logger.table("val/videos", rows, step)
                for kind, (along, thresholds) in curves.items():
                    points = zip(thresholds.tolist(), auc.curves[kind], strict=True)
                    logger.curve(f"val/{kind}", [{along: round(x, 2), "percent": round(y, 1)} for x, y in points], step)
                logger.histogram("val/confidences", _confidences(tracks), step)
                if clips:
                    logger.clips("val/clips", clips, step)


def _meta(video: Video) -> dict[str, object]:
    """AO clips boxes to the image: its size is read off the first frame where the data set does not say it."""
    if "resolution" in video.meta:
        return dict(video.meta)
    height, width = video.frames[0].shape[:2]
    return {**video.meta, "resolution": (width, height)}


def _confidences(tracks: Mapping[str, Track]) -> list[float]:
    """Of all frames but the first of each video, whose box is given."""
    return [value for name in sorted(tracks) for value in tracks[name].confidences[1:].tolist()]


def _gather(mine: dict[str, Track], processes: int) -> dict[str, Track]:
    if processes == 1:
        return mine
    parts: list[Any] = [None] * processes
    torch.distributed.all_gather_object(parts, mine)
    return {name: track for part in parts for name, track in part.items()}


class TrackingScores(Metric):
    """A benchmark's scores in percent, from tracked boxes of its sequences, in any order and on any process.

    The state is a row of curves and weights for each sequence, summed over processes, with a count: a sequence that
    was tracked twice counts once, and processes may hold different numbers of sequences.

    Args:
        truths: all sequences of the benchmark, the same on every process.
        convention: a key of `metrics.CONVENTIONS`.
    """

    full_state_update = False
    sums: Tensor  # [sequences, curve points + curves], float64
    counts: Tensor  # [sequences], float64

    def __init__(self, truths: Sequence[GroundTruth], convention: str = "seqtrack") -> None:
        super().__init__()
        self.truths, self.convention = list(truths), convention
        self._points = curve_lengths(convention)
        width = sum(self._points.values()) + len(self._points)
        self.add_state("sums", torch.zeros(len(self.truths), width, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(len(self.truths), dtype=torch.float64), dist_reduce_fx="sum")
        self.scores: Scores | None = None

    def update(self, index: int, boxes_xywh: Float64[np.ndarray, "frames 4"]) -> None:
        """Add the tracked boxes (pixels) of sequence `index` of `truths`."""
        measured = convention_of(self.convention).measure(self.truths[index], boxes_xywh)
        row = [*measured.curves.values(), np.array([measured.weights[name] for name in measured.curves])]
        self.sums[index] += torch.from_numpy(np.concatenate(row)).to(self.sums)
        self.counts[index] += 1

    def compute(self) -> dict[str, Tensor]:
        """Scores by name, in percent, over the sequences tracked on any process; float64.

        The same with values per sequence and curves is in `scores` afterwards.

        Raises:
            ValueError: no sequence was tracked.
        """
        seen = np.flatnonzero(self.counts.cpu().numpy())
        if not seen.size:
            raise ValueError("no sequence was tracked, so there is nothing to score")
        rows = (self.sums / self.counts[:, None]).cpu().numpy()
        truths = [self.truths[index] for index in seen]
        curves = {self.truths[index].name: self._unpack(rows[index]) for index in seen}
        self.scores = score_curves(truths, curves, convention=self.convention)
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in self.scores.values.items()}

    def _unpack(self, row: Float64[np.ndarray, "width"]) -> SequenceCurves:
        """A row of the state as curves and weights."""
        parts = np.split(row, np.cumsum(list(self._points.values())))
        return SequenceCurves(
            dict(zip(self._points, parts[:-1], strict=True)),
            dict(zip(self._points, parts[-1].tolist(), strict=True)),
        )
