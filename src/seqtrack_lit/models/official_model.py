"""Which model an official state dict is: what its tensors show, completed by what they do not.

Shown: width and depth of the encoder, patch size, bins, width, depth and perceptron of the decoder, the kind of memory,
the grids of search region and template. Not shown: attention heads, order of the tokens, pre-norm, number of
templates, how a memory of one mean token splits the grid, and everything the tracker does. That comes from an official
configuration file, or from keys named as in our configuration, or from what is known of the published models.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from seqtrack_lit.models.official import (
    DEFAULTS,
    ENCODERS,
    HEADS,
    MEMORIES,
    ORDERS,
    PUBLISHED_DEFAULTS,
    OfficialConfig,
    State,
    count,
    mean_probability,
)

Settings = Mapping[str, object]

# our key -> official key, for what a state dict shows or a file says
_KEYS = {
    "tokenizer.bins": "MODEL.BINS",
    "tokenizer.order": "DATA.SEQ_FORMAT",
    "model.memory": "MODEL.FEATURE_TYPE",
    "model.encoder.search_size": "DATA.SEARCH.SIZE",
    "model.encoder.template_size": "DATA.TEMPLATE.SIZE",
    "model.encoder.templates": "DATA.TEMPLATE.NUMBER",
    "model.encoder.width": "_GOLDEN.tiny_vit.embed_dim",
    "model.encoder.depth": "_GOLDEN.tiny_vit.depth",
    "model.encoder.heads": "_GOLDEN.tiny_vit.num_heads",
    "model.encoder.patch": "",  # the official MODEL.ENCODER.STRIDE is not read by the official code
    "model.decoder.width": "MODEL.HIDDEN_DIM",
    "model.decoder.depth": "MODEL.DECODER.DEC_LAYERS",
    "model.decoder.heads": "MODEL.DECODER.NHEADS",
    "model.decoder.ffn": "MODEL.DECODER.DIM_FEEDFORWARD",
    "model.decoder.dropout": "MODEL.DECODER.DROPOUT",
    "model.decoder.pre_norm": "MODEL.DECODER.PRE_NORM",
}
# the tensors whose shapes are read, and how many dimensions they have
_SHOWING = {
    "pos_embed": 3,
    "encoder.body.pos_embed": 3,
    "encoder.body.patch_embed.proj.weight": 4,
    "encoder.body.blocks.0.mlp.fc1.weight": 2,
    "encoder.body.norm.weight": 1,
    "decoder.embedding.word_embeddings.weight": 2,
    "decoder.body.layers.0.linear1.weight": 2,
}
# the words each of these is told in: ours, then the official ones
_WORDS = {"tokenizer.order": ORDERS, "model.memory": MEMORIES}
# the official file says these twice: once for the network, as above, and once for the tracker
_TWINS = {
    "model.encoder.templates": "TEST.NUM_TEMPLATES",
    "model.encoder.search_size": "TEST.SEARCH_SIZE",
    "model.encoder.template_size": "TEST.TEMPLATE_SIZE",
}


class Description(NamedTuple):
    """Plain constructor arguments of a tokenizer, a model and a tracker (without its model)."""

    tokenizer: dict[str, object]
    model: dict[str, object]
    tracker: dict[str, object]


def describe(
    state: State, *, source: str, config: OfficialConfig | None = None, known: Settings | None = None
) -> Description:
    """The model and the tracker behind an official state dict.

    Args:
        state: official state dict.
        source: where it comes from, for messages.
        config: the official configuration file it was trained with.
        known: settings by our dotted keys ("model.encoder.heads"), which win over the file.

    Raises:
        ValueError: the tensors and what is told of them do not agree, or too little is told.
    """
    told = _Told(source, config, known or {})
    for key, (value, tensor) in _shown(state, source).items():
        told.agree(key, value, tensor)
    told.facts |= _geometry(state, told)
    if config is not None:
        _check_file(config, told)
    if told.get("model.encoder.heads") is None:
        heads = HEADS.get(int(str(told.facts["model.encoder.width"])))
        if heads is None:
            raise told.missing("model.encoder.heads", f"the encoder's width {told.facts['model.encoder.width']} is new")
        told.facts["model.encoder.heads"] = heads
    if config is None and "model.decoder.heads" not in told.known and told.facts["model.decoder.width"] != 256:
        raise told.missing("model.decoder.heads", f"the decoder's width {told.facts['model.decoder.width']} is new")
    flat = {key: told.facts.get(key, told.get(key)) for key in _KEYS}

    def part(prefix: str) -> dict[str, object]:
        return {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}

    tokenizer: dict[str, object] = {"_target_": "seqtrack_lit.tokens.BoxTokenizer", **part("tokenizer.")}
    model: dict[str, object] = {
        "_target_": "seqtrack_lit.models.seqtrack.SeqTrack",
        "tokenizer": tokenizer,
        "memory": flat["model.memory"],
        "encoder": {
            "_target_": "seqtrack_lit.models.encoder.ViTEncoder",
            **part("model.encoder."),
            "mlp_ratio": _mlp_ratio(state),
        },
        "decoder": {
            "_target_": "seqtrack_lit.models.decoder.Decoder",
            "tokenizer": tokenizer,
            **part("model.decoder."),
        },
    }
    return Description(tokenizer, model, tracker_settings(config))


def tracker_settings(config: OfficialConfig | None) -> dict[str, object]:
    """What the official tracker does: by the file, or like the published models outside of known benchmarks."""
    config = config or OfficialConfig("", PUBLISHED_DEFAULTS)
    values = {**DEFAULTS, **config.given}
    interval, threshold = config.update(config.dataset)
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


class _Told:
    """What is told of a model beside its tensors: by our keys first, then by the file, then by what is usual."""

    def __init__(self, source: str, config: OfficialConfig | None, known: Settings) -> None:
        unknown = sorted(set(known) - set(_KEYS))
        if unknown:
            raise ValueError(f"{source}: {unknown[0]} cannot be set for this checkpoint; known are {', '.join(_KEYS)}")
        self.source, self.config, self.known = source, config, known
        self.facts: dict[str, object] = {}

    def explicit(self, key: str) -> tuple[object, str] | None:
        """A value somebody wrote down, and where; None if nobody did."""
        words = _WORDS.get(key)
        if key in self.known:
            if words is not None and self.known[key] not in words.values():
                raise ValueError(f"{key} must be one of {', '.join(words.values())}, got {self.known[key]!r}")
            return self.known[key], key
        given = self.config.given if self.config is not None else {}
        # the network's key first; where the file has none and that means nothing, the tracker's
        names = (_KEYS[key],) if _KEYS[key] in DEFAULTS else (_KEYS[key], _TWINS.get(key))
        official = next((name for name in names if name in given), None)
        if official is None or self.config is None:
            return None
        value = self.config.given[official]
        where = f"{official} in {self.config.path}"
        if words is not None and str(value) not in words:
            raise ValueError(f"{where} must be one of {', '.join(words)}, got {value!r}")
        return (words[str(value)] if words else value), where

    def get(self, key: str) -> object:
        """The value written down, else the usual one, else None."""
        given = self.explicit(key)
        if given is not None:
            return given[0]
        usual = (PUBLISHED_DEFAULTS if self.config is None else DEFAULTS).get(_KEYS[key])
        return "cxcywh" if key == "tokenizer.order" else usual

    def agree(self, key: str, shown: object, tensor: str) -> None:
        """Keep what a tensor shows; what is written down must say the same."""
        given = self.explicit(key)
        if given is not None and given[0] != shown:
            raise ValueError(f"{self.source}: {tensor} shows {key} = {shown}, but {given[1]} says {given[0]}")
        self.facts[key] = shown

    def missing(self, key: str, why: str) -> ValueError:
        return ValueError(
            f"{self.source}: its tensors do not show {key} ({why}); give {key}=..., or official_config=FILE with the "
            "official YAML it was trained with"
        )


def _shown(state: State, source: str) -> dict[str, tuple[object, str]]:
    """What single tensors show, and which tensor shows it."""
    for name, dimensions in _SHOWING.items():
        if name not in state:
            raise ValueError(f"{source}: key {name} is missing; is it a SeqTrack checkpoint?")
        shape = tuple(state[name].shape)
        if len(shape) != dimensions or 0 in shape:
            raise ValueError(
                f"{source}: key {name} has shape {shape}, not {dimensions} dimensions; is it a SeqTrack checkpoint?"
            )

    def size(name: str, dimension: int, besides: int = 0) -> tuple[object, str]:
        return state[name].shape[dimension] - besides, f"key {name} {tuple(state[name].shape)}"

    return {
        "tokenizer.bins": size("decoder.embedding.word_embeddings.weight", 0, besides=2),
        "model.encoder.width": size("encoder.body.norm.weight", 0),
        "model.encoder.depth": (count(state, "encoder.body.blocks"), "the number of encoder.body.blocks"),
        "model.encoder.patch": size("encoder.body.patch_embed.proj.weight", 3),
        "model.decoder.width": size("pos_embed", 2),
        "model.decoder.depth": (count(state, "decoder.body.layers"), "the number of decoder.body.layers"),
        "model.decoder.ffn": size("decoder.body.layers.0.linear1.weight", 0),
    }


def _geometry(state: State, told: _Told) -> dict[str, object]:
    """Memory kind, sizes and number of templates, from the lengths of the two position tables.

    The encoder's table holds s^2 + t^2 rows (search grid, template grid), the memory's s^2, s^2 + T t^2 or 1.
    """
    positions, length = state["encoder.body.pos_embed"].shape[1], state["pos_embed"].shape[1]
    patch = int(str(told.facts["model.encoder.patch"]))
    memory, templates = told.explicit("model.memory"), told.explicit("model.encoder.templates")
    sizes = [told.explicit(f"model.encoder.{kind}_size") for kind in ("search", "template")]
    fits = []
    for s in range(1, math.isqrt(positions) + 1):
        t = math.isqrt(positions - s * s)
        if t == 0 or s * s + t * t != positions:
            continue
        if any(size is not None and size[0] != side * patch for size, side in zip(sizes, (s, t), strict=True)):
            continue
        more = length - s * s
        kinds: list[tuple[str, object]] = [("search", None)] if more == 0 else []
        kinds += [("mean", None)] if length == 1 else []
        kinds += [("both", more // t**2)] if more > 0 and more % t**2 == 0 else []
        for kind, number in kinds:
            if memory is None or memory[0] == kind:
                fits.append((kind, s * patch, t * patch, number))
    if not fits:
        said = [given for given in (memory, *sizes) if given is not None]
        raise ValueError(
            f"{told.source}: position tables of {positions} (encoder) and {length} (memory) rows do not fit "
            + (" and ".join(f"{where} = {value}" for value, where in said) or "any square grids")
        )
    if len(fits) > 1 and templates is not None:
        fits = [fit for fit in fits if fit[3] in (None, templates[0])] or fits
    if len(fits) > 1:
        options = "; ".join(f"memory {k}, search {s} px, template {t} px" for k, s, t, _ in fits[:4])
        raise told.missing("model.encoder.search_size and template_size", f"possible: {options}")
    kind, search, template, number = fits[0]
    if number is not None and templates is not None and templates[0] != number:
        raise ValueError(
            f"{told.source}: its memory table has room for {number} templates, but {templates[1]} says {templates[0]}"
        )
    return {
        "model.memory": kind,
        "model.encoder.search_size": search,
        "model.encoder.template_size": template,
        "model.encoder.templates": number if number is not None else told.get("model.encoder.templates"),
    }


def _check_file(config: OfficialConfig, told: _Told) -> None:
    """What a configuration file says that no single tensor contradicts."""
    values = {**DEFAULTS, **config.given}
    for key, twin in _TWINS.items():
        if key not in told.known and twin in values and values[twin] != told.facts[key]:
            silent = "" if twin in config.given else " (which a file means that is silent)"
            raise ValueError(
                f"official_config {config.path}: {twin} = {values[twin]}{silent}, but the network was built with "
                f"{key} = {told.facts[key]}; the two must agree (say {key}=... yourself to overrule the file)"
            )
    encoder = ENCODERS.get(str(values.get("MODEL.ENCODER.TYPE")))
    shown = (told.facts["model.encoder.depth"], told.facts["model.encoder.width"])
    if encoder is not None and encoder != shown:
        raise ValueError(
            f"official_config {config.path}: MODEL.ENCODER.TYPE = {values['MODEL.ENCODER.TYPE']} has {encoder[0]} "
            f"blocks of width {encoder[1]}, but {told.source} has {shown[0]} of width {shown[1]}"
        )
    if values["DATA.SEARCH.NUMBER"] != 1:
        raise ValueError(
            f"official_config {config.path}: DATA.SEARCH.NUMBER = {values['DATA.SEARCH.NUMBER']}; one search region is "
            "read at a time"
        )


def _mlp_ratio(state: State) -> float:
    """Hidden width of the encoder's perceptrons over their width, so that int(width * ratio) gives it back."""
    hidden, width = state["encoder.body.blocks.0.mlp.fc1.weight"].shape
    return hidden / width if int(width * (hidden / width)) == hidden else (hidden + 0.5) / width
