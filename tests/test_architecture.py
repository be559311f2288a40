"""What docs/architecture.md says can be followed: paths exist, and its examples of adding something work."""

import re
from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from seqtrack_lit.evaluation import metrics, ope, scores
from seqtrack_lit.evaluation.ope import GroundTruth
from seqtrack_lit.models.timm_encoder import TimmEncoder

REPO = Path(__file__).parents[1]
PAGES = [REPO / name for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/scaling.md")]
TEXT = (REPO / "docs/architecture.md").read_text()
PATH = re.compile(r"`((?:[\w.-]+/)+(?:[\w-]+\.\w+)?|[\w-]+\.(?:py|toml|lock|md))`|\]\((?!http)([^)#]+)\)")
OF_USERS = ("runs/", "data/", "cv2/", "site/")  # of users and other packages


def example(name: str) -> str:
    """The block of the page whose first two lines hold this."""
    blocks = re.findall(r"```(?:yaml|python)\n(.*?)```", TEXT, re.DOTALL)
    return next(block for block in blocks if name in "".join(block.splitlines()[:2]))


@pytest.fixture
def with_example(tmp_path):
    """Writes an example where its first line says, and composes with it."""

    def go(first_line: str, *overrides: str):
        block = example(first_line)
        file = tmp_path / re.search(r"conf/(\S+\.yaml)", block).group(1)
        file.parent.mkdir(parents=True)
        file.write_text(block)
        with initialize_config_dir(str(REPO / "conf"), version_base="1.3"):
            return compose("train", [f"hydra.searchpath=[file://{tmp_path}]", *overrides], return_hydra_config=True)

    return go


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_of_a_page_exists(page):
    found = [a or b for a, b in PATH.findall(page.read_text())]
    named = [path for path in found if not path.startswith(OF_USERS) or (REPO / "src/seqtrack_lit" / path).exists()]
    assert named
    roots = (REPO, page.parent, REPO / "src/seqtrack_lit")
    assert [path for path in named if not any((root / path).exists() for root in roots)] == []


def test_a_data_set_is_added(with_example, tmp_path):
    config = with_example("train/birds.yaml", "data/train=birds")
    video = tmp_path / "videos" / "robin"
    video.mkdir(parents=True)
    import cv2

    for number in range(1, 5):
        cv2.imwrite(str(video / f"{number:04d}.png"), np.zeros((40, 60, 3), np.uint8))
    (video / "groundtruth.txt").write_text("10,10,8,6\n" * 4)
    config.data.train.birds.open.root = str(tmp_path / "videos")
    videos = instantiate(config.data.train.birds).open()
    assert (len(videos), videos.name(0), videos.boxes(0).tolist()) == (1, "robin", [[10, 10, 8, 6]] * 4)


def test_an_encoder_is_added(with_example):
    config = with_example("encoder/deit_t16.yaml", "model/encoder=deit_t16", "model.encoder.pretrained=false")
    net = instantiate(config.model)
    assert isinstance(net.encoder, TimmEncoder)
    assert net.encoder.width == 192


def test_an_ablation_is_added(with_example):
    config = with_example("ablation/bins100.yaml", "ablation=bins100")
    assert (config.tokenizer.bins, config.tracker.name, config.model.encoder.templates) == (100, "bins100", 1)


def test_a_metric_is_added(monkeypatch):
    monkeypatch.setitem(metrics.CONVENTIONS, "seqtrack", metrics.CONVENTIONS["seqtrack"])
    exec(example("CONVENTIONS"), {**vars(metrics), "ope": ope})
    boxes = np.tile([10.0, 10.0, 20.0, 20.0], (10, 1))
    found = boxes + np.where(np.arange(10) < 4, 0, 5)[:, None] * [1, 0, 0, 0]  # the first four are exact
    got = scores.score_sequences([GroundTruth("v", boxes)], {"v": found})
    assert got.values["OP90"] == pytest.approx(40)


def test_a_launcher_is_added(with_example):
    config = with_example("launcher/laptop.yaml", "hydra/launcher=laptop")
    assert config.hydra.launcher._target_ == "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
