"""Other people's ViTs as joint encoders: cut to two narrow blocks, random weights."""

from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from seqtrack_lit.models import pretrained
from seqtrack_lit.models.description import build_model
from seqtrack_lit.models.encoder import IMAGENET_MEAN, IMAGENET_STD, ViTEncoder
from seqtrack_lit.models.pretrained import create_vit, resample
from seqtrack_lit.models.timm_encoder import TimmEncoder

CONF = Path(__file__).resolve().parents[2] / "conf"
SMALL = {"depth": 2, "embed_dim": 64, "num_heads": 2}

# name: patch
FAMILIES = {
    "vit_base_patch16_224.augreg_in21k": 16,
    "vit_base_patch16_224.mae": 16,
    "deit3_base_patch16_224.fb_in22k_ft_in1k": 16,
    "vit_base_patch16_clip_224.openai": 16,
    "vit_base_patch16_siglip_256.v2_webli": 16,
    "vit_base_patch14_reg4_dinov2.lvd142m": 14,
    "vit_base_patch16_dinov3.lvd1689m": 16,
    "eva02_base_patch14_224.mim_in22k": 14,
    "vit_pe_core_base_patch16_224.fb": 16,
    "aimv2_large_patch14_224.apple_pt": 14,
}


def encoder(name: str, **changes) -> TimmEncoder:
    torch.manual_seed(0)
    patch = FAMILIES[name]
    sizes = {"search_size": 4 * patch, "template_size": 2 * patch, "templates": 2}
    net = TimmEncoder(name=name, options=SMALL, **sizes | changes).eval()
    with torch.no_grad():  # some families start branches at zero
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return net


def images(net: TimmEncoder, batch: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    shape = (batch, net.templates, 3, net.template_size, net.template_size)
    return torch.randn(shape), torch.randn(batch, 3, net.search_size, net.search_size)


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_sizes_and_gradients(name):
    patch = FAMILIES[name]
    for sizes in ({}, {"search_size": 2 * patch, "template_size": 3 * patch, "templates": 1}):
        net = encoder(name, **sizes).train()
        features = net(*images(net))
        assert net.patch == patch
        assert net.width == 64
        assert features.shape == (2, net.search_grid**2 + net.templates * net.template_grid**2, 64)
        (features.square() * torch.linspace(0, 1, 64)).mean().backward()
        assert [key for key, p in net.named_parameters() if p.grad is None or (p.grad == 0).all()] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_templates_alter_search_features(name):
    net = encoder(name)
    templates, search = images(net)
    tokens = net.search_tokens
    before, after = net(templates, search), net(templates.flip(0), search)
    assert ((before - after)[:, :tokens].abs().amax((1, 2)) > 1e-6).all()
    exchanged = net(templates.flip(1), search)  # templates share positions
    torch.testing.assert_close(before[:, :tokens], exchanged[:, :tokens], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_without_templates_it_is_the_model_of_timm(name):
    """The search region alone, at the size the positions are made for, gives timm's own features."""
    torch.manual_seed(0)
    reference = create_vit(name, False, SMALL).eval()
    side, patch = reference.patch_embed.img_size[0], FAMILIES[name]
    torch.manual_seed(0)
    net = TimmEncoder(name=name, options=SMALL, search_size=side, template_size=patch, templates=1).eval()
    net.templates = 0
    search = torch.randn(1, 3, side, side)
    config = reference.pretrained_cfg
    raw = search * torch.tensor(IMAGENET_STD)[:, None, None] + torch.tensor(IMAGENET_MEAN)[:, None, None]
    its_own = (raw - torch.tensor(config["mean"])[:, None, None]) / torch.tensor(config["std"])[:, None, None]
    expected = reference.forward_features(its_own)
    if isinstance(reference.norm, torch.nn.Identity):
        expected = reference.fc_norm(expected)
    features = net(torch.zeros(1, 0, 3, patch, patch), search)
    torch.testing.assert_close(features, expected[:, reference.num_prefix_tokens :], atol=1e-4, rtol=1e-4)


def test_checkpointing_changes_no_gradient():
    gradients = []
    for checkpoint in (False, True):
        net = encoder("vit_base_patch16_dinov3.lvd1689m", checkpoint=checkpoint).train()
        net(*images(net)).square().mean().backward()
        gradients.append([parameter.grad for parameter in net.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_resampling_keeps_corners_and_straight_lines():
    # a plane over the grid, aligned corners: bicubic interpolation keeps its corners, and its middle by symmetry
    y, x = torch.meshgrid(torch.linspace(0, 1, 14), torch.linspace(0, 1, 14), indexing="ij")
    plane = torch.stack([x, y], -1).view(1, 196, 2)
    grid = resample(plane, 17).view(17, 17, 2)
    torch.testing.assert_close(grid[[0, 0, 16, 16], [0, 16, 0, 16]], torch.tensor([[0.0, 0], [1, 0], [0, 1], [1, 1]]))
    torch.testing.assert_close(grid[8, 8], torch.tensor([0.5, 0.5]))
    assert resample(plane, 14) is plane


@pytest.mark.parametrize("wrap", ["model", None], ids=["official file", "timm file"])
def test_mae_fills_our_vit(tmp_path, wrap):
    torch.manual_seed(0)
    mae = timm.create_model("vit_base_patch16_224.mae", depth=1, num_classes=0)
    path = tmp_path / "mae_pretrain_vit_base.pth"
    torch.save({wrap: mae.state_dict()} if wrap else mae.state_dict(), path)
    net = ViTEncoder(search_size=256, template_size=224, depth=1, pretrained=str(path))
    ours, theirs = net.state_dict(), mae.state_dict()
    assert torch.equal(ours["blocks.0.attn.qkv.weight"], theirs["blocks.0.attn.qkv.weight"])
    assert torch.equal(ours["patch_embed.weight"], theirs["patch_embed.proj.weight"])
    assert torch.equal(ours["norm.weight"], theirs["norm.weight"])
    assert torch.equal(ours["template_position"], theirs["pos_embed"][:, 1:])  # without the class token; 14 x 14
    assert torch.equal(ours["search_position"], resample(theirs["pos_embed"][:, 1:], 16))


def test_our_vit_computes_what_timm_computes(tmp_path):
    torch.manual_seed(0)
    theirs = TimmEncoder(
        name="vit_base_patch16_224.mae", search_size=64, template_size=32, templates=2, options={"depth": 1}
    ).eval()
    theirs.prefix = None  # ours has no class token
    ours = ViTEncoder(search_size=64, template_size=32, templates=2, depth=1).eval()
    state = {key.replace("patch_embed.proj", "patch_embed"): tensor for key, tensor in theirs.state_dict().items()}
    ours.load_state_dict(state)
    torch.testing.assert_close(ours(*images(ours)), theirs(*images(theirs)), atol=1e-5, rtol=1e-5)


def test_a_file_fills_a_timm_encoder(tmp_path):
    name = "vit_base_patch16_siglip_256.v2_webli"
    torch.manual_seed(0)
    source = timm.create_model(name, num_classes=0, **SMALL)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = TimmEncoder(name=name, pretrained=str(tmp_path / "weights.pth"), options=SMALL)
    assert torch.equal(net.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)
    assert torch.equal(net.search_position, source.pos_embed)


def test_a_checkpoint_needs_not_what_it_started_from():
    arguments = {"encoder": {"_target_": "seqtrack_lit.models.timm_encoder.TimmEncoder", "pretrained": "gone.pth"}}
    arguments["encoder"] |= {"name": "vit_base_patch16_224.mae", "options": SMALL}
    arguments["decoder"] = {"_target_": "seqtrack_lit.models.decoder.Decoder"}
    assert build_model({"bins": 20}, arguments).encoder.width == 64


def test_no_network_names_the_file():
    with pytest.raises(FileNotFoundError, match=r"hugg.*dinov3.* set model\.encoder\.pretrained=.*=false"):
        TimmEncoder(name="vit_base_patch16_dinov3.lvd1689m", pretrained=True, options=SMALL)
    with pytest.raises(
        FileNotFoundError,
        match=r"mae_pretrain_vit_base\.pth and set model\.encoder\.pretrained=mae_pretrain_vit_base\.pth",
    ):
        ViTEncoder(depth=1, pretrained=True)


@pytest.mark.parametrize("answer", ["nobody", "an error page"])
def test_weights_are_asked_for_once(answer, monkeypatch):
    """Nobody answers: told at once. A server answers, whatever it says: the download may begin."""
    asked = []

    def urlopen(request, timeout):
        asked.append((request.full_url, timeout))
        raise URLError("no route") if answer == "nobody" else HTTPError(request.full_url, 401, "", None, None)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    if answer == "nobody":
        with pytest.raises(FileNotFoundError, match="could not be downloaded"):
            pretrained._downloaded("vit_base_patch16_224.mae")
    else:
        assert pretrained._downloaded("vit_base_patch16_224.mae") is None
    assert asked == [("https://huggingface.co", 5)]


def test_weights_that_were_downloaded_need_no_network(tmp_path, monkeypatch):
    options = {"depth": 1}
    reference = timm.create_model("vit_base_patch16_224.mae", num_classes=0, **options)
    torch.save(reference.state_dict(), tmp_path / "pytorch_model.bin")
    found = {"pytorch_model.bin": str(tmp_path / "pytorch_model.bin")}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name: found.get(name))
    net = ViTEncoder(depth=1, pretrained=True)
    assert torch.equal(net.blocks[0].attn.qkv.weight, reference.blocks[0].attn.qkv.weight)


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth: no such file"):
        ViTEncoder(depth=1, pretrained=str(tmp_path / "nothing.pth"))
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(ValueError, match=r"text\.pth does not hold the weights of vit_base_patch16_224\.mae"):
        ViTEncoder(depth=1, pretrained=str(tmp_path / "text.pth"))
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"other\.pth does not hold the weights"):
        ViTEncoder(depth=1, pretrained=str(tmp_path / "other.pth"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "timm cannot make resnet18|resnet18 is not a plain ViT"),
        ("swin_tiny_patch4_window7_224", "swin_tiny_patch4_window7_224"),
        ("beit_base_patch16_224", "beit_base_patch16_224"),
        ("vit_base_patch61", "vit_base_patch61"),
    ],
)
def test_other_models_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        TimmEncoder(name=name)


def test_patch_14_needs_its_sizes():
    with pytest.raises(ValueError, match="multiple of the patch size 14, got 256; the nearest are 252 and 266"):
        TimmEncoder(name="vit_base_patch14_reg4_dinov2.lvd142m", options=SMALL)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["+model=seqtrack_b384", "model/encoder=dinov2_b14", "model.encoder.search_size=384"],
            r"search_size must be a multiple of the patch size 14, got 384; .*: write model\.encoder\.search_size=378",
        ),
        (
            ["+model=seqtrack_b256", "model/encoder=augreg_b16", "+model.encoder.joint=false", "model.memory=both"],
            r"joint=false \(ablation=separate\) needs the built-in ViT: write model/encoder=mae_b16",
        ),
    ],
    ids=["b384 in patches of 14", "separate"],
)
def test_what_an_encoder_of_timm_cannot_do(overrides, message):
    """Said before anything is downloaded."""
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=["+tokenizer=default", *overrides])
    with pytest.raises(InstantiationException, match=message):
        instantiate(config.model)


@pytest.mark.parametrize(("width", "patch"), [(384, 16), (768, 8)])
def test_mae_needs_its_shapes(width, patch):
    with pytest.raises(ValueError, match="needs ViT-B or ViT-L"):
        ViTEncoder(search_size=16, template_size=16, width=width, patch=patch, depth=1, pretrained=True)


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "model" / "encoder").glob("*.yaml")))
def test_every_encoder_configuration_builds(name):
    overrides = [
        "+tokenizer=default",
        "+model=seqtrack_b256",
        f"model/encoder={name}",
        "model.encoder.pretrained=false",
    ]
    if name == "timm":
        overrides.append("model.encoder.name=vit_small_patch16_224")
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=overrides)
    with torch.device("meta"):
        net = instantiate(config.model)
    assert net.encoder.search_size in ((140,) if name == "dinov2_s14" else (252, 256))
    if name != "timm":  # the commands compare the letter with the model's
        assert net.encoder.width == {"s": 384, "b": 768, "l": 1024}[name.rpartition("_")[2][0]]
    assert net.memory_position.shape[1] == net.encoder.search_tokens
