"""SeqTrack (CVPR 2023): visual object tracking as sequence generation, with PyTorch Lightning and Hydra."""

__version__ = "0.1.0"
