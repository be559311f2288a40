"""Several videos tracked in step: one pass of the network for the next frame of each."""

import copy
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import torch

from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import Estimate, Track, check_first_box, check_image

_READERS = 8  # threads that decode frames while the network computes


def track_together(tracker: SeqTrackTracker, videos: Sequence[Video]) -> dict[str, Track]:
    """Tracks by name, as those of `run_tracker`, up to rounding; times are shares of the common time.

    Args:
        tracker: its network and settings are used for every video.
        videos: may differ in length and size.

    Raises:
        ValueError: a first box that cannot be tracked, or an unreadable frame; names the video.
    """
    trackers = [copy.copy(tracker) for _ in videos]  # the network is shared, box and templates are not
    tracks = [_empty(len(video)) for video in videos]
    with ThreadPoolExecutor(_READERS) as readers:
        coming = [readers.submit(video.frames.__getitem__, 0) for video in videos]
        for index in range(max((len(video) for video in videos), default=0)):
            active = [number for number, video in enumerate(videos) if index < len(video)]
            images = [coming[number].result() for number in active]
            for number in active:
                if index + 1 < len(videos[number]):
                    coming[number] = readers.submit(videos[number].frames.__getitem__, index + 1)
            start = perf_counter()
            if index == 0:
                estimates = [_begin(trackers[i], videos[i], image) for i, image in zip(active, images, strict=True)]
            else:
                estimates = update_together([trackers[number] for number in active], images)
            share = (perf_counter() - start) / len(active)
            for number, estimate in zip(active, estimates, strict=True):
                track = tracks[number]
                track.boxes[index], track.confidences[index] = estimate.box_xywh, estimate.confidence
                track.updated[index], track.times[index] = estimate.updated, share
                track.lost[index] = estimate.lost
    return {video.name: track for video, track in zip(videos, tracks, strict=True)}


@torch.inference_mode()
def update_together(trackers: Sequence[SeqTrackTracker], images: Sequence[Image]) -> list[Estimate]:
    """`SeqTrackTracker.update` of trackers that share a network and settings, each on its image, in one pass."""
    first = trackers[0]
    for image in images:
        check_image(image)
    crops = [tracker.search_crop() for tracker in trackers]
    cut = np.stack([crop.cut(image, padding=first.padding) for crop, image in zip(crops, images, strict=True)])
    pixels = torch.from_numpy(cut).to(first.device).permute(0, 3, 1, 2)
    pairs = zip(trackers, crops, strict=True)
    past = torch.cat([tracker.past_tokens(crop) for tracker, crop in pairs]) if first.model.past else None
    prediction = first.model.generate(
        torch.cat([tracker.templates for tracker in trackers]),
        normalise(pixels).to(first.dtype),
        hann_window=first.hann_window,
        past=past,
        template_boxes=torch.cat([tracker.template_boxes for tracker in trackers]),
    )
    boxes, likelihoods = prediction.boxes.cpu(), prediction.likelihoods.cpu()
    return [
        tracker.advance(image, crop, boxes[i], likelihoods[i])
        for i, (tracker, image, crop) in enumerate(zip(trackers, images, crops, strict=True))
    ]


def _begin(tracker: SeqTrackTracker, video: Video, image: Image) -> Estimate:
    box = np.asarray(video.boxes[0], np.float64)
    check_first_box(box, image, f"sequence {video.name}")
    tracker.init(image, box.copy())
    return Estimate(box)


def _empty(frames: int) -> Track:
    return Track(
        np.zeros((frames, 4)), np.zeros(frames), np.ones(frames), np.zeros(frames, bool), np.zeros(frames, bool)
    )
