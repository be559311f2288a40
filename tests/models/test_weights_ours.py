"""Checkpoints that training wrote and bare state dicts become models; what does not fit is named."""

import pytest
import torch
from safetensors.torch import save_file
from tests.models.by_hand import write_checkpoint
from tests.models.test_weights import SMALL, tiny

from seqtrack_lit.models.official import to_official
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.models.weights import load_model, read_checkpoint


def lightning(model: SeqTrack, **more: object) -> dict[str, object]:
    tokenizer = {"_target_": "seqtrack_lit.tokens.BoxTokenizer", "bins": 20, "order": "cxcywh"}
    encoder = {"_target_": "seqtrack_lit.models.encoder.ViTEncoder", "search_size": 32, "template_size": 32}
    encoder |= {"width": 24, "depth": 1, "heads": 2}
    decoder = {"_target_": "seqtrack_lit.models.decoder.Decoder", "tokenizer": tokenizer, "width": 16, "heads": 4}
    description = {
        "format": 1,
        "tokenizer": tokenizer,
        "model": {"_target_": "seqtrack_lit.models.seqtrack.SeqTrack", "_convert_": "all", "tokenizer": tokenizer}
        | {"encoder": encoder, "decoder": decoder | {"ffn": 24}},
        "tracker": {"search_factor": 3.0, "update_interval": 25},
    }
    state = {f"net.{name}": tensor for name, tensor in model.state_dict().items()}
    return {"epoch": 3, "state_dict": state, "seqtrack": description, "optimizer_states": [{}], **more}


def same(a: SeqTrack, b: SeqTrack) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_checkpoint_of_ours_describes_itself(tmp_path):
    model, path = tiny(), tmp_path / "best.ckpt"
    torch.save(lightning(model), path)
    loaded = load_model(path)
    assert same(loaded.model, model)
    assert not loaded.model.training
    assert loaded.tracker == {"search_factor": 3.0, "update_interval": 25}
    assert "best.ckpt" in loaded.source


def test_averaged_weights_are_preferred(tmp_path):
    model, averaged, path = tiny(), tiny(), tmp_path / "best.ckpt"
    torch.save(lightning(model, ema=averaged.state_dict()), path)
    assert same(load_model(path).model, averaged)


def test_only_our_classes_are_built(tmp_path):
    content, path = lightning(tiny()), tmp_path / "evil.ckpt"
    content["seqtrack"]["model"]["encoder"] = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "created")}
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"pathlib\.Path\.touch is not one of"):
        load_model(path)
    assert not (tmp_path / "created").exists()


def test_pretrained_weights_are_not_fetched_again(tmp_path):
    model, path = tiny(), tmp_path / "best.ckpt"
    content = lightning(model)
    content["seqtrack"]["model"]["encoder"]["pretrained"] = "/nowhere/mae_pretrain_vit_base.pth"
    torch.save(content, path)
    assert same(load_model(path).model, model)
    timm = "seqtrack_lit.models.timm_encoder.TimmEncoder"
    content["seqtrack"]["model"]["encoder"] = {"_target_": timm, "name": "hf-hub:someone/something"}
    torch.save(content, path)
    with pytest.raises(ValueError, match="no model of timm"):
        load_model(path)


def test_a_checkpoint_of_ours_without_weights(tmp_path):
    content, path = lightning(tiny()), tmp_path / "x.ckpt"
    for weights in ({}, {"state_dict": None}, {"state_dict": {"net.linear.bias": "text"}}):
        torch.save({"seqtrack": content["seqtrack"], **weights}, path)
        with pytest.raises(ValueError, match=r"x\.ckpt: state_dict.* must"):
            load_model(path)


def test_a_description_of_the_future_or_with_wrong_arguments(tmp_path):
    path = tmp_path / "x.ckpt"
    content = lightning(tiny())
    content["seqtrack"]["format"] = 2
    torch.save(content, path)
    with pytest.raises(ValueError, match="format 2, this version reads format 1"):
        load_model(path)
    content = lightning(tiny())
    content["seqtrack"]["model"]["encoder"]["breadth"] = 5
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"model\.encoder: .*breadth"):
        load_model(path)


def test_what_a_checkpoint_of_ours_says_cannot_be_changed(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(lightning(tiny()), path)
    assert load_model(path, tokenizer={"bins": 20}, model={"encoder": {"heads": 2}}).model.templates == 2
    with pytest.raises(ValueError, match=r"trained with tokenizer\.order = cxcywh; it cannot be read with xyxy"):
        load_model(path, tokenizer={"order": "xyxy"})
    _, config = write_checkpoint(tmp_path / "official", SMALL)
    with pytest.raises(ValueError, match="describes itself"):
        load_model(path, official_config=config)


@pytest.mark.parametrize("names", ["ours", "ours with prefix", "official"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_bare_state_dicts(tmp_path, names, suffix):
    model, path = tiny().eval(), tmp_path / f"weights{suffix}"
    state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    if names == "official":
        state = to_official(state)
    elif names == "ours with prefix":
        state = {f"net.{name}": tensor for name, tensor in state.items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    assert read_checkpoint(path).kind == "state_dict"
    loaded = load_model(path, model={"encoder": {"heads": 2}, "decoder": {"heads": 4}})
    assert same(loaded.model, model)
    assert loaded.tracker.get("padding") == ("official" if names == "official" else None)


def test_bare_state_dicts_that_leave_something_open(tmp_path):
    path, told = tmp_path / "a.pt", {"encoder": {"heads": 2}, "decoder": {"heads": 4}}
    model = tiny(dense_head=True)
    torch.save(model.state_dict(), path)  # the dense head serves training only
    assert torch.equal(load_model(path, model=told).model.memory_position, model.memory_position)
    torch.save(tiny(decoder={"width": 24}, map_equal_widths=True).state_dict(), path)
    with pytest.raises(ValueError, match=r"same width 24.*\(\.ckpt\)"):
        load_model(path, model=told)


def test_other_tensors_are_named(tmp_path):
    path = tmp_path / "resnet.pt"
    tensors = {"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}
    for content in (tensors, {"model": tensors}):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"conv1\.weight, fc\.bias.*model\.encoder\.pretrained"):
            load_model(path)
