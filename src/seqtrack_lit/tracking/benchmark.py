"""Tracking all videos of a benchmark: resumable, in one or several processes.

A result is written when its video is finished and is whole when it is there (evaluation/results.py), so a run
that was killed loses at most the videos in flight, and the same command goes on where it stopped.
"""

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seqtrack_lit.evaluation.results import list_done, require_own_files, write_result
from seqtrack_lit.files import flatten, read_json, remove_leftovers, write_atomic
from seqtrack_lit.tracking.tracker import Track, Videos
from seqtrack_lit.tracking.workers import (
    CannotWriteError,
    Event,
    MakeTracker,
    Store,
    track_here,
    track_in_processes,
)

IDENTITY = "identity.json"
_FORMER_IDENTITY = "run.json"  # of results that earlier revisions wrote


@dataclass
class Summary:
    """What a run did.

    Attributes:
        tracked: videos finished by this run.
        found: videos that were finished before.
        failed: why a video could not be tracked, by name.
        frames: frames tracked by this run.
        seconds: time the tracker took for them.
    """

    tracked: int = 0
    found: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    frames: int = 0
    seconds: float = 0.0

    @property
    def fps(self) -> float:
        """Frames per second of the tracker itself, one process; 0 when nothing was tracked."""
        return self.frames / self.seconds if self.seconds > 0 else 0.0

    def text(self, what: str) -> str:
        """The same in words; `what` was tracked: videos, or the runs of a VOT experiment."""
        speed = f", {self.frames} frames at {self.fps:.1f} frames/s" if self.tracked else ""
        found = f", {self.found} were there" if self.found else ""
        failed = f", {len(self.failed)} FAILED" if self.failed else ""
        return f"{self.tracked} {what} tracked{speed}{found}{failed}"


@dataclass(frozen=True)
class ResultFiles:
    """Result files of a benchmark, see evaluation/results.py.

    Args:
        folder: `<out>/<tracker>/<benchmark>`.
    """

    folder: Path

    def clean(self) -> None:
        """Delete what killed processes left."""
        remove_leftovers(self.folder, self.folder / "media")

    def done(self, frames: Mapping[str, int]) -> list[str]:
        """The sequences whose result is whole."""
        return list_done(self.folder, frames)

    def write(self, name: str, track: Track) -> None:
        """Write the files of a sequence."""
        write_result(self.folder, name, track.boxes, track.times, track.confidences, updates=track.updated)


def run_benchmark(
    make: MakeTracker,
    videos: Videos,
    results: Path | Store,
    *,
    workers: int = 1,
    devices: Sequence[str] = ("cpu",),
    show: bool = True,
    batch: int = 1,
) -> Summary:
    """Track every video that has no result yet, longest first, and write the result files.

    Args:
        make: makes the tracker on a device; called once a process.
        videos: what to track.
        results: where they go; a folder `<out>/<tracker>/<benchmark>` takes result files.
        workers: processes; 1 works in this one. Each takes whole videos.
        devices: given to the processes in turn.
        show: a progress bar on stderr.
        batch: videos that SeqTrack tracks at a time in each process, see batched.py; other trackers take one at a time.

    Raises:
        ValueError: two videos with one name or with the same result files, or no worker could start.
        OSError: a result could not be written; those before are whole.
    """
    lengths = _lengths(videos)
    store = ResultFiles(results) if isinstance(results, Path) else results
    store.clean()
    done = set(store.done(lengths))
    order = [i for i, name in enumerate(lengths) if name not in done]
    names, counts = list(lengths), list(lengths.values())
    order.sort(key=lambda i: -counts[i])  # stable: equal lengths keep the benchmark's order
    summary = Summary(found=len(done))
    if not order:
        return summary
    with _bar(show) as bar:
        bar.add_task("", total=sum(counts), completed=sum(lengths[name] for name in done), rate="")

        def report(event: Event) -> None:
            _note(event, names, summary, bar)

        try:
            if workers > 1:
                workers = min(workers, len(order))
                batch = min(batch, -(-len(order) // workers))  # none takes the others' share
                track_in_processes(make, videos, store, order, workers, devices, report, batch)
            else:
                track_here(make(devices[0]), videos, store, order, report, batch)
        except CannotWriteError as error:
            raise error.args[0] from None
    return summary


def _bar(show: bool) -> Progress:
    """Frames done of all, frames per second, remaining time, the video in hand."""
    columns = (
        TextColumn("{task.description:<24.24}", markup=False),  # brackets in names are no colours
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not show)


def _note(event: Event, names: list[str], summary: Summary, bar: Progress) -> None:
    """Count what a process reports."""
    (task,) = bar.tasks
    if event.kind == "started":
        bar.update(task.id, description=names[event.video])
    elif event.kind == "frames":
        bar.update(task.id, advance=event.frames, rate=f"{task.speed:.1f} frames/s" if task.speed else "")
    elif event.kind == "done":
        summary.tracked += 1
        summary.frames += event.frames
        summary.seconds += event.seconds
    else:
        summary.failed[names[event.video]] = event.reason


def check_identity(
    folder: Path, identity: Mapping[str, object], *, replace: bool = False, files: str = "*.txt"
) -> None:
    """Make sure that a results folder holds results of one tracker with one set of weights and settings only.

    Args:
        folder: `<out>/<tracker>/<benchmark>`.
        identity: what the results depend on (weights, settings, data), plain values.
        replace: delete results of another identity instead of refusing.
        files: pattern of the result files in the folder.

    Raises:
        ValueError: the folder holds results of another identity; the message names what differs.
    """
    new = json.loads(json.dumps(identity))
    present = sorted(folder.glob(files))
    old = _read_identity(folder)
    if old == new:
        return
    if present and not replace:
        was, now = flatten(old), flatten(new)
        both = [(key, was.get(key, "not set"), now.get(key, "not set")) for key in {**was, **now}] if was else []
        differing = [f"{key} was {before!r}, now {value!r}" for key, before, value in both if before != value]
        raise ValueError(
            f"{folder} holds results of another run ({'; '.join(differing)[:400] or 'of unknown origin'}): give this "
            "one another tracker.name or out=, or delete the old results with replace=true"
        )
    for file in present:
        file.unlink()
    (folder / "scores.json").unlink(missing_ok=True)  # would keep the former tracker's scores by other conventions
    shutil.rmtree(folder / "media", ignore_errors=True)
    write_atomic(folder / IDENTITY, json.dumps(new, indent=1, sort_keys=True) + "\n")
    (folder / _FORMER_IDENTITY).unlink(missing_ok=True)


def _read_identity(folder: Path) -> dict[str, object]:
    """The identity that a folder's results were written with; empty where none can be read."""
    name = IDENTITY if (folder / IDENTITY).exists() else _FORMER_IDENTITY
    try:
        found: dict[str, object] = read_json(folder / name, dict[str, object], "evaluate again")
    except (OSError, ValueError):
        return {}
    told = found.pop("told", None)  # until checkpoints of other models needed official_config=FILE
    return {**found, "official_config": told[-1]} if isinstance(told, list) and told else found


@runtime_checkable
class _Index(Protocol):
    """Videos with columns: data.index.SequenceIndex, data.generated.GeneratedVideos."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def lengths(self) -> Iterable[int]: ...


def _lengths(videos: Videos) -> dict[str, int]:
    """Frames by name, in the benchmark's order; from an index without opening a video."""
    if isinstance(videos, _Index):
        pairs = [(name, int(count)) for name, count in zip(videos.names, videos.lengths, strict=True)]
    else:
        pairs = [(videos[i].name, len(videos[i])) for i in range(len(videos))]
    lengths = dict(pairs)
    if len(lengths) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two sequences are called {twice!r}; result files are named by them, so rename one")
    require_own_files(lengths)
    return lengths
