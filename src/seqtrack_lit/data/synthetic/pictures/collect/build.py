"""The picture pool: real photographs, cut-out objects and textures out of packages of Debian and npm.

`picks.txt` says which picture of which package is used; they were picked by eye. The pool's folder gets
backgrounds/*.jpg, objects/*.png, textures/*.jpg and `pool.csv`, which names source and licence of each. The same
packages and the same Pillow give the same bytes.
"""

import csv
import functools
import io
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from seqtrack_lit.data.synthetic.pictures.collect.packages import Tier, fetch, licence, read, tier

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


BACKGROUND, TEXTURE, OBJECT, RENDER = 640, 256, 256, 128  # longest side in pixels
_WHITE = 34  # how far a colour may be from white and count as white
_CLEAR, _SOLID = 24, 232  # alpha below and above which nothing, and all, is object
_SPECK = 0.02  # share of the object below which a connected part is left out


def picture(kind: str, data: bytes) -> Image.Image | None:
    """The picture of the pool that is made of a file; None where nothing useful is left of an object.

    Args:
        kind: background, texture, photo (object with alpha), render (a drawn one), white (object on white), strip (the
            left half holds the object).
        data: of the file.

    Raises:
        ValueError: an unknown kind.
    """
    image = Image.open(io.BytesIO(data))
    match kind:
        case "background" | "texture":
            opaque = ImageOps.exif_transpose(image).convert("RGB")
            return shrink(opaque, BACKGROUND if kind == "background" else TEXTURE)
        case "photo" | "render":
            return cut_out(image, OBJECT if kind == "photo" else RENDER)
        case "white":
            return cut_out(without_white(image), OBJECT)
        case "strip":
            return cut_out(image.crop((0, 0, image.width // 2, image.height)), OBJECT)
    raise ValueError(f"unknown kind of picture {kind!r}")


def shrink(image: Image.Image, longest: int) -> Image.Image:
    """The picture with its longest side at most `longest`."""
    scale = longest / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(side * scale)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def without_white(image: Image.Image) -> Image.Image:
    """Alpha for a photograph on white: what is white and connected to the border goes."""
    rgb = shrink(image.convert("RGB"), OBJECT)
    dark = ImageChops.invert(rgb).split()
    colored = functools.reduce(ImageChops.lighter, dark).point(lambda v: 0 if v < _WHITE else 255)
    padded = ImageOps.expand(colored, 1, 0)
    ImageDraw.floodfill(padded, (0, 0), 128)
    alpha = padded.crop((1, 1, padded.width - 1, padded.height - 1)).point(lambda v: 0 if v == 128 else 255)
    alpha = alpha.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.7))
    rgb.putalpha(alpha)
    return rgb


def cleaned(alpha: Image.Image) -> Image.Image:
    """Alpha with full 0 and 255, and without specks."""
    alpha = alpha.point(lambda v: 0 if v < _CLEAR else 255 if v > _SOLID else v)
    todo = alpha.point(lambda v: 255 if v else 0)
    whole, keep = todo.histogram()[255], Image.new("L", alpha.size, 0)
    while box := todo.point(lambda v: 255 if v == 255 else 0).getbbox():
        row = todo.crop((0, box[1], todo.width, box[1] + 1)).tobytes()
        before = todo.histogram()[255]
        ImageDraw.floodfill(todo, (row.index(b"\xff"), box[1]), 128)
        if before - todo.histogram()[255] >= _SPECK * whole:
            keep = ImageChops.lighter(keep, todo.point(lambda v: 255 if v == 128 else 0))
        todo = todo.point(lambda v: 0 if v == 128 else v)
    return ImageChops.darker(alpha, keep)


def cut_out(image: Image.Image, longest: int) -> Image.Image | None:
    """An RGBA object that fills its frame, the colour of its rim continued outwards; None where little is left."""
    image = shrink(image.convert("RGBA"), longest)
    alpha = cleaned(image.getchannel("A"))
    box = alpha.getbbox()
    if box is None:
        return None
    image, alpha = image.crop(box), alpha.crop(box)
    long, short = max(image.size), min(image.size)
    filled = sum(alpha.histogram()[128:]) / (long * short)
    if long < 48 or short < 16 or long > 5 * short or filled < 0.25:
        return None
    image.putalpha(alpha)
    around = image.convert("RGBa")  # colour times alpha: a blur of it, divided by alpha again, is colour from the rim
    color = Image.new("RGB", image.size, (128, 128, 128))
    for radius in (32, 16, 8, 4, 2):
        blurred = around.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        color.paste(blurred.convert("RGB"), mask=blurred.getchannel("A").point(lambda v: 255 if v >= 8 else 0))
    color.paste(image.convert("RGB"), mask=alpha.point(lambda v: 255 if v >= _CLEAR else 0))
    color.putalpha(alpha)
    return color
