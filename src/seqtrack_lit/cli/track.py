"""seqtrack-track: follow a target in a video of your own.

    seqtrack-track source=clip.mp4 box=[120,80,64,48]                      with the small tracker that comes with it
    seqtrack-track source=clip.mp4 box=[120,80,64,48] checkpoint=runs/quickstart/checkpoints/best.ckpt
    seqtrack-track source=FOLDER_OF_IMAGES boxes=[[10,20,30,40],[90,60,25,25]] baseline=csrt
    seqtrack-track source=clip.mp4 box=[120,80,64,48] start=500 end=900 stride=2 preview=true
    seqtrack-track source=clip.mp4 corrections=clip.csv export=[mot,coco,cvat,yolo]
    seqtrack-track source=clip.mp4 ui=true        a page on this machine: draw boxes, track, correct, export
    seqtrack-track source=clip.mp4 select=true    the same to draw the first boxes only
    seqtrack-track source=0 box=[300,200,80,80] checkpoint=FILE frames=500
    seqtrack-track source=rtsp://CAMERA/1 box=[300,200,80,80] checkpoint=FILE frames=500
    seqtrack-track source=clip.mp4 box=[120,80,64,48] masks=alpha_refine mask_checkpoint=FILE

Boxes are x,y of the top-left corner, width and height in pixels of the first frame. Written to <out>: a video with
the boxes (<source>_tracked.mp4), every box with its confidence (.csv) and the same with the settings (.json). The
confidence of a checkpoint with a calibration (small) is the probability that the box is right; a target that is lost is
marked, and looked for in the whole frame (long_term=false: neither). Of others it is the mean probability of the four
tokens after the window: the lower, the likelier is the target lost.
corrections=FILE holds boxes that stay as they are, lines frame,target,x,y,w,h (both from 0), or a file of MOT (.txt),
COCO-video (.json), CVAT (.xml) or YOLO (a folder); what lies between two of them is tracked from both sides, and all
tracks are smoothed. export= writes such files. With masks=rectangle|alpha_refine|sam2 the video shows masks, too, and
<source>_tracked_masks/ holds an indexed PNG a frame, <source>_tracked_masks.json COCO's results with run lengths.
"""

import atexit
import os
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from seqtrack_lit.checks import LONGEST_NAME, number, printable, whole
from seqtrack_lit.cli.checkpoints import BASELINES, named_checkpoint
from seqtrack_lit.cli.hydra.runtime import existing, inference_of, run
from seqtrack_lit.cli.track_run import track
from seqtrack_lit.files import there
from seqtrack_lit.masks import check_masks

if TYPE_CHECKING:
    from seqtrack_lit.crops import Image
    from seqtrack_lit.data.sets.exchange import TargetBoxes
    from seqtrack_lit.tracking.output import TrackFiles
    from seqtrack_lit.tracking.source import Source

FRAME_FOLDERS = ("img", "imgs", "frames", "images", "jpg", "jpeg", "png", "color", "rgb")


def body(config: DictConfig) -> None:
    """Track and write."""
    boxes = boxes_of(config)
    if config.checkpoint is None and config.baseline is None:
        config.checkpoint = "small"
    inference_of(config)
    _check(config)
    import cv2

    cv2.setNumThreads(0)
    source = _opened(config)
    _tell(source)
    try:
        first = next(source.frames)
    except StopIteration:
        raise ValueError(f"source={config.source} gave no frame") from None
    base = Path(config.out).expanduser() / f"{name_of(config.source, source.name)}_tracked"
    _require_unclaimed(base, config.source)
    targets = targets_of(config, boxes, source, first)
    where = where_of(config.source)
    if config.ui:
        _serve(config, source, base, targets, where)
        return
    if config.select:
        targets = _selected(source, first, base)
    if not targets:
        raise ValueError(_ask_for_box(first, base))
    source.frames = chain([first], source.frames)
    try:
        files = track(config, source, _labelled(config, targets), base, where)
    finally:
        _tell(source)
    print(printable(files.summary()), flush=True)


def _serve(config: DictConfig, source: "Source", base: Path, targets: "list[TargetBoxes]", where: str) -> None:
    """The page on this machine, until Ctrl-C."""
    from seqtrack_lit.cli.track_page import Page

    if source.again is None:
        raise ValueError("ui=true needs a file or a folder; frames of a camera or a stream come once: record it first")
    targets = _with_kept(config, source, base, targets)

    def again(given: "list[TargetBoxes]", watch: "Callable[[TrackFiles], None]") -> "TrackFiles":
        return track(config, _opened(config), _labelled(config, given), base, where, watch)

    page = Page(source, base, targets, again)
    print(f"Open {page.address} in a browser on this machine; Ctrl-C ends it", flush=True)
    page.serve()


def _with_kept(config: DictConfig, source: "Source", base: Path, targets: "list[TargetBoxes]") -> "list[TargetBoxes]":
    """The targets that are given; where none are, the boxes that were drawn on the page before.

    Raises:
        ValueError: there are both, so that drawing would write over the kept ones; or those are of other frames.
    """
    from seqtrack_lit.data.sets.exchange import Clip, read_boxes_of_targets

    kept = base.with_name(f"{base.name}_corrections.csv")
    if not kept.exists() or (config.corrections is not None and kept.samefile(Path(config.corrections).expanduser())):
        return targets
    if targets:
        raise ValueError(f"{kept} holds boxes that were drawn before; go on with corrections={kept}, or move it away")
    assert source.again is not None
    height, width = source.again[0].shape[:2]
    print(f"Note: with the boxes that were drawn before, of {printable(str(kept))}", flush=True)
    return read_boxes_of_targets(kept, Clip(source.name, width, height, source.numbers[: len(source.again)]))


def _selected(source: "Source", first: "Image", base: Path) -> "list[TargetBoxes]":
    """Targets drawn in the first frame, in the browser.

    Raises:
        ValueError: there is no display, or no browser.
    """
    from seqtrack_lit.cli.track_page import Page

    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ValueError(
            "select=true opens a browser, and there is no display here; give box=[x,y,w,h], or ui=true and open the "
            "printed address through ssh -L PORT:127.0.0.1:PORT"
        )
    page = Page(replace(source, again=source.again or [first]), base, [], None)
    if not webbrowser.open(page.address):
        raise ValueError("select=true: no browser could be opened; give box=[x,y,w,h]")
    print(f"Draw the targets in the browser ({page.address})", flush=True)
    page.serve()
    return page.targets()


def _opened(config: DictConfig) -> "Source":
    """The source, before its first frame."""
    from seqtrack_lit.tracking.source import open_source

    ends = [config.end, None if config.frames is None else config.start + config.frames * config.stride]
    end = min((end for end in ends if end is not None), default=None)
    return open_source(config.source, rate=config.rate, start=config.start, end=end, stride=config.stride)


def targets_of(config: DictConfig, boxes: list[list[float]], source: "Source", first: "Image") -> "list[TargetBoxes]":
    """The targets: of box= or boxes= in the first frame, and what corrections= says of them and of others.

    Raises:
        ValueError: a box that no tracker can start on, or corrections of frames that cannot be read again.
    """
    import numpy as np

    from seqtrack_lit.data.sets.exchange import Clip, TargetBoxes, read_boxes_of_targets
    from seqtrack_lit.tracking.tracker import check_first_box

    for place, box in enumerate(boxes, 1):
        check_first_box(box, first, f"{'boxes' if len(boxes) > 1 else 'box'} {place}", corners=True)
    start = source.numbers[0]
    given = [TargetBoxes("target", np.array([start]), np.array([box], np.float64), np.ones(1)) for box in boxes]
    read: list[TargetBoxes] = []
    if config.corrections is not None:
        numbers = source.numbers if source.again is None else source.numbers[: len(source.again)]
        clip = Clip(source.name, first.shape[1], first.shape[0], numbers)
        read = read_boxes_of_targets(Path(config.corrections).expanduser(), clip, len(boxes))
        if source.again is None and any(one.frames.tolist() != [start] for one in read):
            raise ValueError("corrections= of a camera or a stream: its frames come once; record it to a file first")
    targets = [_joined(*both) for both in zip_longest(given, read)]
    several = len(targets) > 1 and len({one.label for one in targets}) == 1
    return [replace(one, label=f"{one.label} {i}" if several else one.label) for i, one in enumerate(targets)]


def _labelled(config: DictConfig, targets: "list[TargetBoxes]") -> "list[TargetBoxes]":
    """The targets with the names that labels= gives them.

    Raises:
        ValueError: names for another number of targets.
    """
    if config.labels is None:
        return targets
    labels = [str(label) for label in config.labels]
    if len(labels) != len(targets):
        raise ValueError(f"labels={labels}: {len(labels)} names for {len(targets)} targets")
    return [replace(one, label=label) for one, label in zip(targets, labels, strict=True)]


def _joined(given: "TargetBoxes | None", read: "TargetBoxes | None") -> "TargetBoxes":
    """A target of box= and corrections=; in the first frame the correction counts."""
    import numpy as np

    if given is None or read is None:
        return given or read  # type: ignore[return-value]  # one of them is there
    new = ~np.isin(given.frames, read.frames)
    frames = np.concatenate([given.frames[new], read.frames])
    return replace(
        read, frames=frames, boxes=np.concatenate([given.boxes[new], read.boxes]), confidences=np.ones(len(frames))
    )


def _tell(source: "Source") -> None:
    """Say what the source left out or changed so far."""
    while source.notes:
        print(f"Note: {printable(source.notes.pop(0))}", flush=True)


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
    kinds = [[type(value) in (int, float) for value in box] for box in boxes if isinstance(box, list)]
    if not isinstance(boxes, list) or kinds != [[True] * 4] * len(boxes):
        raise ValueError(f"{key}={plain[key]}: expected {key}={form}, four numbers in pixels for each target")
    return [[float(value) for value in box] for box in boxes]


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
    whole("", 0, start=config.start)
    whole("", 1, stride=config.stride)
    for key in ("frames", "end"):
        if config[key] is not None:
            whole("", 1, **{key: config[key]})
    if config.end is not None and config.end <= config.start:
        raise ValueError(f"end={config.end} is the frame before which to stop; it must lie behind start={config.start}")
    if config.corrections is not None:
        existing(config.corrections, "corrections")
    if config.select and (config.box or config.boxes or config.corrections or config.ui):
        raise ValueError("select=true: targets are drawn; leave out box=, boxes=, corrections= and ui=")
    if config.rate is not None:
        number("", 1e-6, 1e6, rate=config.rate)
    limit = config.lost_below
    if limit is not None and not (type(limit) in (int, float) and 0 <= limit <= 1):
        raise ValueError(f"lost_below must be a confidence from 0 to 1, got {limit!r}")
    if config.export:
        from seqtrack_lit.data.sets.exchange import EXPORTS

        listed = OmegaConf.is_list(config.export)
        if unknown := [kind for kind in config.export if kind not in EXPORTS] if listed else [config.export]:
            raise ValueError(f"export={unknown[0]}: allowed are {', '.join(EXPORTS)}, as export=[mot,cvat]")


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
    from seqtrack_lit.data.sets.exchange import EXPORTS
    from seqtrack_lit.files import read_json

    ends = (".json", ".csv", ".mp4", ".webp", "_masks", "_masks.json", *EXPORTS.values())
    files = [base.with_name(base.name + end) for end in ends]
    for path in files:
        if path.is_symlink():
            raise ValueError(f"{path} is a link, and results are not written through links; remove it")
    there = [path for path in files if path.exists()]
    if not there:
        return
    try:
        whose = str(read_json(files[0], dict[str, object], "")["source"])
    except (FileNotFoundError, KeyError, ValueError):
        whose = "something unknown"
    if where_of(whose) != where_of(source):
        raise ValueError(
            f"{there[0]} holds the result of {whose}, not of {source}; give another out=FOLDER, or move it away"
        )


def _ask_for_box(first: "Image", base: Path) -> str:
    """The first frame as a picture, to read the box from."""
    from seqtrack_lit.files import write_atomic
    from seqtrack_lit.pictures import encoded

    path = base.with_name(f"{base.name.removesuffix('_tracked')}_first.png")
    write_atomic(path, encoded(first, ".png"))
    return (
        f"where is the target? give box=[x,y,w,h] in pixels of the first frame ({first.shape[1]} x {first.shape[0]}), "
        f"which is now in {path}"
    )


def main() -> None:
    """The command. As a program of its own it ends without taking torch apart: half a second and 115 MB less."""
    run("track", body)
    if sys._getframe(1).f_globals.get("__name__") == "__main__":
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
