"""A tracker as a program of the VOT toolkit: requests and answers over TraX 4 (standard input and output, or a socket).

Needs vot-trax. Protocol: Cehovin, TraX: The visual Tracking eXchange Protocol and Library, Neurocomputing 2017.
"""

import os
import sys
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64

from seqtrack_lit.crops import Image
from seqtrack_lit.data.video.frames import read_image
from seqtrack_lit.data.video.regions import Mask, Rectangle, box_of, trim, whole_mask
from seqtrack_lit.masks.refiner import MaskRefiner
from seqtrack_lit.tracking.tracker import Tracker

Report = Literal["box", "mask"]


def import_trax() -> ModuleType:
    """The package of vot-trax.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import trax
    except ImportError:
        raise ValueError("the VOT toolkit needs TraX here: pip install vot-trax==4.0.2") from None
    return trax  # type: ignore[no-any-return]


def box_mask(image: Image, box_xywh: Float64[np.ndarray, "4"]) -> Bool[np.ndarray, "H W"]:
    """The pixels of a box, as the toolkit rasterises it: rounded, x to x + w - 1."""
    x, y, w, h = (int(value) for value in np.round(box_xywh.astype(np.float32)))
    height, width = image.shape[:2]
    return whole_mask(Mask(np.ones((max(h, 0), max(w, 0)), np.bool_), x, y), width, height)


def serve(tracker: Tracker, report: Report = "box", refiner: MaskRefiner | None = None) -> None:
    """Answer the requests of the toolkit until it ends the session.

    Args:
        tracker: started anew at every initialisation.
        report: box: the toolkit gives and gets rectangles; mask: masks.
        refiner: makes the masks; None: the pixels of the box.

    Raises:
        ValueError: vot-trax is missing, or a frame cannot be read; the toolkit is told why.
    """
    trax = import_trax()
    sys.stdout = sys.stderr  # standard output belongs to the protocol
    formats = [trax.Region.MASK if report == "mask" else trax.Region.RECTANGLE]
    server = trax.Server(formats, [trax.Image.PATH], ["color"], tracker_name=tracker.name)
    try:
        while True:
            request = server.wait()
            if request.type not in (trax.TraxStatus.INITIALIZE, trax.TraxStatus.FRAME):
                break
            image = read_image(os.fsdecode(request.image["color"].path()))
            if request.type == trax.TraxStatus.INITIALIZE:
                region = request.objects[0][0]
                box = _first_box(region, report)
                tracker.init(image, box)
                if refiner is not None:
                    refiner.init(image, box)
                server.status([(region, {})])
            else:
                estimate = tracker.update(image)
                region = _region(trax, estimate.box_xywh, image, report, refiner)
                server.status([(region, {"confidence": f"{estimate.confidence:.6g}"})])
    except Exception as error:
        server.quit(" ".join(str(error).split())[:200])
        raise
    server.quit()


def _first_box(region: Any, report: Report) -> Float64[np.ndarray, "4"]:
    if report == "mask":
        return box_of(Mask(np.asarray(region.array(), np.bool_), *region.offset()))
    return box_of(Rectangle(*region.bounds()))


def _region(
    trax: ModuleType, box: Float64[np.ndarray, "4"], image: Image, report: Report, refiner: MaskRefiner | None
) -> Any:
    if report == "box":
        return trax.Rectangle.create(*(float(value) for value in box))
    patch = trim(box_mask(image, box) if refiner is None else refiner.refine(image, box).mask)
    if not patch.pixels.size:  # TraX knows no mask without pixels
        patch = Mask(np.zeros((1, 1), np.bool_))
    return trax.Mask.create(np.ascontiguousarray(patch.pixels, np.uint8), patch.x, patch.y)
