"""Many targets at once: one upload, one pass of the network and one read-back for the next frame of each.

`BatchTracker` steps targets that share a network; `track_in_slots` runs one over many videos: as soon as a video ends
the next takes its slot, and threads decode the coming frame of every slot while the network computes.
"""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8
from torch import Tensor

from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.models.seqtrack import Prediction
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import Estimate, Track, Tracker, Videos, check_first_box, check_image, check_video

Images = Sequence[UInt8[np.ndarray, "_ _ 3"]]  # of any sizes
_READERS = 16  # threads that decode frames
_OPEN_AHEAD = 8  # frames before the end of a video at which the next one is opened
_MARGIN = 1e-4  # relative; measured: rounding moves probabilities by 2e-6


class BatchTracker:
    """Steps targets of one network, each with a box, templates, past boxes and a count of frames of its own.

    In float32 on a CPU the tokens are those of each target alone. Products of larger matrices round the last bits
    differently; where two likeliest tokens, or the likelihood and the threshold of the template update, are so close
    that this might decide, the target's frame is computed once more by itself. Boxes by expectation follow the last
    bits (1e-3 pixels). In 8-bit integers, whose levels span a batch, each target is a pass of its own. In bfloat16
    and on a GPU results are equal up to rounding.

    Args:
        tracker: whose network and settings all targets have.
    """

    def __init__(self, tracker: SeqTrackTracker) -> None:
        self.tracker = tracker
        self._parts: list[Tensor] = []  # the prepared templates that are stacked, target by target
        self._stacked: Tensor | None = None

    def start(self, image: Image, box_xywh: Float64[np.ndarray, "4"]) -> SeqTrackTracker:
        """A target on its first frame, see `SeqTrackTracker.init`."""
        target = copy.copy(self.tracker)  # the network is shared
        target.init(image, box_xywh)
        return target

    def update(self, targets: Sequence[SeqTrackTracker], images: Images) -> list[Estimate]:
        """`SeqTrackTracker.update` of each target on its image (which may be the same one), in one pass.

        Raises:
            ValueError: no RGB uint8 image, or an output of the network is NaN or infinite.
        """
        for image in images:
            check_image(image)
        found = self.step(targets, images)
        for estimate in found:
            if isinstance(estimate, ValueError):
                raise estimate
        return [estimate for estimate in found if isinstance(estimate, Estimate)]

    @torch.inference_mode()
    def step(self, targets: Sequence[SeqTrackTracker], images: Images) -> list[Estimate | ValueError]:
        """The same for checked images; an error of one target costs no other."""
        one = self.tracker
        if one.layout == "int8" and len(targets) > 1:
            return [self.step([target], [image])[0] for target, image in zip(targets, images, strict=True)]
        crops = [target.search_crop() for target in targets]
        cut = np.stack([crop.cut(image, padding=one.padding) for crop, image in zip(crops, images, strict=True)])
        past = None
        if one.model.past:
            past = torch.cat([target.past_tokens(crop) for target, crop in zip(targets, crops, strict=True)])
        boxes, likelihoods, close = self._predict(targets, torch.from_numpy(cut).permute(0, 3, 1, 2), past)
        found: list[Estimate | ValueError] = []
        for i, (target, image, crop) in enumerate(zip(targets, images, crops, strict=True)):
            box, likelihood = boxes[i], likelihoods[i]
            if close is not None and (close[i] or target.rule.is_close(target.frame + 1, likelihood, _MARGIN)):
                alone = target.predict(image)[1]
                box, likelihood = alone.boxes[0], alone.likelihoods[0]
            try:
                found.append(target.move(image, crop, box, likelihood))
            except ValueError as error:
                found.append(error)
        self._renew([i for i, one in enumerate(found) if isinstance(one, Estimate) and one.updated], targets, images)
        return found

    def _predict(
        self, targets: Sequence[SeqTrackTracker], pixels: Tensor, past: Tensor | None
    ) -> tuple[Tensor, Tensor, Bool[np.ndarray, "B"] | None]:
        """Boxes and likelihoods on the host; where it matters, whose tokens rounding might decide."""
        prepared = self._prepared(targets)
        one, count = self.tracker, len(targets)
        if len(prepared) > count:  # a recorded graph, padded
            pixels = pixels[_padded(count)]
            past = None if past is None else past[_padded(count)]
        cpu = one.device.type == "cpu"
        exact = cpu and one.dtype == torch.float32 and not torch.is_autocast_enabled("cpu") and count > 1
        found = one.generate(prepared, pixels.to(one.device), past, distributions=exact)
        both = torch.cat([found.boxes.double(), found.likelihoods.double()], dim=1)[:count].cpu()  # one wait
        return both[:, :4].float(), both[:, 4:].to(found.likelihoods.dtype), _close(found) if exact else None

    def _prepared(self, targets: Sequence[SeqTrackTracker]) -> Tensor:
        """Prepared templates of all targets, stacked anew only when a target or a template has changed."""
        parts = [target.prepared for target in targets]
        if self.tracker.device.type == "cuda":  # a graph for every power of two
            parts = [parts[i] for i in _padded(len(parts))]
        same = len(parts) == len(self._parts) and all(a is b for a, b in zip(parts, self._parts, strict=True))
        if self._stacked is None or not same:
            self._parts, self._stacked = parts, torch.cat(parts)
        return self._stacked

    def _renew(self, due: Sequence[int], targets: Sequence[SeqTrackTracker], images: Images) -> None:
        """New templates of the targets that are due, in one upload."""
        if not due:
            return
        cut = [targets[i].template_crop().cut(images[i], padding=self.tracker.padding) for i in due]
        pixels = torch.from_numpy(np.stack(cut)).to(self.tracker.device).permute(0, 3, 1, 2)
        for place, i in enumerate(due):
            targets[i].renew(pixels[place : place + 1])


def _padded(count: int) -> list[int]:
    """The numbers below `count`, the last one repeated up to a power of two."""
    return [min(i, count - 1) for i in range(1 << (count - 1).bit_length())]


def _close(found: Prediction) -> Bool[np.ndarray, "B"]:
    """Whether two likeliest values of a token are nearly equal."""
    assert found.distributions is not None
    best, second = found.distributions.topk(2, dim=-1).values.unbind(-1)  # B 4
    return np.asarray((best - second <= _MARGIN * best).any(1))


class Outcome(NamedTuple):
    """How the tracking of video `number` ended: with a track, or an error."""

    number: int
    name: str
    track: Track | Exception


@dataclass
class _Slot:
    """A video in hand."""

    number: int
    video: Video
    coming: Future[Image]
    track: Track
    frame: int = 0
    target: SeqTrackTracker | None = field(default=None, repr=False)

    @property
    def left(self) -> int:
        """Frames still to track."""
        return len(self.video) - self.frame


def track_in_slots(
    tracker: SeqTrackTracker,
    videos: Videos,
    numbers: Iterable[int],
    *,
    batch: int,
    progress: Callable[[int], None] = lambda frames: None,
) -> Iterator[Outcome]:
    """Track videos, `batch` at a time; each outcome comes as soon as its video has ended.

    A track is that of `run_tracker`; `times` are shares: the time of a step over the targets in it, so that frames over
    the sum of times is the speed of the whole.

    Args:
        tracker: its network and settings are used for every video.
        videos: may differ in length and size; opened by one thread, in order.
        numbers: of the videos to track; the next is taken when a slot is about to become free.
        batch: slots.
        progress: called after every step with the frames tracked in it.
    """
    step, waiting = BatchTracker(tracker), iter(numbers)
    slots: list[_Slot] = []
    ahead: deque[tuple[int, Future[_Slot]]] = deque()
    opener, readers = ThreadPoolExecutor(1), ThreadPoolExecutor(min(_READERS, batch))

    def open_(number: int) -> _Slot:
        video = videos[number]
        check_video(video)
        return _Slot(number, video, readers.submit(_read, video, 0), _empty(len(video)))

    try:
        exhausted = False
        while slots or ahead or not exhausted:
            while not exhausted and len(ahead) + sum(slot.left > _OPEN_AHEAD for slot in slots) < batch:
                number = next(waiting, None)
                if number is None:
                    exhausted = True
                else:
                    ahead.append((number, opener.submit(open_, number)))
            while ahead and len(slots) < batch:
                number, opened = ahead.popleft()
                try:
                    slots.append(opened.result())
                except Exception as error:
                    yield Outcome(number, "", error)
            if slots:
                ended = _advance(step, slots, readers)
                progress(len(slots))
                slots = [slot for slot in slots if slot.number not in ended]
                yield from ended.values()
    finally:
        for pool in (opener, readers):
            pool.shutdown(cancel_futures=True)


def _advance(step: BatchTracker, slots: Sequence[_Slot], readers: ThreadPoolExecutor) -> dict[int, Outcome]:
    """One frame of every slot; gives the videos that ended with it, by number."""
    ended: dict[int, Outcome] = {}

    def fail(slot: _Slot, error: Exception) -> None:
        ended[slot.number] = Outcome(slot.number, slot.video.name, error)

    ready: list[tuple[_Slot, Image]] = []
    for slot in slots:
        try:
            ready.append((slot, slot.coming.result()))
        except Exception as error:
            fail(slot, error)
            continue
        if slot.left > 1:
            slot.coming = readers.submit(_read, slot.video, slot.frame + 1)
    for slot, image in ready:
        if slot.target is None:
            begun = perf_counter()
            try:
                slot.target = _begin(step, slot, image)
            except Exception as error:
                fail(slot, error)
            slot.track.times[0] = perf_counter() - begun
    running = [(slot, slot.target, image) for slot, image in ready if slot.frame and slot.target is not None]
    begun = perf_counter()
    found = step.step([target for _, target, _ in running], [image for *_, image in running]) if running else []
    share = (perf_counter() - begun) / max(len(running), 1)
    for (slot, *_), estimate in zip(running, found, strict=True):
        if isinstance(estimate, Exception):
            fail(slot, estimate)
            continue
        track, at = slot.track, slot.frame
        track.boxes[at], track.confidences[at] = estimate.box_xywh, estimate.confidence
        track.updated[at], track.lost[at], track.times[at] = estimate.updated, estimate.lost, share
    for slot, _ in ready:
        slot.frame += 1
        if not slot.left and slot.number not in ended:
            ended[slot.number] = Outcome(slot.number, slot.video.name, slot.track)
    return ended


def together(trackers: Sequence[Tracker]) -> Callable[[Sequence[Tracker], Image], list[Estimate]]:
    """`update` for some of these trackers on one image: SeqTrack's in one pass, others and cascades one by one."""
    if not all(isinstance(tracker, SeqTrackTracker) and tracker.cascade is None for tracker in trackers):
        return lambda some, image: [tracker.update(image) for tracker in some]
    step: BatchTracker | None = None

    def update(some: Sequence[Tracker], image: Image) -> list[Estimate]:
        nonlocal step
        targets = [tracker for tracker in some if isinstance(tracker, SeqTrackTracker)]
        if len(targets) < 2:
            return [target.update(image) for target in targets]
        step = step or BatchTracker(targets[0])
        return step.update(targets, [image] * len(targets))

    return update


def track_together(tracker: SeqTrackTracker, videos: Sequence[Video], *, batch: int = 64) -> dict[str, Track]:
    """Tracks by name, as those of `run_tracker`, see `track_in_slots`.

    Raises:
        ValueError: a first box that cannot be tracked, or an unreadable frame; names the video.
    """
    tracks = {}
    for outcome in track_in_slots(tracker, videos, range(len(videos)), batch=batch):
        if isinstance(outcome.track, Exception):
            raise outcome.track
        tracks[outcome.name] = outcome.track
    return {video.name: tracks[video.name] for video in videos}


def _begin(step: BatchTracker, slot: _Slot, image: Image) -> SeqTrackTracker:
    box = np.array(slot.video.boxes[0], np.float64)
    check_first_box(box, image, f"sequence {slot.video.name}")
    slot.track.boxes[0] = box
    return step.start(image, box)


def _read(video: Video, index: int) -> Image:
    image = video.frames[index]
    check_image(image)
    return image


def _empty(frames: int) -> Track:
    no = np.zeros(frames, bool)
    return Track(np.zeros((frames, 4)), np.zeros(frames), np.ones(frames), no, no.copy())
