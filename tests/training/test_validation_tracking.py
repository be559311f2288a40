"""Validation tracks its videos as one batch; its scores are those of one by one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.tracking.conftest import blob_video
from tests.training.test_module import FAST, trainer

from seqtrack_lit.evaluation.scores import ground_truth
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import run_tracker
from seqtrack_lit.training.callbacks.track_videos import TrackHeldOut, TrackingScores
from seqtrack_lit.training.length import TrainingLength
from seqtrack_lit.training.module import SeqTrackModule


@pytest.mark.filterwarnings("ignore:.*many workers.*")
def test_scores_are_those_of_one_by_one(make_net: Callable[..., SeqTrack], squares: Any, tmp_path: Path) -> None:
    videos = [blob_video(f"v{i}", 4 + 3 * i, i, ((96, 72), (64, 90))[i % 2]) for i in range(4)]
    settings: dict[str, Any] = {"search_factor": 2.0, "template_factor": 1.5}
    length = TrainingLength(8, 8, 4)
    module = SeqTrackModule(make_net(), optim=FAST, length=length)
    tracking = TrackHeldOut(lambda: videos, tracker=settings)
    fit = trainer(tmp_path, length, callbacks=[tracking])
    fit.validate(module, datamodule=squares(size=4), verbose=False)
    alone = SeqTrackTracker(module.tracked_net, **settings)
    truths = [
        ground_truth(v.name, v.boxes, v.visible, {"resolution": v.frames[0].shape[1::-1]}, benchmark="validation")
        for v in videos
    ]
    tracks = [run_tracker(alone, video) for video in videos]
    for name, metric in {"AUC": TrackingScores(truths), "AO": TrackingScores(truths, "got10k_ao")}.items():
        for index, track in enumerate(tracks):
            metric.update(index, track.boxes)
        score = metric.compute()[name].item()
        assert score > 0
        assert fit.callback_metrics[f"val/{name.lower()}"].item() == pytest.approx(score, abs=1e-4)
    frames = sum(len(video) - 1 for video in videos)
    confidence = sum(float(track.confidences[1:].sum()) for track in tracks) / frames
    assert fit.callback_metrics["val/confidence"].item() == pytest.approx(confidence, rel=1e-4)
