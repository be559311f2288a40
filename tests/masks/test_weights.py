"""Alpha-Refine's weights from files: what is read, what is refused, and that nothing in a file runs."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.masks.weights import state_dict

from seqtrack_lit.masks import make_refiner
from seqtrack_lit.masks.alpha_refine import load_network

FEW = {
    "refiner.project.conv2.weight": torch.zeros(1, 32, 3, 3),
    "neck.channel_attention.fc2.weight": torch.zeros(144, 36, 1, 1),
}


class Hostile:
    """Makes a folder where it is unpickled by pickle itself."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Of the network for crops of 64 pixels."""
    return state_dict(bins=2)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_is_read_and_nothing_in_it_runs(state, tmp_path: Path, zipped: bool) -> None:
    content = {
        "epoch": 40,
        "net_type": "ARnet_seg_mask",
        "constructor": Hostile(tmp_path / "ran"),
        "net": {f"module.{key}": value for key, value in state.items()} if zipped else state,
        "settings": [np.float64(0.5), Hostile(tmp_path / "ran too")],
    }
    path = tmp_path / "ARnet_seg_mask_ep0040.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    network = load_network(path)
    assert network.size == 64
    own = network.state_dict()
    assert len(own) == 475  # without the classifier
    assert all(torch.equal(own[key], state[key]) for key in own)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_tensors_alone_are_read(state, tmp_path: Path) -> None:
    own = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    save_file(own, tmp_path / "a.safetensors")
    assert load_network(tmp_path / "a.safetensors").size == 64


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ({"corner_head.a": torch.zeros(1), "mask_head.b": torch.zeros(1)}, "holds Alpha-Refine of CVPR 2021 (SEcmnet"),
        ({"decoder.embedding.weight": torch.zeros(1)}, "holds a tracker, which is given as checkpoint=FILE"),
        ({"conv.weight": torch.zeros(1)}, "holds other tensors (conv.weight, ...)"),
        (FEW, "key feature_extractor.conv1.weight is missing, expected (64, 3, 7, 7)"),
        ({**FEW, "feature_extractor.conv1.weight": torch.zeros(2)}, "conv1.weight has shape (2,), expected (64, 3, 7"),
        ({**FEW, "neck.post.weight": torch.zeros(2)}, "has no key neck.post.weight (1 such)"),
        ({**FEW, "refiner.project.conv2.weight": torch.full((1,), torch.nan)}, "NaN or infinite"),
        ({**FEW, "neck.channel_attention.fc2.weight": torch.zeros(143, 1)}, "must have 144 rows (or another square"),
        ({**FEW, "neck.channel_attention.fc2.weight": torch.zeros(10**4, 1)}, "4 to 1024), it has 10000"),
        ({**FEW, "neck.channel_attention.fc2.weight": torch.tensor(1.0)}, "it has 0"),
        ({**FEW, "x": 3}, "key 'x' must be a tensor"),
        (7, "net must map names to tensors"),
    ],
)
def test_other_weights_are_refused_in_one_line(net: object, message: str, tmp_path: Path) -> None:
    torch.save({"net": net}, tmp_path / "a.pth.tar")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        make_refiner("alpha_refine", tmp_path / "a.pth.tar")
    assert str(tmp_path / "a.pth.tar") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "checkpoint", "message"),
    [
        ("alpha", None, "masks must be one of rectangle, alpha_refine, sam2, got 'alpha'"),
        ("rectangle", "a.pt", "masks=rectangle has no weights; leave mask_checkpoint=a.pt out"),
        ("alpha_refine", None, "masks=alpha_refine needs weights: give mask_checkpoint=ARnet_seg_mask_ep0040.pth.tar"),
        ("sam2", None, "masks=sam2 needs weights: give mask_checkpoint=facebook/sam2.1-hiera-tiny or a FOLDER"),
        ("alpha_refine", "gone/a.pt", "mask_checkpoint=gone/a.pt: no such file or folder"),
        ("sam2", "gone", "mask_checkpoint=gone: no such file or folder"),
        ("alpha_refine", ".", "is a folder; name the file in it"),
        ("alpha_refine", "a.txt", "is no file of weights"),
        ("alpha_refine", "list.pt", "this file holds a list"),
    ],
)
def test_a_wrong_choice_is_one_line(
    name: str, checkpoint: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("weights\n")
    torch.save([1], "list.pt")
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as caught:
        make_refiner(name, checkpoint)
    assert "\n" not in str(caught.value)
