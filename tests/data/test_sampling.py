"""Which frames make a sample, samples as pure functions of their key, and what happens to those that fail."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.data.fixtures import write_image
from tests.data.videos import ShadeVideos

from seqtrack_lit.data.samples.augment import Augmentation, CropSettings, JitterSchedule, brightness
from seqtrack_lit.data.samples.batch import Batch, Sample, collate
from seqtrack_lit.data.samples.past import PastErrors
from seqtrack_lit.data.samples.sampling import FrameSampling, SamplingError, TrainingSamples, Videos, WeightedDataset
from seqtrack_lit.data.sets.folder import folder
from seqtrack_lit.data.synthetic.sampling import SceneSampling
from seqtrack_lit.data.synthetic.videos import GeneratedVideos

PLAIN = Augmentation(grayscale=0.0, flip=0.0)
TINY = CropSettings(48, 32, 3.0, 2.0, "S")
EXACT = PastErrors(center=0, size=0, strides=1, shared=0, start=0, still_center=0, still_size=0)
WIDE = replace(EXACT, shared=1.0)  # no error but the one that all past boxes and the window share


def make(videos: dict[str, Videos] | Videos, weights: list[float] | None = None, **options: Any) -> TrainingSamples:
    mix = videos if isinstance(videos, dict) else {"one": videos}
    values: dict[str, Any] = {
        "seed": 0, "crops": TINY, "frame_sampling": FrameSampling(1), "augmentation": PLAIN,
        "jitter": JitterSchedule(0.0, 0.0), "epoch_samples": 100, "total_samples": 1000, **options,
    }  # fmt: skip
    sampling = values.pop("frame_sampling")
    return sampling.samples(mix, weights or [1.0] * len(mix), **values)  # type: ignore[no-any-return]


def equal(a: Sample | Batch, b: Sample | Batch) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_fast_decoding_changes_pixels_a_little_and_nothing_else(tmp_path: Path) -> None:
    y, x = np.mgrid[:240, :320]
    for t in range(20):
        picture = np.stack([x * 0.7, y, 128 + 60 * np.sin((x + t) / 40)], 2).astype(np.uint8)
        write_image(tmp_path / "video" / f"{t:08d}.jpg", picture)
    (tmp_path / "video" / "groundtruth.txt").write_text("100,80,60,70\n" * 20)
    videos = folder(tmp_path)
    augmented = Augmentation(grayscale=0.3, photometric=brightness())
    exact, fast = (
        make(videos, crops=CropSettings(48, 32, decode=decode), augmentation=augmented) for decode in ("exact", "fast")
    )
    for index in range(20):
        one, other = exact[0, index][0], fast[0, index][0]
        assert equal(one._replace(search=other.search, templates=other.templates), other)
        for name in ("search", "templates"):
            difference = (getattr(one, name).float() - getattr(other, name)).abs()
            assert 0 < difference.mean() < 4  # levels of grey


def test_frames_are_near_each_other_ordered_and_in_half_of_the_samples_reversed() -> None:
    rng, visible = np.random.default_rng(0), np.ones(3000, bool)
    visible[1000:1100] = False
    drawn = np.array([FrameSampling(2).order(visible, rng) for _ in range(4000)])
    steps = np.diff(drawn, axis=1)
    assert ((steps >= 0).all(1) | (steps <= 0).all(1)).all()
    assert (steps.sum(1) < 0).mean() == pytest.approx(0.5, abs=0.03)
    span = np.ptp(drawn, axis=1)
    assert 700 < span.max() <= 800  # all within 400 of a common frame
    assert visible[drawn].all()
    assert np.ptp(drawn.ravel()) > 2900


def test_frames_exactly_400_apart_go_together() -> None:
    visible = np.zeros(2801, bool)
    visible[[0, 400, 1200, 1600, 2400, 2800]] = True
    rng = np.random.default_rng(0)
    drawn = np.array([FrameSampling(1).order(visible, rng) for _ in range(600)])
    apart = np.abs(drawn[:, 0] - drawn[:, 1])
    assert set(apart.tolist()) == {0, 400}
    assert (apart == 400).mean() == pytest.approx(1 / 2, abs=0.06)  # whichever of the two was drawn first


def test_frames_are_drawn_with_replacement_unless_distinct() -> None:
    rng, visible = np.random.default_rng(0), np.ones(8, bool)
    official = [FrameSampling(2).order(visible, rng) for _ in range(2000)]
    # three of eight with replacement all differ with probability 7/8 * 6/8 = .656
    assert np.mean([len(set(frames)) == 3 for frames in official]) == pytest.approx(0.656, abs=0.03)
    assert all(len(set(SceneSampling(2, distinct=True).order(visible, rng))) == 3 for _ in range(200))


def test_videos_need_enough_visible_frames() -> None:
    # one template and one search frame: at least 20 frames and more than 4 visible ones
    videos = ShadeVideos([19, 20, 24], hidden=range(4, 23))
    assert make(videos)._usable[0].tolist() == [2]  # 19 is short, of 20 frames 4 can be seen, of 24 there are 5
    assert make(videos, frame_sampling=FrameSampling(1, min_length=19))._usable[0].tolist() == [2]
    with pytest.raises(ValueError, match=r"'one' in /data/shades has 3 videos but none.*more than 6"):
        make(videos, frame_sampling=FrameSampling(2))
    with pytest.raises(ValueError, match="target visible in 4 frames, more than 4 are needed"):
        FrameSampling(1).order(videos.visible(1), np.random.default_rng(0))


def test_the_crops_show_the_frames_that_were_drawn() -> None:
    samples = make(ShadeVideos([40]), frame_sampling=FrameSampling(2))
    for index in range(20):
        sample, failures = samples[3, index]
        assert failures == []
        assert sample.key.tolist() == [3, index, 0]
        # without jitter the target is in the middle; its size in the crop: 12 and 8 over ceil(sqrt(96) * 3) = 30
        torch.testing.assert_close(sample.box, torch.tensor([0.5, 0.5, 12 / 30, 8 / 30]))
        torch.testing.assert_close(sample.template_boxes, torch.tensor([[0.5, 0.5, 12 / 20, 8 / 20]] * 2))
        assert sample.search[:, 24, 24].tolist() == [255, 255, 255]
        times = [int(sample.templates[0, 0, 0, 0]), int(sample.templates[1, 0, 0, 0]), int(sample.search[0, 0, 24])]
        assert times in (sorted(times), sorted(times, reverse=True))
        assert sample.past.shape == (0, 4)


def test_images_are_repeated() -> None:
    samples = make(ShadeVideos([1, 1], repeats_image=True), frame_sampling=FrameSampling(2, past=2, past_errors=EXACT))
    sample, _ = samples[0, 0]
    assert torch.equal(sample.templates[0], sample.templates[1])
    torch.testing.assert_close(sample.past, sample.box.expand(2, 4))
    with pytest.raises(ValueError, match="has 2 images but no box with an area"):
        make(ShadeVideos([1, 1], repeats_image=True, hidden=[0]))


def test_a_sample_is_a_pure_function_of_its_key() -> None:
    def build() -> TrainingSamples:
        return make(
            GeneratedVideos(3, kept_frames=6),
            frame_sampling=SceneSampling(1, min_length=6, any_object=0.5, distractor_pairs=0.5),
            augmentation=Augmentation(channel_gain=0.2),
            jitter=JitterSchedule(2.6, 0.5),
        )

    forward, backward = build(), build()
    first = {index: forward[1, index][0] for index in range(12)}
    assert all(equal(backward[1, index][0], first[index]) for index in reversed(range(12)))
    assert not equal(forward[0, 3][0], first[3])
    assert not any(equal(first[a]._replace(key=first[b].key), first[b]) for a in range(12) for b in range(a))
    other = build()
    other.seed = 1
    assert not equal(other[1, 3][0], first[3])


def test_the_mix_follows_its_weights() -> None:
    mix: dict[str, Videos] = {name: ShadeVideos([30] * 3, dataset=name) for name in ("a", "b", "c")}
    samples = make(mix, [2.0, 0.5, 1.5])
    counts = Counter(samples._draw(np.random.default_rng(index), 0.0).source for index in range(1500))
    # 2 : .5 : 1.5 of 4
    assert [counts[i] / 1500 for i in range(3)] == pytest.approx([0.5, 0.125, 0.375], abs=0.04)


def test_jitter_follows_the_position_in_the_run() -> None:
    schedule = JitterSchedule(2.0, 0.0, 0.0, 0.0, begin=0.5, finish=0.5)
    samples = make(ShadeVideos([40]), jitter=schedule)  # 10 epochs of 100
    wide = torch.stack([samples[4, index][0].box for index in range(100)])
    narrow = torch.stack([samples[5, index][0].box for index in range(100)])
    # centre +-1 target size of a window three sizes wide
    assert 0.25 < float((wide[:, :2] - 0.5).abs().max()) < 1 / 3 + 0.01
    assert (wide[99, :2] - 0.5).abs().max() > 0.01  # the last sample of the first half, too
    torch.testing.assert_close(narrow[:, :2], torch.full((100, 2), 0.5))


def test_flip_mirrors_boxes_and_pixels_of_the_whole_sample() -> None:
    options = {"jitter": JitterSchedule(1.0, 0.0), "frame_sampling": FrameSampling(1, past=3, past_errors=WIDE)}
    for index in range(6):
        plain, _ = make(ShadeVideos([40]), **options)[0, index]
        flipped, _ = make(ShadeVideos([40]), augmentation=Augmentation(grayscale=0.0, flip=1.0), **options)[0, index]
        mirror = torch.tensor([1.0, 0, 0, 0])
        for a, b in (
            (plain.box, flipped.box),
            (plain.past, flipped.past),
            (plain.template_boxes, flipped.template_boxes),
        ):
            torch.testing.assert_close(b, (mirror - a).abs() * mirror + a * (1 - mirror))
        # the window's corner is rounded to whole pixels on both sides, so pixels may be one image pixel off
        white = [int((sample.search[0] > 250).sum()) for sample in (plain, flipped)]
        assert white[0] == pytest.approx(white[1], rel=0.15)


def test_past_boxes_are_those_before_the_search_frame() -> None:
    # the target moves 1/4 px a frame, the window is ceil(sqrt(96) * 3) = 30 px: 1/120 of it a frame
    for stride in (1, 2):
        # strides are drawn from 1 to the largest: of those up to 2, the samples with 2 are looked at
        samples = make(
            ShadeVideos([40]), frame_sampling=FrameSampling(1, past=3, past_errors=replace(EXACT, strides=stride))
        )
        seen = set()
        for index in range(60):
            sample, _ = samples[0, index]
            seen.add(tuple(((sample.past[:, 0] - sample.box[0]) * 120).round().int().tolist()))
            assert sample.past[2, :2].tolist() == [0.5, 0.5]  # the window stands on the last one
            torch.testing.assert_close(sample.past[:, 2:], sample.box[2:].expand(3, 2))
        # forwards and, in reversed samples, backwards
        assert {(-3 * stride, -2 * stride, -stride), (3 * stride, 2 * stride, stride)} <= seen
    # at a video's end there is no older box: the oldest there is stands in, or the search frame's own
    samples = make(ShadeVideos([40]), frame_sampling=FrameSampling(1, past=3, past_errors=EXACT))
    seen = {
        tuple(((s.past[:, 0] - s.box[0]) * 120).round().int().tolist()) for s in (samples[0, i][0] for i in range(60))
    }
    assert seen <= {(-3, -2, -1), (3, 2, 1), (-2, -2, -1), (2, 2, 1), (-1, -1, -1), (1, 1, 1), (0, 0, 0)}


def test_past_boxes_of_unseen_frames_repeat_the_next_older_one() -> None:
    videos = ShadeVideos([30], hidden=[12, 14])
    samples = make(videos, frame_sampling=FrameSampling(1, past=4, past_errors=EXACT))
    boxes = videos.boxes(0)
    plan = samples._draw(np.random.default_rng(0), 0.0)._replace(frames=[3, 15], around=boxes[13])
    # before 15 come 11, 12, 13, 14, of which 12 and 14 are hidden: 11, 11, 13, 13; a frame moves the box 1/4 px
    assert samples._past(plan)[:, 0].tolist() == [10 + t / 4 for t in (11, 11, 13, 13)]
    # backwards before 11 come 15, 14, 13, 12: 15, 15, 13, 13
    assert samples._past(plan._replace(frames=[20, 11]))[:, 0].tolist() == [10 + t / 4 for t in (15, 15, 13, 13)]


def test_the_window_always_stands_on_the_last_past_box() -> None:
    options = {"frame_sampling": FrameSampling(1, past=2), "jitter": JitterSchedule(2.6, 0.5)}
    samples = make({"a": ShadeVideos([40]), "b": ShadeVideos([1], repeats_image=True)}, **options)
    scenes = SceneSampling(1, past=2, min_length=6, distinct=True, any_object=1.0, distractor_pairs=1.0)
    pool = make(GeneratedVideos(20, kept_frames=6), **{**options, "frame_sampling": scenes})
    drawn = [source[0, index][0] for source in (samples, pool) for index in range(120)]
    for sample in drawn:
        assert sample.past[-1, :2].tolist() == [0.5, 0.5]
        # sqrt(w * h) of it is 1/3 of the window up to the rounding of the window's side to whole pixels
        assert 0.25 < float(sample.past[-1, 2:].prod().sqrt()) <= 1 / 3
    astray = np.array([float((sample.box[:2] - 0.5).abs().max()) * 3 for sample in drawn[:120]])
    # 30 % of the samples have the wide error (half of those more than .65 sizes), the others see the target's motion
    assert 0.1 < (astray > 0.5).mean() < 0.35
    # of a pair that shows one crop, the second asks for another object, whose past stands on the window, too
    pairs = [(a, b) for a, b in zip(drawn[120::2], drawn[121::2], strict=True) if torch.equal(a.search, b.search)]
    assert len(pairs) > 10
    assert max(float((b.box[:2] - 0.5).abs().max()) for _, b in pairs) > 0.25


def test_past_boxes_share_the_wide_error_with_the_window() -> None:
    samples = make(
        ShadeVideos([40]), frame_sampling=FrameSampling(1, past=2, past_errors=WIDE), jitter=JitterSchedule(2.6, 0.5)
    )
    astray = []
    for index in range(40):
        sample, _ = samples[0, index]
        astray.append(float((sample.box[:2] - 0.5).abs().max()))
        # the target moves 1/4 px a frame, in windows of at least 10 px: all past boxes stay where the last one is
        assert (sample.past[:, :2] - 0.5).abs().max() <= 0.25 / 10
    assert max(astray) > 0.3


@pytest.mark.parametrize("any_object", [0.0, 1.0])
def test_past_boxes_in_a_pool_are_those_of_the_scene(any_object: float) -> None:
    # the pool keeps six of sixty frames; a tracker's last boxes are those of the frames just before, not of kept ones
    pool, whole = GeneratedVideos(3, kept_frames=6), GeneratedVideos(3)
    frame_sampling = SceneSampling(1, min_length=6, distinct=True, any_object=any_object, past=4, past_errors=EXACT)
    samples, steps = make(pool, frame_sampling=frame_sampling), set()
    for index in range(60):
        plan = samples._draw(np.random.default_rng(index), 0.0)
        objects = whole.objects(plan.video)
        earlier, now = (
            int(np.flatnonzero((objects.boxes[plan.target] == plan.boxes[t]).all(1))[0]) for t in plan.frames
        )
        step = 1 if earlier < now else -1
        wanted = [min(max(now - step * back, 0), 59) for back in (4, 3, 2, 1)]
        if objects.visible[plan.target, wanted].all():
            steps.add(step)
            np.testing.assert_allclose(samples._past(plan), objects.boxes[plan.target, wanted])
    assert steps == {1, -1}


def test_samples_without_past_boxes_are_what_they_were() -> None:
    # numbers drawn by revision 781d95b, before past boxes had errors of their own
    samples = make(ShadeVideos([40]), jitter=JitterSchedule(2.6, 0.5))
    plan = samples._plan(1, 7, 0, np.random.default_rng((0, 1, 7, 0)))
    assert plan.frames == [38, 20]
    assert plan.around.tolist() == pytest.approx(
        [24.258869827836662, 19.676353444243105, 5.291173030541989, 5.831803355412752]
    )
    assert plan.past is None


def test_distinct_frames_need_to_be_visible_once() -> None:
    videos = ShadeVideos([6, 6], hidden=[0, 1])  # four visible frames
    several = SceneSampling(2, min_length=6, distinct=True)
    assert make(videos, frame_sampling=several)._usable[0].tolist() == [0, 1]
    assert len(set(several.order(videos.visible(0), np.random.default_rng(0)))) == 3
    with pytest.raises(ValueError, match="more than 4"):
        make(videos, frame_sampling=SceneSampling(4, min_length=6, distinct=True))


def test_distractor_pairs_show_one_search_crop_and_ask_for_two_objects() -> None:
    videos = GeneratedVideos(30, kept_frames=6)
    frame_sampling = SceneSampling(1, min_length=6, distinct=True, any_object=0.5, distractor_pairs=1.0)
    samples = make(
        videos, frame_sampling=frame_sampling, jitter=JitterSchedule(2.6, 0.5), augmentation=Augmentation(grayscale=0.0)
    )
    drawn = [samples[0, index][0] for index in range(200)]
    pairs = [(a, b) for a, b in zip(drawn[::2], drawn[1::2], strict=True) if torch.equal(a.search, b.search)]
    assert 0.35 < len(pairs) / 100 < 0.65  # half of the search crops show a second object
    for a, b in pairs:
        assert not torch.equal(a.templates, b.templates)
        assert not torch.equal(a.box, b.box)
        assert 0.4 < float((b.box[2:].prod() / a.box[2:].prod()).sqrt()) < 2.5
        low, high = b.box[:2] - b.box[2:] / 2, b.box[:2] + b.box[2:] / 2
        shown = (high.clamp(0, 1) - low.clamp(0, 1)).prod() / b.box[2:].prod()
        assert shown >= 0.6 - 0.1  # the window that is checked is not yet rounded to whole pixels


def test_any_object_of_a_scene_may_be_the_target() -> None:
    videos = GeneratedVideos(20, kept_frames=6)
    anything = make(videos, frame_sampling=SceneSampling(1, min_length=6, distinct=True, any_object=1.0))
    plans = [anything._draw(np.random.default_rng(i), 0.0) for i in range(200)]
    assert len({plan.target for plan in plans}) > 3
    for plan in plans:
        objects = videos.objects(plan.video)
        assert objects.visible[plan.target, plan.frames].all()
        assert np.array_equal(objects.boxes[plan.target], plan.boxes)
    first = make(videos, frame_sampling=SceneSampling(1, min_length=6, distinct=True))
    assert {first._draw(np.random.default_rng(i), 0.0).target for i in range(50)} == {0}
    with pytest.raises(ValueError, match="need generated videos"):
        make(ShadeVideos([30]), frame_sampling=SceneSampling(1, any_object=0.5))


def test_a_bad_frame_is_replaced_by_another_sample() -> None:
    good, bad = make(ShadeVideos([40])), make(ShadeVideos([40], broken=[7, 8, 9]))
    replaced = 0
    for index in range(150):
        sample, failures = bad[0, index]
        attempt = int(sample.key[2])
        assert attempt == len(failures)
        replaced += attempt > 0
        for failure in failures:
            assert failure.startswith("one, shades-0: /data/shades-0/0000000")
        if attempt == 0:
            assert equal(sample, good[0, index][0])  # the others are what they were
    assert 0.05 < replaced / 150 < 0.3  # 3 of 40 frames, two a sample: 14 %
    assert equal(bad[0, 5][0], bad[0, 5][0])


def test_an_unusable_box_is_replaced_and_a_hopeless_set_stops() -> None:
    samples = make({"good": ShadeVideos([30]), "flat": ShadeVideos([30], box=(5.0, 5, 0, 8))})
    drawn = [samples[0, index] for index in range(40)]
    assert all(int(sample.dataset) == 0 for sample, _ in drawn)
    assert any("flat, shades-0: cannot crop around box" in failure for _, failures in drawn for failure in failures)
    with pytest.raises(SamplingError, match=r"30 samples in a row.*\n(.*cannot be read\n?){5}"):
        make(ShadeVideos([30], bad_videos=[0]))[0, 0]


def test_empty_sets_and_wrong_values() -> None:
    with pytest.raises(ValueError, match=r"data set 'one' in /data/shades is empty"):
        make(ShadeVideos([]))
    for name, value in (
        ("templates", 0),
        ("past", -1),
        ("min_length", 2.5),
        ("any_object", 1.5),
        ("distractor_pairs", "no"),
    ):
        frame_sampling = SceneSampling()
        object.__setattr__(frame_sampling, name, value)
        with pytest.raises(ValueError, match=f"data.frame_sampling.{name}"):
            frame_sampling.__post_init__()


def _open(root: str, split: str = "train") -> Videos:
    return ShadeVideos([30], dataset=root + split)


def test_a_source_finds_wrong_arguments_before_it_is_opened() -> None:
    from functools import partial

    assert len(WeightedDataset(partial(_open, root="x"), 2.0).open()) == 1
    with pytest.raises(ValueError, match="_open has no argument 'folder'; it takes root, split"):
        WeightedDataset(partial(_open, folder="x"))
    with pytest.raises(ValueError, match="_open: missing a required argument: 'root'"):
        WeightedDataset(_open)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="weight of a data set must be a number >= 0, got -1"):
        WeightedDataset(partial(_open, root="x"), -1)


def test_collate_stacks() -> None:
    samples = make(ShadeVideos([40]), frame_sampling=FrameSampling(2, past=4))
    for size in (1, 2, 3):
        batch = collate([samples[0, index][0] for index in range(size)])
        assert batch.templates.shape == (size, 2, 3, 32, 32)
        assert batch.search.shape == (size, 3, 48, 48)
        assert batch.past.shape == (size, 4, 4)
        assert batch.key[:, 1].tolist() == list(range(size))
        assert batch.templates.dtype == batch.search.dtype == torch.uint8
        assert batch.box.dtype == batch.past.dtype == torch.float32
