"""seqtrack-train: placeholder while the parts arrive."""

from omegaconf import DictConfig

from seqtrack_lit.cli.runtime import run


def body(config: DictConfig) -> None:
    """Train."""
    raise ValueError("training is not written yet")


def main() -> None:
    """Entry point."""
    run("train", body)


if __name__ == "__main__":
    main()
