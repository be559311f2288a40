"""Tracking one video after another, in this process or in several, and reporting what happens.

A process takes whole videos over a pipe of its own, so that one that is killed blocks no other.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Collection, Mapping
from collections.abc import Sequence as List
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import cv2
import torch

from seqtrack_lit.data.video.sequence import Video
from seqtrack_lit.end_with_parent import end_with_parent
from seqtrack_lit.tracking.batched import track_together
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import Track, Tracker, run_tracker

NEXT = "next"
MakeTracker = Callable[[str], Tracker]  # device -> tracker; picklable when there are several processes


@runtime_checkable
class Videos(Protocol):
    """Sequences made on access: a data.video.index.SequenceIndex, a list, generated videos."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Video: ...


@runtime_checkable
class Store(Protocol):
    """Where tracks of videos go: result files of a benchmark, trajectories of VOT. Picklable for several processes."""

    def clean(self) -> None:
        """Delete what killed processes left."""
        ...

    def done(self, frames: Mapping[str, int]) -> Collection[str]:
        """The videos, of those given with their numbers of frames, whose track is stored whole."""
        ...

    def write(self, name: str, track: Track) -> None:
        """Store the track of a video, whole or not at all."""
        ...


class Event(NamedTuple):
    """What happened to a video (its place in `Videos`): frames are new ones, or all of a finished video."""

    kind: Literal["started", "frames", "done", "failed"]
    video: int
    frames: int = 0
    seconds: float = 0.0
    reason: str = ""


Report = Callable[[Event], None]


class CannotWriteError(Exception):
    """Carries the OSError of a result that could not be written: no other video's could be either."""


def track_here(
    tracker: Tracker, videos: Videos, store: Store, order: List[int], report: Report, batch: int = 1
) -> None:
    """Track the videos in this order and write their results; one bad video does not cost the others.

    Args:
        tracker: tracks.
        videos: what to track.
        store: where the results go.
        order: numbers of the videos.
        report: called with what happens.
        batch: videos that a SeqTrackTracker tracks at a time, one pass of the network for all.

    Raises:
        CannotWriteError: a result could not be written.
    """
    if batch > 1 and isinstance(tracker, SeqTrackTracker):
        for at in range(0, len(order), batch):
            _track_batch(tracker, videos, order[at : at + batch], store, report)
        return
    for index in order:
        report(Event("started", index))
        _track(tracker, videos, index, store, report)


def _track_batch(tracker: SeqTrackTracker, videos: Videos, indices: List[int], store: Store, report: Report) -> None:
    """Track some videos together; one by one where one of them cannot be tracked."""
    report(Event("started", indices[0]))
    chosen = [videos[index] for index in indices]
    try:
        tracks = track_together(tracker, chosen)
    except Exception:
        for index in indices:
            _track(tracker, videos, index, store, report)
        return
    for index, video in zip(indices, chosen, strict=True):
        track = tracks[video.name]
        report(Event("frames", index, len(track.boxes)))
        _store(store, video.name, track, index, report)


def track_in_processes(
    make: MakeTracker,
    videos: Videos,
    store: Store,
    order: List[int],
    workers: int,
    devices: List[str],
    report: Report,
) -> None:
    """The same in several processes, which end with this call, however it ends.

    Raises:
        CannotWriteError: a result could not be written.
        ValueError: no process could make its tracker.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    threads = max(1, (os.cpu_count() or 1) // workers)
    processes: dict[Any, Any] = {}
    waiting, held, broken = list(order), dict[Any, int](), ""
    try:
        for number in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, make, devices[number % len(devices)], videos, store, threads)
            processes[ours] = context.Process(target=_work, args=arguments, daemon=True)
            processes[ours].start()
            theirs.close()
        while processes:
            ready: list[Any] = wait(list(processes))
            for pipe in ready:
                message = _receive(pipe)
                if isinstance(message, Event):
                    report(message)
                elif isinstance(message, CannotWriteError):
                    raise message
                elif message is None:  # the process has ended
                    process = processes.pop(pipe)
                    process.join()
                    if pipe in held:
                        report(Event("failed", held.pop(pipe), reason=_death(process.exitcode)))
                elif message == NEXT:
                    held.pop(pipe, None)
                    if waiting:
                        held[pipe] = waiting.pop(0)
                        report(Event("started", held[pipe]))
                    with suppress(BrokenPipeError):
                        pipe.send(held.get(pipe))
                else:
                    broken = message
    finally:
        for process in processes.values():
            process.terminate()
    if len(waiting) == len(order):
        raise ValueError(f"no process could make its tracker: {broken or 'they ended at once'}")
    for index in waiting:
        report(Event("failed", index, reason="not tracked: every process ended before its turn"))


def _receive(pipe: Any) -> Any:
    """A message of a process: an Event, NEXT, another text (why it has no tracker), None when it has ended."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionResetError):
        return None


def _death(code: int | None) -> str:
    hint = " (killed, perhaps for want of memory: use fewer workers)" if code == -9 else ""
    return f"its process ended with code {code}{hint}"


def _work(pipe: Any, make: MakeTracker, device: str, videos: Videos, store: Store, threads: int) -> None:
    """One process: make the tracker, then track what the parent names until it names nothing."""
    end_with_parent()
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    with suppress(KeyboardInterrupt, BrokenPipeError, EOFError):  # Ctrl-C reaches the parent too, which reports
        try:
            tracker = make(device)
        except Exception as error:
            pipe.send(_reason(error))
            return
        pipe.send(NEXT)
        while (index := pipe.recv()) is not None:
            try:
                _track(tracker, videos, index, store, pipe.send)
            except CannotWriteError as error:
                pipe.send(error)
                return
            pipe.send(NEXT)


def _track(tracker: Tracker, videos: Videos, index: int, store: Store, report: Report) -> None:
    """Track one video and write its result; frames are reported a few times a second."""
    new, last = 0, monotonic()

    def step() -> None:
        nonlocal new, last
        new += 1
        if monotonic() - last > 0.2:
            report(Event("frames", index, new))
            new, last = 0, monotonic()

    try:
        video = videos[index]
        track = run_tracker(tracker, video, progress=step)
    except BrokenPipeError:  # the parent is gone
        raise
    except Exception as error:
        report(Event("failed", index, reason=_reason(error)))
        return
    report(Event("frames", index, new))
    _store(store, video.name, track, index, report)


def _store(store: Store, name: str, track: Track, index: int, report: Report) -> None:
    try:
        store.write(name, track)
    except ValueError as error:  # a box that is not finite
        report(Event("failed", index, reason=_reason(error)))
        return
    except OSError as error:
        raise CannotWriteError(error) from error
    report(Event("done", index, len(track.boxes), float(track.times.sum())))


def _reason(error: Exception) -> str:
    """What went wrong, in one line; where, unless the message was written for users."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and text:
        return text
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(place.filename).name}, line {place.lineno})"
