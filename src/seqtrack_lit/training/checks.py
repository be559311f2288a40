"""Checks of configured values: the message names the key, what came and what is allowed."""

import math
from collections.abc import Sequence


def whole(value: object, key: str, *, low: int) -> int:
    """A whole number >= low, or ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{key} must be a whole number >= {low}, got {value!r}")
    return value


def number(value: object, key: str, *, low: float = 0.0, high: float = math.inf, above: bool = False) -> float:
    """A finite number in [low, high], or in (low, high] with `above`; else ValueError."""
    good = not isinstance(value, bool) and isinstance(value, (int, float)) and math.isfinite(value)
    if not good or not low <= value <= high or (above and value == low):  # type: ignore[operator]
        bounds = f"{'>' if above else '>='} {low:g}" + ("" if high == math.inf else f" and <= {high:g}")
        raise ValueError(f"{key} must be a number {bounds}, got {value!r}")
    return float(value)  # type: ignore[arg-type]


def one_of(value: object, key: str, allowed: Sequence[str]) -> str:
    """One of the names, or ValueError."""
    if value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {value!r}")
    return str(value)
