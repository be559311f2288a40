"""The campaign of damaged and hostile files over all readers: `python -m tests.campaign.damaged [--seed 0]`.

Prints the table of docs/reliability.md, and below it everything that is lost or wrong.
"""

import argparse
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tests.campaign import pages, videos, vot, weights
from tests.campaign.damage import damages
from tests.campaign.harness import VERDICTS, Outcome, Reader, attempt

READERS: list[Reader] = [*pages.READERS, *videos.READERS, *vot.READERS, *weights.READERS]


def outcomes(
    reader: Reader, root: Path, seed: int = 0, chosen: Sequence[int] | None = None
) -> Iterator[tuple[str, Outcome]]:
    """Each damage of a reader's file and what came of it; `chosen` by number."""
    good = attempt(reader, _empty(root / "good"), None)
    if good.verdict != "handled":
        yield "undamaged", Outcome("wrong", str(good))
        return
    rng = np.random.default_rng([seed, zlib.crc32(reader.name.encode())])
    for number, (label, damage) in enumerate(damages(reader, rng)):
        if chosen is None or number in chosen:
            yield label, attempt(reader, _empty(root / "case"), damage, good.detail)


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def main() -> None:
    """Run everything, or one reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the name of a reader")
    parser.add_argument("--all", action="store_true", help="print every outcome")
    chosen = parser.parse_args()
    total: Counter[str] = Counter()
    problems = []
    print("| file | tried | refused in one line | handled | lost | wrong |\n|---|--:|--:|--:|--:|--:|", flush=True)
    for reader in READERS:
        if chosen.only not in reader.name:
            continue
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for label, outcome in outcomes(reader, Path(folder), chosen.seed):
                counts[outcome.verdict] += 1
                if outcome.verdict in ("lost", "wrong") or chosen.all:
                    problems.append(f"{reader.name}, {label}: {outcome.verdict}: {outcome.detail}")
        total += counts
        print(_row(reader.name, counts), flush=True)
    print(_row("**all**", total))
    print("\n".join(["", *problems]))


def _row(name: str, counts: Counter[str]) -> str:
    return f"| {name} | {sum(counts.values())} | {' | '.join(str(counts[verdict]) for verdict in VERDICTS)} |"


if __name__ == "__main__":
    main()
