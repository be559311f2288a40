"""What is wrong with a data set: found one by one, told together, each with its remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

# kind -> (what it is, what to do). Those in `NOTES` are known of published data, where nothing can be mended and the
# scoring convention says what they count; in one's own data they are problems like the others.
REMEDIES: dict[str, tuple[str, str]] = {
    "missing": ("files or sequences that are not there", "unpack or download again; docs/datasets.md shows the layout"),
    "annotation": ("annotation that cannot be read or does not fit the frames", "unpack the annotation again"),
    "unreadable": ("images that are empty, cut off or damaged", "unpack or download these files again"),
    "lost": ("video files that are cut short or damaged", "take the original file, or cut it anew at a key frame"),
    "frames": ("more or fewer frames than the publisher counts", "the video is incomplete or altered: unpack it again"),
    "duplicate": ("sequences that occur twice", "remove one of them"),
    "names": ("sequences whose result files would be one, so that they cannot be evaluated", "rename one of the two"),
    "twin": ("sequences with the same boxes as another", "look whether one is a copy of the other"),
    "spare": ("videos with more images than boxes", "the last images are not used; if a row is lost, unpack again"),
    "zero": ("boxes without width or height", "write 0,0,0,0 or a flag where the target is absent"),
    "nan": ("boxes that are not a number", "write 0,0,0,0 where the target is absent"),
    "negative": ("boxes of negative size", "write x,y,w,h with the top-left corner, not two corners"),
    "fractions": ("boxes in fractions of the picture", "multiply by its width and height: x,y,w,h are pixels"),
    "corners": (
        "boxes that seem to be two corners, not x,y,w,h",
        "write x,y,w,h: x2 - x1 and y2 - y1 instead of x2 and y2",
    ),
    "huge": ("boxes far larger than their picture", "write x,y,w,h in pixels of the picture as it is, not resized"),
    "outside": ("boxes wholly outside of their image", "check that boxes and frames belong together"),
    "resolution": (
        "images of another size than their annotation says",
        "take the publisher's images, not resized ones",
    ),
    "size": ("videos whose frames change size", "boxes are in pixels of their own frame: check that they are"),
}
NOTES = ("names", "twin", "spare", "zero", "nan", "negative", "outside", "size", "fractions", "corners", "huge")


class Finding(NamedTuple):
    """One problem: a kind out of `REMEDIES`, the sequence, what was found where."""

    kind: str
    sequence: str
    text: str


@dataclass
class Problems:
    """A reader that is given this notes what is wrong with one sequence and goes on with the next.

    Attributes:
        findings: in the order found.
        expected: sequences the publisher counts, by name where names are known.
        count: their number; 0 where unknown.
    """

    findings: list[Finding] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, kind: str, sequence: str, text: str) -> None:
        """Note a problem."""
        self.findings.append(Finding(kind, sequence, text))


@contextmanager
def noted(problems: Problems | None, sequence: str) -> Iterator[None]:
    """Let errors about one sequence through, or note them where problems are collected."""
    try:
        yield
    except (ValueError, FileNotFoundError) as error:
        if problems is None:
            raise
        problems.add("missing" if isinstance(error, FileNotFoundError) else "annotation", sequence, str(error))
