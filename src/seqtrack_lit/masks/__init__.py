"""Masks of tracked targets: what makes them of boxes, and how they are written."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from seqtrack_lit.checks import one_of, printable
from seqtrack_lit.files import why_not_there

if TYPE_CHECKING:
    from seqtrack_lit.masks.refiner import MaskRefiner

REFINERS = ("rectangle", "alpha_refine", "sam2")


def check_masks(name: str | None, checkpoint: str | Path | None, group: str = "") -> None:
    """What can be refused before torch is imported.

    Args:
        name: one of REFINERS; None: no masks.
        checkpoint: of alpha_refine the file of weights; of sam2 the folder of model and processor, or OWNER/NAME of
            one that transformers downloads; rectangle has none.
        group: of both keys in the configuration, for messages.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: an unknown name, a checkpoint missing or too many.
    """
    masks, given = (f"{group}.{key}" if group else key for key in ("masks", "mask_checkpoint"))
    if name is None:
        if checkpoint is not None:
            raise ValueError(f"{given} is given without masks; add {masks}=alpha_refine or {masks}=sam2")
        return
    one_of(group, REFINERS, masks=name)
    if name == "rectangle":
        if checkpoint is not None:
            raise ValueError(f"{masks}=rectangle has no weights; leave {given}={printable(str(checkpoint))[:300]} out")
        return
    if checkpoint is None:
        what = "ARnet_seg_mask_ep0040.pth.tar" if name == "alpha_refine" else "facebook/sam2.1-hiera-tiny or a FOLDER"
        raise ValueError(f"{masks}={name} needs weights: give {given}={what}")
    reason = why_not_there(Path(checkpoint).expanduser())
    if reason and not (name == "sam2" and re.fullmatch(r"[\w.-]*\w[\w.-]*/[\w.-]*\w[\w.-]*", str(checkpoint))):
        raise FileNotFoundError(f"{given}={printable(str(checkpoint))[:300]}: {reason}")


def make_refiner(name: str, checkpoint: str | Path | None = None, *, device: str = "cpu") -> "MaskRefiner":
    """A refiner by its name.

    Args:
        name: rectangle, alpha_refine or sam2.
        checkpoint: as in `check_masks`.
        device: cpu or cuda.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: an unknown name, a checkpoint missing, too many or not of this network, sam2 without its extra.
    """
    check_masks(name, checkpoint)
    if name == "rectangle" or checkpoint is None:
        from seqtrack_lit.masks.refiner import RectangleRefiner

        return RectangleRefiner()
    path = Path(checkpoint).expanduser()
    if name == "alpha_refine":
        from seqtrack_lit.masks.alpha_refine import AlphaRefiner

        return AlphaRefiner.load(path, device=device)
    from seqtrack_lit.masks.sam2 import Sam2Refiner

    return Sam2Refiner.load(path, device=device)
