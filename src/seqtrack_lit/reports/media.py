"""Clips of the best, the median and the worst video of a scored run, pictures of attention, every sequence over time.

media/best.mp4 ...            tracked box in yellow with its confidence, ground truth in white
media/attention_best.png ...  the search region and the attention behind each token, in one frame
media/sequences.json ...      every sequence over time, with a picture (reports/sequences.py)
media/media.json              {"clips": [{kind, sequence, value, file}], "attention": [{file, caption}]}
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from seqtrack_lit.attention_maps import predict_attention, strip
from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.evaluation.results import read_result
from seqtrack_lit.files import write_atomic
from seqtrack_lit.pictures import encoded
from seqtrack_lit.reports.sequences import write_courses
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.video_io import write_clip

LATEST_FRAME = 60  # of the picture of attention


def write_media(
    folder: Path,
    tracker: SeqTrackTracker,
    video_named: Callable[[str], Video],
    scores: Mapping[str, float],
    value: str,
) -> Path:
    """Write `<folder>/media/` anew; returns the path of its media.json.

    Args:
        folder: result files of the tracker.
        tracker: the tracker, run again for the pictures of attention.
        video_named: returns a video by name.
        scores: one score in percent for each video.
        value: name of the score.
    """
    media = folder / "media"
    clips, pictures = [], []
    for kind, name in pick(scores).items():
        video = video_named(name)
        result = read_result(folder, name)
        clip = write_clip(media / f"{kind}.mp4", video, result.boxes, result.confidences)
        clips.append({"kind": kind, "sequence": name, "value": f"{value} {scores[name]:.1f}", "file": clip.name})
        if tracker.model.memory == "mean" or len(video) < 2:  # one memory token makes no map
            continue
        frame = min(len(video) // 2, LATEST_FRAME)
        picture = media / f"attention_{kind}.png"
        write_atomic(picture, encoded(_attention(tracker, video, max(1, frame)), ".png"))
        pictures.append({"file": picture.name, "caption": f"{kind}: {name}, frame {max(1, frame)}"})
    write_courses(media, ((video_named(name), read_result(folder, name)) for name in sorted(scores)))
    listed = json.dumps({"clips": clips, "attention": pictures}, indent=1, ensure_ascii=False)
    write_atomic(media / "media.json", listed + "\n")
    return media / "media.json"


def pick(scores: Mapping[str, float]) -> dict[str, str]:
    """Names of the best, the median and the worst sequence by score; fewer where there are fewer.

    >>> pick({"a": 10.0, "b": 90.0, "c": 50.0})
    {'best': 'b', 'median': 'c', 'worst': 'a'}
    """
    order = sorted(scores, key=lambda name: (-scores[name], name))
    picked: dict[str, str] = {}
    for kind, place in (("best", 0), ("worst", -1), ("median", len(order) // 2)):
        if order[place] not in picked.values():
            picked[kind] = order[place]
    return {kind: picked[kind] for kind in ("best", "median", "worst") if kind in picked}


def _attention(tracker: SeqTrackTracker, video: Video, frame: int) -> Image:
    """Attention in a frame after tracking up to it."""
    tracker.init(video.frames[0], video.boxes[0])
    for index in range(1, frame):
        tracker.update(video.frames[index])
    return strip(predict_attention(tracker, video.frames[frame]))
