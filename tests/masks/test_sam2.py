"""SAM 2 through transformers, with a tiny network at random; nothing is downloaded."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from seqtrack_lit.masks import make_refiner

IMAGE = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
BOX = np.array([10.0, 8, 20, 16])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What transformers writes of a tiny model and its processor; crops of 64 pixels."""
    transformers = pytest.importorskip("transformers", minversion="4.56", reason="needs the extra sam2 (transformers)")
    from transformers.models.sam2 import configuration_sam2 as configuration

    backbone = configuration.Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 4, 4, 2],
        global_attention_blocks=[3],
    )
    vision = configuration.Sam2VisionConfig(
        backbone_config=backbone.to_dict(),
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    config = configuration.Sam2Config(
        vision_config=vision.to_dict(),
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16},
    )
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("sam2")
    transformers.Sam2Model(config).save_pretrained(path)
    image_processor = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64})
    transformers.Sam2Processor(image_processor=image_processor, target_size=64).save_pretrained(path)
    return path


def test_a_box_becomes_a_mask_with_a_score(folder: Path) -> None:
    refiner = make_refiner("sam2", folder)
    refiner.init(IMAGE, BOX)
    refined = refiner.refine(IMAGE, BOX)
    assert refined.mask.shape == (40, 60)
    assert refined.mask.dtype == np.bool_
    assert refined.score is not None
    assert 0 <= refined.score <= 1
    again = refiner.refine(IMAGE, BOX)
    np.testing.assert_array_equal(again.mask, refined.mask)
    other = refiner.refine(IMAGE, np.array([0.0, 0, 5, 5]))
    assert other.score != refined.score  # the box is read
    with pytest.raises(ValueError, match="is not finite"):
        refiner.refine(IMAGE, np.array([1.0, np.nan, 3, 4]))


def test_what_is_no_sam2_is_refused_in_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=re.escape(f"mask_checkpoint={tmp_path} cannot be read as SAM 2 (")) as caught:
        make_refiner("sam2", tmp_path)
    assert "\n" not in str(caught.value)
    config = json.loads((folder / "config.json").read_text())
    config["mask_decoder_config"]["mlp_dim"] = 64  # weights of another shape
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"(cannot be read as|is no) SAM 2") as caught:
        make_refiner("sam2", tmp_path)
    assert "\n" not in str(caught.value)


def test_without_transformers_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'seqtrack-lit[sam2]'")):
        make_refiner("sam2", tmp_path)
