"""Tracking many videos, in this process or in several, and reporting what happens.

A process asks for whole videos over a pipe of its own, so that one that is killed blocks no other.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Sequence as List
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import cv2
import torch

from seqtrack_lit.process import end_with_parent
from seqtrack_lit.tracking.batched import track_in_slots
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.tracking.tracker import Track, Tracker, Videos, run_tracker

NEXT = "next"
MakeTracker = Callable[[str], Tracker]  # device -> tracker; picklable when there are several processes


@runtime_checkable
class Store(Protocol):
    """Where tracks of videos go: result files of a benchmark, trajectories of VOT. Picklable for several processes."""

    def clean(self) -> None:
        """Delete what killed processes left."""

    def done(self, frames: Mapping[str, int]) -> Collection[str]:
        """The videos, of those given with their numbers of frames, whose track is stored whole."""

    def write(self, name: str, track: Track) -> None:
        """Store the track of a video, whole or not at all."""


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
        batch: videos that a SeqTrackTracker tracks at a time, one pass of the network for a frame of each.

    Raises:
        CannotWriteError: a result could not be written.
    """

    def numbers() -> Iterator[int]:
        for index in order:
            report(Event("started", index))
            yield index

    _track_all(tracker, videos, numbers(), store, report, batch)


def track_in_processes(
    make: MakeTracker,
    videos: Videos,
    store: Store,
    order: List[int],
    workers: int,
    devices: List[str],
    report: Report,
    batch: int = 1,
) -> None:
    """The same in several processes, which end with this call, however it ends; `batch` is that of each process.

    Raises:
        CannotWriteError: a result could not be written.
        ValueError: no process could make its tracker.
    """
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    threads = max(1, (os.cpu_count() or 1) // workers)
    processes: dict[Any, Any] = {}
    waiting, held, broken = list(order), dict[Any, list[int]](), ""
    try:
        for number in range(workers):
            ours, theirs = context.Pipe()
            arguments = (theirs, make, devices[number % len(devices)], videos, store, threads, batch)
            processes[ours] = context.Process(target=_work, args=arguments, daemon=True)
            processes[ours].start()
            theirs.close()
        while processes:
            ready: list[Any] = wait(list(processes))
            for pipe in ready:
                message = _receive(pipe)
                if isinstance(message, Event):
                    if message.kind != "frames":
                        held[pipe].remove(message.video)
                    report(message)
                elif isinstance(message, CannotWriteError):
                    raise message
                elif message is None:  # the process has ended
                    process = processes.pop(pipe)
                    process.join()
                    for index in held.pop(pipe, []):
                        report(Event("failed", index, reason=_death(process.exitcode)))
                elif message == NEXT:
                    given = waiting.pop(0) if waiting else None
                    if given is not None:
                        held.setdefault(pipe, []).append(given)
                        report(Event("started", given))
                    with suppress(BrokenPipeError):
                        pipe.send(given)
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


def _work(pipe: Any, make: MakeTracker, device: str, videos: Videos, store: Store, threads: int, batch: int) -> None:
    """One process: make the tracker, then track what the parent names until it names nothing."""
    end_with_parent()
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)

    def numbers() -> Iterator[int]:
        while True:
            pipe.send(NEXT)
            if (index := pipe.recv()) is None:
                return
            yield index

    with suppress(KeyboardInterrupt, BrokenPipeError, EOFError):  # Ctrl-C reaches the parent too, which reports
        try:
            tracker = make(device)
        except Exception as error:
            pipe.send(_reason(error))
            return
        try:
            _track_all(tracker, videos, numbers(), store, pipe.send, batch)
        except CannotWriteError as error:
            pipe.send(error)


def _track_all(
    tracker: Tracker, videos: Videos, numbers: Iterable[int], store: Store, report: Report, batch: int
) -> None:
    """Track these videos and write their results; frames are reported a few times a second."""
    if batch == 1 or not isinstance(tracker, SeqTrackTracker) or tracker.cascade is not None:
        for index in numbers:
            _track(tracker, videos, index, store, report)
        return
    frames = _Frames(report)
    for number, name, track in track_in_slots(tracker, videos, numbers, batch=batch, progress=frames.add):
        frames.report_now(number)
        if isinstance(track, BrokenPipeError):  # the parent is gone
            raise track
        if isinstance(track, Exception):
            report(Event("failed", number, reason=_reason(track)))
        else:
            _store(store, name, track, number, report)


class _Frames:
    """Counts tracked frames and reports them a few times a second."""

    def __init__(self, report: Report, video: int = 0) -> None:
        self.report, self.video, self.new, self.last = report, video, 0, monotonic()

    def add(self, frames: int = 1) -> None:
        self.new += frames
        if monotonic() - self.last > 0.2:
            self.report_now(self.video)

    def report_now(self, video: int) -> None:
        self.report(Event("frames", video, self.new))
        self.new, self.last = 0, monotonic()


def _track(tracker: Tracker, videos: Videos, index: int, store: Store, report: Report) -> None:
    """Track one video and write its result."""
    frames = _Frames(report, index)
    try:
        video = videos[index]
        track = run_tracker(tracker, video, progress=frames.add)
    except BrokenPipeError:  # the parent is gone
        raise
    except Exception as error:
        report(Event("failed", index, reason=_reason(error)))
        return
    frames.report_now(index)
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
