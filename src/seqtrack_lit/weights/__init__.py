"""Weights that come with the package; MODEL_CARD.md beside this file says what they are and where they come from."""

from pathlib import Path

SMALL = Path(__file__).parent / "seqtrack_small.safetensors"  # what `checkpoint=small` and load_tracker() read
