"""A run begun before keys and classes had today's names goes on; tests/golden/run was written by revision 113b459."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from seqtrack_lit.cli.hydra.overrides import recorded
from seqtrack_lit.cli.hydra.runtime import config_folder
from seqtrack_lit.cli.train import _DECISIVE, _HARMLESS
from seqtrack_lit.runs.folder import check_same
from seqtrack_lit.runs.migrate import migrate_overrides, migrate_settings

RUN = Path(__file__).parents[1] / "golden" / "run"


def composed(*overrides: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("train", list(overrides))
    settings: Any = OmegaConf.to_container(config, resolve=True)
    return settings


def test_a_run_of_before_has_the_settings_of_today() -> None:
    overrides = json.loads((RUN / "run.json").read_text())["overrides"]
    kept = recorded(migrate_overrides(overrides), source="run.json", folder=config_folder(), without=())
    check_same(RUN, composed(*kept), _DECISIVE, harmless=_HARMLESS)
    with pytest.raises(ValueError, match=r"begun with data\.frame_sampling\.distractor_pairs=1\.0 and cannot .* 0\.5"):
        check_same(RUN, composed(*kept, "data.frame_sampling.distractor_pairs=0.5"), _DECISIVE, harmless=_HARMLESS)


def test_todays_settings_stay_as_they_are() -> None:
    for data in ("generated", "quickstart", "paper", "official", "got10k", "folder", "pictures"):
        settings = composed(f"data={data}")
        assert migrate_settings(settings) == settings
    for model in ("tiny", "small"):
        settings = composed(f"model=seqtrack_{model}")
        assert migrate_settings(settings) == settings
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
        "data.windowsill=1": "data.windowsill=1",
    }
    assert migrate_overrides([*renamed, "model.xavier=true", "logger=none"]) == list(renamed.values())
    assert migrate_settings({"which": "last", "seed": 1}) == {"eval_checkpoint": "last", "seed": 1}
    settings = yaml.safe_load((RUN / "config.yaml").read_text())
    before = yaml.safe_dump(settings)
    migrate_settings(settings)
    assert yaml.safe_dump(settings) == before
