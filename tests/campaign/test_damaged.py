"""No reader is brought down, fooled or turned against its user by a damaged or hostile file; see harness.py."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
from tests.campaign.damage import damages
from tests.campaign.damaged import READERS, outcomes
from tests.campaign.harness import Reader

WHOLE = os.environ.get("CAMPAIGN") == "all"
SEED = int(os.environ.get("CAMPAIGN_SEED", "0"))
NAMES = [reader.name for reader in READERS]


@pytest.fixture(scope="module", autouse=True)
def _as_for_users() -> Iterator[None]:
    """Without the types that tests check at run time: wrong ones must be refused by the code itself."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def judged(reader: Reader, folder: Path, chosen: list[int] | None) -> None:
    found = dict(outcomes(reader, folder, SEED, chosen))
    assert found
    assert {label: one for label, one in found.items() if one.verdict not in ("refused", "handled")} == {}


def some(reader: Reader, count: int) -> list[int]:
    """Numbers of a few damages."""
    total = len(list(damages(reader, np.random.default_rng(0))))
    return np.random.default_rng(SEED).permutation(total)[:count].tolist()


@pytest.mark.parametrize("reader", READERS, ids=NAMES)
def test_a_damaged_file(reader: Reader, tmp_path: Path) -> None:
    judged(reader, tmp_path, some(reader, 1))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("reader", READERS, ids=NAMES)
def test_damaged_files(reader: Reader, tmp_path: Path) -> None:
    judged(reader, tmp_path, None if WHOLE else some(reader, 12))
