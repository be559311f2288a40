"""Building a `SequenceIndex`: collect videos one by one, check that boxes and frames agree, keep the result on disk."""

import hashlib
import logging
import warnings
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Integer

from seqtrack_lit.data.sets.layout import FOLDER, Problems, noted, present
from seqtrack_lit.data.video.columns import INDEX_FORMAT, Columns, IndexInfo, read_info, write_columns
from seqtrack_lit.data.video.index import LISTED, NUMBERED, VIDEO, SequenceIndex, open_index

log = logging.getLogger(__name__)


class _TextTable:
    """Strings; those added by `number` are kept once."""

    def __init__(self) -> None:
        self.data, self.starts = bytearray(), array("q", [0])
        self._known: dict[str, int] = {}

    def add(self, text: str) -> int:
        self.data += text.encode("utf-8", "surrogateescape")
        self.starts.append(len(self.data))
        return len(self.starts) - 2

    def number(self, text: str) -> int:
        if text not in self._known:
            self._known[text] = self.add(text)
        return self._known[text]


class IndexBuilder:
    """Collects videos; `finish` makes the index.

    Args:
        dataset: name of the data set.
        root: folder that all frames lie under.
        attribute_names: the attributes a video may have, at most 32.
        repeats_image: the videos are single images.
        problems: where to note what is wrong with a video instead of raising.
    """

    def __init__(
        self,
        dataset: str,
        root: Path,
        *,
        attribute_names: Sequence[str] = (),
        repeats_image: bool = False,
        problems: Problems | None = None,
    ) -> None:
        self.dataset, self.root, self.problems = dataset, root, problems
        self.attribute_names, self.repeats_image = tuple(attribute_names), repeats_image
        self._texts = {name: _TextTable() for name in ("names", "folders", "suffixes", "files", "classes")}
        self._numbers: dict[str, array[Any]] = {
            name: array(code)
            for name, code in {
                "lengths": "i", "visible_counts": "i", "kind": "b", "first": "q", "digits": "b", "suffix": "h",
                "folder": "i", "object_class": "i", "attributes": "I", "frame_rate": "f", "width": "i", "height": "i",
            }.items()
        }  # fmt: skip
        self._rows, self._boxes, self._visible, self._cover = array("q", [0]), array("d"), bytearray(), bytearray()
        self._lists: dict[tuple[str, ...], int] = {}

    def add(
        self,
        name: str,
        boxes: Float64[np.ndarray, "rows 4"],
        visible: Bool[np.ndarray, "rows"] | None = None,
        *,
        folder: str,
        numbered: tuple[int, int, str] | None = None,
        files: Sequence[str] | None = None,
        video: bool = False,
        frames: int | None = None,
        cover: Integer[np.ndarray, "rows"] | None = None,
        object_class: str | None = None,
        resolution: tuple[int, int] | None = None,
        frame_rate: float | None = None,
        attributes: Iterable[str] = (),
    ) -> None:
        """Append one video.

        Args:
            name: its name.
            boxes: image boxes xywh in pixels, a row a frame, or one row where only the first box is public.
            visible: a value per row of `boxes`; None: everywhere.
            folder: where its frames lie, relative to the root; the video file itself where there is one.
            numbered: (first number, digits, suffix) of the image names; (first frame, 0, "") in a video file.
            files: the image names, where they follow no rule.
            video: `folder` is a video file.
            frames: number of frames, where it is not the number of rows.
            cover: visible share in eighths, per row (GOT-10k).
            object_class: what the target is.
            resolution: (width, height) in pixels.
            frame_rate: frames a second.
            attributes: names out of `attribute_names`.
        """
        number, texts = self._numbers, self._texts
        visible = np.ones(len(boxes), np.bool_) if visible is None else visible
        texts["names"].add(name)
        number["folder"].append(texts["folders"].number(folder))
        kind = VIDEO if video else LISTED if files is not None else NUMBERED
        first, digits, suffix = numbered or (0, 0, "")
        number["kind"].append(kind)
        number["first"].append(self._list(files) if files is not None else first)
        number["digits"].append(digits)
        number["suffix"].append(texts["suffixes"].number(suffix))
        number["lengths"].append(len(boxes) if frames is None else frames)
        number["visible_counts"].append(int(visible.sum()))
        number["object_class"].append(-1 if object_class is None else texts["classes"].number(object_class))
        number["attributes"].append(sum(1 << self.attribute_names.index(item) for item in attributes))
        number["frame_rate"].append(frame_rate or 0.0)
        number["width"].append(resolution[0] if resolution else 0)
        number["height"].append(resolution[1] if resolution else 0)
        self._boxes.frombytes(boxes.tobytes())
        self._visible += visible.astype(np.uint8).tobytes()
        if cover is not None:
            self._cover += cover.astype(np.uint8).tobytes()
        self._rows.append(self._rows[-1] + len(boxes))

    def add_images(
        self,
        names: Sequence[str],
        boxes: Float64[np.ndarray, "images 4"],
        visible: Bool[np.ndarray, "images"],
        *,
        folder: str,
        files: Sequence[str],
        object_classes: Sequence[str],
        resolutions: Integer[np.ndarray, "images 2"],
    ) -> None:
        """Append many videos of one image each; the same as `add` for each of them, ten times faster."""
        number, texts, count = self._numbers, self._texts, len(names)
        for name in names:
            texts["names"].add(name)
        columns: dict[str, Any] = {
            "lengths": np.ones(count),
            "visible_counts": visible,
            "kind": np.full(count, LISTED),
            "first": [self._list((file,)) for file in files],
            "folder": np.full(count, texts["folders"].number(folder)),
            "suffix": np.full(count, texts["suffixes"].number("")),
            "object_class": [texts["classes"].number(name) for name in object_classes],
            "width": resolutions[:, 0],
            "height": resolutions[:, 1],
        }
        for name, values in number.items():
            values.frombytes(np.asarray(columns.get(name, np.zeros(count)), np.dtype(values.typecode)).tobytes())
        self._boxes.frombytes(boxes.tobytes())
        self._visible += visible.astype(np.uint8).tobytes()
        self._rows.extend(range(self._rows[-1] + 1, self._rows[-1] + count + 1))

    def _list(self, files: Sequence[str]) -> int:
        """Where these file names begin in the table; videos that share all names share the entries."""
        key = tuple(files)
        if key not in self._lists:
            self._lists[key] = len(self._texts["files"].starts) - 1
            for file in files:
                self._texts["files"].add(file)
        return self._lists[key]

    def finish(self) -> SequenceIndex:
        """The index of all videos added, in memory.

        Raises:
            ValueError: there are none, or two have the same name.
        """
        if len(self._rows) == 1:
            raise ValueError(f"{self.dataset}: no sequences under {self.root}; see docs/datasets.md for the layout")
        numbers: Columns = {name: np.frombuffer(values, values.typecode) for name, values in self._numbers.items()}
        resolution = np.stack([numbers.pop("width"), numbers.pop("height")], 1)
        boxes = np.frombuffer(self._boxes, np.float64).reshape(-1, 4)
        pieces = (boxes[first : first + 2**16] for first in range(0, len(boxes), 2**16))
        with np.errstate(over="ignore"):  # single precision, where it holds every number, as it does whole pixels
            if all(np.array_equal(piece, piece.astype(np.float32), equal_nan=True) for piece in pieces):
                boxes = boxes.astype(np.float32)
        columns: Columns = {
            "rows": np.frombuffer(self._rows, np.int64),
            "boxes": boxes,
            "visible": np.frombuffer(bytes(self._visible), np.bool_),
            "cover": np.frombuffer(bytes(self._cover), np.uint8),
            "resolution": resolution,
            **numbers,
        }
        for name, table in self._texts.items():
            columns[name] = np.frombuffer(bytes(table.data), np.uint8)
            columns[f"{name}.starts"] = np.frombuffer(table.starts, np.int64)
        digest = hashlib.sha256()
        for name, column in columns.items():
            digest.update(f"{name} {column.dtype.str} {column.shape}".encode())
            digest.update(np.ascontiguousarray(column).data)
        index = SequenceIndex(
            self.dataset, self.root, columns, self.attribute_names, self.repeats_image, digest.hexdigest()[:16]
        )
        names = index.names
        for name, count in Counter(names).items() if len(set(names)) < len(names) else ():
            if count > 1 and self.problems is None:
                raise ValueError(
                    f"{self.dataset}: {count} sequences are called {name!r} under {self.root}; rename or remove one"
                )
            if count > 1 and self.problems is not None:
                self.problems.add("duplicate", name, f"{count} sequences of this name")
        return index


Options = tuple[bool, str | Path | None, Problems | None]  # complete, cache, problems: the same for all readers


def read_set(
    dataset: str,
    root: Path,
    files: Mapping[str, Sequence[Path]],
    add_one: Callable[[IndexBuilder, str], object],
    options: Options,
    *,
    key: str = "",
    inputs: Sequence[Path] = (),
    attribute_names: Sequence[str] = (),
) -> SequenceIndex:
    """The index of a published data set: which sequences are there, one after the other, kept in the cache.

    Args:
        dataset: its name.
        root: its folder, see `layout.existing_root`.
        files: what each sequence is read from, files and folders, its annotation first; in the publisher's order.
        add_one: adds the sequence of a name; its errors are raised, or noted as problems.
        options: complete (False takes the sequences whose annotation is there), cache and problems, see `cached`.
        key: see `cached`; the data set's name unless given.
        inputs: what else the index is made from.
        attribute_names: see `IndexBuilder`.

    Raises:
        FileNotFoundError: sequences or files are missing.
        ValueError: a file cannot be understood; with file and line.
    """
    complete, cache, problems = options
    first = {name: parts[0] for name, parts in files.items()}
    names = present(dataset, root, first, complete=complete, problems=problems)

    def build() -> IndexBuilder:
        builder = IndexBuilder(dataset, root, attribute_names=attribute_names, problems=problems)
        for name in names:
            with noted(problems, name):
                add_one(builder, name)
        return builder

    parts = [part for name in names for part in files[name]]
    return cached(key or dataset, root, [*inputs, *parts], build, cache, problems)


def cached(
    key: str,
    root: Path,
    inputs: Iterable[Path],
    build: Callable[[], IndexBuilder],
    cache: str | Path | None,
    problems: Problems | None = None,
) -> SequenceIndex:
    """The index from the cache folder if its inputs are unchanged, else built and kept there.

    Args:
        key: name and arguments of the reader, for example "got10k-train-all"; part of the file's name.
        root: the data set's folder.
        inputs: files and folders the index is made from; the index is made again when their sizes or times change.
        build: reads them.
        cache: folder of indexes; None builds in memory at every call.
        problems: given where they are collected; the index is then built anew and not kept.
    """
    if cache is None or problems is not None:
        return build().finish()
    state, root = _fingerprint(root, inputs), root.absolute()
    place = hashlib.sha256(str(root).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    path = Path(cache).expanduser() / f"{key}-{place}.index"
    kept = _kept(path, root, state)
    if kept is not None:
        return kept
    index = build().finish()
    kept = _kept(path, root, state)  # another process may have been faster
    if kept is not None:
        return kept
    info = IndexInfo(
        dataset=index.dataset,
        attribute_names=list(index.attribute_names),
        repeats_image=index.repeats_image,
        hash=index.hash,
        inputs=state,
    )
    try:
        write_columns(path, index.columns, info)
    except OSError as error:
        warnings.warn(
            f"the index of {key} could not be kept in {path} ({error.strerror}); it is made again at every "
            "start until `cache` names a folder with room that can be written",
            stacklevel=2,
        )
        return index
    return open_index(path, root, index.hash)


def _kept(path: Path, root: Path, state: str) -> SequenceIndex | None:
    """The index kept there, if it was made of these inputs and is whole."""
    info = read_info(path)
    if info is None or info["inputs"] != state:
        return None
    try:
        return open_index(path, root)
    except ValueError as error:
        log.warning("%s; made again now", error)
        return None


def _fingerprint(root: Path, inputs: Iterable[Path]) -> str:
    """Changes when an input, our lists or the format of indexes change."""
    digest = hashlib.sha256(str(INDEX_FORMAT).encode())
    for file in sorted(FOLDER.glob("*.csv")):
        digest.update(file.read_bytes())
    for path in inputs:
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path} is missing; see docs/datasets.md for how the data set must lie under {root}"
            ) from error
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
