"""SeqTrack: tracking as generating four tokens, the box of the target in the search region (CVPR 2023, Fig. 2).

    encoder(templates, search) -> linear map -> memory -> decoder -> four coordinate tokens

Letters: B batch, T templates, N search tokens, A all tokens, M memory tokens, C encoder width, D decoder width,
V vocabulary, P past boxes, L input tokens.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, cast, get_args, runtime_checkable

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor, nn

from seqtrack_lit.checks import flag
from seqtrack_lit.models.decoder import Attended, Decoder
from seqtrack_lit.models.encoder import Encoder, Search, Templates
from seqtrack_lit.models.inference_decoder import InferenceDecoder
from seqtrack_lit.tokens import BoxTokenizer

MemoryKind = Literal["search", "both", "mean"]
Forced = Sequence[int | None]


class Logits(NamedTuple):
    """Outputs under teacher forcing: `tokens` [B L V]; `dense` [B N], one per search token, None without that head."""

    tokens: Tensor
    dense: Tensor | None


class Prediction(NamedTuple):
    """A generated box per sample.

    `tokens` [B 4] in the tokenizer's order; `boxes` [B 4] cxcywh, fractions of the search crop, float32;
    `likelihoods` [B 4] of the tokens, after the Hann window (float64 with it, else float32); where asked for,
    `attention`, what each token attended to, and `distributions` [B 4 bins], the probabilities each token was chosen
    from, after the Hann window; `unwindowed` [B 4 bins] are those before it; `presence` [B] is the largest probability
    that the dense head has for a search token to be the target, None without that head.
    """

    tokens: Tensor
    boxes: Tensor
    likelihoods: Tensor
    attention: Attended | None = None
    distributions: Tensor | None = None
    unwindowed: Tensor | None = None
    presence: Tensor | None = None


@runtime_checkable
class ModelInit(Protocol):
    """Initial weights of what a SeqTrack has beside encoder and decoder."""

    def memory_position(self, position: nn.Parameter) -> None:
        """Set the memory positions [1 M D]."""

    def linear(self, layer: nn.Linear) -> None:
        """Set a linear layer."""


class SeqTrack(nn.Module):
    """The whole model.

    Args:
        tokenizer: boxes <-> tokens; the decoder must have been built with an equal one.
        encoder: images to features.
        decoder: tokens and memory to logits.
        memory: keys and values of the decoder: features of the search region, of search region and templates (Tab. 4
            #6), or the mean of all of them as one token (#7).
        dense_head: a linear layer on each search token, for a training-only loss on where the target is.
        map_equal_widths: apply the linear map also where encoder and decoder have equal widths. The official code
            does not, though its parameters exist all the same.
        init: initial weights of linear map, dense head and memory positions; encoder and decoder take the same. None
            is the official rule: torch's default, and for the positions the 1-D sinusoid over the flattened index.
    """

    def __init__(
        self,
        *,
        tokenizer: BoxTokenizer,
        encoder: Encoder,
        decoder: Decoder,
        memory: MemoryKind = "search",
        dense_head: bool = False,
        map_equal_widths: bool = False,
        init: ModelInit | None = None,
    ) -> None:
        super().__init__()
        if decoder.tokenizer != tokenizer:
            raise ValueError(
                f"model.tokenizer is {tokenizer}, but the decoder was built with {decoder.tokenizer}; "
                "set both by one `tokenizer: ${tokenizer}`"
            )
        check_memory(memory, joint=encoder.joint)
        flag("model", dense_head=dense_head, map_equal_widths=map_equal_widths)
        self.tokenizer = tokenizer
        self.memory = memory
        self.encoder = encoder
        self.decoder = decoder
        self.linear = nn.Linear(encoder.width, decoder.width)
        self.apply_linear = map_equal_widths or encoder.width != decoder.width
        length = {"search": encoder.search_tokens, "both": encoder.tokens, "mean": 1}[memory]
        self.memory_position = nn.Parameter(sinusoid(length, decoder.width)[None])
        if init is not None:
            init.memory_position(self.memory_position)
        self.dense = nn.Linear(decoder.width, 1) if dense_head else None
        if init is not None:
            init.linear(self.linear)
            if self.dense is not None:
                init.linear(self.dense)

    @property
    def templates(self) -> int:
        """T, the number of templates."""
        return self.encoder.templates

    @property
    def search_size(self) -> int:
        """Side of the search crop, pixels."""
        return self.encoder.search_size

    @property
    def template_size(self) -> int:
        """Side of the template crops, pixels."""
        return self.encoder.template_size

    @property
    def past(self) -> int:
        """P, the number of past boxes before START."""
        return self.decoder.past

    def encode(
        self, templates: Templates, search: Search, template_boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B M D"]:
        """Normalised images to the memory of the decoder."""
        return self._to_memory(self.features(templates, search, template_boxes))

    def forward(
        self,
        templates: Templates,
        search: Search,
        inputs: Int64[Tensor, "B L"],
        past: Int64[Tensor, "B P 4"] | None = None,
        template_boxes: Float[Tensor, "B T 4"] | None = None,
    ) -> Logits:
        """Teacher forcing: logits of the token after each input token.

        Args:
            templates: normalised template crops.
            search: normalised search crop.
            inputs: [START, t1..t4] (see `BoxTokenizer.teacher`); ignored by the bidirectional decoder, whose
                logits are those of t1..t4.
            past: tokens of the last P boxes in the coordinates of this search crop, oldest first.
            template_boxes: the target in each template (cxcywh, fractions), for encoders that read it.
        """
        return self.logits(self.features(templates, search, template_boxes), inputs, past)

    def logits(
        self, features: Float[Tensor, "B n C"], inputs: Int64[Tensor, "B L"], past: Int64[Tensor, "B P 4"] | None = None
    ) -> Logits:
        """The second half of `forward`, for `features` of the images."""
        memory = self._to_memory(features)
        logits = self.decoder(inputs, memory, self.memory_position, past)
        return Logits(logits, None if self.dense is None else self._dense(features, memory))

    def generate(
        self,
        templates: Templates,
        search: Search,
        *,
        template_boxes: Float[Tensor, "B T 4"] | None = None,
        **options: Any,
    ) -> Prediction:
        """Greedy generation of the four tokens; call it in eval mode.

        Args:
            templates: normalised template crops.
            search: normalised search crop.
            template_boxes: the target in each template (cxcywh, fractions), for encoders that read it.
            options: see `generate_from`.
        """
        with torch.no_grad():
            features = self.features(templates, search, template_boxes)
        return self.generate_from(features, **options)

    @torch.no_grad()
    def generate_from(
        self,
        features: Float[Tensor, "B n C"],
        *,
        hann_window: Float64[Tensor, "bins"] | None = None,
        past: Int64[Tensor, "B P 4"] | None = None,
        decoder: InferenceDecoder | None = None,
        expectation: int = 0,
        attention: bool = False,
        distributions: bool = False,
        forced: Forced = (),
    ) -> Prediction:
        """The second half of `generate`.

        Args:
            features: of the images.
            hann_window: factor on the probabilities of the two centre tokens (`BoxTokenizer.hann_window`).
            past: tokens of the last P boxes in the coordinates of this search crop, oldest first.
            decoder: made of this model; takes the place of its decoder unless `attention`.
            expectation: the box is read from the mean of the bins up to so many away from each token, weighted by their
                probabilities before the window; 0: from the tokens alone, which is the paper.
            attention: return the attention behind each token.
            distributions: return the probabilities each token was chosen from.
            forced: tokens to go on from in the place of the chosen ones, None where nothing is forced: forced=(12,)
                writes token 12 first and lets the model choose the other three.
        """
        memory = self._to_memory(features)
        dense = None if self.dense is None else self._dense(features, memory)
        step: Callable[[Tensor], tuple[Tensor, Attended | None]]
        if decoder is None or attention:
            state, tokens = self.decoder.prefill(memory, self.memory_position, past)
            step = partial(self.decoder.decode_step, state=state, weights=attention)
        else:
            inference_state, tokens = decoder.prefill(memory, past)
            step = partial(decoder.decode_step, state=inference_state)
        chosen: list[_Token] = []
        attended: list[Attended] = []
        refined = self.decoder.refined
        while len(chosen) < (8 if refined else 4):  # causal: steps of one token; bidirectional, parallel: of four
            logits, weights = step(tokens)
            for next_logits in logits.unbind(1):
                place = len(chosen) % 4
                wanted = forced[place] if place < len(forced) else None
                chosen.append(self._choose(next_logits, place, hann_window, wanted))
            attended = attended[: 0 if refined else None] + ([] if weights is None else [weights])
            tokens = chosen[-1].token[:, None]
            if refined:
                tokens = self.decoder.read_again(torch.stack([one.token for one in chosen[-4:]], dim=1))
        chosen = chosen[-4:]
        box_tokens = torch.stack([one.token for one in chosen], dim=1)
        return Prediction(
            tokens=box_tokens,
            boxes=self.tokenizer.decode(_mean(chosen, expectation) if expectation else box_tokens),
            likelihoods=torch.cat([one.likelihood[:, None] for one in chosen], dim=1),  # cat: float64 wins
            attention=Attended(*(torch.cat(one, dim=1) for one in zip(*attended, strict=True))) if attention else None,
            distributions=torch.cat([one.distribution[:, None] for one in chosen], dim=1) if distributions else None,
            unwindowed=torch.stack([one.unwindowed for one in chosen], dim=1) if distributions else None,
            presence=None if dense is None else dense.float().sigmoid().amax(1),
        )

    def _choose(
        self,
        logits: Float[Tensor, "B V"],
        position: int,
        hann_window: Float64[Tensor, "bins"] | None,
        forced: int | None,
    ) -> "_Token":
        """The likeliest coordinate token: softmax over the whole vocabulary, cut, not normalised again, windowed."""
        unwindowed = probabilities = logits.float().softmax(-1)[:, : self.tokenizer.bins]
        if hann_window is not None and position in self.tokenizer.window_positions:
            probabilities = probabilities * hann_window  # float64, which decides the argmax
        if forced is None:
            likelihood, token = probabilities.max(-1)
        else:
            likelihood, token = probabilities[:, forced], torch.full_like(logits[:, 0], forced, dtype=torch.long)
        return _Token(token, likelihood, probabilities, unwindowed)

    def features(
        self, templates: Templates, search: Search, template_boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B n C"]:
        """The encoder's features: of the search region alone where the memory holds nothing else."""
        return self.search_features(self.prepare_templates(templates, template_boxes), search)

    def prepare_templates(
        self, templates: Templates, template_boxes: Float[Tensor, "B T 4"] | None = None
    ) -> Float[Tensor, "B ..."]:
        """The part of `features` that depends on the templates alone.

        Raises:
            ValueError: another number or size of templates than the model was built for.
        """
        wanted = (self.templates, 3, self.template_size, self.template_size)
        if tuple(templates.shape[1:]) != wanted:
            raise ValueError(
                f"the model was built for templates of shape {wanted}, got {tuple(templates.shape[1:])}; see "
                "model.encoder.templates and template_size"
            )
        return self.encoder.prepare_templates(templates, template_boxes)

    def search_features(self, prepared: Float[Tensor, "B ..."], search: Search) -> Float[Tensor, "B n C"]:
        """The part of `features` that depends on the search region.

        Args:
            prepared: the output of `prepare_templates`.
            search: normalised search crop.

        Raises:
            ValueError: another size of search crop than the model was built for.
        """
        if tuple(search.shape[1:]) != (3, self.search_size, self.search_size):
            raise ValueError(
                f"the model was built for search crops of side {self.search_size}, got {tuple(search.shape[1:])}; see "
                "model.encoder.search_size"
            )
        return self.encoder.features(prepared, search, search_only=self.memory == "search")

    def _dense(self, features: Float[Tensor, "B n C"], memory: Float[Tensor, "B M D"]) -> Float[Tensor, "B N"]:
        """Logits of the dense head, one per search token."""
        assert self.dense is not None
        count = self.encoder.search_tokens
        mapped = self._map(features[:, :count]) if self.memory == "mean" else memory[:, :count]
        return cast(Tensor, self.dense(mapped).squeeze(-1))

    def _map(self, features: Float[Tensor, "B n C"]) -> Float[Tensor, "B n D"]:
        return self.linear(features) if self.apply_linear else features

    def _to_memory(self, features: Float[Tensor, "B n C"]) -> Float[Tensor, "B M D"]:
        if self.memory == "mean":
            features = features.mean(dim=1, keepdim=True)
        return self._map(features)


class _Token(NamedTuple):
    token: Int64[Tensor, "B"]
    likelihood: Float[Tensor, "B"]
    distribution: Float[Tensor, "B bins"]
    unwindowed: Float[Tensor, "B bins"]


def _mean(chosen: Sequence[_Token], around: int) -> Float[Tensor, "B 4"]:
    """Each token moved to the mean of the bins up to `around` away from it, by their probabilities."""
    tokens, probabilities = (
        torch.stack(one, dim=1) for one in ([t.token for t in chosen], [t.unwindowed for t in chosen])
    )
    away = torch.arange(probabilities.shape[-1], device=tokens.device) - tokens[..., None]  # B 4 bins
    weights = probabilities * (away.abs() <= around)
    return tokens + (weights * away).sum(-1) / weights.sum(-1).clamp_min(torch.finfo(weights.dtype).tiny)


def check_memory(memory: str, *, joint: bool) -> None:
    """Refuse an unknown kind of memory, and one without templates behind an encoder that encodes them separately.

    Raises:
        ValueError: names the key.
    """
    if memory not in get_args(MemoryKind):
        raise ValueError(f"model.memory must be one of {', '.join(get_args(MemoryKind))}, got {memory!r}")
    if not joint and memory != "both":
        raise ValueError(
            f"model.encoder.joint=false needs model.memory=both, got {memory}: search features do not depend on the "
            "templates, so the decoder needs both"
        )


def sinusoid(length: int, width: int) -> Float[Tensor, "length width"]:
    """1-D sinusoid of "Attention is all you need": sin on even columns, cos on odd ones."""
    column = torch.arange(width)
    if column.is_meta:  # only its shape is asked for; these operations import torch's compiler there, for seconds
        return torch.empty(length, width)
    angle = torch.arange(length)[:, None] / 10000 ** (column // 2 * 2 / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())
