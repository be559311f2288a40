"""VOT's experiments: which runs there are, on which frames, and where their trajectories go.

baseline      forwards and backwards from every anchor
realtime      the same, and frames that arrive while the tracker is busy are missed
unsupervised  from the first frame to the last
Source: vot-toolkit 0.7.4 (experiment/multistart.py, experiment/multirun.py, RealtimeTrackerRuntime).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from seqtrack_lit.crops import Image
from seqtrack_lit.data.sets.vot import annotation
from seqtrack_lit.data.video.index import SequenceIndex
from seqtrack_lit.data.video.regions import Rectangle, box_of, format_region, trim
from seqtrack_lit.data.video.sequence import Frames, Video
from seqtrack_lit.evaluation.vot_results import Run, clean, done, runs_of, write_trajectory
from seqtrack_lit.masks.refiner import MaskRefiner
from seqtrack_lit.tracking.tracker import Track


@dataclass(frozen=True)
class Realtime:
    """A clock that is simulated, so results do not depend on the machine.

    Args:
        seconds: that the tracker takes for a frame, the start included.
        grace: late estimates that are allowed at the beginning of a run.
    """

    seconds: float
    grace: int = 3

    def processed(self, frames: int, fps: float) -> Int64[np.ndarray, "processed"]:
        """The frames (0-based) that the tracker processes; the box of the others is the last one estimated."""
        interval, left, busy = 1 / fps, self.grace, 0.0
        found = []
        for frame in range(frames):
            if frame and busy > interval:
                busy -= interval
                continue
            found.append(frame)
            busy = 0.0
            if self.seconds > interval:
                if left > 0:
                    left -= 1
                else:
                    busy = self.seconds - interval
        return np.array(found, np.int64)


@dataclass(frozen=True)
class Experiment:
    """The runs of one experiment on all sequences, as videos to track.

    Args:
        kind: baseline, realtime or unsupervised.
        index: the sequences.
        realtime: the clock of kind realtime.
    """

    kind: str
    index: SequenceIndex
    realtime: Realtime | None = None

    @cached_property
    def runs(self) -> list[Run]:
        """All runs, sequence by sequence."""
        names = self.index.names
        return [run for name in names for run in runs_of(self.kind, annotation(self.index.root, name))]

    def frames(self, run: Run) -> Int64[np.ndarray, "processed"]:
        """The frames of a run that the tracker gets to see, counted from its start."""
        if self.realtime is None:
            return np.arange(run.frames)
        return self.realtime.processed(run.frames, annotation(self.index.root, run.sequence).fps)

    @property
    def names(self) -> list[str]:
        """Names of the files of the runs."""
        return [run.stem for run in self.runs]

    @property
    def lengths(self) -> list[int]:
        """Frames of the runs, those that are missed included."""
        return [run.frames for run in self.runs]

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, index: int) -> Video:
        """A run as a video: frames in its order, the box around the ground truth of its first one."""
        run = self.runs[index]
        places = {name: place for place, name in enumerate(self.index.names)}
        box = box_of(annotation(self.index.root, run.sequence).region(run.start))
        order = np.asarray(run.order)[self.frames(run)].tolist()
        frames = _Chosen(self.index.frames(places[run.sequence]), order)
        return Video(run.stem, frames, box[None], np.ones(1, np.bool_))


@dataclass(frozen=True)
class _Chosen:
    """Some frames of a video, in another order."""

    whole: Frames
    order: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> Image:
        return self.whole[self.order[index]]


@dataclass(frozen=True)
class Trajectories:
    """Trajectories of an experiment on disk, see evaluation/vot_results.py.

    Args:
        folder: `<out>/<tracker>/<benchmark>/<experiment>`.
        experiment: whose runs are written.
        make_refiner: makes what turns boxes into masks, once a process; None: boxes are written.
    """

    folder: Path
    experiment: Experiment
    make_refiner: Callable[[], MaskRefiner] | None = None

    def clean(self) -> None:
        """Delete what killed processes left."""
        clean(self.folder)

    def done(self, frames: Mapping[str, int]) -> list[str]:
        """The runs whose trajectory is whole."""
        return [run.stem for run in done(self.folder, self.experiment.runs) if run.stem in frames]

    def write(self, name: str, track: Track) -> None:
        """Write the files of a run; a frame that was missed has the box before it and takes no time.

        Raises:
            ValueError: a box is not finite.
        """
        run = self._by_name[name]
        if not np.isfinite(track.boxes).all():
            bad = int(np.flatnonzero(~np.isfinite(track.boxes).all(1))[0])
            raise ValueError(f"{name}: the tracker's box in frame {bad} is {track.boxes[bad].tolist()}")
        frames = self.experiment.frames(run)
        source = np.searchsorted(frames, np.arange(run.frames), side="right") - 1
        times = np.zeros(run.frames)
        times[frames] = track.times if self.experiment.realtime is None else self.experiment.realtime.seconds
        boxes = [format_region(Rectangle(*box)) for box in track.boxes.tolist()]
        lines = boxes if self._refiner is None else self._masks(run, track.boxes, self._refiner)
        write_trajectory(self.folder, run, [lines[at] for at in source], times, track.confidences[source])

    def _masks(self, run: Run, boxes: Float64[np.ndarray, "seen 4"], refiner: MaskRefiner) -> list[str]:
        """The text of a mask a frame; nothing returns to the tracker, so the frames are read a second time."""
        frames = self.experiment[self.experiment.runs.index(run)].frames
        refiner.init(frames[0], boxes[0])
        masks = (refiner.refine(frames[at], boxes[at]).mask for at in range(1, len(frames)))
        return ["1", *(format_region(trim(mask)) for mask in masks)]

    @cached_property
    def _refiner(self) -> MaskRefiner | None:
        return None if self.make_refiner is None else self.make_refiner()

    @cached_property
    def _by_name(self) -> dict[str, Run]:
        return {run.stem: run for run in self.experiment.runs}
