"""When a tracker takes a new template (paper section 3.5; Tab. 4: rows 1, 8 and 9)."""

from dataclasses import dataclass
from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor

from seqtrack_lit.checks import one_of, whole

Rule = Literal["none", "naive", "likelihood"]


@dataclass(frozen=True)
class TemplateUpdate:
    """When a new dynamic template is taken (paper Tab. 4: rows 1, 8 and 9).

    Args:
        rule: "none" never; "naive" every `interval` frames; "likelihood" every `interval` frames, if the mean
            probability of the four tokens lies above `threshold`.
        interval: frames between two decisions, counted from 1 = the first tracked frame.
        threshold: mean token probability in [0, 1]. The official configuration writes 40 times this number: 0.015
            here is its 0.6.
    """

    rule: Rule = "likelihood"
    interval: int = 25
    threshold: float = 0.015

    def __post_init__(self) -> None:
        one_of("tracker", get_args(Rule), update=self.rule)
        whole("tracker", 1, update_interval=self.interval)
        if isinstance(self.threshold, bool) or not isinstance(self.threshold, (int, float)):
            raise ValueError(f"tracker.update_threshold must be a number, got {self.threshold!r}")
        if not 0 <= self.threshold <= 1:
            raise ValueError(
                f"tracker.update_threshold must lie in [0, 1], got {self.threshold:g}: it is a mean probability, "
                "1/40 of the official code's number (official 0.6 is 0.015)"
            )

    def is_due(self, frame: int, likelihoods: Float[Tensor, "4"]) -> bool:
        """Whether a new template is taken from frame `frame` (1 = the first tracked one).

        Official (lib/test/tracker/seqtrack.py): `confidence.sum().item() * 10 > threshold`, the sum in the tensor's own
        precision, the rest in float64. The same form is used here, so that decisions at the threshold are equal;
        rounding to 12 digits makes threshold * 40 the decimal number that the official file holds.
        """
        if self.rule == "none" or frame % self.interval:
            return False
        return self.rule == "naive" or likelihoods.sum().item() * 10 > round(self.threshold * 40, 12)

    def is_close(self, frame: int, likelihoods: Float[Tensor, "4"], margin: float) -> bool:
        """Whether likelihoods that differ by the share `margin` might be decided otherwise."""
        if self.rule != "likelihood" or frame % self.interval:
            return False
        return abs(likelihoods.sum().item() * 10 - self.threshold * 40) <= margin * self.threshold * 40
