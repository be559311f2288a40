"""Readers of weights and of what a run remembers: checkpoints, official files, run folders."""

import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tests.campaign.damage import changed_trees
from tests.campaign.harness import Reader
from tests.campaign.pages import a_run

from seqtrack_lit.models.checkpoint import read_checkpoint
from seqtrack_lit.models.description import build_model
from seqtrack_lit.models.quantised import save_compact
from seqtrack_lit.runs.folder import read_metadata, read_settings
from seqtrack_lit.tracking.seqtrack import load_seqtrack

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "s1"
ENCODER = {"search_size": 32, "template_size": 32, "templates": 1, "patch": 16, "width": 32, "depth": 1, "heads": 2}
MODEL = {
    "encoder": {"_target_": "seqtrack_lit.models.encoder.ViTEncoder", **ENCODER},
    "decoder": {"_target_": "seqtrack_lit.models.decoder.Decoder", "width": 32, "depth": 1, "heads": 2, "ffn": 32},
}
DESCRIPTION = {
    "format": 1,
    "tokenizer": {"bins": 40},
    "model": MODEL,
    "tracker": {"name": "mine", "window": False, "search_factor": 4.0, "update_interval": 25},
}


def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_model({"bins": 40}, MODEL).state_dict()


def ours(place: Path, description: object = DESCRIPTION) -> None:
    weights = {f"net.{key}": tensor for key, tensor in state().items()}
    torch.save({"seqtrack": description, "state_dict": weights, "epoch": 1, "global_step": 3}, place / "best.ckpt")


def official(place: Path) -> None:
    """A recorded checkpoint of the official code, and its configuration."""
    for name in ("SEQTRACK_ep0007.pth.tar", "cfg.yaml"):
        shutil.copyfile(GOLDEN / name, place / name)


def tensors(place: Path) -> None:
    save_file({key: tensor.contiguous() for key, tensor in state().items()}, place / "weights.safetensors")


def compact(place: Path) -> None:
    save_compact(place / "small.safetensors", state(), description=DESCRIPTION)


def other_compact_files() -> dict[str, Callable[[Path], None]]:
    """Scales and descriptions that do not fit."""
    big = {"a": torch.zeros(1, 10**6, dtype=torch.int8), "a.scale": torch.ones(10**6)}
    few = {"decoder.embedding.weight": torch.zeros(2, 2), "decoder.embedding.weight.scale": torch.ones(3)}
    texts = {"lists in lists": "[" * 100_000, "no JSON": "{", "a number": "9" * 5000, "nothing": "null", "text": '"x"'}
    trees = dict(changed_trees(DESCRIPTION, np.random.default_rng(8), 20))

    def damage(tensors: dict[str, torch.Tensor], text: str) -> Callable[[Path], None]:
        return lambda place: save_file(tensors, place / "small.safetensors", {"seqtrack": text})

    return {
        **{f"scales: {len(one)}": damage(one, json.dumps(DESCRIPTION)) for one in (big, few)},
        **{f"description: {label}": damage(state(), text) for label, text in texts.items()},
        **{f"description: {label}": damage(state(), json.dumps(tree)) for label, tree in trees.items()},
    }


def loaded(file: str, **options: object) -> Callable[[Path], object]:
    """The tracker's settings, its weights, and its answer in two frames."""

    def read(place: Path) -> object:
        tracker = load_seqtrack(place / file, **{key: place / str(value) for key, value in options.items()})  # type: ignore[arg-type]
        frame = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        tracker.init(frame, np.array([10.0, 10, 20, 20]))
        weights = [tensor.numpy() for tensor in tracker.model.state_dict().values()]
        return [tracker.name, tracker.settings, weights, list(tracker.update(frame).box_xywh)]

    return read


def finite(value: object) -> bool:
    assert isinstance(value, list)
    return bool(np.isfinite(value[-1]).all())


def other_descriptions(count: int = 40) -> dict[str, Callable[[Path], None]]:
    """Fields of other types, absurd sizes, foreign classes."""

    def damage(tree: object) -> Callable[[Path], None]:
        return lambda place: ours(place, tree)

    trees = changed_trees(DESCRIPTION, np.random.default_rng(7), count)
    found = {f"description: {label}": damage(tree) for label, tree in trees}
    sizes = [
        ("depth", 10**7),
        ("width", 10**6),
        ("search_size", 10**6),
        ("patch", 1),
        ("heads", 10**9),
        ("templates", 10**6),
    ]
    for key, value in sizes:
        encoder = {**MODEL["encoder"], key: value}
        tree = {**DESCRIPTION, "model": {**MODEL, "encoder": encoder}}
        found[f"description: encoder.{key} = {value}"] = damage(tree)
    evil = {"_target_": "os.system", "command": "touch ../outside/ran"}
    found["description: a foreign class"] = damage({**DESCRIPTION, "model": {**MODEL, "encoder": evil}})
    return found


def hostile_pickles() -> dict[str, Callable[[Path], None]]:
    """Programs instead of weights."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    run = text("touch ../outside/ran")
    programs = {
        "a call": b"\x80\x02cos\nsystem\n" + run + b"\x85R.",
        "a call by name": b"\x80\x04" + text("os") + text("system") + b"\x93" + run + b"\x85R.",
        "an instance": b"\x80\x02(" + run + b"ios\nsystem\n.",
        "a new object": b"\x80\x02csubprocess\nPopen\n" + run + b"\x85\x81.",
        "depth": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "memory": b"\x80\x02" + b"B" + struct.pack("<I", 2**31 - 1) + b".",
        "laughter": b"\x80\x02" + text("x") + b"2\x86" * 60 + b".",
    }

    def damage(program: bytes, zipped: bool) -> Callable[[Path], None]:
        def write(place: Path) -> None:
            path = place / "best.ckpt"
            if not zipped:
                path.write_bytes(program)
                return
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("best/data.pkl", program)

        return write

    found = {
        f"a pickle: {name}, {'zip' if zipped else 'plain'}": damage(program, zipped)
        for name, program in programs.items()
        for zipped in (True, False)
    }

    def bomb(place: Path) -> None:
        archive = zipfile.ZipFile(place / "best.ckpt", "w", zipfile.ZIP_DEFLATED)
        with archive, archive.open("best/data.pkl", "w", force_zip64=True) as stream:
            for _ in range(3000):
                stream.write(bytes(1 << 20))

    return {**found, "a bomb": bomb}


def few_tensors(place: Path) -> object:
    return {key: tensor.numpy() for key, tensor in read_checkpoint(place / "weights.safetensors").state.items()}


def remembered(place: Path) -> object:
    """What resume= takes from a run."""
    return [read_metadata(place), read_settings(place)]


READERS = [
    Reader(
        "checkpoint of ours",
        "best.ckpt",
        ours,
        loaded("best.ckpt"),
        "binary",
        sane=finite,
        extra={**other_descriptions(), **hostile_pickles()},
    ),
    Reader(
        "official checkpoint",
        "SEQTRACK_ep0007.pth.tar",
        official,
        loaded("SEQTRACK_ep0007.pth.tar", official_config="cfg.yaml"),
        "binary",
        exact=True,
    ),
    Reader(
        "official YAML",
        "cfg.yaml",
        official,
        loaded("SEQTRACK_ep0007.pth.tar", official_config="cfg.yaml"),
        "yaml",
        sane=finite,
        names=("SEQTRACK_ep0007", "tracker.", "model.", "tokenizer."),
    ),
    Reader(
        "compact weights",
        "small.safetensors",
        compact,
        loaded("small.safetensors"),
        "binary",
        sane=finite,
        extra=other_compact_files(),
    ),
    Reader("safetensors", "weights.safetensors", tensors, few_tensors, "binary"),
    Reader("run.json of a run that goes on", "run.json", a_run, remembered, "json"),
    Reader("config.yaml of a run that goes on", "config.yaml", a_run, remembered, "yaml"),
]
