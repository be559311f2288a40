"""seqtrack-track: follow a target in a video of your own.

    seqtrack-track source=clip.mp4 box=[120,80,64,48]                      with the small tracker that comes with it
    seqtrack-track source=clip.mp4 box=[120,80,64,48] checkpoint=runs/quickstart/checkpoints/best.ckpt
    seqtrack-track source=FOLDER_OF_IMAGES boxes=[[10,20,30,40],[90,60,25,25]] baseline=csrt
    seqtrack-track source=0 box=[300,200,80,80] checkpoint=FILE frames=500
    seqtrack-track source=rtsp://CAMERA/1 box=[300,200,80,80] checkpoint=FILE frames=500
    seqtrack-track source=clip.mp4 box=[120,80,64,48] masks=alpha_refine mask_checkpoint=FILE

Boxes are x,y of the top-left corner, width and height in pixels of the first frame. Written to <out>: a video with
the boxes (<source>_tracked.mp4), every box with its confidence (.csv) and the same with the settings (.json). A low
confidence, the mean probability of the four tokens after the window, says that the target is probably lost. With
masks=rectangle|alpha_refine|sam2 the video shows masks, too, and <source>_tracked_masks/ holds an indexed PNG a frame,
<source>_tracked_masks.json COCO's results with run lengths.
"""

import copy
import json
import math
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.checks import LONGEST_NAME, number, printable, whole
from seqtrack_lit.cli.checkpoints import BASELINES, devices_of, load_on, named_checkpoint, tracker_options
from seqtrack_lit.cli.hydra.runtime import existing, inference_of, run
from seqtrack_lit.files import there
from seqtrack_lit.masks import check_masks, make_refiner

if TYPE_CHECKING:
    from seqtrack_lit.crops import Image
    from seqtrack_lit.masks.refiner import MaskRefiner, Refined
    from seqtrack_lit.tracking.source import Source
    from seqtrack_lit.tracking.tracker import Estimate, Tracker

GREY = (150, 150, 150)
FRAME_FOLDERS = ("img", "imgs", "frames", "images", "jpg", "jpeg", "png", "color", "rgb")


def body(config: DictConfig) -> None:
    """Track and write."""
    boxes = boxes_of(config)
    if config.checkpoint is None and config.baseline is None:
        config.checkpoint = "small"
    inference_of(config)
    _check(config)
    import cv2
    import numpy as np

    from seqtrack_lit.tracking.source import open_source
    from seqtrack_lit.tracking.tracker import Estimate, check_first_box

    cv2.setNumThreads(0)
    source = open_source(config.source, rate=config.rate)
    _tell(source)
    try:
        first = next(source.frames)
    except StopIteration:
        raise ValueError(f"source={config.source} gave no frame") from None
    base = Path(config.out).expanduser() / f"{name_of(config.source, source.name)}_tracked"
    _require_unclaimed(base, config.source)
    if not boxes:
        raise ValueError(_ask_for_box(first, base))
    starts = [np.array(box, np.float64) for box in boxes]
    for place, start in enumerate(starts, 1):
        check_first_box(start, first, f"{'boxes' if len(starts) > 1 else 'box'} {place}", corners=True)
    trackers, refiners = _trackers(config, len(starts)), _refiners(config, len(starts))
    count = min((n for n in (source.count, config.frames) if n is not None), default=None)
    try:
        with Output(base, config, source.rate, count, getattr(trackers[0], "settings", {})) as output:
            for tracker, start in zip(trackers, starts, strict=True):
                tracker.init(first, start)
            for refiner, start in zip(refiners, starts, strict=bool(refiners)):
                refiner.init(first, start)
            estimates = [Estimate(start) for start in starts]
            output.write(first, estimates, _refined(refiners, first, estimates), 0.0)
            while (count is None or output.frames < count) and (image := next(source.frames, None)) is not None:
                begun = perf_counter()
                estimates = [tracker.update(image) for tracker in trackers]
                refined = _refined(refiners, image, estimates)
                output.write(image, estimates, refined, perf_counter() - begun)
    finally:
        _tell(source)
    print(printable(output.summary()), flush=True)


def _tell(source: "Source") -> None:
    """Say what the source left out or changed so far."""
    while source.notes:
        print(f"Note: {printable(source.notes.pop(0))}", flush=True)


class Output:
    """The files. They are complete after an error or Ctrl-C, too, with the frames tracked so far."""

    def __init__(
        self, base: Path, config: DictConfig, rate: float, count: int | None, settings: dict[str, object]
    ) -> None:
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from seqtrack_lit.files import remove_leftovers
        from seqtrack_lit.masks.output import MaskWriter
        from seqtrack_lit.pictures import COLORS
        from seqtrack_lit.tracking.video_io import VideoWriter

        self.base, self.config, self.settings = base, config, settings
        self.frames, self.seconds = 0, 0.0
        self.boxes: list[list[list[float]]] = []  # frame, target
        self.confidences: list[list[float]] = []
        self.size = (0, 0)
        self.video = VideoWriter(self._path(".mp4"), rate=rate) if config.video else None
        self.rate = rate
        base.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(base.parent)
        self._save_facts(finished=False)  # from now on the names are this source's, even if the process is killed
        self.masks = MaskWriter(base, COLORS) if config.masks is not None else None
        self.lines: list[str] = []
        self.table = self._path(".csv").open("w", buffering=1, encoding="utf-8")  # a kill loses no finished line
        self._line("frame,target,x,y,w,h,confidence,lost")
        columns = (MofNCompleteColumn(), TextColumn("frames, {task.fields[fps]}"), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True))
        self.task = self.bar.add_task("", total=count, fps="")

    def write(self, image: "Image", estimates: "list[Estimate]", refined: "list[Refined]", seconds: float) -> None:
        """Add a frame with one estimate a target, and one mask a target where there are masks."""
        from seqtrack_lit.pictures import COLORS, draw_boxes, draw_masks

        numbers = [float(v) for estimate in estimates for v in (*estimate.box_xywh, estimate.confidence)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"the tracker's answer for frame {self.frames} is not finite: {numbers}")
        limit = self.config.lost_below
        lost = [one.lost if limit is None else one.confidence < limit for one in estimates]
        boxes = [[round(float(v), 4) for v in estimate.box_xywh] for estimate in estimates]
        for target, (box, estimate) in enumerate(zip(boxes, estimates, strict=True)):
            values = [self.frames, target, *box, f"{estimate.confidence:.6g}", int(lost[target])]
            self._line(",".join(map(str, values)))
        self.boxes.append(boxes)
        self.confidences.append([float(f"{estimate.confidence:.6g}") for estimate in estimates])
        self.size = self.size if self.frames else (image.shape[1], image.shape[0])
        self.frames += 1  # its numbers are kept even if it cannot be drawn
        if self.masks is not None:
            self.masks.write(self.frames - 1, refined, boxes, self.confidences[-1])
        if self.video is not None:
            colors = tuple(GREY if gone else COLORS[target % len(COLORS)] for target, gone in enumerate(lost))
            labels = [
                ("lost " if gone else "") + f"{estimate.confidence:.2f}"
                for gone, estimate in zip(lost, estimates, strict=True)
            ]
            if refined:
                image = draw_masks(image, [mask for mask, _ in refined], colors)
            drawn = draw_boxes(image, [estimate.box_xywh for estimate in estimates], colors=colors, labels=labels)
            self.video.write(drawn)
        self.seconds += seconds
        self.bar.update(self.task, advance=1, fps=f"{self.fps:.1f} frames/s")

    @property
    def fps(self) -> float:
        """Frames per second of the tracking itself, and of the masks where there are any."""
        return (self.frames - 1) / self.seconds if self.seconds > 0 else 0.0

    def __enter__(self) -> "Output":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from seqtrack_lit.files import write_atomic

        self.bar.stop()
        failure: OSError | None = None
        for part in (self.video, self.table, self.masks):  # on a full disk the unfinished video makes room first
            try:
                if part is not None:
                    part.close()
            except OSError as caught:
                failure = failure or caught
        targets = len(self.boxes[0]) if self.boxes else 0
        write_atomic(self._path(".csv"), "".join(self.lines[: 1 + targets * self.frames]))  # without half a frame
        self._save_facts(finished=not (error or failure))
        if error is not None or failure is not None:
            print(printable(f"Stopped after {self.frames} frames, which are in {self._path('.csv')}"), flush=True)
        if error is None and failure is not None:
            raise failure

    def summary(self) -> str:
        """What was written, in one line."""
        kinds = ".mp4, .csv and .json" if self.video is not None else ".csv and .json"
        masks = "; masks are in _masks/ and _masks.json" if self.masks is not None else ""
        return f"{self.frames} frames at {self.fps:.1f} frames/s; look at {self.base}{kinds}{masks}"

    def _save_facts(self, *, finished: bool) -> None:
        from seqtrack_lit.files import write_atomic

        write_atomic(self._path(".json"), json.dumps(self._facts(finished=finished), indent=1, allow_nan=False) + "\n")

    def _line(self, text: str) -> None:
        self.lines.append(text + "\n")
        self.table.write(text + "\n")

    def _path(self, suffix: str) -> Path:
        return self.base.with_name(self.base.name + suffix)

    def _facts(self, *, finished: bool) -> dict[str, Any]:
        keys = ("checkpoint", "official_config", "baseline", "lost_below", "masks", "mask_checkpoint")
        targets = range(len(self.boxes[0]) if self.boxes else 0)
        return {
            "source": where_of(self.config.source),
            **{key: self.config[key] for key in keys},
            "tracker": self.settings,
            "size": list(self.size),
            "rate": self.rate,
            "frames": self.frames,
            "finished": finished,
            "fps": round(self.fps, 1),
            "targets": [
                {
                    "boxes": [frame[target] for frame in self.boxes[: self.frames]],
                    "confidences": [frame[target] for frame in self.confidences[: self.frames]],
                }
                for target in targets
            ],
        }


def boxes_of(config: DictConfig) -> list[list[float]]:
    """The targets' boxes xywh; none where none is given.

    Raises:
        ValueError: both box and boxes, or not four numbers each.
    """
    plain: Any = OmegaConf.to_container(config, resolve=True)
    if plain["box"] is not None and plain["boxes"] is not None:
        raise ValueError("give box=[x,y,w,h] or boxes=[[x,y,w,h],...], not both")
    key, form = ("box", "[x,y,w,h]") if plain["boxes"] is None else ("boxes", "[[x,y,w,h],[x,y,w,h]]")
    boxes = plain["boxes"] if key == "boxes" else [] if plain["box"] is None else [plain["box"]]
    if not isinstance(boxes, list) or not all(_four_numbers(box) for box in boxes):
        raise ValueError(f"{key}={plain[key]}: expected {key}={form}, four numbers in pixels for each target")
    return [[float(value) for value in box] for box in boxes]


def _four_numbers(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)


def _check(config: DictConfig) -> None:
    """What can be refused before torch is imported."""
    source = str(config.source)
    if there(Path(source)) or not (source.isdecimal() or "://" in source):  # a folder called 1234 before camera 1234
        existing(source, "source")
    if config.checkpoint is not None and config.baseline is not None:
        raise ValueError(f"give checkpoint=FILE or baseline={'|'.join(BASELINES)}, not both")
    if config.baseline is not None and config.baseline not in BASELINES:
        raise ValueError(f"baseline={config.baseline}: no such baseline; allowed: {', '.join(BASELINES)}")
    if config.checkpoint is not None:
        named_checkpoint(config.checkpoint)
    if config.official_config is not None:
        existing(config.official_config, "official_config")
    masks, weights = (None if config[key] is None else str(config[key]) for key in ("masks", "mask_checkpoint"))
    check_masks(masks, weights)
    if config.frames is not None:
        whole("", 1, frames=config.frames)
    if config.rate is not None:
        number("", 1e-6, 1e6, rate=config.rate)
    limit = config.lost_below
    if limit is not None and not (type(limit) in (int, float) and 0 <= limit <= 1):
        raise ValueError(f"lost_below must be a confidence from 0 to 1, got {limit!r}")


def name_of(source: object, name: str) -> str:
    """What the result of a source is called: a folder of frames by its parent where it has a name that many have."""
    path = Path(str(source).removeprefix("file://")).expanduser()
    if path.is_dir():
        own = path.resolve()
        name = own.parent.name if own.name.lower() in FRAME_FOLDERS and own.parent.name else own.name
    plain = "".join(c if c.isprintable() else "_" for c in name)
    return plain.encode("utf-8", "replace")[:LONGEST_NAME].decode("utf-8", "ignore")


def where_of(source: object) -> str:
    """The source in a form that is the same wherever the command is given: an absolute path, or an address."""
    from seqtrack_lit.tracking.source import without_password

    path = Path(str(source).removeprefix("file://")).expanduser()
    return str(path.resolve()) if there(path) else without_password(source)


def _require_unclaimed(base: Path, source: object) -> None:
    """Refuse to write over what another source gave, or through a link.

    Raises:
        ValueError: names both, or the link.
    """
    from seqtrack_lit.files import read_json

    facts = base.with_name(f"{base.name}.json")
    files = (facts, *(base.with_name(base.name + end) for end in (".csv", ".mp4", "_masks", "_masks.json")))
    for path in files:
        if path.is_symlink():
            raise ValueError(f"{path} is a link, and results are not written through links; remove it")
    there = [path for path in files if path.exists()]
    if not there:
        return
    try:
        whose = str(read_json(facts, dict[str, object], "")["source"])
    except (FileNotFoundError, KeyError, ValueError):
        whose = "something unknown"
    if where_of(whose) != where_of(source):
        raise ValueError(
            f"{there[0]} holds the result of {whose}, not of {source}; give another out=FOLDER, or move it away"
        )


def _trackers(config: DictConfig, count: int) -> "list[Tracker]":
    """One tracker a target; they share the network."""
    from seqtrack_lit.tracking.baselines import make_baseline

    if config.baseline is not None:
        return [make_baseline(config.baseline, files=config.baseline_files) for _ in range(count)]
    tracker = load_on(str(named_checkpoint(config.checkpoint)), tracker_options(config), devices_of(config.device)[0])
    return [tracker, *(copy.copy(tracker) for _ in range(count - 1))]


def _refiners(config: DictConfig, count: int) -> "list[MaskRefiner]":
    """One refiner a target where masks are asked for; they share the network."""
    if config.masks is None:
        return []
    from seqtrack_lit.masks.output import MOST_TARGETS

    if count > MOST_TARGETS:
        raise ValueError(f"boxes: {count} targets, the pictures of masks hold at most {MOST_TARGETS}; leave masks out")
    refiner = make_refiner(config.masks, config.mask_checkpoint, device=devices_of(config.device)[0])
    return [refiner, *(copy.copy(refiner) for _ in range(count - 1))]


def _refined(refiners: "list[MaskRefiner]", image: "Image", estimates: "list[Estimate]") -> "list[Refined]":
    return [refiner.refine(image, estimate.box_xywh) for refiner, estimate in zip(refiners, estimates, strict=False)]


def _ask_for_box(first: "Image", base: Path) -> str:
    """The first frame as a picture, to read the box from."""
    import cv2

    from seqtrack_lit.files import write_atomic

    path = base.with_name(f"{base.name.removesuffix('_tracked')}_first.png")
    write_atomic(path, cv2.imencode(".png", first[..., ::-1])[1].tobytes())
    return (
        f"where is the target? give box=[x,y,w,h] in pixels of the first frame ({first.shape[1]} x {first.shape[0]}), "
        f"which is now in {path}"
    )


def main() -> None:
    """Entry point."""
    run("track", body)


if __name__ == "__main__":
    main()
