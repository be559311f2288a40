"""The decoder for generation: the same arithmetic with what does not depend on the image computed once.

Positions are added before linear maps (x + p) W, so p W can be kept: queries, keys and values of self-attention are one
matrix product, and the norm of the embedding lies in its table. Of cross-attention, keys and values are one product for
all layers on a GPU; on a CPU they are never computed, because few tokens ask: a head's scores q . (W m + p) are
(W^T q) . m + q . p, its output is W (a m), which is a seventh of the operations for four tokens of SeqTrack-B256.
Rounding differs from `Decoder` in the last bits. Letters: B batch, M memory tokens, D width, H heads, E head width,
L input tokens, l of them with logits, S tokens of a sequence, V vocabulary.
"""

import copy
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

    layer: DecoderLayer
    qkv_weight: Tensor  # 3D D, self-attention
    qkv_position: Tensor  # S 3D, bias and positions; values have no positions
    query_position: Tensor  # S D, cross-attention
    key_weight: Tensor  # H E D
    key_position: Tensor  # H E M, bias and positions
    value_weight: Tensor  # H D E


class InferenceDecoderState(NamedTuple):
    """Keys and values of the memory [B 2 layers H M E], or the memory [B M D]; those of the tokens so far [B H S E]."""

    memory: Tensor
    keys: list[Tensor]
    values: list[Tensor]


class InferenceDecoder:
    """`prefill` and `decode_step` of a Decoder for generation, without its attention weights.

    Args:
        decoder: the decoder; `refresh` must be called when its weights have changed.
        memory_position: positions added to the keys of cross-attention.
        project: whether keys and values of the memory are computed; None: where that is faster.
    """

    def __init__(self, decoder: Decoder, memory_position: MemoryPosition, *, project: bool | None = None) -> None:
        self.decoder, self.memory_position = decoder, memory_position
        many = decoder.sequence_length >= decoder.width // decoder.heads  # tokens: no fewer operations then
        self.project = many or memory_position.device.type != "cpu" if project is None else project
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
        count = len(_Layer._fields) - 1
        self.layers = [_Layer(layer, *rest[count * i : count * (i + 1)]) for i, layer in enumerate(layers)]

    def for_tokens(self, kept: Int64[Tensor, "m"]) -> "InferenceDecoder":
        """The same for a memory that holds only these of the M tokens."""
        twin = copy.copy(self)
        twin.memory_bias = self.memory_bias[:, kept]
        twin.layers = [layer._replace(key_position=layer.key_position[..., kept]) for layer in self.layers]
        return twin

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
            cross, shape = layer.cross_attention, (decoder.heads, decoder.width // decoder.heads, -1)
            yield cross.query(position)
            yield cross.key.weight.reshape(shape).clone()
            yield cross.key(self.memory_position)[0].t().reshape(shape)
            yield cross.value.weight.reshape(shape).transpose(1, 2).contiguous()

    def prefill(
        self, memory: Memory, past: Int64[Tensor, "B P 4"] | None = None
    ) -> tuple[InferenceDecoderState, Int64[Tensor, "B L"]]:
        """Begin a generation: what cross-attention sees in all layers, and the tokens of the first `decode_step`."""
        heads = self.decoder.heads
        empty = memory.new_empty(len(memory), heads, 0, self.decoder.width // heads)
        if self.project:
            projected = F.linear(memory, self.memory_weight).add_(self.memory_bias)  # a second tensor of 8 MB is slower
            memory = projected.view(*memory.shape[:2], 2 * len(self.layers), heads, -1).permute(0, 2, 3, 1, 4)
        state = InferenceDecoderState(memory.contiguous(), [empty] * len(self.layers), [empty] * len(self.layers))
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
        layer, qkv_weight, qkv_position, *_ = self.layers[number]
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
        x = x + layer.cross_attention.out(self._see_memory(y, number, state.memory, now))
        y = layer.norm3(x) if before else (x := layer.norm2(x))
        x = x + cast(nn.Module, layer.ffn)(y)
        return x if before else cast(Tensor, layer.norm3(x))

    def _see_memory(self, y: Float[Tensor, "B L D"], number: int, memory: Tensor, now: slice) -> Float[Tensor, "B L D"]:
        """Cross-attention of a layer before its last linear map."""
        one, heads, (batch, length, width) = self.layers[number], self.decoder.heads, y.shape
        cross = one.layer.cross_attention
        queries = F.linear(y, cross.query.weight) + one.query_position[now]
        if self.project:
            queries = queries.view(batch, length, heads, -1).transpose(1, 2)
            return merge_heads(attend(queries, memory[:, 2 * number], memory[:, 2 * number + 1])[0])
        queries = queries.view(batch * length, heads, -1).transpose(0, 1) * (width // heads) ** -0.5  # H BL E
        asked, positions = (
            (queries @ matrix).view(heads, batch, length, -1).transpose(0, 1).flatten(1, 2)  # B HL D, B HL M
            for matrix in (one.key_weight, one.key_position)
        )
        weights = torch.baddbmm(positions, asked, memory.transpose(1, 2)).softmax(-1, dtype=torch.float32)
        seen = weights.to(memory.dtype) @ memory  # B HL D
        seen = seen.view(batch, heads, length, width).transpose(0, 1).reshape(heads, batch * length, width)
        outputs: Tensor = (seen @ one.value_weight).transpose(0, 1).reshape(y.shape)
        return outputs + cross.value.bias
