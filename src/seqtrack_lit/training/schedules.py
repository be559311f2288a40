"""Learning-rate schedules: a factor as a pure function of (step, all steps), never of the clock."""

from collections.abc import Callable
from dataclasses import dataclass

from seqtrack_lit.checks import number

Schedule = Callable[[int, int], float]


@dataclass(frozen=True)
class StepDecay:
    """1, then `factor` after the share `after` of the steps (paper: x 0.1 after 400 of 500 epochs)."""

    after: float = 0.8
    factor: float = 0.1

    def __post_init__(self) -> None:
        number("optimizer.schedule", high=1, after=self.after)
        number("optimizer.schedule", factor=self.factor)

    def __call__(self, step: int, steps: int) -> float:
        """Factor on the learning rates at 0-based `step` of `steps`."""
        return self.factor if step >= round(self.after * steps) else 1.0


@dataclass(frozen=True)
class WarmupConstantLinear:
    """Linearly up to 1 over the share `warmup`, 1 until the share `constant`, linearly down to 0 at the end."""

    warmup: float = 0.05
    constant: float = 0.5

    def __post_init__(self) -> None:
        number("optimizer.schedule", high=1, warmup=self.warmup)
        number("optimizer.schedule", self.warmup, 1, constant=self.constant)

    def __call__(self, step: int, steps: int) -> float:
        """Factor on the learning rates at 0-based `step` of `steps`."""
        up, down = round(self.warmup * steps), round(self.constant * steps)
        if step < up:
            return (step + 1) / up
        return 1.0 if step < down else max(0.0, (steps - step) / max(1, steps - down))
