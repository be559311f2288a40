"""Settings of runs begun by earlier revisions, in today's words: config.yaml and the overrides in run.json."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

# Keys by their old names, in this order; what lies below goes with them.
KEYS = {
    "data.frameset": "data.frame_sampling",
    "data.frame_sampling.contrast": "data.frame_sampling.distractor_pairs",
    "data.windows": "data.crops",
    "data.augmentation.grey": "data.augmentation.grayscale",
}
# `_target_`s: classes that have another name, then modules that lie elsewhere.
CLASSES = {
    "seqtrack_lit.data.samples.augment.Windows": "seqtrack_lit.data.samples.augment.CropSettings",
    "seqtrack_lit.data.samples.sampling.Frameset": "seqtrack_lit.data.samples.sampling.FrameSampling",
    "seqtrack_lit.data.samples.sampling.Source": "seqtrack_lit.data.samples.sampling.WeightedDataset",
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
}
# A part of the settings that needs another class where it has one of these keys.
CLASSES_BY_KEY = {
    "data.frame_sampling": (
        ("distinct", "any_object", "distractor_pairs"),
        "seqtrack_lit.data.synthetic.sampling.SceneSampling",
    ),
}


def migrate_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run (config.yaml) by today's keys and classes; those of today stay as they are.

    Args:
        settings: nested mappings; not changed.
    """
    migrated: dict[str, Any] = _targets(settings)
    for old, new in KEYS.items():
        parent, _, name = old.rpartition(".")
        above = _part(migrated, parent)
        if isinstance(above, dict) and name in above:
            value = above.pop(name)
            _part(migrated, new.rpartition(".")[0])[new.rpartition(".")[2]] = value
    for key, (names, target) in CLASSES_BY_KEY.items():
        part = _part(migrated, key)
        if isinstance(part, dict) and any(name in part for name in names):
            part["_target_"] = target
    return migrated


def migrate_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that a run was begun with (run.json), by today's keys."""
    migrated = []
    for override in overrides:
        for old, new in KEYS.items():
            override = re.sub(rf"^([+~]*){re.escape(old)}(?=[.=]|$)", rf"\g<1>{new}", override)
        migrated.append(override)
    return migrated


def _part(settings: dict[str, Any], key: str) -> Any:
    """What stands below a dotted key; None where there is nothing."""
    found: Any = settings
    for name in key.split(".") if key else ():
        found = found.get(name) if isinstance(found, dict) else None
    return found


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
