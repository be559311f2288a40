"""Generated videos: pure functions of their key, boxes that fit what is drawn, worlds that never meet."""

import itertools
import pickle
from inspect import unwrap

import cv2
import numpy as np
import pytest

from seqtrack_lit.data.synthetic.scenes import Geometry, Scene, _paint
from seqtrack_lit.data.synthetic.textures import Sprite
from seqtrack_lit.data.synthetic.videos import GeneratedVideos, held_out
from seqtrack_lit.data.video.sequence import Frames


def test_a_frame_is_the_same_in_any_order_alone_and_in_another_process() -> None:
    frames = held_out(3)[2].frames
    forward = [frames[t].copy() for t in range(0, 60, 7)]
    again = held_out(3)[2].frames
    backward = [again[t].copy() for t in reversed(range(0, 60, 7))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(forward, backward, strict=True))
    alone = pickle.loads(pickle.dumps(frames))[56]
    assert np.array_equal(alone, forward[8])
    assert isinstance(frames, Frames)


def test_a_frame_does_not_depend_on_opencv_threads() -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        many = Scene(5, "train", 3, Geometry(width=640, height=480)).frame(11)
        cv2.setNumThreads(0)
        none = Scene(5, "train", 3, Geometry(width=640, height=480)).frame(11)
    finally:
        cv2.setNumThreads(before)
    assert np.array_equal(many, none)


def test_streams_never_meet_whatever_the_seeds() -> None:
    # 2**32 and [0, 1] are the same words, as are (1,) and (1, 0): the classic ways for keys of numbers to collide
    keys = itertools.product((0, 1, 2, 2**32, 2**32 + 1), ("train", "validation", "test"), (0, 1, 2))
    corners = [Scene(seed, stream, number).objects.boxes[0].tobytes() for seed, stream, number in keys]
    assert len(set(corners)) == 5 * 3 * 3


def test_held_out_videos_are_no_training_videos_and_ignore_the_training_seed() -> None:
    first = [video.frames[0].tobytes() for video in held_out(4)]
    for stream in ("train", "validation"):
        others = GeneratedVideos(4, stream=stream)
        assert not {others.frames(i)[0].tobytes() for i in range(4)} & set(first)
    assert [video.frames[0].tobytes() for video in held_out(2)] == first[:2]


def test_held_out_videos_can_be_tracked() -> None:
    videos = held_out()
    assert len(videos) == 40
    assert len({video.name for video in videos}) == 40
    for video in videos:
        assert len(video) == len(video.boxes) == len(video.visible) == 60
        assert video.visible[0]
        assert video.boxes[0, 2:].min() >= 3
        assert video.meta["resolution"] == (192, 144)
    sizes = np.concatenate([np.sqrt(video.boxes[:, 2] * video.boxes[:, 3]) for video in videos])
    assert 25 < np.median(sizes) < 45


def test_boxes_fit_what_is_drawn() -> None:
    """The half-transparent edge of a white copy of each object lies on its box."""
    errors = []
    for number in range(25):
        scene = Scene(1, "train", number)
        scene.frame(0)
        assert scene._look is not None
        for sprite, thing, boxes in zip(scene._look[1], scene._objects, scene.objects.boxes, strict=True):
            white = Sprite(
                tuple(np.dstack([np.full_like(level[..., :3], 255), level[..., 3]]) for level in sprite.levels)
            )
            for t in (0, 17, 43):
                image = np.zeros((144, 192, 3), np.uint8)
                _paint(image, white, thing, t)
                y, x = np.nonzero(image[..., 0] > 110)
                if len(x):
                    box = boxes[t]
                    edges = box[0], box[1], box[0] + box[2], box[1] + box[3]
                    errors.append(np.subtract((x.min(), y.min(), x.max() + 1, y.max() + 1), edges))
    assert len(errors) > 200
    assert np.abs(np.mean(errors, 0)).max() < 0.2  # no bias
    assert np.quantile(np.abs(errors), 0.99) < 1  # sharp tips of thin bars fade before they end


def test_boxes_are_clipped_and_absent_objects_have_none() -> None:
    objects = [Scene(2, "train", number).objects for number in range(60)]
    boxes = np.concatenate([o.boxes.reshape(-1, 4) for o in objects])
    visible = np.concatenate([o.visible.ravel() for o in objects])
    high = boxes[:, :2] + boxes[:, 2:]
    assert boxes.min() >= 0
    assert (high <= (192 + 1e-9, 144 + 1e-9)).all()
    assert (boxes[visible, 2:] >= 3).all()
    absent = boxes[:, 2:].min(1) == 0
    assert (boxes[absent] == 0).all()
    assert not visible[absent].any()
    assert 0.5 < visible.mean() < 0.95  # some distractors are covered or outside
    assert np.mean([o.visible[0].mean() for o in objects]) > 0.99  # targets stay


def test_a_pool_holds_some_frames_of_each_video() -> None:
    pool, whole = GeneratedVideos(3, kept_frames=6), GeneratedVideos(3)
    assert pool.lengths.tolist() == [6, 6, 6]
    kept = [int(np.flatnonzero((whole.boxes(1) == box).all(1))[0]) for box in pool.boxes(1)]
    assert kept == sorted(set(kept))
    assert all(np.array_equal(pool.frames(1)[i], whole.frames(1)[t]) for i, t in enumerate(kept))
    assert np.array_equal(pool.objects(1).boxes, whole.objects(1).boxes[:, kept])
    sequence = pool[1]
    assert len(sequence) == 6
    assert sequence.name == "generated-train-0-00001"


def test_a_pool_keeps_to_its_memory_and_is_not_sent_to_workers() -> None:
    # a video of six frames: 6 * 192 * 144 * 3 = 497,664 bytes; two of them fit in 1.2 MB
    pool = GeneratedVideos(4, kept_frames=6, cache_gb=1.2e-3)
    first = pool.frames(0)
    for i in (1, 0, 2):  # 1 is the one used least lately
        pool.frames(i)
    assert sorted(pool._cache) == [0, 2]
    assert pool.frames(0) is first
    copy = pickle.loads(pickle.dumps(pool))
    assert len(copy._cache) == 0
    assert np.array_equal(copy.frames(0)[5], first[5])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count"),
        ({"count": 1, "kept_frames": 61}, "kept_frames must lie within 1 and length = 60"),
        ({"count": 1, "width": 8}, "width must be a whole number >= 16"),
        ({"count": 1, "target": (50, 20)}, "smallest, largest"),
        ({"count": 1, "target": [20]}, "two numbers"),
        ({"count": 1, "target": (20, 200)}, "shorter side 144"),
    ],
)
def test_wrong_values(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratedVideos(**{"stream": "train", **arguments})
    with pytest.raises(ValueError, match="stream must be one of train, validation, test, got 'final'"):
        unwrap(GeneratedVideos.__init__)(GeneratedVideos(1), 1, stream="final")
    with pytest.raises(IndexError, match="video 3 of generated-train"):
        GeneratedVideos(3).boxes(3)
    with pytest.raises(IndexError, match="frame 60"):
        held_out(1)[0].frames[60]
