"""Official checkpoints become models, and models official checkpoints; what does not fit is named."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from tests.models.by_hand import Options, config_of, shapes_of, state_of, write_checkpoint

from seqtrack_lit.models.checkpoint import Checkpoint, export_official, fill, load_model, load_weights
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.description import build_model
from seqtrack_lit.models.encoder import ViTEncoder
from seqtrack_lit.models.official import OfficialConfig, describe, mean_probability
from seqtrack_lit.models.official_names import key_table
from seqtrack_lit.models.seqtrack import SeqTrack
from seqtrack_lit.tokens import BoxTokenizer

SMALL = Options(width=24, hidden=16, heads=2, nheads=4)
#: The model of `tiny`.
TINY = replace(SMALL, bins=20, search_size=32, template_size=32, depth=1)
PUBLISHED = {
    "b256": (Options(bins=4000, width=768, depth=12, heads=12, hidden=256, nheads=8, ffn=1024), 256, 90_596_002),
    "b384": (Options(bins=4000, width=768, depth=12, heads=12, hidden=256, nheads=8, ffn=1024), 384, 91_169_442),
    "l256": (Options(bins=4000, width=1024, depth=24, heads=16, hidden=256, nheads=8, ffn=1024), 256, 308_244_898),
    "l384": (Options(bins=4000, width=1024, depth=24, heads=16, hidden=256, nheads=8, ffn=1024), 384, 308_982_178),
}


def meta_state(o: Options) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes_of(o).items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_need_no_configuration(name):
    o, side, parameters = PUBLISHED[name]
    state = meta_state(replace(o, search_size=side, template_size=side))
    description = describe(state, source="it")
    with torch.device("meta"):
        model = build_model(description.tokenizer, description.model)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert (model.templates, model.search_size, model.template_size) == (2, side, side)
    assert model.tokenizer == BoxTokenizer(4000, "cxcywh")
    assert model.encoder.blocks[0].attn.heads == o.heads
    assert description.tracker == {
        "search_factor": 4.0,
        "template_factor": 4.0,
        "window": True,
        "update": "likelihood",
        "update_interval": 9999,
        "update_threshold": 0.015,
        "clip_margin": 10.0,
        "padding": "official",
    }


def test_the_table_is_one_to_one_and_lossless():
    for o in (SMALL, replace(SMALL, memory="xz", templates=3, depth=1, layers=3, template_size=32)):
        rows = key_table(o.depth, o.layers)
        official, ours = [row.official for row in rows], [name for row in rows for name in row.ours]
        assert sorted(official) == sorted(shapes_of(o))
        assert len(set(official)) == len(official)
        assert len(set(ours)) == len(ours)


def test_round_trip_is_bitwise(tmp_path):
    o = replace(SMALL, memory="xz", templates=3, template_size=32, order="whxy", pre_norm=True)
    checkpoint, config = write_checkpoint(tmp_path, o)
    model = load_model(checkpoint, official_config=config).model
    exported = tmp_path / "out" / "SEQTRACK_ep0123.pth.tar"
    export_official(model, exported, epoch=123)
    content = torch.load(exported, weights_only=True)
    assert set(content) >= {"epoch", "net", "net_type", "constructor"}
    assert (content["epoch"], content["net_type"], content["constructor"]) == (123, "SEQTRACK", None)
    state = state_of(o)
    assert set(content["net"]) == set(state)
    assert all(torch.equal(content["net"][name], state[name]) for name in state)
    again = load_model(exported, official_config=config).model
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def tiny(**changes: object) -> SeqTrack:
    """A small model of ours."""
    tokenizer = BoxTokenizer(20)
    encoder = {
        "search_size": 32,
        "template_size": 32,
        "width": 24,
        "depth": 1,
        "heads": 2,
        **changes.pop("encoder", {}),
    }
    decoder = {"width": 16, "heads": 4, "ffn": 24, **changes.pop("decoder", {})}
    return SeqTrack(
        tokenizer=tokenizer, encoder=ViTEncoder(**encoder), decoder=Decoder(tokenizer=tokenizer, **decoder), **changes
    )


def yaml_of(o: Options, path: Path) -> Path:
    """The official configuration of a model as a file."""
    path.write_text(yaml.safe_dump(config_of(o)))
    return path


def test_a_model_of_ours_in_the_official_layout(tmp_path):
    model = tiny(dense_head=True).eval()  # the dense head is for training alone
    path = tmp_path / "SEQTRACK_ep0500.pth.tar"
    export_official(model, path)
    loaded = load_model(path, official_config=yaml_of(TINY, tmp_path / "tiny.yaml")).model
    images = torch.randn(1, 2, 3, 32, 32), torch.randn(1, 3, 32, 32)
    assert torch.equal(model.generate(*images).likelihoods, loaded.generate(*images).likelihoods)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"encoder": {"joint": False}, "memory": "both"}, "joint"),
        ({"decoder": {"bidirectional": True}}, "bidirectional"),
        ({"decoder": {"past": 4}}, "past"),
        ({"encoder": {"width": 16}, "map_equal_widths": True}, "map_equal_widths"),
    ],
)
def test_what_the_official_code_has_no_model_for(tmp_path, changes, named):
    with pytest.raises(ValueError, match=named):
        export_official(tiny(**changes), tmp_path / "x.pth.tar")
    assert not list(tmp_path.iterdir())


def test_the_file_settles_how_a_mean_memory_splits(tmp_path):
    o = replace(SMALL, memory="token", search_size=64, template_size=32, templates=3)
    checkpoint, config = write_checkpoint(tmp_path, o)
    model = load_model(checkpoint, official_config=config).model
    assert (model.memory, model.search_size, model.template_size, model.templates) == ("mean", 64, 32, 3)


CONTRADICTIONS = [
    ({"MODEL": {"BINS": 61}}, r"MODEL\.BINS = 61, but the tensors show 60"),
    ({"MODEL": {"HIDDEN_DIM": 32}}, "HIDDEN_DIM"),
    ({"MODEL": {"DECODER": {"DEC_LAYERS": 6}}}, r"MODEL\.DECODER\.DEC_LAYERS = 6, but the tensors show 2"),
    ({"MODEL": {"FEATURE_TYPE": "xz"}}, r"with official_config .*pos_embed has shape \(1, 9, 16\), the model needs"),
    ({"MODEL": {"FEATURE_TYPE": "y"}}, "one of x, xz, token"),
    ({"MODEL": {"ENCODER": {"TYPE": "vit_large_patch16"}}}, "24 blocks of width 1024"),
    ({"MODEL": {"WIDTH": 5}}, r"unknown key MODEL\.WIDTH; known are MODEL"),
    ({"DATA": {"SEQ_FORMAT": "cxcywh"}}, "one of xywh, whxy, corner"),
    ({"DATA": {"SEARCH": {"SIZE": 64}}}, r"TEST\.SEARCH_SIZE = 48, but DATA\.SEARCH\.SIZE = 64"),
    ({"DATA": {"SEARCH": {"SIZE": 64}}, "TEST": {"SEARCH_SIZE": 64}}, r"with official_config .*pos_embed has shape"),
    ({"DATA": {"SEARCH": {"SIZE": "48"}}}, "the two must agree"),
    ({"_GOLDEN": {"tiny_vit": 5}}, r"the heads of an encoder of width 24 are not known"),
    ({"_GOLDEN": {"tiny_vit": {"num_heads": 5}}}, "multiple of"),
    ({"DATA": {"SEARCH": {"NUMBER": 2}}}, "one search region"),
    (
        {"DATA": {"TEMPLATE": {"NUMBER": 3}}},
        r"NUM_TEMPLATES = 2, but DATA\.TEMPLATE\.NUMBER = 3 .*must agree",
    ),
    ({"TEST": {"NUM_TEMPLATES": 1}}, r"TEST\.NUM_TEMPLATES = 1, but"),
    ({"TEST": {"SEARCH_SIZE": 64}}, r"TEST\.SEARCH_SIZE = 64, but"),
    ({"MODEL": {"DECODER": {"PRE_NORM": "false"}}}, "pre_norm: .*boolean"),
    ({"DATA": {"SEQ_FORMT": "corner"}}, r"unknown key DATA\.SEQ_FORMT; known are DATA"),
    ({"TEST": {"WINDOWS": True}}, r"unknown key TEST\.WINDOWS"),
    ({"TEST": {"UPDATE_INTERVAL": {"LASOT": 3}}}, r"unknown key TEST\.UPDATE_INTERVAL\.LASOT; .*UPDATE_INTERVALS"),
    ({"TEST": None}, r"unknown key TEST; known are TEST\."),
    ({"TEST": {"UPDATE_INTERVALS": {"DEFAULT": "often"}}}, "whole numbers"),
]


def merge(tree: dict, change: dict) -> dict:
    return {**tree, **{k: merge(tree.get(k, {}), v) if isinstance(v, dict) else v for k, v in change.items()}}


@pytest.mark.parametrize(("change", "says"), CONTRADICTIONS)
def test_a_file_that_contradicts_the_tensors(tmp_path, change, says):
    checkpoint, config = write_checkpoint(tmp_path, SMALL)
    config.write_text(yaml.safe_dump(merge(config_of(SMALL), change)))
    with pytest.raises(ValueError, match=says):
        load_model(checkpoint, official_config=config)


def test_the_memory_fixes_the_number_of_templates(tmp_path):
    o = replace(SMALL, memory="xz", templates=3)
    checkpoint, config = write_checkpoint(tmp_path, o)
    config.write_text(yaml.safe_dump(config_of(replace(o, templates=2))))
    with pytest.raises(
        ValueError, match=r"official_config .*pos_embed has shape \(1, 36, 16\), the model needs \(1, 27,"
    ):
        load_model(checkpoint, official_config=config)


def test_partial_files_mean_the_official_defaults(tmp_path):
    o = replace(SMALL, templates=1, nheads=8)
    checkpoint, config = write_checkpoint(tmp_path, o)
    config.write_text(yaml.safe_dump({"MODEL": {}, "_GOLDEN": config_of(o)["_GOLDEN"]}))
    loaded = load_model(checkpoint, official_config=config)
    decoder = loaded.description.model["decoder"]
    assert (decoder["heads"], decoder["pre_norm"], decoder["dropout"]) == (8, False, 0.1)
    assert loaded.model.templates == 1
    assert loaded.tracker["window"] is False
    assert (loaded.tracker["update_interval"], loaded.tracker["update_threshold"]) == (9999, 0.015)
    # one count given, the other silent: the official defaults do not agree
    config.write_text(yaml.safe_dump({"TEST": {"NUM_TEMPLATES": 2}, "_GOLDEN": config_of(o)["_GOLDEN"]}))
    with pytest.raises(ValueError, match="NUM_TEMPLATES"):
        load_model(checkpoint, official_config=config)


UPDATES = [
    ("none", {}, {}, 9999, 0.6),
    ("lasot", {}, {}, 450, 0.6),
    ("LaSOT", {"DEFAULT": 3}, {"DEFAULT": 0.2}, 450, 0.2),
    ("lasot", {"LASOT": 7}, {"LASOT": 0.3}, 7, 0.3),
    ("vot20", {"DEFAULT": 3}, {"DEFAULT": 0.2}, 10, 0.475),
    ("vot20", {"VOT20": 1}, {}, 1, 0.475),
    ("mine", {"DEFAULT": 3, "MINE": 5}, {"DEFAULT": 0.2}, 5, 0.2),
    ("mine", {"DEFAULT": 3}, {"MINE": 0.7}, 3, 0.7),
]


@pytest.mark.parametrize(("dataset", "intervals", "thresholds", "interval", "threshold"), UPDATES)
def test_interval_and_threshold_fall_back_independently(tmp_path, dataset, intervals, thresholds, interval, threshold):
    checkpoint, config = write_checkpoint(tmp_path, SMALL)
    tree = config_of(SMALL)
    tree["TEST"] |= {"UPDATE_INTERVALS": intervals, "UPDATE_THRESHOLD": thresholds}
    tree["_GOLDEN"]["dataset_name"] = dataset
    config.write_text(yaml.safe_dump(tree))
    assert OfficialConfig.read(config).update(dataset) == (interval, threshold)
    tracker = load_model(checkpoint, official_config=config).tracker
    assert (tracker["update_interval"], tracker["update_threshold"]) == (interval, threshold / 40)


@pytest.mark.parametrize(("official", "ours"), [(0.6, 0.015), (0.0, 0.0), (-1.0, 0.0), (40.0, 1.0), (9999.0, 1.0)])
def test_thresholds_in_our_unit(official, ours):
    assert mean_probability(official) == ours


def test_other_models_ask_for_the_file(tmp_path):
    checkpoint, _ = write_checkpoint(tmp_path, SMALL)
    with pytest.raises(ValueError, match=r"none of the published models .*give official_config=FILE") as error:
        load_model(checkpoint)
    assert "\n" not in str(error.value)


SHOWING = ("pos_embed", "encoder.body.blocks.0.mlp.fc1.weight", "encoder.body.norm.weight")


@pytest.mark.parametrize("damage", ["missing", "scalar", "one dimension more", "empty"])
@pytest.mark.parametrize("name", SHOWING)
def test_damaged_tensors_that_show_the_model_are_named(name, damage):
    state = state_of(SMALL)
    tensor = state.pop(name)
    if damage != "missing":
        state[name] = {"scalar": tensor.sum(), "one dimension more": tensor[None], "empty": tensor[:0]}[damage]
    with pytest.raises(ValueError, match=rf"it: key {re.escape(name)} (is missing|has shape)"):
        describe(state, source="it")


MISFITS = [
    ({"bins": 61}, r"word_embeddings\.weight has shape \(63, 16\), the model needs \(62, 16\)"),
    ({"depth": 3}, r"no place for encoder\.body\.blocks\.2"),
    ({"depth": 1}, r"encoder\.body\.blocks\.1\.norm1\.weight \(24,\) is missing"),
    ({"search_size": 64}, r"pos_embed has shape \(1, 16, 16\), the model needs \(1, 9, 16\)"),
    ({"hidden": 32}, r"pos_embed has shape"),
]


@pytest.mark.parametrize(("change", "says"), MISFITS)
def test_a_checkpoint_of_another_model(tmp_path, change, says):
    checkpoint, config = write_checkpoint(tmp_path / "a", SMALL)
    model = load_model(checkpoint, official_config=config).model
    before = [p.clone() for p in model.parameters()]
    other, _ = write_checkpoint(tmp_path / "b", replace(SMALL, **change))
    with pytest.raises(ValueError, match=says) as error:
        load_weights(model, other)
    assert "blocks of width 24" in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_the_fitting_model_is_named():
    state = meta_state(PUBLISHED["l256"][0])
    with pytest.raises(
        ValueError, match="this checkpoint has 24 blocks of width 1024: use model=seqtrack_l256 or l384"
    ):
        fill(tiny(), Checkpoint("large.pth.tar", "official", official=True, state=state, description=None))


@pytest.mark.parametrize(
    "content", ["", "- a\n- b\n", "MODEL: [unclosed", "name: me\n", "!!python/object/apply:os.getcwd []"]
)
def test_files_that_are_no_configuration(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"a\.yaml"):
        OfficialConfig.read(tmp_path / "a.yaml")
    with pytest.raises(FileNotFoundError, match=r"b\.yaml"):
        OfficialConfig.read(tmp_path / "b.yaml")
