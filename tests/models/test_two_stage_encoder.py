"""The small encoder: two stages, the mark of the target, DINOv2's weights; and weights in a quarter of their size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from seqtrack_lit import weights
from seqtrack_lit.models.checkpoint import export_compact, load_model
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.dinov2 import resample
from seqtrack_lit.models.quantised import pack, save_compact, unpack
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.models.two_stage_encoder import ScaledBlock, TwoStageEncoder
from seqtrack_lit.tokens import BoxTokenizer
from seqtrack_lit.tracking.seqtrack import load_seqtrack

SMALL = {"width": 24, "heads": 2, "depth": 3, "separate_blocks": 1, "patch": 14, "search_size": 42, "template_size": 28}


def crops(batch=2, templates=1):
    make = torch.Generator().manual_seed(0)
    return torch.randn(batch, templates, 3, 28, 28, generator=make), torch.randn(batch, 3, 42, 42, generator=make)


def test_a_block_that_keeps_some_tokens_gives_those_of_the_whole_block():
    block = ScaledBlock(24, 2, 4.0)
    torch.nn.init.normal_(block.scale1)
    tokens = torch.randn(2, 13, 24)
    torch.testing.assert_close(block(tokens, 9), block(tokens)[:, :9])


def test_features_are_those_of_the_search_region_alone():
    encoder = TwoStageEncoder(**SMALL, templates=2)
    assert encoder(*crops(templates=2)).shape == (2, 9, 24)
    assert encoder.tokens == encoder.search_tokens == 9


def test_search_attention_of_the_blocks_where_both_meet():
    encoder = TwoStageEncoder(**SMALL, templates=2)
    weights = encoder.search_attention(*crops(templates=2), block=1)
    assert weights.shape == (2, 2, 9, 9 + 2 * 4)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 9))
    torch.testing.assert_close(weights, encoder.search_attention(*crops(templates=2)))  # the last of two
    with pytest.raises(ValueError, match="block 2: there are 2"):
        encoder.search_attention(*crops(templates=2), block=2)


def test_the_mark_of_a_box_that_covers_a_quarter_of_the_tokens():
    encoder = TwoStageEncoder(**SMALL)
    with torch.no_grad():
        encoder.target.copy_(torch.stack([torch.ones(24), torch.zeros(24)]))
    like = torch.zeros(1, 4, 24)  # 2 x 2 tokens
    inside = encoder._marks(torch.tensor([[[0.25, 0.25, 0.5, 0.5]]]), like)[0, :, 0]  # the first token, no other
    assert inside.tolist() == [1, 0, 0, 0]
    wide = encoder._marks(torch.tensor([[[0.5, 0.25, 0.5, 0.5]]]), like)[0, :, 0]  # half of both tokens of row 0
    assert wide.tolist() == [0.5, 0.5, 0, 0]
    central = encoder._marks(None, like)[0, :, 0]  # a square of 0.57 covers 0.285 / 0.5 of a token along x and y
    torch.testing.assert_close(central, torch.full((4,), 0.57**2))


def test_frozen_parts_get_no_gradient_and_the_rest_does():
    encoder = TwoStageEncoder(**SMALL)
    encoder(*crops()).square().mean().backward()
    trained = {name.split(".")[0] + name.split(".")[1] if "." in name else name
               for name, parameter in encoder.named_parameters() if parameter.grad is not None}  # fmt: skip
    assert trained == {"blocks1", "blocks2", "normweight", "normbias", "target"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"separate_blocks": 3}, "separate_blocks must be less than model.encoder.depth = 3"),
        ({"heads": 5}, "multiple of model.encoder.heads = 5"),
        ({"search_size": 43}, "the nearest are 42 and 56"),
    ],
)
def test_wrong_values(wrong, told):
    with pytest.raises(ValueError, match=told):
        TwoStageEncoder(**{**SMALL, **wrong})


def test_bytes_lose_less_than_half_a_step():
    matrix = torch.randn(64, 100)
    packed = pack({"w": matrix, "b": torch.tensor([0.1, 0.2])})
    assert (packed["w"].dtype, packed["b"].dtype) == (torch.int8, torch.float16)
    step = packed["w.scale"].float()[:, None]
    assert ((unpack(packed)["w"] - matrix).abs() <= 0.51 * step).all()  # the scale itself is rounded to fp16


def test_a_row_of_zeros_stays_zero():
    matrix = torch.zeros(64, 100)
    assert (unpack(pack({"w": matrix}))["w"] == 0).all()


def test_a_packed_tracker_loads_and_tracks_alike(tmp_path):
    tokenizer = BoxTokenizer(bins=32)
    net = SeqTrack(
        tokenizer=tokenizer,
        encoder=TwoStageEncoder(**{**SMALL, "width": 96, "heads": 2}),
        decoder=Decoder(tokenizer=tokenizer, width=64, heads=2, ffn=128, pre_norm=True),
        dense_head=True,
    ).eval()
    target = "seqtrack_lit.models."
    description = {
        "format": 1,
        "tokenizer": {"bins": 32},
        "model": {
            "encoder": {"_target_": f"{target}two_stage_encoder.TwoStageEncoder", **SMALL, "width": 96, "heads": 2},
            "decoder": {"_target_": f"{target}decoder.Decoder", "width": 64, "heads": 2, "ffn": 128, "pre_norm": True},
            "dense_head": True,
        },
        "tracker": {"name": "small", "search_factor": 3.0, "template_factor": 2.0},
    }
    description["model"]["encoder"]["pretrained"] = True  # must not be fetched again, nor stay in the file
    torch.save({"state_dict": net.state_dict(), "seqtrack": description}, tmp_path / "last.ckpt")
    export_compact(tmp_path / "last.ckpt", tmp_path / "small.safetensors")
    assert (tmp_path / "small.safetensors").stat().st_size < 0.45 * (tmp_path / "last.ckpt").stat().st_size
    loaded = load_model(tmp_path / "small.safetensors")
    assert loaded.description.model["encoder"]["pretrained"] is False
    boxes = torch.tensor([[[0.5, 0.5, 0.4, 0.3]]] * 2)
    with torch.no_grad():
        ours, theirs = (m.encode(*crops(), boxes) for m in (net, loaded.model))
    assert ((ours - theirs).norm() / ours.norm()) < 0.02
    tracker = load_seqtrack(tmp_path / "small.safetensors", device="cpu")
    frame = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    tracker.init(frame, np.array([20.0, 10, 16, 12]))
    torch.testing.assert_close(tracker.template_boxes[0, 0, 2:], torch.tensor([16.0, 12]) / 28)  # ceil(2 sqrt(192)) px
    assert np.isfinite(tracker.update(frame).box_xywh).all()


def test_dino_fills_the_blocks_and_resamples_positions(tmp_path):
    donor = TwoStageEncoder(depth=3, separate_blocks=1, search_size=518, template_size=14)  # a table of 37 x 37
    state = {
        name: tensor for name, tensor in donor.state_dict().items() if name.startswith(("blocks", "patch", "norm"))
    }
    table = torch.arange(37.0)[:, None, None].expand(37, 37, 384)  # rises by 1 a row
    save_compact(tmp_path / "dino.safetensors", {**state, "positions": table}, storage="fp16")
    encoder = TwoStageEncoder(depth=2, separate_blocks=1, pretrained=str(tmp_path / "dino.safetensors"))
    torch.testing.assert_close(
        encoder.blocks[1].attn.qkv.weight, state["blocks.1.attn.qkv.weight"], atol=1e-4, rtol=1e-3
    )
    rows = encoder.search_position.view(10, 10, 384)[:, 0, 0]  # 37 rows over 10: 3.7 a row, the middle at 18
    torch.testing.assert_close(rows[4:6].mean(), torch.tensor(18.0), atol=0.05, rtol=0)
    torch.testing.assert_close(rows[5] - rows[4], torch.tensor(3.7), atol=0.05, rtol=0)
    with pytest.raises(ValueError, match="does not fill"):
        TwoStageEncoder(depth=4, separate_blocks=1, pretrained=str(tmp_path / "dino.safetensors"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        TwoStageEncoder(pretrained="nowhere.onnx")


def test_resampling_keeps_a_constant_table():
    torch.testing.assert_close(resample(torch.full((1, 37, 37, 4), 2.0), 5), torch.full((1, 25, 4), 2.0))


def test_the_shipped_blocks_are_dinov2s():
    """Against onnxruntime's numbers; 1.1 % and 1.8 % is what storing the matrices as bytes costs."""
    golden = np.load(Path(__file__).parents[1] / "golden" / "dinov2" / "blocks.npz")
    encoder = load_model(weights.SMALL).model.encoder
    tokens = torch.from_numpy(golden["tokens"]).float()[None]
    with torch.no_grad():
        for block in encoder.blocks[: encoder.separate_blocks]:
            tokens = block(tokens)
        found = tokens[0, golden["picked"]]
        patches = torch.from_numpy(golden["patches"])[None]
        embedded = torch.nn.functional.conv2d(patches, encoder.patch_embed.weight, stride=14)[0].flatten(1).T
    for ours, name in ((found, "after_block_2"), (embedded, "embedded")):
        theirs = torch.from_numpy(golden[name])
        assert ((ours - theirs).norm() / theirs.norm()) < 0.025
