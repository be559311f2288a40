"""No reader is brought down, fooled or turned against its user by a damaged or hostile file; see harness.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.campaign.damage import damages
from tests.campaign.damaged import READERS, outcomes
from tests.campaign.harness import Reader

SEED = int(os.environ.get("CAMPAIGN_SEED", "0"))
NAMES = [reader.name for reader in READERS]


def judged(reader: Reader, folder: Path, chosen: list[int] | None) -> None:
    found = dict(outcomes(reader, folder, SEED, chosen))
    assert found
    assert {label: one for label, one in found.items() if one.verdict not in ("refused", "handled")} == {}


@pytest.mark.parametrize("reader", READERS, ids=NAMES)
def test_some_damaged_files(reader: Reader, tmp_path: Path) -> None:
    count = len(list(damages(reader, np.random.default_rng(0))))
    judged(reader, tmp_path, np.random.default_rng(SEED).permutation(count)[:2].tolist())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("reader", READERS, ids=NAMES)
def test_all_damaged_files(reader: Reader, tmp_path: Path) -> None:
    judged(reader, tmp_path, None)
