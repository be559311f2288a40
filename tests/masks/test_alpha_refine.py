"""Alpha-Refine against recorded outputs of the reference network (tests/golden/alpha/README.md)."""

import hashlib

import numpy as np
import pytest
import torch
from tests.masks.weights import FACTS, GOLDEN, state_dict, stream

from seqtrack_lit.masks.alpha_network import AlphaRefine, _bin_weights, precise_roi_pool
from seqtrack_lit.masks.alpha_refine import AlphaRefiner, Window

RECORDED = dict(np.load(GOLDEN / "alpha_refine.npz"))
FRAMES = RECORDED["frames"]


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return state_dict()


@pytest.fixture(scope="module")
def refiner(state: dict[str, torch.Tensor]) -> AlphaRefiner:
    """With the kernel of frame 0."""
    network = AlphaRefine()
    network.load_state_dict({key: value for key, value in state.items() if ".fc." not in key})
    refiner = AlphaRefiner(network)
    refiner.init(FRAMES[0], RECORDED["init_box"])
    return refiner


def logits_of(refiner: AlphaRefiner, frame: int) -> torch.Tensor:
    crop = refiner._input(Window.around(RECORDED["boxes"][frame - 1]).cut(FRAMES[frame], 384))
    with torch.inference_mode():
        return refiner.network(crop, refiner._kernel)[0, 0]


def close(values: torch.Tensor, recorded: np.ndarray, share: float = 1e-4) -> None:
    assert values.shape == recorded.shape
    np.testing.assert_allclose(values.numpy(), recorded, rtol=0, atol=share * np.abs(recorded).max())


def test_the_weights_have_the_published_keys(state: dict[str, torch.Tensor]) -> None:
    assert len(state) == 477
    assert sum(tensor.numel() for tensor in state.values()) == 30_216_067
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode() + state[key].numpy().tobytes())
    assert digest.hexdigest() == FACTS["state_sha256"]


def test_windows_are_equal_to_the_pixel() -> None:
    boxes = [RECORDED["init_box"], *RECORDED["boxes"]]
    crops = [Window.around(box).cut(frame, 384) for box, frame in zip(boxes, FRAMES, strict=True)]
    assert [hashlib.sha256(crop.tobytes()).hexdigest() for crop in crops] == FACTS["crop_sha256"]
    box = Window.around(boxes[0]).own_box(boxes[0], 384)
    np.testing.assert_allclose(box, RECORDED["init_box_in_crop"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("case", FACTS["geometry"]["cases"], ids=lambda case: ",".join(f"{v:.3g}" for v in case["box"]))
def test_windows_cut_and_paste(case: dict) -> None:
    image = np.floor((stream("geometry-image", (61, 83, 3)) + 1) / 2 * 255.999).astype(np.uint8)
    box = np.array(case["box"], np.float64)
    window = Window.around(box)
    assert hashlib.sha256(window.cut(image, 48).tobytes()).hexdigest() == case["crop_sha256"]
    assert (48 / window.width, 48 / window.height) == (case["factor_w"], case["factor_h"])
    np.testing.assert_allclose(window.own_box(box, 48), case["own_box_in_crop"], rtol=0, atol=1e-5)
    pasted = window.paste(((stream("geometry-mask", (48, 48)) + 1) / 2).astype(np.float32), 61, 83)
    assert pasted.sum() == pytest.approx(case["back_sum"], rel=1e-6)
    assert (np.count_nonzero(pasted > 0.65), np.count_nonzero(pasted)) == (case["back_count_065"], case["back_nonzero"])


@pytest.mark.parametrize("box", [[-90, -80, 20, 20], [300, 200, 20, 20], [-90, 20, 20, 20], [10, 300, 20, 20]])
def test_a_window_outside_of_the_image_is_black_and_empty(box: list[int]) -> None:
    window = Window.around(np.array(box, np.float64))
    assert not window.cut(np.full((61, 83, 3), 200, np.uint8), 48).any()
    assert not window.paste(np.ones((48, 48), np.float32), 61, 83).any()


def test_pooling_is_exact() -> None:
    features = torch.from_numpy(stream("prroi-features", (2, 3, 11, 14)).astype(np.float32))
    for (image, *corners), recorded in zip(RECORDED["prroi_rois"].tolist(), RECORDED["prroi_out_5x4"], strict=True):
        box = torch.tensor(corners) * FACTS["prroi"]["scale"]
        np.testing.assert_allclose(precise_roi_pool(features[int(image)], box, (5, 4)), recorded, rtol=0, atol=3e-5)
        exact = precise_roi_pool(features[int(image)].double(), box.double(), (5, 4))
        np.testing.assert_allclose(exact, recorded, rtol=0, atol=1e-10)


def test_pooling_of_an_initial_box_weighs_three_cells() -> None:
    """Whole sizes give [95.5, 287.5] / 16: bin p is [5.96875 + p, 6.96875 + p], on the cells 5 + p to 7 + p.

    The hat at 5 + p ends 0.03125 after the bin's begin: 0.03125**2 / 2 = 0.00048828; the one at 7 + p begins where the
    bin is 0.96875 from its end: 0.96875**2 / 2 = 0.46923828; the rest of the bin's 1 is 0.53027344.
    """
    weights = _bin_weights(torch.tensor(95.5 / 16).double(), torch.tensor(287.5 / 16).double(), 12, 24)
    for p, row in enumerate(weights):
        expected = np.zeros(24)
        expected[5 + p : 8 + p] = 0.00048828125, 0.5302734375, 0.46923828125
        np.testing.assert_allclose(row, expected, rtol=0, atol=1e-12)


def test_kernel_and_every_stage_of_a_frame(refiner: AlphaRefiner) -> None:
    close(refiner._kernel[0, :64], RECORDED["ref_kernel"], 1e-5)
    taps: dict[str, torch.Tensor] = {}

    def keep(name: str, part: int | None = None):
        return lambda module, arguments, output: taps.__setitem__(
            name, (output if part is None else arguments[part])[0]
        )

    network, levels = refiner.network, ("layer5", "layer4", "layer3", "layer2")
    hooks = [
        network.neck["channel_attention"].register_forward_hook(keep("corr", 0)),
        network.neck["channel_attention"].register_forward_hook(keep("neck.channel_attention")),
        network.neck["spatial_attention"].register_forward_hook(keep("neck.spatial_attention")),
        network.refiner.project["conv1"].register_forward_hook(keep("up1", 0)),
        network.refiner.project["conv2"].register_forward_hook(keep("up2", 0)),
        *(
            getattr(network.refiner, block)[level].register_forward_hook(keep(f"{block}_{level}"))
            for block in ("RRB1", "CAB", "RRB2")
            for level in levels
        ),
        *(network.refiner.TSE[level].reduce.register_forward_hook(keep(level, 0)) for level in levels),
    ]
    logits = logits_of(refiner, 1)
    for hook in hooks:
        hook.remove()
    compared = 0
    for name, tap in taps.items():
        for key, recorded in RECORDED.items():
            if key == f"f1_{name}_c0step6":
                close(tap[::6], recorded)
            elif key.startswith(f"f1_{name}_c0_"):
                channels, step = (int(text.removeprefix("s")) for text in key.rpartition("_c0_")[2].split("_"))
                close(tap[:channels, ::step, ::step], recorded)
            else:
                continue
            compared += 1
    assert compared == len(taps) == 21
    np.testing.assert_allclose(logits, RECORDED["f1_logits"], rtol=0, atol=2e-3)


def masks() -> np.ndarray:
    count = int(np.prod(FACTS["mask_shape"]))
    return np.unpackbits(RECORDED["mask_065_packed"], count=count).reshape(FACTS["mask_shape"]).astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("frame", [2, *(pytest.param(frame, marks=pytest.mark.slow) for frame in (1, 3, 4))])
def test_masks_are_the_recorded_ones(refiner: AlphaRefiner, frame: int) -> None:
    """Inside the image; over its left and top; over its right and bottom; thin, covering most of it."""
    np.testing.assert_allclose(logits_of(refiner, frame)[::4, ::4], RECORDED["logits_s4"][frame - 1], rtol=0, atol=2e-3)
    refined = refiner.refine(FRAMES[frame], RECORDED["boxes"][frame - 1])
    assert refined.score is None
    assert iou(refined.mask, masks()[frame - 1]) >= 0.999
