"""Initial weights with which a small model starts to match in minutes; the paper's start takes it much longer.

Every linear layer is Xavier-uniform by itself (queries, keys and values apart) with zero bias. In the encoder keys
start equal to queries, so that attention begins as a comparison of tokens, which is what matching needs, and positions
of template patches differ inside and outside of the target. Measured for conf/model/seqtrack_tiny.yaml.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seqtrack_lit.boxes import patch_shares
from seqtrack_lit.checks import number
from seqtrack_lit.models.decoder import Decoder
from seqtrack_lit.models.encoder import Attention, ViTEncoder


class TinyInit:
    """Initial weights of SeqTrack, ViTEncoder and Decoder, as their argument `init`.

    Args:
        memory_position_std: standard deviation of the memory positions, normal.
        embedding_std: of the decoder's token embeddings, normal.
        decoder_position_std: of the decoder's positions, normal.
        encoder_position_std: of the encoder's positions, truncated normal.
        patch_gain: factor on the patch embedding's weights.
        match_gain: > 0 starts keys equal to queries, orthogonal with this gain; 0 leaves them Xavier-uniform.
        target_share: > 0 adds one vector to the positions of template patches inside the target and another to
            those outside, the target taken as a central square with this share of the template's side
            (1 / template crop factor).
        target_std: standard deviation of these two vectors.
        target_bias: start of the query biases, in lengths of the unit vector along the target vector: the first
            attention of every token is to the target.

    Raises:
        ValueError: a value out of range.
    """

    def __init__(
        self,
        *,
        memory_position_std: float = 1.0,
        embedding_std: float = 0.02,
        decoder_position_std: float = 1.0,
        encoder_position_std: float = 0.5,
        patch_gain: float = 1.0,
        match_gain: float = 0.0,
        target_share: float = 0.0,
        target_std: float = 0.5,
        target_bias: float = 0.0,
    ) -> None:
        number("model.init", memory_position_std=memory_position_std, embedding_std=embedding_std)
        number("model.init", decoder_position_std=decoder_position_std, encoder_position_std=encoder_position_std)
        number("model.init", match_gain=match_gain, target_std=target_std)
        number("model.init", 0, 1, target_share=target_share)
        number("model.init", -math.inf, patch_gain=patch_gain, target_bias=target_bias)
        self.memory_position_std = memory_position_std
        self.embedding_std, self.decoder_position_std = embedding_std, decoder_position_std
        self.encoder_position_std = encoder_position_std
        self.patch_gain, self.match_gain = patch_gain, match_gain
        self.target_share, self.target_std, self.target_bias = target_share, target_std, target_bias

    def linear(self, layer: nn.Linear) -> None:
        """Xavier-uniform weight, zero bias."""
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)

    def memory_position(self, position: nn.Parameter) -> None:
        """The memory positions [1 M D]."""
        nn.init.normal_(position, std=self.memory_position_std)

    def decoder(self, decoder: Decoder) -> None:
        """A decoder: linear layers, embeddings and positions."""
        for module in decoder.modules():
            if isinstance(module, nn.Linear):
                self.linear(module)
        nn.init.normal_(decoder.embedding.weight, std=self.embedding_std)
        for table in decoder.positions:
            nn.init.normal_(table, std=self.decoder_position_std)

    @torch.no_grad()
    def encoder(self, encoder: ViTEncoder) -> None:
        """An encoder: linear layers, positions, patch embedding, matching and the marks of the target."""
        for name, module in encoder.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
                for matrix in module.weight.chunk(3 if name.endswith("qkv") else 1):
                    nn.init.xavier_uniform_(matrix)
        nn.init.trunc_normal_(encoder.search_position, std=self.encoder_position_std)
        nn.init.trunc_normal_(encoder.template_position, std=self.encoder_position_std)
        encoder.patch_embed.weight.mul_(self.patch_gain)
        attentions = [module for module in encoder.modules() if isinstance(module, Attention)]
        if self.match_gain:
            for attention in attentions:
                queries, keys, _ = attention.qkv.weight.chunk(3)
                keys.copy_(nn.init.orthogonal_(queries, self.match_gain))
        if self.target_share:
            target = self._mark_target(encoder)
            for attention in attentions:
                keys = attention.qkv.weight.chunk(3)[1]
                attention.qkv.bias.chunk(3)[0].copy_(keys @ (target / target.norm()) * self.target_bias)

    def _mark_target(self, encoder: ViTEncoder) -> Float[Tensor, "C"]:
        """Add to the template positions by the share of each patch inside the target; returns the vector inside [C]."""
        target, around = torch.randn(2, encoder.width).mul(self.target_std).unbind(0)
        central = torch.tensor([0.5, 0.5, self.target_share, self.target_share])
        inside = patch_shares(central, encoder.template_grid)[:, None]  # (y x) 1
        encoder.template_position.add_(inside * target + (1 - inside) * around)
        return target
