"""A training step against recorded outputs of the official code (tests/golden/model/README.md)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seqtrack_lit.crops import Crop
from seqtrack_lit.models.checkpoint import load_model
from seqtrack_lit.models.encoder import normalise
from seqtrack_lit.training.losses import token_loss

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "train"
ORDERS = {"xywh": "cxcywh", "whxy": "whcxcy", "corner": "xyxy"}


def xywh_to_cxcywh(boxes: torch.Tensor) -> torch.Tensor:
    return torch.cat([boxes[..., :2] + boxes[..., 2:] / 2, boxes[..., 2:]], dim=-1)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "golden.npz") as arrays:
        return dict(arrays)


def test_search_crops_and_boxes(golden):
    for i, frame in enumerate(golden["search_frame_ids"]):
        crop = Crop.around(golden["jittered"][i].astype(float), factor=4.0, size=96)
        np.testing.assert_array_equal(crop.cut(golden["frames"][frame], padding="official"), golden["search_crops"][i])
        assert crop.scale == golden["resize_factors"][i]
        box = crop.to_crop(golden["gt"][i][None].astype(float))[0]
        expected = xywh_to_cxcywh(torch.from_numpy(golden["norm_boxes"][i]))
        np.testing.assert_allclose(box, expected, rtol=0, atol=1e-6)


def test_template_crops(golden):
    for number, sample in np.ndindex(2, 3):
        image = golden["frames"][golden["template_frame_ids"][number, sample]]
        crop = Crop.around(golden["template_boxes"][number, sample], factor=4.0, size=96)
        np.testing.assert_array_equal(
            crop.cut(image, padding="official"), golden["template_crops"][number, sample], err_msg=f"{number}, {sample}"
        )


@pytest.mark.parametrize("order", ORDERS)
def test_tokens_loss_and_gradient(golden, order, tmp_path):
    # the recorded file says xywh; the same weights were run in three orders
    config = tmp_path / "cfg.yaml"
    config.write_text((GOLDEN / "cfg.yaml").read_text().replace("SEQ_FORMAT: xywh", f"SEQ_FORMAT: {order}"))
    model = load_model(GOLDEN / "SEQTRACK_ep0007.pth.tar", official_config=config).model
    assert model.tokenizer.order == ORDERS[order]
    boxes = xywh_to_cxcywh(torch.from_numpy(golden["norm_boxes"]))
    inputs, targets = model.tokenizer.teacher(boxes)
    np.testing.assert_array_equal(inputs, golden[f"{order}_input_seqs"])
    np.testing.assert_array_equal(targets.flatten(), golden[f"{order}_target_seqs"])

    templates = normalise(torch.from_numpy(golden["template_crops"]).permute(1, 0, 4, 2, 3))
    search = normalise(torch.from_numpy(golden["search_crops"]).permute(0, 3, 1, 2))
    logits = model(templates, search, inputs).tokens
    np.testing.assert_allclose(logits.detach().flatten(0, 1), golden[f"{order}_logits"], atol=1e-4)

    loss = token_loss(logits, boxes, model.tokenizer, end_weight=0.01)
    assert loss.total.item() == pytest.approx(golden[f"{order}_loss"].item(), abs=1e-5)
    assert loss.tokens.mean().item() == pytest.approx(golden[f"{order}_ce_mean_unweighted"].item(), abs=1e-5)
    loss.total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in gradients]))
    assert norm.item() == pytest.approx(golden[f"{order}_grad_norm"].item(), abs=1e-4)
