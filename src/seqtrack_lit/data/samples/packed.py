"""Packs in place of the data sets of a training mix."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from seqtrack_lit.data.samples.augment import CropSettings, JitterSchedule
from seqtrack_lit.data.video.packed import Geometry, PackedVideos, open_pack

_PLACES = ("root", "cache", "complete", "problems")  # arguments of readers that do not say what is read


def geometry(crops: CropSettings, jitter: JitterSchedule) -> Geometry:
    """The crops of a training."""
    begin, end = jitter.at(0.0), jitter.at(1.0)
    return Geometry(
        search_size=crops.search_size,
        search_factor=float(crops.search_factor),
        template_size=crops.template_size,
        template_factor=float(crops.template_factor),
        jitter_center=float(max(begin.center, end.center)),
        jitter_size=float(max(begin.size, end.size)),
    )


def reader_of(opener: Callable[..., Any]) -> dict[str, Any]:
    """What a call reads, wherever it lies: the function's name and its arguments."""
    function, given = getattr(opener, "func", opener), getattr(opener, "keywords", {})
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    arguments = {**defaults, **given}
    plain = {name: _plain(value) for name, value in arguments.items() if name not in _PLACES}
    return {"function": function.__name__, **plain}


def _plain(value: Any) -> Any:
    """Lists for sequences of any kind."""
    return value if value is None or isinstance(value, str | int | float) else list(value)


def packed(name: str, opener: Callable[..., Any], packs: str, wanted: Geometry) -> Callable[[], Any]:
    """What opens the pack of a data set in its place.

    Args:
        name: of the set in the mix, and of its pack.
        opener: opens the set; a call around another one (`part_by_name`) keeps its part.
        packs: the folder of all packs, or its address.
        wanted: the crops of the training.
    """
    inner = getattr(opener, "keywords", {}).get("open")
    if inner is not None:
        return partial(opener, open=packed(name, inner, packs, wanted))
    cache = getattr(opener, "keywords", {}).get("cache") or Path("~/.cache/seqtrack_lit")

    def open_checked() -> PackedVideos:
        videos = open_pack(f"{packs.rstrip('/')}/{name}", cache=cache)
        check_reader(videos, reader_of(opener))
        check_geometry(videos, wanted)
        return videos

    return open_checked


def check_reader(videos: PackedVideos, asked: Mapping[str, Any]) -> None:
    """That the pack holds what the mix asks for.

    Raises:
        ValueError: names what differs.
    """
    assert videos.pieces is not None
    there, place = videos.pieces.facts["reader"], videos.pieces.place
    for key in sorted(there.keys() | asked.keys()):
        if there.get(key) != asked.get(key):
            raise ValueError(
                f"the pack {place} was made with {key}={there.get(key)}, the training asks for {asked.get(key)}: take "
                'the same, or pack it anew with "train=[data.train.NAME.open.KEY=VALUE]"'
            )


def check_geometry(videos: PackedVideos, wanted: Geometry) -> None:
    """That no crop of the training is wider or sharper than what the pack was made for.

    Raises:
        ValueError: names what differs.
    """
    assert videos.pieces is not None
    kept, place = videos.pieces.facts["geometry"], videos.pieces.place
    if kept is None:  # whole frames
        return
    there, asked = _reach(kept), _reach(wanted)
    for key, value in asked.items():
        if value > there[key] * 1.001:
            raise ValueError(
                f"the pack {place} was made for crops with {key} up to {there[key]:g}, the training asks for "
                f'{value:g}: pack it for this model, as in seqtrack-data pack=NAME "train=[model=seqtrack_b384]"'
            )


def _reach(geometry: Geometry) -> dict[str, float]:
    """Resolution of crops in pixels for each pixel of sqrt(w * h), and how far around the target they reach."""
    return {
        "search_size / search_factor": geometry["search_size"] / geometry["search_factor"],
        "template_size / template_factor": geometry["template_size"] / geometry["template_factor"],
        "search_factor": geometry["search_factor"],
        "template_factor": geometry["template_factor"],
        "jitter.center": geometry["jitter_center"],
        "jitter.size": geometry["jitter_size"],
    }
