"""SeqTrack (CVPR 2023): visual object tracking as sequence generation, with PyTorch Lightning and Hydra."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqtrack_lit.tracking.long_term import load_tracker

__version__ = "0.1.0"
__all__ = ["__version__", "load_tracker"]


def __getattr__(name: str) -> Any:
    """`load_tracker` is imported when it is asked for, because torch comes with it."""
    if name != "load_tracker":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from seqtrack_lit.tracking.long_term import load_tracker

    return load_tracker
