"""The description in a checkpoint of ours: plain constructor arguments, checked as foreign input.

Under `seqtrack` stand the number of the format and the arguments of tokenizer, model and tracker. Types, lengths and
sizes are bounded here; the values of the arguments are checked by the constructors.
"""

import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict, with_config
from torch import Tensor
from typing_extensions import TypedDict

from seqtrack_lit.checks import shown
from seqtrack_lit.files import flatten, typed
from seqtrack_lit.models.safe_read import StoredTensor, kind_of
from seqtrack_lit.models.seqtrack import SeqTrack

#: Of the description in our checkpoints. 1: until the initial weights got an argument of their own, `init`. 2: until
#: SplitEncoder(apart=) was renamed to TwoStageEncoder(separate_blocks=).
FORMAT = 3
#: All that a checkpoint may ask to be built.
CLASSES = (
    "seqtrack_lit.tokens.BoxTokenizer",
    "seqtrack_lit.models.seqtrack.SeqTrack",
    "seqtrack_lit.models.decoder.Decoder",
    "seqtrack_lit.models.encoder.ViTEncoder",
    "seqtrack_lit.models.two_stage_encoder.TwoStageEncoder",
    "seqtrack_lit.models.cached_encoder.CachedEncoder",
    "seqtrack_lit.models.timm_encoder.TimmEncoder",
)
_LARGEST_SIDE = 2048  # pixels of a crop, and
_MOST_TEMPLATES = 64  # templates: not every model's tensors show them
_LARGEST_FACTOR = 1e6  # ratios and standard deviations
_MOST_VALUES = 1000  # of a description
_PLAIN = str | int | float | list | tuple | Mapping  # type: ignore[type-arg]
_LONGEST_TEXT = 4096  # in it: the path of a file that training started from
# arguments of format 1 that set initial weights, by part of the model
_STARTS = {
    "model": ("xavier", "memory_position_std"),
    "decoder": ("xavier", "embedding_std", "position_std"),
    "encoder": ("xavier", "position_std", "patch_gain", "match_gain", "target_share", "target_std", "target_bias"),
}


class Description(NamedTuple):
    """Plain constructor arguments of a tokenizer, a model and a tracker (without its model)."""

    tokenizer: dict[str, object]
    model: dict[str, object]
    tracker: dict[str, object]


@with_config(ConfigDict(extra="forbid", strict=True))
class _Saved(TypedDict):
    """What stands under `seqtrack` in a checkpoint of ours."""

    format: int
    tokenizer: dict[str, Any]
    model: dict[str, Any]
    tracker: dict[str, Any]


def read_description(saved: object, path: str | Path) -> Description:
    """The part of a checkpoint under `seqtrack`.

    Raises:
        ValueError: another format, or a field of another type; file and field are named.
    """
    where = f"{path}: seqtrack"
    number = saved.get("format") if isinstance(saved, Mapping) else None
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise ValueError(
            f"{path}: description of format {shown(number)}, this version reads formats 1 to {FORMAT}; update "
            "seqtrack_lit, or take a checkpoint of this version"
        )
    plain = _plain(saved, where, [_MOST_VALUES])
    known = typed(plain, _Saved, where, "the checkpoint was changed, or written by another version")
    description = Description(known["tokenizer"], known["model"], known["tracker"])
    return migrate(description) if number < FORMAT else description


def migrate(description: Description) -> Description:
    """The description of today's format for an older one: no arguments for initial weights, today's names."""
    model = {key: value for key, value in description.model.items() if key not in _STARTS["model"]}
    for part, target in (("encoder", "ViTEncoder"), ("decoder", "Decoder")):
        arguments = model.get(part)
        if isinstance(arguments, Mapping) and str(arguments.get("_target_")).endswith(f".{target}"):
            model[part] = {key: value for key, value in arguments.items() if key not in _STARTS[part]}
    encoder = model.get("encoder")
    if isinstance(encoder, Mapping) and encoder.get("_target_") == "seqtrack_lit.models.split_encoder.SplitEncoder":
        renamed = {{"apart": "separate_blocks"}.get(str(key), key): value for key, value in encoder.items()}
        model["encoder"] = {**renamed, "_target_": "seqtrack_lit.models.two_stage_encoder.TwoStageEncoder"}
    return description._replace(model=model)


def _plain(value: object, where: str, left: list[int], depth: int = 0) -> object:
    """A part of a description as plain values: text, numbers, flags, lists and dicts, bounded in every way."""
    left[0] -= 1
    if left[0] < 0 or depth > 8:
        raise ValueError(f"{where}: a description has at most {_MOST_VALUES} values, nested 8 deep")
    if value is not None and (isinstance(value, StoredTensor) or not isinstance(value, _PLAIN)):
        raise ValueError(f"{where} holds {kind_of(value)}")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str) or not key.isidentifier() or len(key) > 100:
                raise ValueError(f"{where} has a key {shown(key)}, which is no name of an argument")
        return {key: _plain(part, f"{where}.{key}", left, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part, where, left, depth + 1) for part in value]
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        raise ValueError(f"{where} is {shown(value)}; expected text of at most {_LONGEST_TEXT} letters")
    return value


def check_sizes(description: Description, state: Mapping[str, Tensor], source: str) -> None:
    """No number of a description asks for more than its tensors can confirm: called before anything is built by it.

    Raises:
        ValueError: one does; key and limit are named.
    """
    tensors, numbers = len(state), sum(tensor.numel() for tensor in state.values())
    most = {
        "depth": tensors,
        "templates": _MOST_TEMPLATES,
        "search_size": _LARGEST_SIDE,
        "template_size": _LARGEST_SIDE,
    }
    parts = {**dotted(description.tokenizer, "tokenizer."), **dotted(description.model, "model.")}
    for key, value in parts.items():
        limit = most.get(key.rpartition(".")[2], numbers if isinstance(value, int) else _LARGEST_FACTOR)
        if isinstance(value, int | float) and not abs(value) <= limit:
            raise ValueError(
                f"{source}: {key} is {shown(value)}, more than its {tensors} tensors with {numbers} numbers "
                f"allow (at most {limit:g})"
            )


def dotted(tree: Mapping[str, object], prefix: str) -> dict[str, object]:
    """Arguments by dotted key ("model.encoder.heads"), without those that are None or Hydra's own (`_target_`)."""
    return {
        f"{prefix}{key}": value
        for key, value in flatten(tree).items()
        if value is not None and not hydra(key.rpartition(".")[2])
    }


def hydra(key: object) -> bool:
    """Whether a key is Hydra's own, like `_target_`."""
    return isinstance(key, str) and key.startswith("_") and key.endswith("_")


def build_model(tokenizer: Mapping[str, object], model: Mapping[str, object]) -> SeqTrack:
    """A model from plain constructor arguments with random weights: `pretrained` and `init` are left out.

    Args:
        tokenizer: arguments of tokens.BoxTokenizer; `_target_` may be left out. It serves the whole model.
        model: arguments of models.seqtrack.SeqTrack, nested; every `_target_` must be one of CLASSES.

    Raises:
        ValueError: a class outside of CLASSES, or an argument it refuses.
    """
    shared = _build({"_target_": CLASSES[0], **tokenizer}, "tokenizer")
    tree: dict[str, Any] = {"_target_": CLASSES[1], **model, "tokenizer": shared}
    tree.pop("init", None)
    for part, fixed in (("encoder", {}), ("decoder", {"tokenizer": shared})):
        arguments = tree.get(part)
        if isinstance(arguments, Mapping):
            kept = {key: value for key, value in arguments.items() if key not in ("pretrained", "init")}
            tree[part] = {**kept, **fixed}
            # a name with a colon would make timm look for a model elsewhere
            if ":" in str(kept.get("name")):
                raise ValueError(f"model.{part}.name = {kept['name']} is no model of timm; the checkpoint is foreign")
    built = _build(tree, "model")
    if not isinstance(built, SeqTrack):
        raise ValueError(f"model must describe a SeqTrack, it describes a {type(built).__name__}")
    return built


def _build(node: object, where: str) -> Any:
    """A value of a description: containers are walked, a mapping with `_target_` becomes an object of CLASSES."""
    if isinstance(node, Mapping):
        values = {key: _build(value, f"{where}.{key}") for key, value in node.items() if not hydra(key)}
        if "_target_" not in node:
            return values
        target = node["_target_"]
        if target not in CLASSES:
            raise ValueError(
                f"{where}._target_ = {target} is not one of {', '.join(CLASSES)}; the checkpoint is foreign"
            )
        module, name = str(target).rsplit(".", 1)
        made = getattr(importlib.import_module(module), name)
        _check_types(made, values, where)
        try:
            return made(**values)
        except TypeError as error:
            reason = shown(" ".join(str(error).split()), 200)
            raise ValueError(f"{where}: {target} cannot be made from {', '.join(values)}: {reason}") from error
    if isinstance(node, list | tuple):
        return [_build(value, where) for value in node]
    return node


def _check_types(made: type, values: Mapping[str, object], where: str) -> None:
    """The arguments of a class against its annotations; unknown ones are left to the class itself."""
    kinds = {name: parameter.annotation for name, parameter in inspect.signature(made).parameters.items()}
    parts = {name for name, kind in kinds.items() if isinstance(kind, type) and kind not in (bool, int, float, str)}
    for name in parts & set(values):
        if not isinstance(values[name], kinds[name]):
            raise ValueError(f"{where}.{name} must describe a {kinds[name].__name__}, it is {shown(values[name])}")
    plain = {name: kind for name, kind in kinds.items() if name in values and name not in parts}
    arguments = TypedDict(made.__name__, plain)  # type: ignore[misc]
    typed({name: values[name] for name in plain}, arguments, where)
