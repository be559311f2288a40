"""Masks of tracked targets: what makes them of boxes, and how they are written."""

from pathlib import Path

from seqtrack_lit.checks import one_of
from seqtrack_lit.files import why_not_there

REFINERS = ("rectangle", "alpha_refine", "sam2")


def check_masks(name: str, checkpoint: str | Path | None) -> None:
    """What can be refused before torch is imported.

    Args:
        name: one of REFINERS.
        checkpoint: of alpha_refine the file of weights; of sam2 the folder of model and processor, or OWNER/NAME of
            one that transformers downloads; rectangle has none.

    Raises:
        FileNotFoundError: no such checkpoint.
        ValueError: an unknown name, a checkpoint missing or too many.
    """
    one_of("", REFINERS, masks=name)
    if name == "rectangle":
        if checkpoint is not None:
            raise ValueError(f"masks=rectangle has no weights; leave mask_checkpoint={checkpoint} out")
        return
    if checkpoint is None:
        what = "ARnet_seg_mask_ep0040.pth.tar" if name == "alpha_refine" else "facebook/sam2.1-hiera-tiny or a FOLDER"
        raise ValueError(f"masks={name} needs weights: give mask_checkpoint={what}")
    reason = why_not_there(Path(checkpoint).expanduser())
    if reason and not (name == "sam2" and is_hub_name(checkpoint)):
        raise FileNotFoundError(f"mask_checkpoint={checkpoint}: {reason}")


def is_hub_name(checkpoint: str | Path) -> bool:
    """Whether this is OWNER/NAME, as the model hub of transformers has them, and nothing on the disk."""
    parts = str(checkpoint).split("/")
    plain = len(parts) == 2 and all(part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in parts)
    return plain and bool(why_not_there(Path(checkpoint)))
