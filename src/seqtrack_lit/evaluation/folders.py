"""Which folders hold a benchmark's results, and of which tracker: ours, and the layouts of others.

Known layouts: `<tracker>/<benchmark>/` (ours), `<tracker>/<configuration>[_000]/<benchmark>/` (pytracking family),
`<tracker>_tracking_result/` (MATLAB kits of LaSOT and TNL2K), a folder per sequence (GOT-10k), a folder of files.
"""

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from seqtrack_lit.evaluation.results import PREFIXES

# Folder names that say which benchmark lies in them: ours first, then those of other code.
BENCHMARK_FOLDERS: dict[str, tuple[str, ...]] = {
    "lasot": ("lasot",),
    "lasot_ext": ("lasot_ext", "lasot_extension_subset", "lasotext"),
    "trackingnet": ("trackingnet",),
    "got10k_test": ("got10k_test", "got10k"),
    "got10k_val": ("got10k_val", "got10k_ltrval"),
    "tnl2k": ("tnl2k", "tnl2k_test"),
    "nfs": ("nfs", "nfs30"),
    "nfs_official": ("nfs_official", "nfs30", "nfs"),
    "nfs240": ("nfs240",),
    "uav123": ("uav123", "uav"),
    "otb100": ("otb100", "otb"),
    "generated": ("generated",),
    "vot2020": ("vot2020", "vot20", "baseline"),
}
_RUN = re.compile(r"_\d{3}")  # pytracking's repetitions
_DEPTH = 5


class Found(NamedTuple):
    """Folders with results by tracker; and those that hold files of the same names but lie beside the benchmark's."""

    trackers: dict[str, Path]
    passed_over: list[Path]


def find_trackers(root: Path, benchmark: str, sequences: Collection[str]) -> Found:
    """Folders at or below `root` that hold results of the benchmark's sequences, by tracker name.

    Where some are called as the benchmark, the others are passed over: sequences of two benchmarks share names.

    Args:
        root: the folder of one tracker or of many.
        benchmark: the benchmark's name; folders with the name of another one are passed over.
        sequences: names of its sequences.

    Raises:
        FileNotFoundError: no such folder, or nothing in it (says what was looked for).
    """
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: results=[...] takes folders of result files")
    root = root.resolve()
    own = {folder.lower() for folder in BENCHMARK_FOLDERS.get(benchmark, (benchmark,))} | {benchmark.lower()}
    others = {name for names in BENCHMARK_FOLDERS.values() for name in names} - own
    wanted = set(sequences)
    wanted |= {prefix + name for prefix in PREFIXES for name in sequences}
    wanted |= {name.removeprefix(prefix) for prefix in PREFIXES for name in sequences}
    found: list[Path] = []
    for at, folders, files in os.walk(root):
        place = Path(at)
        tracker = any(name.lower() in own for name in folders)  # a tracker may be called "baseline", as VOT's folder is
        if place.name.lower() in others and place != root and not tracker:
            folders.clear()
            continue
        nested = [name for name in folders if name in wanted - own and _holds_itself(place / name)]
        if nested or any(file.removesuffix(".txt") in wanted for file in files if file.endswith(".txt")):
            found.append(place)
            folders[:] = [name for name in folders if name not in nested]
        if len(place.relative_to(root).parts) >= _DEPTH:
            folders.clear()
    named = [folder for folder in found if folder.name.lower() in own]
    passed_over = [folder for folder in found if named and folder not in named]
    found = named or found
    if not found:
        first = ", ".join(f"{name}.txt" for name in list(sequences)[:3])
        raise FileNotFoundError(
            f"{root} holds no results of {benchmark}: none of {first} ... in it or {_DEPTH} levels below"
        )
    labels = {folder: _tracker_of(folder, own) for folder in found}
    twice = {label for label in labels.values() if list(labels.values()).count(label) > 1}
    trackers = {
        (str(folder.relative_to(root)) if label in twice and folder != root else label): folder
        for folder, label in sorted(labels.items())
    }
    return Found(trackers, passed_over)


def _holds_itself(folder: Path) -> bool:
    """Whether it is the folder of one sequence with its boxes in it."""
    return any((folder / f"{folder.name}{end}.txt").is_file() for end in ("_001", ""))


def _tracker_of(folder: Path, own: set[str]) -> str:
    """The nearest folder name that is not the benchmark's and not a number of a repetition."""
    run = ""
    for part in reversed(folder.parts[1:]):
        if _RUN.fullmatch(part):
            run = part
        elif part.lower() not in own:
            return re.sub(r"_tracking_results?$", "", part) + run
    return folder.name
