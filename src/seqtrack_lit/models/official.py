"""The official SeqTrack's checkpoints and configuration files, read as ours and written back.

Source: microsoft/VideoX, folder SeqTrack: lib/models/seqtrack/ (names of the tensors), lib/config/seqtrack/config.py
(defaults), lib/test/tracker/seqtrack.py (what the tracker takes from the configuration).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from seqtrack_lit.files import read_yaml

State = Mapping[str, Tensor]

#: Template update per official data set name: frames between two looks, and the threshold in official units
#: (40 times a mean probability). Interval and threshold are looked up independently of each other.
INTERVALS: dict[str, int] = {
    "DEFAULT": 9999,
    "LASOT": 450,
    "LASOT_EXTENSION_SUBSET": 9999,
    "GOT10K_TEST": 1,
    "TRACKINGNET": 25,
    "TNL2K": 25,
    "OTB": 9999,
    "NFS": 9999,
    "UAV": 9999,
    "VOT20": 10,
    "VOT21": 10,
    "VOT22": 10,
}
THRESHOLDS: dict[str, float] = {"DEFAULT": 0.6, "VOT20": 0.475, "VOT21": 0.475, "VOT22": 0.475}
#: The published models: blocks and width of the encoder.
PUBLISHED = {
    "seqtrack_b256": (12, 768),
    "seqtrack_b384": (12, 768),
    "seqtrack_l256": (24, 1024),
    "seqtrack_l384": (24, 1024),
}
#: Attention heads of the official encoders ViT-B, ViT-L and ViT-H by width; tensors do not show them.
HEADS = {768: 12, 1024: 16, 1280: 16}
#: Official encoders by the name in MODEL.ENCODER.TYPE: blocks and width.
ENCODERS = {"vit_base_patch16": (12, 768), "vit_large_patch16": (24, 1024), "vit_huge_patch14": (32, 1280)}

ORDERS = {"xywh": "cxcywh", "whxy": "whcxcy", "corner": "xyxy"}
MEMORIES = {"x": "search", "xz": "both", "token": "mean"}

#: What an official configuration file means where it is silent.
DEFAULTS: dict[str, object] = {
    "DATA.SEQ_FORMAT": "xywh",
    "DATA.SEARCH.NUMBER": 1,
    "DATA.TEMPLATE.NUMBER": 1,
    "MODEL.DECODER.NHEADS": 8,
    "MODEL.DECODER.DROPOUT": 0.1,
    "MODEL.DECODER.PRE_NORM": False,
    "TEST.TEMPLATE_FACTOR": 4.0,
    "TEST.SEARCH_FACTOR": 4.0,
    "TEST.WINDOW": False,
    "TEST.NUM_TEMPLATES": 1,
}
#: What the published models' files say where that differs; used when no configuration is given.
PUBLISHED_DEFAULTS: dict[str, object] = {
    **DEFAULTS,
    "DATA.TEMPLATE.NUMBER": 2,
    "TEST.NUM_TEMPLATES": 2,
    "TEST.WINDOW": True,
}
_READ = {
    *DEFAULTS,
    *("MODEL.HIDDEN_DIM", "MODEL.BINS", "MODEL.FEATURE_TYPE", "MODEL.ENCODER.TYPE"),
    *("MODEL.DECODER.DEC_LAYERS", "MODEL.DECODER.DIM_FEEDFORWARD", "DATA.SEARCH.SIZE", "DATA.TEMPLATE.SIZE"),
    *("TEST.SEARCH_SIZE", "TEST.TEMPLATE_SIZE"),
}
_TRAINING_ONLY = {
    *(
        "MODEL.ENCODER.STRIDE",
        "MODEL.ENCODER.DROP_PATH",
        "MODEL.ENCODER.PRETRAIN_TYPE",
        "MODEL.ENCODER.USE_CHECKPOINT",
        "TEST.EPOCH",
    ),
    *(f"DATA.{crop}.{key}" for crop in ("SEARCH", "TEMPLATE") for key in ("FACTOR", "CENTER_JITTER", "SCALE_JITTER")),
    *(f"DATA.{key}" for key in ("MEAN", "STD", "MAX_SAMPLE_INTERVAL", "SAMPLER_MODE", "LOADER")),
    *(f"DATA.TRAIN.{key}" for key in ("DATASETS_NAME", "DATASETS_RATIO", "SAMPLE_PER_EPOCH")),
}
_SECTIONS = ("MODEL", "DATA", "TEST")
_UPDATE = re.compile(r"TEST\.UPDATE_(INTERVALS|THRESHOLD)\.[^.]+")  # .<name of a data set>


class Row(NamedTuple):
    """One line of the key table: an official tensor, and ours that make it when joined along `dim`."""

    official: str
    ours: tuple[str, ...]
    dim: int = 0
    flat: bool = False  # the official tensor lacks our leading axis of length 1


def key_table(depth: int, layers: int) -> list[Row]:
    """Official names -> our names, for an encoder of `depth` blocks and a decoder of `layers` layers."""
    rows = [
        Row("pos_embed", ("memory_position",)),
        Row("encoder.body.pos_embed", ("encoder.search_position", "encoder.template_position"), dim=1),
        Row("decoder.embedding.word_embeddings.weight", ("decoder.embedding.weight",)),
        Row("decoder.embedding.position_embeddings.weight", ("decoder.position",), flat=True),
    ]
    pairs = {
        "encoder.body.patch_embed.proj": "encoder.patch_embed",
        "encoder.body.norm": "encoder.norm",
        "bottleneck": "linear",
        "decoder.embedding.LayerNorm": "decoder.embedding_norm",
        "decoder.body.norm": "decoder.norm",
        **{f"vocab_embed.layers.{i}": f"decoder.head.{2 * i}" for i in range(3)},
    }
    for i in range(depth):
        for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
            pairs[f"encoder.body.blocks.{i}.{part}"] = f"encoder.blocks.{i}.{part}"
    for i in range(layers):
        official, ours = f"decoder.body.layers.{i}", f"decoder.layers.{i}"
        pairs |= {f"{official}.norm{n}": f"{ours}.norm{n}" for n in (1, 2, 3)}
        pairs |= {f"{official}.linear1": f"{ours}.ffn.0", f"{official}.linear2": f"{ours}.ffn.3"}
        for theirs, name in (("self_attn", "self_attention"), ("multihead_attn", "cross_attention")):
            pairs[f"{official}.{theirs}.out_proj"] = f"{ours}.{name}.out"
            for kind in ("weight", "bias"):  # one official matrix for queries, keys and values
                parts = tuple(f"{ours}.{name}.{part}.{kind}" for part in ("query", "key", "value"))
                rows.append(Row(f"{official}.{theirs}.in_proj_{kind}", parts))
    return rows + [
        Row(f"{theirs}.{kind}", (f"{ours}.{kind}",)) for theirs, ours in pairs.items() for kind in ("weight", "bias")
    ]


def count(state: State, prefix: str) -> int:
    """How many numbered parts `<prefix>.0.`, `<prefix>.1.`, ... a state dict has, each counted once."""
    return len({found[1] for key in state if (found := re.match(re.escape(prefix) + r"\.(\d+)\.", key))})


def to_ours(official: State, model: State, source: str) -> dict[str, Tensor]:
    """An official state dict under our names, cut for a model of ours.

    Args:
        official: official state dict.
        model: state dict of the model to fill; only names and shapes are read.
        source: where the official tensors come from, for messages.

    Raises:
        ValueError: a tensor too many, too few or of another shape; the message says which published model fits.
    """
    rows = key_table(count(model, "encoder.blocks"), count(model, "decoder.layers"))
    ours: dict[str, Tensor] = {}
    for row in rows:
        parts = [model[key] for key in row.ours]
        shape = list(parts[0].shape)
        shape[row.dim] = sum(part.shape[row.dim] for part in parts)
        wanted = tuple(shape[1:] if row.flat else shape)
        if row.official not in official:
            raise ValueError(f"{source}: key {row.official} {wanted} is missing{fitting(official)}")
        tensor = official[row.official]
        if tuple(tensor.shape) != wanted:
            raise ValueError(
                f"{source}: key {row.official} has shape {tuple(tensor.shape)}, the model needs {wanted}"
                + fitting(official)
            )
        whole = tensor[None] if row.flat else tensor
        split = torch.split(whole, [part.shape[row.dim] for part in parts], dim=row.dim)
        ours.update(zip(row.ours, split, strict=True))
    unused = sorted(set(official) - {row.official for row in rows})
    if unused:
        raise ValueError(f"{source}: the model has no place for {', '.join(unused[:5])}{fitting(official)}")
    left = sorted(set(model) - set(ours))
    if left:
        raise ValueError(f"{source}: an official checkpoint has nothing for {', '.join(left[:5])} of this model")
    return ours


def to_official(ours: State) -> dict[str, Tensor]:
    """Our state dict under the official names, bit for bit; names the table does not know are an error of ours."""
    rows = key_table(count(ours, "encoder.blocks"), count(ours, "decoder.layers"))
    official = {}
    for row in rows:
        tensor = torch.cat([ours[key].detach().cpu() for key in row.ours], dim=row.dim)
        official[row.official] = (tensor[0] if row.flat else tensor).contiguous()
    return official


def fitting(state: State) -> str:
    """Which published model a state dict of either layout fits, as the end of a message; empty when nothing tells."""
    encoder = "encoder.body" if "encoder.body.norm.weight" in state else "encoder"
    if f"{encoder}.norm.weight" not in state:
        return ""
    depth, width = count(state, f"{encoder}.blocks"), state[f"{encoder}.norm.weight"].numel()
    names = [name for name, size in PUBLISHED.items() if size == (depth, width)]
    use = (
        f": use model={' or '.join([names[0], *(name.removeprefix('seqtrack_') for name in names[1:])])}"
        if names
        else ""
    )
    return f"; this checkpoint has {depth} blocks of width {width}{use}"


@dataclass(frozen=True)
class OfficialConfig:
    """An official YAML file: what it gives, by dotted official key.

    Args:
        path: the file, for messages.
        given: every value in the file by dotted key.
    """

    path: str
    given: Mapping[str, object]

    @classmethod
    def read(cls, path: str | Path) -> "OfficialConfig":
        """Read a file; partial files are whole ones, as in the official code.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not YAML, not a configuration, or a key of MODEL, DATA or TEST the official code does not know.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"official_config {path} does not exist; give an official YAML file")
        tree = read_yaml(Path(path))
        if not isinstance(tree, dict) or not any(isinstance(tree.get(section), dict) for section in _SECTIONS):
            raise ValueError(
                f"official_config {path}: sections MODEL, DATA, TEST are expected, as in the official code"
            )
        given = _flatten(tree)
        known = _READ | _TRAINING_ONLY
        for key in given:
            section = key.split(".")[0]
            if section in _SECTIONS and key not in known and not _UPDATE.fullmatch(key):
                allowed = sorted(name for name in known if name.startswith(f"{section}."))
                allowed += ["TEST.UPDATE_INTERVALS.*", "TEST.UPDATE_THRESHOLD.*"] if section == "TEST" else []
                raise ValueError(f"official_config {path}: unknown key {key}; known are {', '.join(allowed)}")
        return cls(str(path), given)

    @property
    def dataset(self) -> str:
        """Official name of the data set the file was used with, where it was noted."""
        return str(self.given.get("_GOLDEN.dataset_name", "DEFAULT"))

    def update(self, dataset: str) -> tuple[int, float]:
        """Interval and threshold (official units) for an official data set name; each falls back to its default."""
        name = dataset.upper()
        intervals = {**INTERVALS, **self._table("TEST.UPDATE_INTERVALS.")}
        thresholds = {**THRESHOLDS, **self._table("TEST.UPDATE_THRESHOLD.")}
        interval, threshold = intervals.get(name, intervals["DEFAULT"]), thresholds.get(name, thresholds["DEFAULT"])
        if type(interval) is not int or isinstance(threshold, bool) or not isinstance(threshold, int | float):
            raise ValueError(
                f"official_config {self.path}: TEST.UPDATE_INTERVALS must hold whole numbers and TEST.UPDATE_THRESHOLD "
                f"numbers, got {interval!r} and {threshold!r} for {name}"
            )
        return interval, float(threshold)

    def _table(self, prefix: str) -> dict[str, object]:
        return {key.removeprefix(prefix): value for key, value in self.given.items() if key.startswith(prefix)}


def mean_probability(threshold: float) -> float:
    """An official threshold (confidence.sum() * 10) as mean probability of the four tokens, in [0, 1].

    Below 0 and above 40 the official comparison is decided like at the ends of the range.

    >>> mean_probability(0.6)
    0.015
    """
    return 1.0 if math.isnan(threshold) else min(max(threshold / 40, 0.0), 1.0)


def _flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
