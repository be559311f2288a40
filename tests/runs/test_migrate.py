"""A run begun before keys and classes had today's names goes on; tests/golden/run was written by revision 113b459."""

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.utils import get_object
from omegaconf import OmegaConf

from seqtrack_lit.cli.hydra.overrides import recorded, with_implied
from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.cli.train import _DECISIVE, _HARMLESS
from seqtrack_lit.data.datamodule import DataModule
from seqtrack_lit.files import flatten
from seqtrack_lit.runs.folder import check_same
from seqtrack_lit.runs.migrate import ADDED, migrate_overrides, migrate_settings
from seqtrack_lit.tracking.seqtrack import SeqTrackTracker
from seqtrack_lit.training.module import SeqTrackModule

RUN = Path(__file__).parents[1] / "golden" / "run"
# the quickstart's recipe when that run was begun
RECIPE = [
    "model.encoder.search_size=48", "model.encoder.width=128", "model.encoder.mlp_ratio=4.0",
    "model.decoder.width=128", "model.decoder.ffn=512", "data.crops.search_factor=3.0",
    "data.jitter.center=2.6", "data.jitter.end_center=1.3", "data.jitter.begin=0.5", "data.jitter.finish=0.8",
    "data.validation.narrow_jitter.center=1.3", "optimizer.newton_schulz=5", "optimizer.schedule.constant=0.5",
]  # fmt: skip


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", with_implied(overrides))
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return settings


def test_a_run_of_before_has_the_settings_of_today() -> None:
    overrides = json.loads((RUN / "run.json").read_text())["overrides"]
    kept = recorded(migrate_overrides(overrides), source="run.json", folder=config_folder(), without=())
    kept = [*RECIPE, *kept]
    check_same(RUN, composed(*kept), _DECISIVE, harmless=_HARMLESS)
    with pytest.raises(ValueError, match=r"begun with data\.frame_sampling\.distractor_pairs=1\.0 and cannot .* 0\.5"):
        check_same(RUN, composed(*kept, "data.frame_sampling.distractor_pairs=0.5"), _DECISIVE, harmless=_HARMLESS)


def test_todays_settings_stay_as_they_are() -> None:
    for data in ("generated", "quickstart", "paper", "official", "got10k", "folder", "pictures"):
        settings = composed(f"data={data}")
        assert flatten(migrate_settings(settings)).items() >= flatten(settings).items()
    for model in ("tiny", "small"):
        settings = composed(f"model=seqtrack_{model}")
        assert flatten(migrate_settings(settings)).items() >= flatten(settings).items()
    overrides = ["experiment=small", "model.encoder.target_share=0.5"]
    assert migrate_overrides(overrides) == overrides


def test_overrides_of_before() -> None:
    renamed = {
        "data.frameset.contrast=0": "data.frame_sampling.distractor_pairs=0",
        "data.windows.padding=official": "data.crops.padding=official",
        "+data.augmentation.grey=0": "+data.augmentation.grayscale=0",
        "model.decoder.position_std=0.5": "model.init.decoder_position_std=0.5",
        "which=last": "eval_checkpoint=last",
        "logger.service.project=x": "logger.project=x",
        "data.validation.narrow.center=1": "data.validation.narrow_jitter.center=1",
        "model.encoder.apart=2": "model.encoder.separate_blocks=2",
        "name=data.windows=1": "name=data.windows=1",
        "++data.prefetch=4": "data.prefetch=4",
        "data.windowsill=1": "data.windowsill=1",
    }
    assert migrate_overrides([*renamed, "model.xavier=true", "logger=none"]) == list(renamed.values())
    assert migrate_settings({"which": "last", "seed": 1}) == {"eval_checkpoint": "last", "seed": 1}
    settings = yaml.safe_load((RUN / "config.yaml").read_text())
    before = yaml.safe_dump(settings)
    migrate_settings(settings)
    assert yaml.safe_dump(settings) == before


def test_values_that_are_not_stated_are_those_of_the_constructors() -> None:
    """So that a run that states them, on the command line or in its folder, is the same one."""
    settings, muon = composed("model=seqtrack_b256"), composed("optimizer=finetune")
    for key, (value, beside) in ADDED.items():
        above, _, name = key.rpartition(".")
        part = muon if beside == "muon_lr" else settings
        for one in above.split("."):
            part = part[one]
        assert beside in part, key
        assert key in ("train.compile", "tracker.expectation", "tracker.offset") or name not in part, key
        if above != "callbacks":
            made = {"train": SeqTrackModule, "tracker": SeqTrackTracker}.get(above) or get_object(part["_target_"])
            made = DataModule if name in ("prefetch", "start_method", "max_skipped") else made  # passed on to it
            assert inspect.signature(made).parameters[name].default == value, key
    stated = [
        f"{key}={'null' if value is None else value}" for key, (value, beside) in ADDED.items() if beside != "muon_lr"
    ]
    assert migrate_settings(composed(*stated)) == migrate_settings(settings)
    assert migrate_settings(composed("optimizer=finetune", "optimizer.newton_schulz=5")) == migrate_settings(muon)
