"""Checkpoints that training wrote and bare state dicts become models; what does not fit is named."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.models.test_weights import TINY, tiny, yaml_of

from seqtrack_lit.models.checkpoint import load_model, read_checkpoint
from seqtrack_lit.models.description import FORMAT, build_model
from seqtrack_lit.models.official_names import to_official
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tracking.seqtrack import load_seqtrack

GOLDEN = Path(__file__).parents[1] / "golden" / "checkpoint"


def lightning(model: SeqTrack, **more: object) -> dict[str, object]:
    tokenizer = {"_target_": "seqtrack_lit.tokens.BoxTokenizer", "bins": 20, "order": "cxcywh"}
    encoder = {"_target_": "seqtrack_lit.models.encoder.ViTEncoder", "search_size": 32, "template_size": 32}
    encoder |= {"width": 24, "depth": 1, "heads": 2}
    decoder = {"_target_": "seqtrack_lit.models.decoder.Decoder", "tokenizer": tokenizer, "width": 16, "heads": 4}
    description = {
        "format": FORMAT,
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
    content["seqtrack"]["format"] = FORMAT + 1
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"format {FORMAT + 1}, this version reads formats 1 to {FORMAT}"):
        load_model(path)
    content = lightning(tiny())
    content["seqtrack"]["model"]["encoder"]["breadth"] = 5
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"model\.encoder: .*breadth"):
        load_model(path)


def test_a_checkpoint_of_ours_takes_no_official_config(tmp_path):
    path = tmp_path / "x.ckpt"
    torch.save(lightning(tiny()), path)
    with pytest.raises(ValueError, match="describes itself"):
        load_model(path, official_config=yaml_of(TINY, tmp_path / "x.yaml"))


def test_initial_weights_are_never_built(tmp_path):
    model, path = tiny(), tmp_path / "x.ckpt"
    content = lightning(model)
    description = content["seqtrack"]["model"]
    for part in (description, description["encoder"], description["decoder"]):
        part["init"] = {"_target_": "pathlib.Path.touch", "self": str(tmp_path / "created")}
    torch.save(content, path)
    assert same(load_model(path).model, model)
    assert not (tmp_path / "created").exists()


def test_a_recorded_checkpoint_of_format_1():
    """Written by the revision before format 2, with the outputs of that revision on five frames of noise."""
    golden = np.load(GOLDEN / "format1.npz")
    frames = np.random.default_rng(7).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    tracker = load_seqtrack(GOLDEN / "format1.pt", device="cpu")
    assert (tracker.name, tracker.search_factor, tracker.rule.interval) == ("quickstart", 3.0, 2)
    tracker.init(frames[0], np.array([20.0, 15, 16, 12]))
    for i, frame in enumerate(frames[1:]):
        _, prediction = tracker.predict(frame)
        estimate = tracker.update(frame)
        assert prediction.tokens[0].tolist() == golden["tokens"][i].tolist()
        np.testing.assert_allclose(prediction.likelihoods[0], golden["likelihoods"][i], atol=1e-6)
        np.testing.assert_allclose(estimate.box_xywh, golden["boxes"][i], atol=1e-4)
        assert estimate.updated == golden["updated"][i]


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
    loaded = load_model(path, official_config=yaml_of(TINY, tmp_path / "x.yaml"))
    assert same(loaded.model, model)
    assert loaded.tracker["padding"] == "official"
    with pytest.raises(ValueError, match=r"none of the published models .*give official_config=FILE"):
        load_model(path)


def test_bare_state_dicts_that_leave_something_open(tmp_path):
    path, config = tmp_path / "a.pt", yaml_of(TINY, tmp_path / "x.yaml")
    model = tiny(dense_head=True)
    torch.save(model.state_dict(), path)  # the dense head serves training only
    assert torch.equal(load_model(path, official_config=config).model.memory_position, model.memory_position)
    torch.save(tiny(decoder={"width": 24}, map_equal_widths=True).state_dict(), path)
    with pytest.raises(ValueError, match=r"same width 24.*\(\.ckpt\)"):
        load_model(path, official_config=config)


def test_other_tensors_are_named(tmp_path):
    path = tmp_path / "resnet.pt"
    tensors = {"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}
    for content in (tensors, {"model": tensors}):
        torch.save(content, path)
        with pytest.raises(ValueError, match=r"conv1\.weight, fc\.bias.*model\.encoder\.pretrained"):
            load_model(path)


def changed(key: str, value: object) -> dict[str, object]:
    """A checkpoint of ours with one value of its description replaced, by dotted key."""
    content = lightning(tiny())
    content["state_dict"] = {name: tensor.clone() for name, tensor in content["state_dict"].items()}
    place = content["seqtrack"] = copy.deepcopy(content["seqtrack"])
    *parts, last = key.split(".")
    for part in parts:
        place = place[part]
    place[last] = value
    return content


TIMM = {"_target_": "seqtrack_lit.models.timm_encoder.TimmEncoder", "name": "vit_tiny_patch16_224"}
HUGE = [
    ("model.encoder.depth", 10**7),
    ("model.decoder.depth", 10**7),
    ("model.encoder.width", 10**6),
    ("model.encoder.width", 10**18),
    ("model.decoder.width", 10**6),
    ("model.decoder.ffn", 10**6),
    ("model.decoder.past", 10**9),
    ("tokenizer.bins", 10**9),
    ("tokenizer.bins", 10**400),
    ("model.encoder.templates", 10**6),
    ("model.encoder.search_size", 2**20),
    ("model.encoder.template_size", 2**40),
    ("model.encoder.mlp_ratio", 1e300),
    ("model.encoder.mlp_ratio", 1e5),
    ("model.encoder.mlp_ratio", float("nan")),
    ("model.encoder", {**TIMM, "options": {"depth": 10**7}}),
    ("model.encoder", {**TIMM, "options": {"embed_dim": 10**6}}),
    ("model.encoder", {**TIMM, "template_size": 10**7}),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("key", "value"), HUGE, ids=str)
def test_what_the_tensors_do_not_confirm_is_never_built(tmp_path, key, value):
    path = tmp_path / "x.ckpt"
    torch.save(changed(key, value), path)
    build_model({"bins": 20}, lightning(tiny())["seqtrack"]["model"])  # what it imports may draw
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=r"x\.ckpt: ") as error:
        load_model(path)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700
    assert torch.equal(torch.get_rng_state(), before)  # no weight was drawn


WRONG = [
    ("tracker.search_factor", 1e9, r"tracker\.search_factor must be a number > 0 and <= 100, got 1000000000\.0"),
    ("tracker.search_factor", "x", r"tracker\.search_factor must be a number"),
    ("tracker.search_factor", float("nan"), r"tracker\.search_factor"),
    ("tracker.update_interval", True, r"tracker\.update_interval"),
    ("tracker.window", "no", r"tracker\.window must be true or false"),
    ("tracker.device", "cuda:7", r"tracker\.device: there is no such setting"),
    ("tracker.model", {}, r"tracker\.model: there is no such setting"),
    ("tracker.name", 5, r"tracker\.name"),
    ("tracker", "fast", r"seqtrack: tracker: .*dictionary, got 'fast'"),
    ("tokenizer", 5, r"seqtrack: tokenizer: .*dictionary, got 5"),
    ("tokenizer", None, r"seqtrack: tokenizer: "),
    ("model", ["x"], r"seqtrack: model: .*dictionary, got a list of 1"),
    ("more", 5, r"seqtrack: more"),
    ("format", True, "format True, this version reads formats"),
    ("format", "1", "format '1', this version"),
    ("format", 1.0, "format 1.0, this version"),
    ("tokenizer.bins", "x", r"tokenizer: bins: .*integer, got 'x'"),
    ("tokenizer.order", ["cxcywh"], r"tokenizer: order: .*'cxcywh', 'whcxcy' or 'xyxy', got a list of 1"),
    ("model.memory", {}, r"model: memory: .*'search', 'both' or 'mean', got an object"),
    ("model.encoder", "x", r"model\.encoder must describe a Encoder, it is 'x'"),
    ("model.encoder", None, r"model\.encoder must describe a Encoder, it is None"),
    ("model.encoder.heads", "x", r"model\.encoder: heads: .*integer, got 'x'"),
    ("model.encoder.mlp_ratio", "x", r"model\.encoder: mlp_ratio: .*number, got 'x'"),
    ("model.decoder.dropout", "x", r"model\.decoder: dropout: .*number, got 'x'"),
    ("model.decoder.xavier", True, r"model\.decoder: .*xavier"),
    ("model.encoder.joint", "x", r"model\.encoder: joint: .*boolean, got 'x'"),
    ("model.encoder._target_", ["os.system"], "is not one of"),
    ("model._target_", "seqtrack_lit.models.decoder.Decoder", r"x\.ckpt: "),
    ("model.encoder.a b", 5, "which is no name of an argument"),
    ("model.encoder.\x1b[31m", 5, "which is no name of an argument"),
    ("model.encoder.width", torch.zeros(2), r"seqtrack\.model\.encoder\.width holds a tensor"),
    ("model.encoder.width", b"24", r"seqtrack\.model\.encoder\.width holds an object of a class"),
    ("model.encoder.width", complex(24, 0), r"seqtrack\.model\.encoder\.width holds an object of a class"),
    ("model.encoder.search_size", "a" * 10**6, r"seqtrack\.model\.encoder\.search_size .*at most 4096"),
    ("model.encoder", {**TIMM, "name": 5}, r"model\.encoder: name: .*string, got 5"),
    ("model.encoder", {**TIMM, "name": "no_such_model"}, "no_such_model"),
    ("model.encoder", {**TIMM, "options": [5]}, r"model\.encoder: options: .*dictionary, got a list of 1"),
    ("model.encoder", {**TIMM, "options": {"checkpoint_path": "x.ckpt"}}, r"options\.checkpoint_path is no argument"),
    ("model.encoder", {**TIMM, "options": {"pretrained_cfg_overlay": {}}}, r"pretrained_cfg_overlay is no argument"),
    ("model.encoder", {**TIMM, "options": {"num_heads": "x"}}, r"x\.ckpt: "),
    ("model.encoder", {**TIMM, "options": {"norm_layer": "os.system"}}, r"x\.ckpt: "),
]


@pytest.mark.parametrize(("key", "value", "says"), WRONG, ids=str)
def test_values_of_another_type_are_named_with_file_and_field(tmp_path, key, value, says):
    path = tmp_path / "x.ckpt"
    torch.save(changed(key, value), path)
    with pytest.raises(ValueError, match=says) as error:
        load_seqtrack(path, device="cpu")
    assert "x.ckpt" in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700


def test_descriptions_that_contain_themselves_or_unfold_to_much(tmp_path):
    path, circle, many = tmp_path / "x.ckpt", {}, "x"
    circle["again"] = circle
    for _ in range(7):
        many = [many] * 10
    for value in (circle, many):
        torch.save(changed("model.encoder", value), path)
        with pytest.raises(ValueError, match="at most 1000 values, nested 8 deep"):
            load_model(path)


@pytest.mark.parametrize("name", ["../up", "/abs", "a/b", "", "a\nb", "nul"])
def test_the_name_in_a_checkpoint_is_no_path(tmp_path, name):
    path = tmp_path / "x.ckpt"
    torch.save(changed("tracker.name", name), path)
    with pytest.raises(ValueError, match=r"tracker\.name .*cannot name a file or folder"):
        load_seqtrack(path, device="cpu")
