"""The decoder: a causal transformer that generates the four tokens of a box from the image's features (paper Fig. 3).

Two blocks of masked self-attention, cross-attention to the memory (the encoder's features) and an MLP,
then a three-layer vocabulary head. Arithmetic of microsoft/VideoX SeqTrack lib/models/seqtrack/decoder.py: learned
position embeddings are added to queries and keys of self-attention and to the queries of cross-attention, never
to values; memory positions are added to the keys of cross-attention only. Trackers generate with the same arithmetic
in inference_decoder.py: who changes one changes the other (tests/models compares them).

Letters: B batch, L input tokens, l of them with logits, S tokens of a whole token sequence, D width, H heads, E head
width, M memory tokens, V vocabulary, P past boxes.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast, get_args, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from seqtrack_lit.checks import flag, number, one_of, whole
from seqtrack_lit.models.attention import Heads, attend, merge_heads, split_heads
from seqtrack_lit.tokens import BoxTokenizer

Parallel = Literal["independent", "refined"]


class Attended(NamedTuple):
    """Attention weights behind logits, each row sums to 1: `cross` [B l layers H M] over the memory, `own`
    [B l layers H S] over the token sequence itself, 0 on tokens not yet written.
    """

    cross: Tensor
    own: Tensor


Memory = Float[Tensor, "B M D"]
MemoryPosition = Float[Tensor, "1 M D"]
Weights = Float[Tensor, "B H Q K"]


class KVCache(NamedTuple):
    """Keys and values of attention, each B H N E."""

    keys: Heads
    values: Heads


@dataclass
class DecoderState:
    """State of a generation: per layer keys and values of the memory, and a cache for those of the tokens.

    `cache` has the length S of a whole token sequence from the start; token positions not yet written are masked.
    """

    memory: list[KVCache]
    cache: list[KVCache]
    length: int = 0  # tokens processed so far


class Attention(nn.Module):
    """Multi-head attention whose queries, keys and values may come from different tokens."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def project_kv(self, keys: Float[Tensor, "B N D"], values: Float[Tensor, "B N D"]) -> KVCache:
        """Keys and values of these tokens, projected and split into heads."""
        return KVCache(split_heads(self.key(keys), self.heads), split_heads(self.value(values), self.heads))

    def forward(
        self,
        queries: Float[Tensor, "B L D"],
        keys_values: KVCache,
        attn_mask: Bool[Tensor, "L N"] | None = None,
        weights: bool = False,
    ) -> tuple[Float[Tensor, "B L D"], Weights | None]:
        """Outputs for the queries, and the attention weights if `weights`."""
        outputs, attention = attend(
            split_heads(self.query(queries), self.heads),
            keys_values.keys,
            keys_values.values,
            attn_mask=attn_mask,
            dropout=self.dropout if self.training else 0.0,
            weights=weights,
        )
        return self.out(merge_heads(outputs)), attention


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and an MLP, each around a residual; the norm after it or before it."""

    def __init__(self, width: int, heads: int, ffn: int, dropout: float, pre_norm: bool) -> None:
        super().__init__()
        self.pre_norm = pre_norm
        self.self_attention = Attention(width, heads, dropout)
        self.cross_attention = Attention(width, heads, dropout)
        self.ffn = nn.Sequential(nn.Linear(width, ffn), nn.ReLU(), nn.Dropout(dropout), nn.Linear(ffn, width))
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B L D"],
        position: Float[Tensor, "1 L D"],
        memory: KVCache,
        attn_mask: Bool[Tensor, "L S"] | None,
        cache: KVCache | None,
        positions: Int64[Tensor, "L"],
        weights: bool,
    ) -> tuple[Float[Tensor, "B L D"], Float[Tensor, "B H L M"] | None, Float[Tensor, "B H L S"] | None]:
        """The tokens at `positions` of the sequence through the layer; if `weights`, cross- and self-attention.

        Without a cache the tokens are the whole sequence; with one, their keys and values are written into it.
        """
        y = self.norm1(x) if self.pre_norm else x
        keys_values = self.self_attention.project_kv(y + position, y)
        if cache is not None:
            cache.keys.index_copy_(2, positions, keys_values.keys)
            cache.values.index_copy_(2, positions, keys_values.values)
            keys_values = cache
        output, own = self.self_attention(y + position, keys_values, attn_mask, weights=weights)
        x = x + self.dropout(output)
        if not self.pre_norm:
            x = self.norm1(x)

        y = self.norm2(x) if self.pre_norm else x
        output, attention = self.cross_attention(y + position, memory, weights=weights)
        x = x + self.dropout(output)
        if not self.pre_norm:
            x = self.norm2(x)

        x = x + self.dropout(self.ffn(self.norm3(x) if self.pre_norm else x))
        return x if self.pre_norm else self.norm3(x), attention, own


@runtime_checkable
class DecoderInit(Protocol):
    """Initial weights of a Decoder."""

    def decoder(self, decoder: "Decoder") -> None:
        """Set them."""


class Decoder(nn.Module):
    """Token sequence and memory to logits over the vocabulary.

    Args:
        tokenizer: its vocabulary size and special tokens.
        width: width of the tokens.
        depth: number of layers.
        heads: attention heads of a layer.
        ffn: hidden width of a layer's MLP.
        dropout: after the embedding's norm, on attention weights, on the three residual branches and inside the
            MLP; active in training mode only.
        pre_norm: norms before instead of after each branch; the final norm stays.
        past: number of past boxes whose tokens stand before START, oldest first (Tab. 5).
        bidirectional: four learned queries that see each other replace the causal token sequence; all
            coordinates at once, no START, no END (Tab. 4 #2).
        parallel: "independent": four such queries that do not see each other; "refined": the four tokens they choose
            are read once more, seeing each other and the queries. Beyond the paper (experiments/faster).
        init: initial weights. None is the official rule: tables and linear layers Xavier-uniform (queries, keys and
            values as one matrix), attention biases 0, torch's default for the vocabulary head and MLP biases.
    """

    def __init__(
        self,
        *,
        tokenizer: BoxTokenizer,
        width: int = 256,
        depth: int = 2,
        heads: int = 8,
        ffn: int = 1024,
        dropout: float = 0.1,
        pre_norm: bool = False,
        past: int = 0,
        bidirectional: bool = False,
        parallel: Parallel | None = None,
        init: DecoderInit | None = None,
    ) -> None:
        super().__init__()
        whole("model.decoder", 1, width=width, depth=depth, heads=heads, ffn=ffn)
        whole("model.decoder", 0, past=past)
        number("model.decoder", 0, 1, dropout=dropout)
        flag("model.decoder", pre_norm=pre_norm, bidirectional=bidirectional)
        if width % heads:
            raise ValueError(f"model.decoder.width must be a multiple of model.decoder.heads = {heads}, got {width}")
        if parallel is not None:
            one_of("model.decoder", get_args(Parallel), parallel=parallel)
        if past and (bidirectional or parallel):
            raise ValueError(
                f"model.decoder.past = {past} needs the causal decoder: set model.decoder.bidirectional=false and "
                "model.decoder.parallel=null"
            )
        self.tokenizer = tokenizer
        self.width = width
        self.heads = heads
        self.past = past
        self.bidirectional = bidirectional or parallel is not None  # all coordinates at once, from four queries
        self.parallel = parallel
        self.refined = parallel == "refined"
        words = tokenizer.vocab_size if not self.bidirectional else 4 + tokenizer.bins * self.refined
        self.embedding = nn.Embedding(words, width)  # the vocabulary, or the four queries and the words to read again
        self.embedding_norm = nn.LayerNorm(width)
        self.embedding_dropout = nn.Dropout(dropout)
        self.position = nn.Parameter(torch.zeros(1, (4 + 4 * self.refined) if self.bidirectional else 5, width))
        self.past_position = nn.Parameter(torch.zeros(1, 4 * past, width)) if past else None
        self.layers = nn.ModuleList(DecoderLayer(width, heads, ffn, dropout, pre_norm) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, tokenizer.vocab_size),
        )
        if init is None:
            self._initialise()
        else:
            init.decoder(self)

    @property
    def positions(self) -> list[nn.Parameter]:
        """Tables of learned positions: of START and the coordinates (or the queries), and of the past boxes."""
        return [self.position] if self.past_position is None else [self.position, self.past_position]

    @property
    def sequence_length(self) -> int:
        """S, tokens of a whole sequence: past boxes, START and four coordinates; or the four queries."""
        return 4 * self.past + self.position.shape[1]

    def forward(
        self,
        inputs: Int64[Tensor, "B L"],
        memory: Memory,
        memory_position: MemoryPosition,
        past: Int64[Tensor, "B P 4"] | None = None,
    ) -> Float[Tensor, "B l V"]:
        """Teacher forcing: all tokens at once, the logits of the token after each.

        Args:
            inputs: [START, t1, ...]; ignored by the bidirectional decoder, whose logits are those of its four queries.
            memory: keys and values of cross-attention.
            memory_position: their positions, added to the keys.
            past: tokens of the past boxes, oldest first; clamped to coordinate tokens.
        """
        prompt, keys_values = self.prompt(past, len(memory)), self._project_kv(memory, memory_position)
        tokens = prompt if self.bidirectional else torch.cat([prompt[:, :-1], inputs], dim=1)
        if self.refined:  # the first reading is this network's own, as in tracking
            with torch.no_grad():
                states, _ = self._run_layers(prompt, keys_values, None, 0, weights=False)
                chosen = self.logits(states)[..., : self.tokenizer.bins].argmax(-1)
            tokens = torch.cat([prompt, self.read_again(chosen)], dim=1)
        states, _ = self._run_layers(tokens, keys_values, None, 0, weights=False)
        return self.logits(states[:, 4 * self.past :])

    def prefill(
        self, memory: Memory, memory_position: MemoryPosition, past: Int64[Tensor, "B P 4"] | None = None
    ) -> tuple[DecoderState, Int64[Tensor, "B L"]]:
        """Begin a generation: its state, and the tokens of the first `decode_step`."""
        keys_values = self._project_kv(memory, memory_position)
        keys = keys_values[0].keys
        shape = (len(memory), self.heads, self.sequence_length, self.width // self.heads)
        cache = [KVCache(keys.new_zeros(shape), keys.new_zeros(shape)) for _ in self.layers]
        return DecoderState(keys_values, cache), self.prompt(past, len(memory))

    def decode_step(
        self, tokens: Int64[Tensor, "B L"], state: DecoderState, *, weights: bool = False
    ) -> tuple[Float[Tensor, "B l V"], Attended | None]:
        """Process the next tokens of a sequence; keys and values of earlier ones are in the state.

        Returns:
            Logits of the token after the last one (bidirectional: of each of the four queries) and, if `weights`, the
            attention behind them.
        """
        states, attention = self._run_layers(tokens, state.memory, state.cache, state.length, weights=weights)
        state.length += tokens.shape[1]
        outputs = 4 if self.bidirectional else 1
        logits = self.logits(states[:, -outputs:])
        if not weights:
            return logits, None
        cross, own = (
            torch.stack(one, 1)[..., -outputs:, :].permute(0, 3, 1, 2, 4) for one in zip(*attention, strict=True)
        )
        return logits, Attended(cross, own)  # from B layers H l M and B layers H l S

    def logits(self, states: Float[Tensor, "B l D"]) -> Float[Tensor, "B l V"]:
        """The vocabulary head, its last layer in float32.

        Logits of neighbouring bins differ by less than bfloat16 resolves: ties, of which argmax takes the first,
        would pull boxes left and up.
        """
        *hidden_layers, final = self.head  # not by a slice, which builds a module, nor in a context without need
        last = cast(nn.Linear, final)
        for layer in hidden_layers:
            states = layer(states)
        if states.is_meta:  # counted, not computed; autocast has no such device
            return nn.functional.linear(states, last.weight, last.bias)
        if not torch.is_autocast_enabled(states.device.type):
            return nn.functional.linear(states.float(), last.weight.float(), last.bias.float())
        with torch.autocast(states.device.type, enabled=False):
            return nn.functional.linear(states.float(), last.weight.float(), last.bias.float())

    def read_again(self, chosen: Int64[Tensor, "B 4"]) -> Int64[Tensor, "B 4"]:
        """The tokens of the second reading, for those chosen in the first: their words stand behind the queries."""
        return chosen + 4

    def prompt(self, past: Int64[Tensor, "B P 4"] | None, batch: int) -> Int64[Tensor, "B L"]:
        """The tokens a generation begins with: past boxes and START, or the four queries."""
        device = self.position.device
        if self.bidirectional:
            return torch.arange(4, device=device).expand(batch, 4)
        start = torch.full((batch, 1), self.tokenizer.start, device=device)
        given = 0 if past is None else past.shape[1]
        if given != self.past:
            raise ValueError(f"the decoder was built for {self.past} past boxes (model.decoder.past), got {given}")
        if past is None:
            return start
        return torch.cat([past.clamp(0, self.tokenizer.bins - 1).flatten(1), start], dim=1)

    def _project_kv(self, memory: Memory, memory_position: MemoryPosition) -> list[KVCache]:
        keys = memory + memory_position
        return [cast(DecoderLayer, layer).cross_attention.project_kv(keys, memory) for layer in self.layers]

    def _run_layers(
        self,
        tokens: Int64[Tensor, "B L"],
        memory: list[KVCache],
        cache: list[KVCache] | None,
        done: int,
        *,
        weights: bool,
    ) -> tuple[Float[Tensor, "B L D"], list[tuple[Tensor, Tensor]]]:
        """The tokens at positions done, done + 1, ... of the sequence through all layers and the final norm."""
        positions = torch.arange(done, done + tokens.shape[1], device=tokens.device)
        position = self.position if self.past_position is None else torch.cat([self.past_position, self.position], 1)
        position = position[:, done : done + tokens.shape[1]]
        attn_mask = self.visible(positions, self.sequence_length if cache else tokens.shape[1])
        x = self.embedding_dropout(self.embedding_norm(self.embedding(tokens)))
        attention: list[tuple[Tensor, Tensor]] = []
        for i, layer in enumerate(self.layers):
            x, cross, own = layer(x, position, memory[i], attn_mask, cache[i] if cache else None, positions, weights)
            if weights:
                attention.append((cross, own))
        return self.norm(x), attention

    def visible(self, positions: Int64[Tensor, "L"], keys: int) -> Bool[Tensor, "L {keys}"] | None:
        """Which of the first tokens of a sequence those at `positions` see; None: all of them."""
        seen = torch.arange(keys, device=positions.device)
        if not self.bidirectional:
            return seen <= positions[:, None]
        if self.parallel is None:
            return None
        return (seen == positions[:, None]) | (positions[:, None] >= 4)

    @torch.no_grad()
    def _initialise(self) -> None:
        for name, module in self.layers.named_modules():
            if isinstance(module, nn.Linear):
                # Xavier's bound is sqrt(6 / (in + out)), with out = 3 D for the official packed matrix and D for ours
                packed = name.endswith(("query", "key", "value"))
                nn.init.xavier_uniform_(module.weight, gain=0.5**0.5 if packed else 1.0)
                if "attention" in name:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.embedding.weight)
        for table in self.positions:
            nn.init.xavier_uniform_(table[0])
