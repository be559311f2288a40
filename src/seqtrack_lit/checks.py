"""What constructors check of their arguments before anything is built: Hydra coerces no value.

All raise ValueError with the key as the configuration spells it (group and name), what came and what is allowed.
"""

import math
from collections.abc import Sequence


def whole(group: str, low: int, **values: object) -> None:
    """Refuse what is not a whole number >= low."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{_key(group, name)} must be a whole number >= {low}, got {value!r}")


def number(group: str, low: float = 0.0, high: float = math.inf, *, above: bool = False, **values: object) -> None:
    """Refuse what is not a finite number in [low, high], or in (low, high] with `above`."""
    bounds = f"{'>' if above else '>='} {low:g}" + ("" if high == math.inf else f" and <= {high:g}")
    for name, value in values.items():
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not low <= value <= high or (above and value == low):  # type: ignore[operator]
            raise ValueError(f"{_key(group, name)} must be a number {bounds}, got {value!r}")


def flag(group: str, **values: object) -> None:
    """Refuse what is neither true nor false: any text would count as true."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{_key(group, name)} must be true or false, got {value!r}")


def one_of(group: str, allowed: Sequence[str], **values: object) -> None:
    """Refuse what is not one of the words."""
    for name, value in values.items():
        if value not in allowed:
            raise ValueError(f"{_key(group, name)} must be one of {', '.join(allowed)}, got {value!r}")


def _key(group: str, name: str) -> str:
    return f"{group}.{name}" if group else name
