"""A source tracked and written: once through its frames, or forwards and backwards where there are corrections."""

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from seqtrack_lit.cli.checkpoints import devices_of, load_on, named_checkpoint, tracker_options
from seqtrack_lit.masks import make_refiner

if TYPE_CHECKING:
    from seqtrack_lit.crops import Image
    from seqtrack_lit.data.sets.exchange import TargetBoxes
    from seqtrack_lit.masks.refiner import MaskRefiner, Refined
    from seqtrack_lit.tracking.output import TrackFiles
    from seqtrack_lit.tracking.source import Source
    from seqtrack_lit.tracking.tracker import Estimate, Tracker


def track(
    config: DictConfig,
    source: "Source",
    targets: "list[TargetBoxes]",
    base: Path,
    where: str,
    watch: "Callable[[TrackFiles], None]" = lambda files: None,
) -> "TrackFiles":
    """Track the targets of a source and write the files; returns them, closed.

    Args:
        config: of seqtrack-track.
        source: its frames, none read yet.
        targets: their boxes by hand; the first one must be of the first frame where frames come once.
        base: path of the result without its ending.
        where: the source as it is kept.
        watch: called with the files when they are opened.
    """
    from seqtrack_lit.tracking.output import TrackFiles

    trackers, refiners = _trackers(config, len(targets)), _refiners(config, len(targets))
    keys = (
        "checkpoint", "official_config", "baseline", "lost_below", "masks", "mask_checkpoint", "baseline_files",
        "start", "stride",
    )  # fmt: skip
    facts: dict[str, Any] = {"source": where, **{key: config[key] for key in keys}, "rate": source.rate}
    facts["tracker"] = getattr(trackers[0], "settings", {})
    corrections: list[Mapping[int, Any]] = [
        {source.numbers.index(frame): box for frame, box in zip(one.frames.tolist(), one.boxes, strict=True)}
        for one in targets
    ]
    facts["corrections"] = [one.frames.tolist() for one in targets]
    with TrackFiles(
        base,
        facts,
        labels=[one.label for one in targets],
        numbers=source.numbers,
        rate=source.rate,
        count=source.count,
        lost_below=config.lost_below,
        video=config.video,
        preview=config.preview,
        masks=config.masks is not None,
        exports=list(config.export),
    ) as files:
        watch(files)
        if all(list(given) == [0] for given in corrections):
            _once(files, source, trackers, refiners, corrections)
        else:
            _both_ways(files, source, trackers, refiners, corrections)
    return files


def _once(files: "TrackFiles", source: "Source", trackers: Any, refiners: Any, corrections: Any) -> None:
    from seqtrack_lit.tracking.corrected import follow

    for step in follow(trackers, enumerate(source.frames), corrections):
        begun = perf_counter()
        refined = _refined(refiners, step.image, step.found, first=step.place == 0)
        files.add(step.found, step.seconds + perf_counter() - begun)
        files.draw(step.image, refined)


def _both_ways(files: "TrackFiles", source: "Source", trackers: Any, refiners: Any, corrections: Any) -> None:
    """Forwards, backwards and once more to draw: of hours of video no pictures are kept.

    What was found forwards is in the table before the way back begins.
    """
    from seqtrack_lit.tracking.corrected import Pass, follow, track_backwards

    assert source.again is not None
    count = len(source.again)
    forward = Pass(len(trackers), count)
    for step in follow(trackers, enumerate(source.frames), corrections):
        files.add(step.found, step.seconds)
        forward.add(step)
    progress = files.phase("backwards", max(map(max, corrections)) + 1)
    merged = track_backwards(trackers, source.again, corrections, forward, progress)
    files.replace(merged.estimates(place) for place in range(count))
    progress = files.phase("drawn", count)
    for place in range(count):
        image = source.again[place]
        files.draw(image, _refined(refiners, image, merged.estimates(place), first=place == 0))
        progress()


def _trackers(config: DictConfig, count: int) -> "list[Tracker]":
    """One tracker a target; they share the network."""
    from seqtrack_lit.process import return_freed_memory
    from seqtrack_lit.tracking.baselines import make_baseline
    from seqtrack_lit.tracking.long_term import for_long

    if config.baseline is not None:
        return [make_baseline(config.baseline, files=config.baseline_files) for _ in range(count)]
    checkpoint = named_checkpoint(config.checkpoint)
    options = {"quick": True, **tracker_options(config)}
    plain = load_on(str(checkpoint), options, devices_of(config.device)[0])
    plain.release()
    return_freed_memory()
    tracker = for_long(plain, checkpoint, config.long_term)
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


def _refined(
    refiners: "list[MaskRefiner]", image: "Image", found: "list[Estimate | None]", *, first: bool
) -> "list[Refined]":
    masks = []
    for refiner, estimate in zip(refiners, found, strict=False):  # no refiners: no masks
        assert estimate is not None  # merged tracks have a box in every frame
        if first:
            refiner.init(image, estimate.box_xywh)
        masks.append(refiner.refine(image, estimate.box_xywh))
    return masks
