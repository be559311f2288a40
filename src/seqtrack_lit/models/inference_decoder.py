"""The decoder for generation: the same arithmetic with what does not depend on the image computed once.

Positions are added before linear maps (x + p) W, so p W can be kept: queries, keys and values of self-attention are one
matrix product, keys and values of cross-attention one for all layers, and the norm of the embedding lies in its table.
Rounding differs from `Decoder` in the last bits. Letters: B batch, M memory tokens, D width, H heads, E head width,
L input tokens, l of them with logits, S tokens of a sequence, V vocabulary.
"""

from collections.abc import Iterator
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from seqtrack_lit.models.attention import attend, merge_heads
from seqtrack_lit.models.decoder import Decoder, DecoderLayer, Memory, MemoryPosition


class _Layer(NamedTuple):
    """A layer with the matrices and positions of its attentions put together; the rest is the layer's own."""

    qkv_weight: Tensor  # 3D D, self-attention
    qkv_position: Tensor  # S 3D, bias and positions; values have no positions
    query_position: Tensor  # S D, cross-attention
    layer: DecoderLayer


class InferenceDecoderState(NamedTuple):
    """Keys and values of the memory [B 2 layers H M E], and of the tokens so far, each [B H S E]."""

    memory: Tensor
    keys: list[Tensor]
    values: list[Tensor]


class InferenceDecoder:
    """`prefill` and `decode_step` of a Decoder for generation, without its attention weights.

    Args:
        decoder: the decoder; `refresh` must be called when its weights have changed.
        memory_position: positions added to the keys of cross-attention.
    """

    def __init__(self, decoder: Decoder, memory_position: MemoryPosition) -> None:
        self.decoder, self.memory_position = decoder, memory_position
        self._tensors: list[Tensor] = []
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Compute what depends on weights only again, into the same tensors."""
        fresh = list(self._prepare())
        if self._tensors:
            for kept, tensor in zip(self._tensors, fresh, strict=True):
                kept.copy_(tensor)
        else:
            self._tensors = fresh
        self.table, self.memory_weight, self.memory_bias, *rest = self._tensors
        layers = cast(list[DecoderLayer], list(self.decoder.layers))
        self.layers = [_Layer(rest[3 * i], rest[3 * i + 1], rest[3 * i + 2], layer) for i, layer in enumerate(layers)]

    def _prepare(self) -> Iterator[Tensor]:
        decoder = self.decoder
        layers = cast(list[DecoderLayer], list(decoder.layers))
        yield decoder.embedding_norm(decoder.embedding.weight)
        crosses = [layer.cross_attention for layer in layers]
        yield torch.cat([linear.weight for cross in crosses for linear in (cross.key, cross.value)])
        # keys [1 M D] with their positions, values with their bias alone
        biases = [
            (cross.key(self.memory_position), cross.value.bias.expand_as(self.memory_position)) for cross in crosses
        ]
        yield torch.cat([bias for pair in biases for bias in pair], dim=-1)
        position = decoder.position[0]
        if decoder.past_position is not None:
            position = torch.cat([decoder.past_position[0], position])  # S D
        for layer in layers:
            own = layer.self_attention
            yield torch.cat([own.query.weight, own.key.weight, own.value.weight])
            values = own.value.bias.expand_as(position)
            yield torch.cat([own.query(position), own.key(position), values], dim=-1)
            yield layer.cross_attention.query(position)

    def prefill(
        self, memory: Memory, past: Int64[Tensor, "B P 4"] | None = None
    ) -> tuple[InferenceDecoderState, Int64[Tensor, "B L"]]:
        """Begin a generation: the memory projected for all layers, and the tokens of the first `decode_step`."""
        projected = F.linear(memory, self.memory_weight).add_(self.memory_bias)  # a second tensor of 8 MB is slower
        heads = self.decoder.heads
        memory_heads = projected.view(*memory.shape[:2], 2 * len(self.layers), heads, -1).permute(0, 2, 3, 1, 4)
        empty = memory_heads[:, 0, :, :0]
        state = InferenceDecoderState(memory_heads.contiguous(), [empty] * len(self.layers), [empty] * len(self.layers))
        return state, self.decoder.prompt(past, len(memory))

    def decode_step(
        self, tokens: Int64[Tensor, "B L"], state: InferenceDecoderState
    ) -> tuple[Float[Tensor, "B l V"], None]:
        """Logits of the token after the last one; of the bidirectional decoder, of each of its four queries."""
        done, bidirectional = state.keys[0].shape[2], self.decoder.bidirectional
        now = slice(done, done + tokens.shape[1])
        x = F.embedding(tokens, self.table)
        mask = None
        if tokens.shape[1] > 1 and done == 0:  # later tokens see all before them
            mask = self.decoder.visible(torch.arange(tokens.shape[1], device=tokens.device), tokens.shape[1])
        for i in range(len(self.layers)):
            x = self._layer(x, i, state, now, mask)
        x = self.decoder.norm(x[:, -4 if bidirectional else -1 :])
        return self.decoder.logits(x), None

    def _layer(
        self, x: Float[Tensor, "B L D"], number: int, state: InferenceDecoderState, now: slice, mask: Tensor | None
    ) -> Float[Tensor, "B L D"]:
        qkv_weight, qkv_position, query_position, layer = self.layers[number]
        heads, before = self.decoder.heads, layer.pre_norm
        y = layer.norm1(x) if before else x
        qkv = F.linear(y, qkv_weight) + qkv_position[now]
        queries, keys, values = qkv.view(*x.shape[:2], 3, heads, -1).permute(2, 0, 3, 1, 4)  # 3 B H L E
        if state.keys[number].shape[2]:
            keys = torch.cat([state.keys[number], keys], dim=2)
            values = torch.cat([state.values[number], values], dim=2)
        state.keys[number], state.values[number] = keys, values
        outputs, _ = attend(queries, keys, values, attn_mask=mask)
        x = x + layer.self_attention.out(merge_heads(outputs))
        y = layer.norm2(x) if before else (x := layer.norm1(x))
        queries = F.linear(y, layer.cross_attention.query.weight) + query_position[now]
        queries = queries.view(*x.shape[:2], heads, -1).transpose(1, 2)
        outputs, _ = attend(queries, state.memory[:, 2 * number], state.memory[:, 2 * number + 1])
        x = x + layer.cross_attention.out(merge_heads(outputs))
        y = layer.norm3(x) if before else (x := layer.norm2(x))
        x = x + cast(nn.Module, layer.ffn)(y)
        return x if before else cast(Tensor, layer.norm3(x))
