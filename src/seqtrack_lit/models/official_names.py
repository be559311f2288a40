"""The official SeqTrack's tensors under our names and back, bit for bit.

Source: microsoft/VideoX, folder SeqTrack, lib/models/seqtrack/.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

State = Mapping[str, Tensor]

#: Official encoders by the name in MODEL.ENCODER.TYPE: blocks, width, attention heads.
ENCODERS = {
    "vit_base_patch16": (12, 768, 12),
    "vit_large_patch16": (24, 1024, 16),
    "vit_huge_patch14": (32, 1280, 16),
}
#: The published models: encoder, and side of search region and templates, pixels.
PUBLISHED = {
    "seqtrack_b256": ("vit_base_patch16", 256),
    "seqtrack_b384": ("vit_base_patch16", 384),
    "seqtrack_l256": ("vit_large_patch16", 256),
    "seqtrack_l384": ("vit_large_patch16", 384),
}


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
    """Our state dict under the official names, bit for bit; names that the table lacks raise KeyError."""
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
    names = [name for name, (kind, _) in PUBLISHED.items() if ENCODERS[kind][:2] == (depth, width)]
    use = (
        f": use model={' or '.join([names[0], *(name.removeprefix('seqtrack_') for name in names[1:])])}"
        if names
        else ""
    )
    return f"; this checkpoint has {depth} blocks of width {width}{use}"
