"""Alpha-Refine's network in its mask-only form (VOT2020): a target's crop and a kernel from the first frame to logits.

Yan et al., "Alpha-Refine: Boosting Tracking Performance by Precise Bounding Box Estimation", CVPR 2021; this form is
the one of its vot2020 branch (ARnet_seg_mask, ResNet-50), which SeqTrack's mask results use (paper section 4.2).
Written from its description; parameters have the published names, so that its checkpoints fit as they are.

Letters: B batch, C channels, H W height and width, S side of the crop in pixels, P = S / 32 bins of the kernel's side,
K = P * P kernel positions, N = (S / 16) ** 2 positions of the stride-16 features.
"""

import timm
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

STRIDE = 16  # of the features that the kernel is taken from and correlated with
WIDTHS = {"layer5": 2048, "layer4": 1024, "layer3": 512, "layer2": 256}  # published names of ResNet-50's stages 4 to 1
_WIDTH = 64  # channels of the head


class AlphaRefine(nn.Module):
    """Reference kernel and search crop to the logits of a mask of the crop's size.

    Args:
        bins: P, bins of the kernel's side; the crop has 32 P pixels a side. The published network has 12: 384 pixels.
    """

    def __init__(self, bins: int = 12) -> None:
        super().__init__()
        self.bins, self.size = bins, 32 * bins
        # stages 1 to 4: 256, 512, 1024, 2048 channels at stride 4, 8, 16, 32
        self.feature_extractor = timm.create_model("resnet50", features_only=True, out_indices=(1, 2, 3, 4))
        channels = bins * bins
        self.neck = nn.ModuleDict(
            {"channel_attention": ChannelAttention(channels), "spatial_attention": NonLocal(channels)}
        )
        self.refiner = MaskHead(channels)

    def kernel(self, crop: Float[Tensor, "1 3 S S"], box_xyxy: Float[Tensor, "4"]) -> Float[Tensor, "1 C P P"]:
        """The reference kernel: stride-16 features of the first frame's crop, pooled over the target's box.

        Args:
            crop: normalised pixels.
            box_xyxy: the target in pixels of the crop.
        """
        features: Tensor = self.feature_extractor(crop)[2][0]
        return precise_roi_pool(features, box_xyxy / STRIDE, (self.bins, self.bins))[None]

    def forward(self, crop: Float[Tensor, "B 3 S S"], kernel: Float[Tensor, "B C P P"]) -> Float[Tensor, "B 1 S S"]:
        """Logits of the mask; a kernel a crop."""
        layer2, layer3, layer4, layer5 = self.feature_extractor(crop)
        score = torch.einsum("bck,bcyx->bkyx", kernel.flatten(2), layer4)
        score = self.neck["spatial_attention"](self.neck["channel_attention"](score))
        logits: Tensor = self.refiner(
            score, {"layer5": layer5, "layer4": layer4, "layer3": layer3, "layer2": layer2}, self.size
        )
        return logits


def precise_roi_pool(
    features: Float[Tensor, "C H W"], box_xyxy: Float[Tensor, "4"], bins: tuple[int, int]
) -> Float[Tensor, "C rows columns"]:
    """Precise RoI pooling (Jiang et al., ECCV 2018): means of the bilinear interpolant over bins, in closed form.

    The value i lies at coordinate i, outside of the map the interpolant falls to zero within a cell. The integral over
    two axes is a product of two integrals of the hat function, so pooling is Wy F Wx^T with a row of weights a bin.

    Args:
        features: one image's features.
        box_xyxy: in units of the features; one without area gives zeros.
        bins: rows and columns.
    """
    x1, y1, x2, y2 = box_xyxy.double()
    down = _bin_weights(y1, y2, bins[0], features.shape[1]).to(features)
    across = _bin_weights(x1, x2, bins[1], features.shape[2]).to(features)
    return torch.einsum("ph,chw,qw->cpq", down, features, across)


def _bin_weights(start: Tensor, end: Tensor, bins: int, cells: int) -> Float[Tensor, "bins cells"]:
    """The share of every cell in the mean over every bin of [start, end]: H(u) is the integral of the hat up to u."""
    edges = start + (end - start) * torch.arange(bins + 1, dtype=start.dtype, device=start.device) / bins
    v = (edges[:, None] - torch.arange(cells, dtype=start.dtype, device=start.device)).clamp(-1, 1)
    integral = 0.5 + v - 0.5 * v * v.abs()
    shares: Tensor = (integral[1:] - integral[:-1]) * bins / (end - start)
    return shares if end > start else torch.zeros_like(shares)


class ChannelAttention(nn.Module):
    """Squeeze and excitation over the K kernel positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // 4, 1)
        self.fc2 = nn.Conv2d(channels // 4, channels, 1)

    def forward(self, score: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
        """Every channel times its gate."""
        gate: Tensor = self.fc2(self.fc1(score.mean((2, 3), keepdim=True)).relu()).sigmoid()
        return score * gate


class NonLocal(nn.Module):
    """A non-local block (Wang et al., CVPR 2018) with keys and values from 2 x 2 pooled places, without scaling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inner = channels // 2
        self.theta = nn.Conv2d(channels, inner, 1)
        self.phi = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        self.g = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.MaxPool2d(2))
        self.W = nn.Sequential(nn.Conv2d(inner, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, score: Float[Tensor, "B K H W"]) -> Float[Tensor, "B K H W"]:
        """The input plus what every position reads from all others."""
        query, key, value = (layer(score).flatten(2) for layer in (self.theta, self.phi, self.g))
        attention = (query.transpose(1, 2) @ key).softmax(-1)  # B, N, N / 4
        mixed = (attention @ value.transpose(1, 2)).transpose(1, 2)
        added: Tensor = self.W(mixed.unflatten(2, score.shape[2:]))
        return score + added


class MaskHead(nn.Module):
    """From the deepest stage to the shallowest: each one's features join the score and refine what came before.

    A coarse-to-fine segmentation head of discriminative features (reduce and transform, refinement residual blocks and
    channel attention as in Yu et al., CVPR 2018), then two bicubic enlargements to the size of the crop.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.TSE = nn.ModuleDict({name: Join(width, channels) for name, width in WIDTHS.items()})
        self.RRB1 = nn.ModuleDict({name: Residual() for name in WIDTHS})
        self.CAB = nn.ModuleDict({name: Gate() for name in WIDTHS})
        self.RRB2 = nn.ModuleDict({name: Residual() for name in WIDTHS})
        self.project = nn.ModuleDict(
            {"conv1": nn.Conv2d(_WIDTH, 32, 3, padding=1), "conv2": nn.Conv2d(32, 1, 3, padding=1)}
        )

    def forward(
        self, score: Float[Tensor, "B K H W"], features: dict[str, Tensor], size: int
    ) -> Float[Tensor, "B 1 {size} {size}"]:
        """Logits from the score and the features of all stages by their names."""
        deeper = score.new_zeros(())
        for name, join in self.TSE.items():
            reduced, joined = join(features[name], score)
            if not deeper.ndim:  # nothing is deeper than the first level but its mean
                deeper = reduced.mean((2, 3), keepdim=True)
            deeper = self.RRB2[name](self.CAB[name](deeper, self.RRB1[name](joined)))
        half = F.interpolate(deeper, scale_factor=2, mode="bicubic", align_corners=False)
        whole = F.interpolate(self.project["conv1"](half).relu(), scale_factor=2, mode="bicubic", align_corners=False)
        logits: Tensor = self.project["conv2"](whole)
        return logits


class Join(nn.Module):
    """A stage's features to the head's width (`reduce`), and these joined with the score (`transform`)."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        joined = _WIDTH + channels
        self.reduce = nn.Sequential(nn.Conv2d(width, _WIDTH, 1), nn.ReLU(), nn.Conv2d(_WIDTH, _WIDTH, 1))
        self.transform = nn.Sequential(
            *(nn.Conv2d(joined, joined, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(joined, joined, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(joined, _WIDTH, 3, padding=1), nn.ReLU()),
        )

    def forward(self, features: Float[Tensor, "B C H W"], score: Float[Tensor, "B K h w"]) -> tuple[Tensor, Tensor]:
        """The reduced features, and these joined with the score; both 64 channels of H x W."""
        reduced: Tensor = self.reduce(features)
        sized = F.interpolate(score, reduced.shape[2:], mode="bilinear", align_corners=False)
        return reduced, self.transform(torch.cat([reduced, sized], 1))


class Residual(nn.Module):
    """Refinement residual block: ReLU(t + u(t)) with t a 1 x 1 convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1x1 = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.bblock = nn.Sequential(
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1),
            nn.BatchNorm2d(_WIDTH),
            nn.ReLU(),
            nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, bias=False),
        )

    def forward(self, x: Float[Tensor, "B 64 H W"]) -> Float[Tensor, "B 64 H W"]:
        """The refined features."""
        plain = self.conv1x1(x)
        refined: Tensor = (plain + self.bblock(plain)).relu()
        return refined


class Gate(nn.Module):
    """Channel attention block: shallower features, gated by what both levels hold, plus the deeper ones."""

    def __init__(self) -> None:
        super().__init__()
        self.convreluconv = nn.Sequential(nn.Conv2d(2 * _WIDTH, _WIDTH, 1), nn.ReLU(), nn.Conv2d(_WIDTH, _WIDTH, 1))

    def forward(
        self, deeper: Float[Tensor, "B 64 h w"], shallower: Float[Tensor, "B 64 H W"]
    ) -> Float[Tensor, "B 64 H W"]:
        """Both levels at the size of the shallower one."""
        means = torch.cat([level.mean((2, 3), keepdim=True) for level in (shallower, deeper)], 1)
        larger = F.interpolate(deeper, shallower.shape[2:], mode="bilinear", align_corners=False)
        gate: Tensor = self.convreluconv(means).sigmoid()
        return shallower * gate + larger
