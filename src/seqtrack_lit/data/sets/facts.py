"""Facts about data sets, kept as tables in `lists/` (its README names the publishers)."""

import csv
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "lists"


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Attribute names in the order of the bits we store; lists/*.csv hold names, so the publishers' orders do not matter.
LASOT_ATTRIBUTES = _names("IV POC DEF MB CM ROT BC VC SV FOC FM OV LR ARC")
TNL2K_ATTRIBUTES = _names("CM ROT DEF FOC IV OV POC VC SV BC MB ARC LR FM AS TC MS")
UAV123_ATTRIBUTES = _names("SV ARC LR FM FOC POC OV BC IV VC CM SOB")
OTB_ATTRIBUTES = _names("IV SV OCC DEF MB FM IPR OPR OV BC LR")


@cache
def table(name: str) -> tuple[dict[str, str], ...]:
    """The rows of `lists/<name>.csv`, in the publisher's order."""
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return tuple(csv.DictReader(file))


# Sequences the publishers count, where no list of names is kept here.
COUNTS = {"got10k_train": 9335, "got10k_val": 180, "got10k_test": 180, "trackingnet_train": 12 * 2511}


def expected_frames(dataset: str) -> dict[str, int]:
    """Frames of each sequence as the publisher counts them; empty where that is not known."""
    column = {"lasot": "frames", "tnl2k": "frames", "nfs": "frames_30fps"}.get(dataset)
    return {row["name"]: int(row[column]) for row in table(dataset)} if column else {}
