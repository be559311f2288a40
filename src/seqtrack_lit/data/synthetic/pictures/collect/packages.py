"""Files inside of packages of Debian and npm: fetched, unpacked into a folder, never installed."""

import fnmatch
import functools
import json
import re
import shutil
import struct
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

NPM = {"@lobehub/fluent-emoji-3d": "1.1.0"}  # all other packages come from the distribution's main part


def fetch(package: str, cache: Path) -> tuple[Path, str]:
    """Folder with the files of a package, and its version; a package that is there already is not fetched again.

    Raises:
        ValueError: a program is missing, or the package cannot be had.
    """
    target = cache / re.sub(r"\W+", "-", package).strip("-")
    noted = target / "VERSION"
    if noted.exists():
        return target, noted.read_text()
    part = target.with_name(f"{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    version = _npm(package, part) if package in NPM else _debian(package, part)
    (part / "VERSION").write_text(version)
    shutil.rmtree(target, ignore_errors=True)
    part.replace(target)
    return target, version


def _npm(package: str, folder: Path) -> str:
    name = _run("npm", "pack", "--silent", f"{package}@{NPM[package]}", folder=folder).split()[-1]
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder, filter="data")
    (folder / name).unlink()
    return NPM[package]


def _debian(package: str, folder: Path) -> str:
    _run("apt-get", "-q", "download", package, folder=folder)
    file = next(folder.glob(f"{package}_*.deb"))
    _run("dpkg", "-x", str(file.resolve()), ".", folder=folder)
    version = _run("dpkg-deb", "-f", file.name, "Version", folder=folder).strip()
    file.unlink()
    return version


def _run(*command: str, folder: Path) -> str:
    """What a program prints."""
    if shutil.which(command[0]) is None:
        raise ValueError(
            f"building the pool needs {command[0]}, which is not on the path (apt-get, dpkg and npm are used)"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        last = " ".join((done.stderr or done.stdout).split()[-40:])
        raise ValueError(f"`{' '.join(command)}` failed: {last}; for Debian's packages `apt-get update` may help")
    return done.stdout


def read(root: Path, path: str) -> bytes:
    """Content of a file of a package; ARCHIVE!PATH names a file of an archive in it.

    Raises:
        FileNotFoundError: the package has no such file: it is another version.
    """
    outer, _, inner = path.partition("!")
    try:
        if not inner:
            return (root / outer).read_bytes()
        found = _archive(root / outer)
        return found[inner] if isinstance(found, Mapping) else found.read(inner)
    except (KeyError, OSError) as error:
        raise FileNotFoundError(f"{root.name} does not hold {path}: it is another version") from error


@functools.lru_cache(4)
def _archive(file: Path) -> Mapping[str, bytes] | zipfile.ZipFile:
    """A zip file, or the files of a Qt resource file (.rcc)."""
    return qt_resources(file.read_bytes()) if file.suffix == ".rcc" else zipfile.ZipFile(file)


def qt_resources(data: bytes) -> dict[str, bytes]:
    """Path -> content of a binary Qt resource file, format versions 1 and 2 without zstd.

    Raises:
        ValueError: not such a file.
    """
    if data[:4] != b"qres":
        raise ValueError("not a Qt resource file")
    version, tree, contents, names = struct.unpack(">4i", data[4:20])
    entry, files = (14 if version == 1 else 22), {}

    def walk(node: int, folder: str) -> None:
        name_at, flags = struct.unpack_from(">iH", data, tree + node * entry)
        name = ""
        if node:
            length = struct.unpack_from(">H", data, names + name_at)[0]
            name = data[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        path = f"{folder}/{name}".lstrip("/")
        if flags & 2:
            count, first = struct.unpack_from(">2i", data, tree + node * entry + 6)
            for child in range(first, first + count):
                walk(child, path)
        else:
            at = contents + struct.unpack_from(">i", data, tree + node * entry + 10)[0]
            raw = data[at + 4 : at + 4 + struct.unpack_from(">i", data, at)[0]]
            files[path] = zlib.decompress(raw[4:]) if flags & 1 else raw

    walk(0, "")
    return files


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
        f"unknown licence {licence!r}; say in data/synthetic/pictures/collect/packages.py what it asks for"
    )
