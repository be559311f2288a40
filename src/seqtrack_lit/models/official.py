"""Which model an official checkpoint is of: constructor arguments from its tensors and its configuration file.

A state dict shows most of its model; heads, order, templates and everything of the tracker are in the official
configuration file. The four published models are known by their shapes and need no file.

Source: microsoft/VideoX, folder SeqTrack: lib/config/seqtrack/config.py (defaults), lib/test/tracker/seqtrack.py (what
the tracker takes from the configuration).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from seqtrack_lit.checks import shown
from seqtrack_lit.files import flatten, read_yaml
from seqtrack_lit.models.description import Description
from seqtrack_lit.models.official_names import ENCODERS, PUBLISHED, State, count

#: Template update per official data set name: frames between two updates, and the threshold in official units
#: (40 times a mean probability). Interval and threshold fall back to DEFAULT independently of each other.
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
ORDERS = {"xywh": "cxcywh", "whxy": "whcxcy", "corner": "xyxy"}
MEMORIES = {"x": "search", "xz": "both", "token": "mean"}

#: The official defaults of the keys that a configuration file may leave out.
DEFAULTS: dict[str, object] = {
    "DATA.SEQ_FORMAT": "xywh",
    "DATA.SEARCH.NUMBER": 1,
    "DATA.TEMPLATE.NUMBER": 1,
    "MODEL.FEATURE_TYPE": "x",
    "MODEL.DECODER.NHEADS": 8,
    "MODEL.DECODER.DROPOUT": 0.1,
    "MODEL.DECODER.PRE_NORM": False,
    "TEST.TEMPLATE_FACTOR": 4.0,
    "TEST.SEARCH_FACTOR": 4.0,
    "TEST.WINDOW": False,
    "TEST.NUM_TEMPLATES": 1,
}
# the official keys of what tensors show
_KEYS = {
    "bins": "MODEL.BINS",
    "hidden": "MODEL.HIDDEN_DIM",
    "ffn": "MODEL.DECODER.DIM_FEEDFORWARD",
    "layers": "MODEL.DECODER.DEC_LAYERS",
    "width": "_GOLDEN.tiny_vit.embed_dim",
    "depth": "_GOLDEN.tiny_vit.depth",
}
_READ = {
    *DEFAULTS,
    *("MODEL.HIDDEN_DIM", "MODEL.BINS", "MODEL.ENCODER.TYPE", "MODEL.DECODER.DEC_LAYERS"),
    *("MODEL.DECODER.DIM_FEEDFORWARD", "DATA.SEARCH.SIZE", "DATA.TEMPLATE.SIZE", "TEST.SEARCH_SIZE"),
    "TEST.TEMPLATE_SIZE",
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


@dataclass(frozen=True)
class OfficialConfig:
    """An official YAML file: its values by dotted official key.

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
        given = flatten(tree)
        known = _READ | _TRAINING_ONLY
        for key in given:
            section = key.split(".")[0]
            if section in _SECTIONS and key not in known and not _UPDATE.fullmatch(key):
                allowed = sorted(name for name in known if name.startswith(f"{section}."))
                allowed += ["TEST.UPDATE_INTERVALS.*", "TEST.UPDATE_THRESHOLD.*"] if section == "TEST" else []
                raise ValueError(f"official_config {path}: unknown key {key}; known are {', '.join(allowed)}")
        return cls(str(path), given)

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


def describe(state: State, *, source: str, config: OfficialConfig | None = None) -> Description:
    """Constructor arguments of the model and the tracker behind an official state dict.

    Args:
        state: official state dict; only names and shapes are read.
        source: where it comes from, for messages.
        config: the official configuration file it was trained with; None: one of the published models.

    Raises:
        ValueError: no published model and no file, or the file and the tensors do not agree.
    """
    shapes = _Shapes.of(state, source)
    config = config or _published(shapes, source)
    values = {**DEFAULTS, **config.given}
    for crop, rows in (("SEARCH", shapes.memory), ("TEMPLATE", max(0, shapes.positions - shapes.memory))):
        # silent files: a memory of search features has a row for each search token
        silent = values.get(f"TEST.{crop}_SIZE", math.isqrt(rows) * shapes.patch)
        values.setdefault(f"DATA.{crop}.SIZE", silent)
    _check(values, shapes, config)
    heads = {width: heads for _, width, heads in ENCODERS.values()}.get(shapes.width)
    hidden, width = shapes.mlp, shapes.width
    tokenizer: dict[str, object] = {
        "_target_": "seqtrack_lit.tokens.BoxTokenizer",
        "bins": shapes.bins,
        "order": ORDERS[str(values["DATA.SEQ_FORMAT"])],
    }
    encoder: dict[str, object] = {
        "_target_": "seqtrack_lit.models.encoder.ViTEncoder",
        "search_size": values["DATA.SEARCH.SIZE"],
        "template_size": values["DATA.TEMPLATE.SIZE"],
        "templates": values["DATA.TEMPLATE.NUMBER"],
        "patch": shapes.patch,
        "width": width,
        "depth": shapes.depth,
        "heads": values.get("_GOLDEN.tiny_vit.num_heads", heads),
        # so that int(width * ratio) is the hidden width again
        "mlp_ratio": hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width,
    }
    decoder: dict[str, object] = {
        "_target_": "seqtrack_lit.models.decoder.Decoder",
        "tokenizer": tokenizer,
        "width": shapes.hidden,
        "depth": shapes.layers,
        "heads": values["MODEL.DECODER.NHEADS"],
        "ffn": shapes.ffn,
        "dropout": values["MODEL.DECODER.DROPOUT"],
        "pre_norm": values["MODEL.DECODER.PRE_NORM"],
    }
    model: dict[str, object] = {
        "_target_": "seqtrack_lit.models.seqtrack.SeqTrack",
        "tokenizer": tokenizer,
        "memory": MEMORIES[str(values["MODEL.FEATURE_TYPE"])],
        "encoder": encoder,
        "decoder": decoder,
    }
    return Description(tokenizer, model, _tracker(values, config))


def _tracker(values: Mapping[str, object], config: OfficialConfig) -> dict[str, object]:
    """Arguments of the tracker that does as the official one."""
    interval, threshold = config.update(str(values.get("_GOLDEN.dataset_name", "DEFAULT")))
    return {
        "search_factor": values["TEST.SEARCH_FACTOR"],
        "template_factor": values["TEST.TEMPLATE_FACTOR"],
        "window": values["TEST.WINDOW"],
        "update": "likelihood",
        "update_interval": interval,
        "update_threshold": mean_probability(threshold),
        "clip_margin": 10.0,
        "padding": "official",
    }


class _Shapes(NamedTuple):
    """What the tensors of an official state dict show of its model."""

    bins: int
    hidden: int  # width of the decoder
    ffn: int
    layers: int  # of the decoder
    width: int  # of the encoder
    depth: int
    mlp: int  # hidden width of the encoder's MLPs
    patch: int
    positions: int  # rows of the encoder's table: search tokens and those of one template
    memory: int  # rows of the memory's table

    @classmethod
    def of(cls, state: State, source: str) -> "_Shapes":
        """Read them.

        Raises:
            ValueError: a tensor is missing or has another number of dimensions.
        """

        def size(name: str, dimensions: int, dimension: int) -> int:
            if name not in state:
                raise ValueError(f"{source}: key {name} is missing; is it a SeqTrack checkpoint?")
            shape = tuple(state[name].shape)
            if len(shape) != dimensions or 0 in shape:
                raise ValueError(
                    f"{source}: key {name} has shape {shape}, not {dimensions} dimensions; is it a SeqTrack checkpoint?"
                )
            return shape[dimension]

        return cls(
            bins=size("decoder.embedding.word_embeddings.weight", 2, 0) - 2,
            hidden=size("pos_embed", 3, 2),
            ffn=size("decoder.body.layers.0.linear1.weight", 2, 0),
            layers=count(state, "decoder.body.layers"),
            width=size("encoder.body.norm.weight", 1, 0),
            depth=count(state, "encoder.body.blocks"),
            mlp=size("encoder.body.blocks.0.mlp.fc1.weight", 2, 0),
            patch=size("encoder.body.patch_embed.proj.weight", 4, 3),  # MODEL.ENCODER.STRIDE is never read
            positions=size("encoder.body.pos_embed", 3, 1),
            memory=size("pos_embed", 3, 1),
        )


def _published(shapes: _Shapes, source: str) -> OfficialConfig:
    """The configuration of the published model with these shapes."""
    for name, (kind, side) in PUBLISHED.items():
        tokens = (side // 16) ** 2
        found = (shapes.depth, shapes.width, shapes.positions, shapes.memory, shapes.bins, shapes.hidden)
        if found == (*ENCODERS[kind][:2], 2 * tokens, tokens, 4000, 256):
            given = {"DATA.SEARCH.SIZE": side, "DATA.TEMPLATE.SIZE": side, "TEST.WINDOW": True}
            return OfficialConfig(name, {**given, "DATA.TEMPLATE.NUMBER": 2, "TEST.NUM_TEMPLATES": 2})
    raise ValueError(
        f"{source} is none of the published models ({', '.join(PUBLISHED)}); give official_config=FILE with the "
        "official YAML it was trained with"
    )


def _check(values: Mapping[str, object], shapes: _Shapes, config: OfficialConfig) -> None:
    """A configuration file agrees with the tensors and with itself, and names kinds that are there.

    Raises:
        ValueError: it does not; the key is named.
    """
    where = f"official_config {config.path}"
    for name, key in _KEYS.items():
        if values.get(key, getattr(shapes, name)) != getattr(shapes, name):
            raise ValueError(f"{where}: {key} = {shown(values[key])}, but the tensors show {getattr(shapes, name)}")
    for key, words in (("DATA.SEQ_FORMAT", ORDERS), ("MODEL.FEATURE_TYPE", MEMORIES)):
        if str(values[key]) not in words:
            raise ValueError(f"{where}: {key} must be one of {', '.join(words)}, got {shown(values[key])}")
    twins = {"NUM_TEMPLATES": "TEMPLATE.NUMBER", "SEARCH_SIZE": "SEARCH.SIZE", "TEMPLATE_SIZE": "TEMPLATE.SIZE"}
    for tracker, network in ((f"TEST.{one}", f"DATA.{other}") for one, other in twins.items()):
        if values.get(tracker, values[network]) != values[network]:
            raise ValueError(
                f"{where}: {tracker} = {shown(values[tracker])}, but {network} = {shown(values[network])} "
                "(templates: 1 where the file does not say); the two must agree"
            )
    if values["DATA.SEARCH.NUMBER"] != 1:
        raise ValueError(
            f"{where}: DATA.SEARCH.NUMBER = {shown(values['DATA.SEARCH.NUMBER'])}, but models read one search region"
        )
    kind = str(values.get("MODEL.ENCODER.TYPE"))
    depth, width, _ = ENCODERS.get(kind, (shapes.depth, shapes.width, 0))
    if (depth, width) != (shapes.depth, shapes.width):
        raise ValueError(
            f"{where}: MODEL.ENCODER.TYPE = {kind} has {depth} blocks of width {width}, but the tensors show "
            f"{shapes.depth} of width {shapes.width}"
        )
    known = [width for _, width, _ in ENCODERS.values()]
    if "_GOLDEN.tiny_vit.num_heads" not in values and shapes.width not in known:
        raise ValueError(
            f"{where}: the heads of an encoder of width {shapes.width} are not known, only of width {known}"
        )


def mean_probability(threshold: float) -> float:
    """An official threshold (confidence.sum() * 10) as mean probability of the four tokens, in [0, 1].

    Below 0 and above 40 the official comparison is decided like at the ends of the range.

    >>> mean_probability(0.6)
    0.015
    """
    return 1.0 if math.isnan(threshold) else min(max(threshold / 40, 0.0), 1.0)
