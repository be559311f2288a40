"""SAM 2 of transformers, prompted with the tracker's box on every frame (Ravi et al., 2024); an optional extra.

Not what the paper's mask results were made with: those are Alpha-Refine's. SAM 2's own memory is not used, so that
the tracker stays SeqTrack.

Letters: H W image.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from seqtrack_lit.checks import shown
from seqtrack_lit.crops import Image
from seqtrack_lit.masks.refiner import Refined, finite


class Sam2Refiner:
    """One mask a box; its score is the overlap that SAM 2 predicts.

    Args:
        model: transformers.Sam2Model.
        processor: transformers.Sam2Processor.
    """

    name = "sam2"

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model.eval(), processor

    @classmethod
    def load(cls, checkpoint: str | Path, *, device: str = "cpu") -> "Sam2Refiner":
        """From a folder that transformers wrote, or OWNER/NAME of a published model, which it downloads.

        Raises:
            ValueError: transformers is not installed, or this is no SAM 2; weights are read from safetensors only.
        """
        try:
            from transformers import Sam2Model, Sam2Processor
            from transformers.utils import logging
        except ImportError as error:
            raise ValueError(
                f"masks=sam2 needs transformers, version 4.56 or later ({error}); pip install 'seqtrack-lit[sam2]'"
            ) from error
        name = Path(checkpoint).as_posix()
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            model, report = Sam2Model.from_pretrained(name, use_safetensors=True, output_loading_info=True)
            processor = Sam2Processor.from_pretrained(name)
            missing = [*report["missing_keys"], *report["mismatched_keys"]]
        except Exception as error:  # a damaged or foreign folder can fail in any way
            reason = shown(" ".join(str(error).split()), 200)
            raise ValueError(
                f"mask_checkpoint={checkpoint} cannot be read as SAM 2 ({type(error).__name__}: {reason}); expected a "
                "folder with config.json, model.safetensors and preprocessor_config.json, or a name as "
                "facebook/sam2.1-hiera-tiny"
            ) from error
        if missing:
            raise ValueError(f"mask_checkpoint={checkpoint} is no SAM 2: {len(missing)} weights are not in it")
        return cls(model.to(device), processor)

    def init(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> None:
        """Nothing is kept of the first frame."""

    @torch.inference_mode()
    def refine(self, image: Image, box_xywh: Float[np.ndarray, "4"]) -> Refined:
        """The mask of what is in the box (xywh, pixels).

        Raises:
            ValueError: the box is not finite.
        """
        x, y, w, h = finite(box_xywh)
        inputs = self.processor(images=image, input_boxes=[[[x, y, x + w, y + h]]], return_tensors="pt")
        sizes = inputs.pop("original_sizes")
        answer = self.model(**inputs.to(self.model.device), multimask_output=False)
        mask = self.processor.post_process_masks(answer.pred_masks.cpu(), sizes)[0][0, 0]
        return Refined(np.asarray(mask, np.bool_), float(answer.iou_scores.flatten()[0]))
