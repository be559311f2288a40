"""Commands that are killed and given again leave what undisturbed ones leave; see kills.py."""

import os
from pathlib import Path

import numpy as np
import pytest
from tests.campaign.kills import COMMANDS, Command, series, warm

WHOLE = os.environ.get("CAMPAIGN") == "all"
SERIES = 5 if WHOLE else 1  # completions of each command, two kills each
CHOSEN = COMMANDS if WHOLE else COMMANDS[:3]  # training and evaluation; all of them take most of an hour


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("command", CHOSEN, ids=[command.name for command in CHOSEN])
def test_kills(command: Command, tmp_path: Path) -> None:
    warm()
    rng = np.random.default_rng(int(os.environ.get("CAMPAIGN_SEED", "0")))
    found = list(series(command, tmp_path, rng, SERIES))
    assert len(found) == 2 * SERIES
    assert [detail for _, verdict, detail in found if verdict != "handled"] == []
