"""The licence of a picture, as its package states it, and what it asks for.

Tiers: A public domain, CC0, MIT/Expat, BSD, Apache; B CC-BY (name the authors); C copyleft (GPL, CC-BY-SA, LGPL, FDL).
"""

import fnmatch
import functools
import json
import re
from pathlib import Path
from typing import Literal

from seqtrack_lit.data.synthetic.pictures.collect.packages import NPM, read

Tier = Literal["A", "B", "C"]
_SOURCE_FOLDER = {  # installed folder -> folder in the source package, which Debian's copyright file speaks of
    "lomiri-wallpapers-16.04": ("usr/share/backgrounds/", "16.04/"),
    "lomiri-wallpapers-20.04": ("usr/share/backgrounds/", "20.04/"),
    "mate-backgrounds": ("usr/share/backgrounds/mate/", ""),
    "lxqt-themes": ("usr/share/lxqt/", ""),
    "trigger-rally-data": ("usr/share/games/trigger-rally/data.zip!", "data/data.zip/"),
    "ufoai-textures": ("usr/share/games/ufoai/base/0textures.pk3!", "base/"),
}
_STATED = {  # where the licence is not in a machine-readable copyright file
    "kphotoalbum": "GPL-2+",  # plain text copyright file
    "python3-sklearn": "CC-BY-2.0",  # README.txt in the folder of the pictures
}


def licence(root: Path, package: str, path: str) -> str:
    """The licence of one picture of an unpacked package.

    Raises:
        ValueError: the package does not state one.
    """
    if package in NPM:
        return str(json.loads((root / "package/package.json").read_text())["license"])
    if package in _STATED:
        return _STATED[package]
    if package == "gcompris-qt-data" and (found := _gcompris_readme(root, path)):
        return found
    if package == "palapeli-data" and "/collection/" in path:
        text = (root / path).with_suffix(".desktop").read_text()
        stated = re.search(r"^X-KDE-PluginInfo-License=(.*)", text, re.M)
    else:
        old, new = _SOURCE_FOLDER.get(package, ("", ""))
        name, stated = new + path.removeprefix(old), None
        for pattern, words in reversed(_copyright_file(root / f"usr/share/doc/{package}/copyright")):
            if pattern.match(name):
                return words
    if stated is None:
        raise ValueError(f"{package} states no licence for {path}: it is another version")
    return stated[1]


@functools.cache
def _copyright_file(file: Path) -> list[tuple[re.Pattern[str], str]]:
    """(pattern, licence) of a machine-readable Debian copyright file; the last match counts."""
    rules = []
    for paragraph in re.split(r"\n[ \t]*\n", file.read_text(errors="replace")):
        fields = dict(re.findall(r"^(Files|License):((?:.*)(?:\n[ \t]+.*)*)", paragraph, re.M))
        if "Files" in fields and "License" in fields:
            words = fields["License"].strip().split("\n")[0].strip()
            rules += [(re.compile(fnmatch.translate(p)), words) for p in fields["Files"].replace(",", " ").split()]
    return rules


def _gcompris_readme(root: Path, path: str) -> str | None:
    """Licence in the README that GCompris keeps beside its pictures."""
    folder, name = path.rsplit("/", 1)
    while "/activities/" in folder:
        try:
            text = read(root, f"{folder}/README").decode()
        except FileNotFoundError:
            folder, parent = folder.rsplit("/", 1)
            name = f"{parent}/{name}"
            continue
        for paragraph in re.split(r"\n\s*\n", text):
            words = re.search(r"^Licen[sc]e:\s*(.+)$", paragraph, re.M)
            if words and name in paragraph.replace(",", " ").split():
                return words[1].strip()
        return None
    return None


def tier(licence: str) -> Tier:
    """What a licence asks for.

    Raises:
        ValueError: an unknown licence.

    >>> tier("CC-BY-SA-4.0"), tier("CC-BY-3.0"), tier("Expat")
    ('C', 'B', 'A')
    """
    text = licence.lower().replace(" ", "-")
    if re.search(r"gpl|fdl|-sa|free-art", text):
        return "C"
    if "cc-by" in text:
        return "B"
    if re.search(r"public-domain|cc0|mit|expat|bsd|apache", text):
        return "A"
    raise ValueError(
        f"unknown licence {licence!r}; say in data/synthetic/pictures/collect/licences.py what it asks for"
    )
