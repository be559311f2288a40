"""What a checkpoint of ours says of its model: plain constructor arguments, read as a stranger may have written them.

Under `seqtrack` stand the number of the format and the arguments of tokenizer, model and tracker. Types, lengths and
sizes are bounded here; what the arguments may be is the constructors' to say.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, with_config
from torch import Tensor
from typing_extensions import TypedDict

from seqtrack_lit.checks import shown
from seqtrack_lit.files import typed
from seqtrack_lit.models.official_model import Description
from seqtrack_lit.models.safe_read import StoredTensor, kind_of

#: Of the description in our checkpoints. Whoever raises it writes the one function that makes the new form of the old.
FORMAT = 1
_LARGEST_SIDE = 2048  # pixels of a crop, and
_MOST_TEMPLATES = 64  # templates: not every model's tensors show them
_LARGEST_FACTOR = 1e6  # ratios and standard deviations
_MOST_VALUES = 1000  # of a description
_PLAIN = str | int | float | list | tuple | Mapping  # type: ignore[type-arg]
_LONGEST_TEXT = 4096  # in it: the path of a file that training started from


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
    if type(number) is not int or number != FORMAT:
        raise ValueError(
            f"{path}: description of format {shown(number)}, this version reads format {FORMAT}; update seqtrack_lit, "
            "or take a checkpoint of this version"
        )
    plain = _plain(saved, where, [_MOST_VALUES])
    known = typed(plain, _Saved, where, "the checkpoint was changed, or written by another version")
    return Description(known["tokenizer"], known["model"], known["tracker"])


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
    flat: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= dotted(value, f"{prefix}{key}.")
        elif value is not None and not hydra(key):
            flat[f"{prefix}{key}"] = value
    return flat


def hydra(key: object) -> bool:
    """Whether a key is Hydra's own, like `_target_`."""
    return isinstance(key, str) and key.startswith("_") and key.endswith("_")
