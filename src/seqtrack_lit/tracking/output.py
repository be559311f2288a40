"""The files of a tracked source: video, table, JSON, preview, and what other programs read.

Numbers of frames are those of the source, from 0. Everything is kept in arrays of numbers, about 50 bytes a frame and
target, so that hours of video take no more memory than minutes.
"""

import json
import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float64
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from seqtrack_lit.checks import printable
from seqtrack_lit.crops import Image
from seqtrack_lit.data.sets.exchange import Clip, TargetBoxes, export
from seqtrack_lit.files import remove_leftovers, replacing
from seqtrack_lit.masks.output import MaskWriter
from seqtrack_lit.masks.refiner import Refined
from seqtrack_lit.pictures import COLORS, draw_boxes, draw_masks
from seqtrack_lit.tracking.tracker import Estimate
from seqtrack_lit.tracking.video_io import Preview, VideoWriter

GREY = (150, 150, 150)
_HEAD = "frame,target,x,y,w,h,confidence,lost\n"
_FOUND = 1.2  # times `lost_below`: the confidence from which a lost target counts as found


class TrackFiles:
    """The files. They are complete after an error or Ctrl-C, too, with the frames tracked so far.

    Args:
        base: path of the result without its ending.
        facts: what the JSON says beside the numbers.
        labels: of the targets.
        numbers: of the frames in the source.
        rate: frames per second of the video.
        count: frames that will come; None where it is not known.
        lost_below: confidence below which a target counts as lost, until it rises by a fifth above that; None: what the
            tracker says.
        video: whether to draw a video.
        preview: whether to draw a preview.
        masks: whether masks will come.
        exports: kinds of files for other programs, keys of `exchange.EXPORTS`.
    """

    def __init__(
        self,
        base: Path,
        facts: Mapping[str, Any],
        *,
        labels: Sequence[str],
        numbers: range,
        rate: float,
        count: int | None = None,
        lost_below: float | None = None,
        video: bool = True,
        preview: bool = False,
        masks: bool = False,
        exports: Sequence[str] = (),
    ) -> None:
        self.base, self.facts, self.labels, self.numbers, self.exports = base, facts, tuple(labels), numbers, exports
        self.lost_below = lost_below
        self.frames = self.drawn = 0
        self.stop = False  # whether tracking shall end here; another thread may set it
        self.size = (0, 0)
        self._values = array("d")  # x y w h confidence lost, target by target, frame by frame
        self._seconds, self._spent = array("f"), 0.0
        base.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(base.parent)
        self._save_facts(finished=False)  # from now on the names are this source's, even if the process is killed
        self.video = VideoWriter(self._path(".mp4"), rate=rate) if video else None
        self.preview = Preview(self._path(".webp"), rate=rate) if preview else None
        self.masks = MaskWriter(base, COLORS) if masks else None
        self.table = self._path(".csv").open("w", buffering=1, encoding="utf-8")  # a kill loses no finished line
        self.table.write(_HEAD)
        columns = (MofNCompleteColumn(), TextColumn("frames {task.description}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True))
        self.task = self.bar.add_task("", total=count)

    def add(self, estimates: Sequence[Estimate | None], seconds: float = 0.0) -> None:
        """Add the numbers of a frame, one estimate a target; None: it is not tracked there."""
        numbers = [float(v) for one in estimates if one for v in (*one.box_xywh, one.confidence)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"the tracker's answer for frame {self.numbers[self.frames]} is not finite: {numbers}")
        rows = np.array([self._row(target, estimate) for target, estimate in enumerate(estimates)])
        self._values.extend(rows.ravel().tolist())
        self._seconds.append(seconds)
        self.table.write(_lines(self.numbers[self.frames], rows))
        self.frames += 1  # its numbers are kept even if it cannot be drawn
        self._spent += seconds if self.frames > 1 else 0.0
        self.bar.update(self.task, advance=1, description=f"at {self.fps:.1f} frames/s")
        self._require_going_on()

    def phase(self, description: str, total: int) -> Callable[[], None]:
        """Another round through the frames on the bar; returns what is called after each frame."""
        self.bar.reset(self.task, total=total, description=description)

        def advance() -> None:
            self.bar.advance(self.task)
            self._require_going_on()

        return advance

    def _require_going_on(self) -> None:
        if self.stop:
            raise ValueError(f"stopped; {self.frames} frames are in {self._path('.csv')}")

    def replace(self, found: Iterable[Sequence[Estimate | None]]) -> None:
        """Other numbers for the first frames: of each frame one estimate a target."""
        old, self._values = self._values, array("d")
        for estimates in found:
            rows = [self._row(target, estimate) for target, estimate in enumerate(estimates)]
            self._values.extend(np.ravel(rows).tolist())
        self._values.extend(old[len(self._values) :])

    def draw(self, image: Image, refined: Sequence[Refined] = ()) -> None:
        """Draw the next frame, whose numbers are there, into the video and the preview, and write its masks."""
        self.size = self.size if self.drawn else (image.shape[1], image.shape[0])
        rows = self.rows[self.drawn]
        number, self.drawn = self.drawn, self.drawn + 1
        if self.masks is not None:
            self.masks.write(self.numbers[number], refined, rows[:, :4].tolist(), rows[:, 4].tolist())
        if self.video is None and self.preview is None:
            return
        lost = rows[:, 5] > 0
        colors = tuple(GREY if gone else COLORS[target % len(COLORS)] for target, gone in enumerate(lost))
        labels = [("lost " if gone else "") + f"{row[4]:.2f}" for gone, row in zip(lost, rows, strict=True)]
        if refined:
            image = draw_masks(image, [mask for mask, _ in refined], colors)
        drawn = draw_boxes(image, [row[:4] for row in rows], colors=colors, labels=labels)
        for writer in (self.video, self.preview):
            if writer is not None:
                writer.write(drawn)

    @property
    def rows(self) -> Float64[np.ndarray, "frames targets 6"]:
        """x, y, w, h in pixels, confidence and whether it is lost (0, 1); NaN where a target is not tracked."""
        values = np.frombuffer(self._values[:])  # a copy: what is exported cannot grow, and another thread may look on
        return values.reshape(-1, max(1, len(self.labels)), 6)[: self.frames]

    @property
    def fps(self) -> float:
        """Frames per second of the tracking itself, and of the masks where there are any."""
        return (self.frames - 1) / self._spent if self._spent > 0 else 0.0

    def __enter__(self) -> "TrackFiles":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
        failure: OSError | None = None
        for part in (self.video, self.table, self.masks, self.preview):  # the unfinished video makes room first
            try:
                if part is not None:
                    part.close()
            except OSError as caught:
                failure = failure or caught
        rows = self.rows
        with replacing(self._path(".csv")) as path, path.open("w", encoding="utf-8") as table:  # without half a frame
            table.write(_HEAD)
            table.writelines(_lines(self.numbers[place], frame) for place, frame in enumerate(rows))
        self._save_facts(finished=not (error or failure))
        if self.frames and self.drawn:
            targets = [self.boxes_of(target, rows) for target in range(len(self.labels))]
            name = self.base.name.removesuffix("_tracked")
            for one in self.exports:
                export(one, self.base, targets, Clip(name, *self.size, self.numbers[: self.frames]))
        if error is not None or failure is not None:
            print(printable(f"Stopped after {self.frames} frames, which are in {self._path('.csv')}"), flush=True)
        if error is None and failure is not None:
            raise failure

    def boxes_of(self, target: int, rows: Float64[np.ndarray, "frames targets 6"]) -> TargetBoxes:
        """A target's boxes where it is not lost."""
        here = np.flatnonzero(rows[:, target, 5] == 0)
        of = rows[here, target]
        return TargetBoxes(self.labels[target], np.array(self.numbers[: self.frames])[here], of[:, :4], of[:, 4])

    def summary(self) -> str:
        """What was written, in one line."""
        kinds = [".mp4"] * (self.video is not None) + [".webp"] * (self.preview is not None) + [".csv"]
        masks = "; masks are in _masks/ and _masks.json" if self.masks is not None else ""
        frames = "1 frame" if self.frames == 1 else f"{self.frames} frames at {self.fps:.1f} frames/s"
        return f"{frames}; look at {self.base}{', '.join(kinds)} and .json{masks}"

    def _row(self, target: int, estimate: Estimate | None) -> list[float]:
        """The numbers of a target, as they are written; NaN where it is not tracked, which counts as lost."""
        if estimate is None:
            return [math.nan] * 4 + [0.0, 1.0]
        confidence = float(f"{estimate.confidence:.6g}")
        lost = estimate.lost
        if self.lost_below is not None:
            width = 6 * len(self.labels)
            was = len(self._values) >= width and self._values[len(self._values) - width + 6 * target + 5] > 0
            lost = confidence < min(1.0, self.lost_below * (_FOUND if was else 1))
        return [*(round(float(v), 4) for v in estimate.box_xywh), confidence, float(lost)]

    def _save_facts(self, *, finished: bool) -> None:
        parts = json.JSONEncoder(indent=1, allow_nan=False).iterencode(self._facts(finished=finished))
        with replacing(self._path(".json")) as path, path.open("w", encoding="utf-8") as file:
            file.writelines(parts)  # hours of numbers as one text would take memory that hours of tracking do not
            file.write("\n")

    def _path(self, suffix: str) -> Path:
        return self.base.with_name(self.base.name + suffix)

    def _facts(self, *, finished: bool) -> dict[str, Any]:
        rows, times = self.rows, np.array(self._seconds[1:]) * 1000
        found = np.isfinite(rows).all(2)
        return {
            **self.facts,
            "size": list(self.size),
            "frames": self.frames,
            "finished": finished,
            "fps": round(self.fps, 1),
            "frame_ms": {f"p{part}": round(float(np.percentile(times, part)), 2) for part in (50, 99) if len(times)},
            "targets": [
                {
                    "label": label,
                    "boxes": [row if good else None for row, good in zip(of[:, :4].tolist(), here, strict=True)],
                    "confidences": of[:, 4].tolist(),
                    "lost": [self.numbers[int(place)] for place in np.flatnonzero(of[:, 5])],
                }
                for label, of, here in zip(self.labels, rows.swapaxes(0, 1), found.T, strict=False)
            ],
        }


def _lines(frame: int, rows: Float64[np.ndarray, "targets 6"]) -> str:
    """A frame in the table, a line a target; none where it is not tracked."""
    return "".join(
        f"{frame},{target},{','.join(map(str, row[:4].tolist()))},{row[4]:.6g},{int(row[5])}\n"
        for target, row in enumerate(rows)
        if math.isfinite(row[0])
    )
