"""Settings of runs begun by earlier revisions, in today's words: config.yaml and run.json."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Keys by their old names, in this order; what lies below goes with them. None: they have no meaning any more.
KEYS: dict[str, str | None] = {
    "data.frameset": "data.frame_sampling",
    "data.frame_sampling.contrast": "data.frame_sampling.distractor_pairs",
    "data.windows": "data.crops",
    "data.augmentation.grey": "data.augmentation.grayscale",
    "data.validation.wide": None,
    "data.validation.narrow": "data.validation.narrow_jitter",
    "data.wide": "data.jitter",
    "data.frame_sampling.past_errors.wide": "data.frame_sampling.past_errors.shared",
    "logger.files": None,
    "logger.service": "logger",
    "data.batch": None,  # those of train
    "data.epoch_samples": None,
    "data.total_samples": None,
    "data.seed": None,
    "model.encoder.apart": "model.encoder.separate_blocks",
    "which": "eval_checkpoint",
    "launcher": None,  # of a sweep: hydra/launcher
    "slots": None,
    "fit": None,
    "model.xavier": None,
    "model.encoder.xavier": None,
    "model.decoder.xavier": None,
    "model.memory_position_std": "model.init.memory_position_std",
    "model.decoder.embedding_std": "model.init.embedding_std",
    "model.decoder.position_std": "model.init.decoder_position_std",
    "model.encoder.position_std": "model.init.encoder_position_std",
    "model.encoder.patch_gain": "model.init.patch_gain",
    "model.encoder.match_gain": "model.init.match_gain",
    "model.encoder.target_share": "model.init.target_share",
    "model.encoder.target_std": "model.init.target_std",
    "model.encoder.target_bias": "model.init.target_bias",
}
# Options that are no more: files are always written.
_GONE = ("logger=csv", "logger=none")
# Names of run.json.
METADATA = {"which": "eval_checkpoint", "budget": "length"}
# Keys that runs need not state, because they came later or because the constructor's value holds: that value, and a key
# that they stand beside. On the command line they are set like any other.
ADDED: dict[str, tuple[Any, str]] = {
    "train.compile": (False, "samples"),
    "train.end_weight": (1.0, "samples"),
    "train.soft_bins": (0.0, "samples"),
    "train.dense_weight": (0.0, "samples"),
    "train.ema_decay": (0.0, "samples"),
    "train.nonfinite_limit": (3, "samples"),
    "callbacks.progress": ("auto", "log_every"),
    "model.dense_head": (False, "memory"),
    "model.init": (None, "memory"),
    "model.encoder.joint": (True, "templates"),
    "model.encoder.checkpoint": (False, "templates"),
    "model.encoder.mlp_ratio": (4.0, "depth"),
    "model.decoder.dropout": (0.1, "width"),
    "model.decoder.pre_norm": (False, "width"),
    "model.decoder.bidirectional": (False, "width"),
    "model.decoder.parallel": (None, "width"),
    "tracker.expectation": (0, "window"),
    "tracker.offset": (0.0, "window"),
    "data.crops.padding": ("exact", "normaliser"),
    "data.crops.decode": ("exact", "normaliser"),
    "data.frame_sampling.min_length": (20, "templates"),
    "data.augmentation.grayscale": (0.05, "photometric"),
    "data.augmentation.flip": (0.5, "photometric"),
    "data.augmentation.photometric.low": (0.8, "_target_"),
    "data.augmentation.photometric.high": (1.2, "_target_"),
    "data.jitter.center": (3.5, "_target_"),
    "data.jitter.size": (0.5, "_target_"),
    "data.validation.pairs": (200, "narrow_jitter"),
    "data.validation.batch": (50, "narrow_jitter"),
    "data.packs": (None, "train"),
    "data.prefetch": (2, "crops"),
    "data.start_method": (None, "crops"),
    "data.max_skipped": (0.01, "crops"),
    "data.train.generated.weight": (1, "open"),
    "data.train.generated.open.stream": ("train", "count"),
    "optimizer.beta1": (0.9, "clip"),
    "optimizer.beta2": (0.999, "clip"),
    "optimizer.batch_scaling": ("sqrt", "clip"),
    "optimizer.newton_schulz": (5, "muon_lr"),
    "trainer.strategy": ("auto", "devices"),
}
# `_target_`s: classes that have another name, then modules that lie elsewhere.
CLASSES = {
    "seqtrack_lit.models.split_encoder.SplitEncoder": "seqtrack_lit.models.two_stage_encoder.TwoStageEncoder",
    "seqtrack_lit.data.samples.augment.Windows": "seqtrack_lit.data.samples.augment.CropSettings",
    "seqtrack_lit.data.samples.sampling.Frameset": "seqtrack_lit.data.samples.sampling.FrameSampling",
    "seqtrack_lit.data.samples.sampling.Source": "seqtrack_lit.data.samples.sampling.WeightedDataset",
    "seqtrack_lit.training.optim.AdamWRecipe": "seqtrack_lit.training.optim.AdamWSettings",
    "seqtrack_lit.training.optim.MuonRecipe": "seqtrack_lit.training.optim.MuonSettings",
}
MODULES = {
    "seqtrack_lit.data.augment": "seqtrack_lit.data.samples.augment",
    "seqtrack_lit.data.sampling": "seqtrack_lit.data.samples.sampling",
    "seqtrack_lit.data.past": "seqtrack_lit.data.samples.past",
    "seqtrack_lit.data.generated": "seqtrack_lit.data.synthetic.videos",
    "seqtrack_lit.data.readers": "seqtrack_lit.data.sets.training",
    "seqtrack_lit.data.benchmarks": "seqtrack_lit.data.sets.benchmarks",
    "seqtrack_lit.data.folder": "seqtrack_lit.data.sets.folder",
    "seqtrack_lit.data.pictures": "seqtrack_lit.data.synthetic.pictures",
    "seqtrack_lit.training.schedules": "seqtrack_lit.training.optim",
}
# arguments that an encoder of two stages keeps, and how overrides name it
_SPLIT, _OF_SPLIT = "seqtrack_lit.models.two_stage_encoder.TwoStageEncoder", ("target_share", "target_std")
_NAMES_SPLIT = re.compile(r"experiment=small|model=seqtrack_small|model/encoder=dinov2_s14")
_TAKE_INIT = ("seqtrack_lit.models.decoder.Decoder", "seqtrack_lit.models.encoder.ViTEncoder")
# A part of the settings that needs another class where it has one of these keys.
CLASSES_BY_KEY = {
    "data.frame_sampling": (
        ("distinct", "any_object", "distractor_pairs"),
        "seqtrack_lit.data.synthetic.sampling.SceneSampling",
    ),
}


def migrate_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A run.json by today's names."""
    return {METADATA.get(name, name): value for name, value in metadata.items()}


def migrate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run (config.yaml) by today's keys and classes; those of today stay as they are.

    Args:
        settings: nested mappings; not changed.
    """
    migrated: dict[str, Any] = _targets(settings)
    for old, new in KEYS.items():
        above, _, name = old.rpartition(".")
        part = _part(migrated, above)
        if part is None or name not in part or (name in _OF_SPLIT and part.get("_target_") == _SPLIT):
            continue
        value = part.pop(name)
        if new is not None:
            above, _, name = new.rpartition(".")
            made = _part(migrated, above, make=True)
            if made is not None:
                made[name] = value
    for key, (value, beside) in ADDED.items():
        above, _, name = key.rpartition(".")
        part = _part(migrated, above)
        if part is not None and beside in part:
            part.setdefault(name, value)
    for key, (names, target) in CLASSES_BY_KEY.items():
        part = _part(migrated, key)
        if part is not None and any(name in part for name in names):
            part["_target_"] = target
    _share_init(migrated)
    return migrated


def _share_init(settings: dict[str, Any]) -> None:
    """The initial weights (conf/model) stand in the model and, by interpolation, in parts that take them."""
    model, init = _part(settings, "model"), _part(settings, "model.init")
    if model is None or init is None or "_target_" in init:
        return
    init["_target_"] = "seqtrack_lit.models.tiny_init.TinyInit"
    for part in (model.get("decoder"), model.get("encoder")):
        if isinstance(part, dict) and part.get("_target_") in _TAKE_INIT:
            part["init"] = dict(init)


def migrate_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that a run was begun with (run.json), by today's keys."""
    migrated = []
    split = any(_NAMES_SPLIT.fullmatch(override) for override in overrides)
    for override in overrides:
        override = override.removeprefix("++") if override.removeprefix("++").partition("=")[0] in ADDED else override
        key, equals, value = override.partition("=")
        dropped = False
        for old, new in KEYS.items():
            kept = split and old.rpartition(".")[2] in _OF_SPLIT
            if re.fullmatch(rf"[+~]*{re.escape(old)}(\..*)?", key) and not kept:
                dropped, key = new is None, key.replace(old, new or "", 1)
        if not dropped and override not in _GONE:
            migrated.append(key + equals + value)
    return migrated


def _part(settings: dict[str, Any], key: str, *, make: bool = False) -> dict[str, Any] | None:
    """The mapping below a dotted key; None where there is none, unless it is to be made."""
    found: Any = settings
    for name in key.split(".") if key else ():
        if make and name not in found:
            found[name] = {}
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _targets(tree: Any) -> Any:
    """A copy with `_target_`s of today."""
    if isinstance(tree, Mapping):
        return {key: _target(value) if key == "_target_" else _targets(value) for key, value in tree.items()}
    return [_targets(item) for item in tree] if isinstance(tree, list) else tree


def _target(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    for old, new in MODULES.items():
        if name.startswith(f"{old}."):
            name = new + name.removeprefix(old)
            break
    return CLASSES.get(name, name)
