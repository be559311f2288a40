"""What constructors check of their arguments before anything is built: Hydra coerces no value."""


def whole(group: str, low: int, **values: object) -> None:
    """Refuse, by its key, a value that is not a whole number >= low."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ValueError(f"{group}.{key} must be a whole number >= {low}, got {value!r}")


def flag(group: str, **values: object) -> None:
    """Refuse, by its key, a value that is neither true nor false: any text would count as true."""
    for key, value in values.items():
        if not isinstance(value, bool):
            raise ValueError(f"{group}.{key} must be true or false, got {value!r}")


def number(group: str, low: float, high: float, **values: object) -> None:
    """Refuse, by its key, a value that is not a number in [low, high]."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"{group}.{key} must be a number from {low:g} to {high:g}, got {value!r}")
