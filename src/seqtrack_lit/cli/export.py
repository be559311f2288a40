"""seqtrack-export: a checkpoint in another form.

    seqtrack-export checkpoint=runs/NAME/checkpoints/best.ckpt out=mine.safetensors
    seqtrack-export checkpoint=runs/NAME/checkpoints/best.ckpt to=official out=SEQTRACK_ep0500.pth.tar
    seqtrack-export checkpoint=small to=onnx out=graphs

compact    a safetensors file with int8 matrices (storage=fp16: half precision): averaged weights where training kept
           them, no optimizer states. Tracks like a checkpoint: checkpoint=mine.safetensors. average=[FILE]: the mean of
           the weights of several checkpoints.
official   the weights by the official names, for the official code together with a YAML that describes the same model.
onnx       a folder with template.onnx and search.onnx (float32), for programs without torch: docs/export.md. Needs
           the extra `export`.
"""

import logging
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from seqtrack_lit.checks import one_of
from seqtrack_lit.cli.checkpoints import named_checkpoint
from seqtrack_lit.cli.hydra.runtime import existing, run


def body(config: DictConfig) -> None:
    """Write the file."""
    one_of("", ("compact", "official", "onnx"), to=config.to)
    one_of("", ("int8", "fp16"), storage=config.storage)
    path, out = named_checkpoint(config.checkpoint), Path(config.out).expanduser()
    average = [named_checkpoint(other) for other in config.average]
    if average and config.to != "compact":
        raise ValueError("average= goes with to=compact only")
    if config.official_config is not None:
        existing(config.official_config, "official_config")
    if out.exists():
        raise ValueError(f"out={config.out} exists already; give another name, or delete it first")
    from seqtrack_lit.models.checkpoint import export_compact, export_official, load_model

    if config.to == "compact":
        export_compact(path, out, average=average, storage=config.storage)
    elif config.to == "official":
        export_official(load_model(path, official_config=config.official_config).model, out)
    else:
        for library in ("onnxscript", "onnx_ir"):  # they tell of every node
            logging.getLogger(library).setLevel(logging.WARNING)
        from seqtrack_lit.models.onnx_export import export_onnx
        from seqtrack_lit.tracking.seqtrack import load_seqtrack

        tracker = load_seqtrack(path, device="cpu", official_config=config.official_config, dtype="float32")
        export_onnx(tracker.model, out, tracker.settings)
    size = sum(file.stat().st_size for file in ([out] if out.is_file() else out.iterdir()))
    print(f"{out}: {size / 1e6:.1f} MB, {config.to}, from {path} of {path.stat().st_size / 1e6:.1f} MB")


main = partial(run, "export", body)

if __name__ == "__main__":
    main()
