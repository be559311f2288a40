"""Server zips: what we build is in order, and what is wrong with a zip is said."""

import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest

from seqtrack_lit.evaluation.results import write_result
from seqtrack_lit.evaluation.servers import Expected, build_submission, check_submission

FIRST = np.array([10.0, 20.0, 30.0, 40.0])
NAMES = {
    "got10k": ["GOT-10k_Test_000001", "GOT-10k_Test_000002"],
    "trackingnet": ["D0jRA5TKT-o_0", "buRfiT3Mq6Q_0"],
}
SERVERS = list(NAMES)


def videos(server: str) -> dict[str, Expected]:
    return {name: Expected(3 + i, FIRST) for i, name in enumerate(NAMES[server])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for server in SERVERS:
        for name, expected in videos(server).items():
            n = expected.frames
            write_result(tmp_path, name, np.tile(FIRST, (n, 1)), np.full(n, 0.02), np.ones(n))
    return tmp_path


def unzip(content: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def rezip(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def test_got10k_layout(folder: Path):
    write_result(folder, NAMES["got10k"][1], np.tile(FIRST, (4, 1)), np.full(4, 0.03), np.ones(4), repetition=2)
    content = build_submission("got10k", folder, videos("got10k"))
    files = unzip(content)
    assert list(files) == [
        "GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt",
        "GOT-10k_Test_000001/GOT-10k_Test_000001_time.txt",
        "GOT-10k_Test_000002/GOT-10k_Test_000002_001.txt",
        "GOT-10k_Test_000002/GOT-10k_Test_000002_002.txt",
        "GOT-10k_Test_000002/GOT-10k_Test_000002_time.txt",
    ]
    assert files["GOT-10k_Test_000001/GOT-10k_Test_000001_001.txt"] == "10.0000,20.0000,30.0000,40.0000\n" * 3
    assert files["GOT-10k_Test_000002/GOT-10k_Test_000002_time.txt"] == "0.020000,0.030000\n" * 4
    assert check_submission("got10k", content, videos("got10k")) == []


def test_trackingnet_layout(folder: Path):
    content = build_submission("trackingnet", folder, videos("trackingnet"))
    assert unzip(content)["buRfiT3Mq6Q_0.txt"] == "10.00,20.00,30.00,40.00\n" * 4
    assert check_submission("trackingnet", content, videos("trackingnet")) == []


@pytest.mark.parametrize("server", SERVERS)
def test_same_results_same_bytes_and_sources_stay(server: str, folder: Path):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert build_submission(server, folder, videos(server)) == build_submission(server, folder, videos(server))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("server", SERVERS)
def test_missing_results_are_named(server: str, folder: Path):
    (folder / f"{NAMES[server][1]}.txt").unlink()
    with pytest.raises(FileNotFoundError, match=f"1 of 2 videos have no result, first {NAMES[server][1]}"):
        build_submission(server, folder, videos(server))


def test_got10k_needs_times(folder: Path):
    (folder / "GOT-10k_Test_000001_time.txt").unlink()
    with pytest.raises(FileNotFoundError, match="no times beside the result of GOT-10k_Test_000001"):
        build_submission("got10k", folder, videos("got10k"))


A, B = "GOT-10k_Test_000001", "GOT-10k_Test_000002"
BOXES, TIMES = f"{A}/{A}_001.txt", f"{A}/{A}_time.txt"
GOT10K_FAULTS = {
    "no boxes": (lambda f: f.pop(BOXES), [rf"{A}: boxes files numbered none"]),
    "a gap in the repetitions": (lambda f: f.update({f"{A}/{A}_003.txt": f[BOXES]}), [r"numbered \[1, 3\]"]),
    "no times": (lambda f: f.pop(TIMES), [f"{TIMES}: missing"]),
    "short times": (lambda f: f.update({TIMES: "0.1\n0.1\n"}), [f"{TIMES}: 2 lines of 1; expected 3 lines of 1"]),
    "negative times": (lambda f: f.update({TIMES: "0.1\n-1\n0.1\n"}), [f"{TIMES}: negative"]),
    "words as times": (lambda f: f.update({TIMES: "0.1\nfast\n0.1\n"}), [f"{TIMES}, line 2: 'fast' is not"]),
    "one frame short": (lambda f: f.update({BOXES: f[BOXES][:32]}), [f"{BOXES}: 1 lines; the video has 3 frames"]),
    "tabs": (lambda f: f.update({BOXES: f[BOXES].replace(",", "\t")}), [f"{BOXES}, line 1: .* is not"]),
    "NaN": (lambda f: f.update({BOXES: f[BOXES].replace("30.0000", "nan")}), [f"{BOXES}, line 1: .*nan"]),
    "no area": (lambda f: f.update({BOXES: f[BOXES][:64] + "1,1,0,1\n"}), [f"{BOXES}, line 3: a box without area"]),
    "another video's boxes": (
        lambda f: f.update({BOXES: f[BOXES].replace("10.0000", "90.0000")}),
        [f"{BOXES}, line 1: .* is not the given box"],
    ),
    "an empty file": (lambda f: f.update({BOXES: ""}), [f"{BOXES}, line 1: the file is empty"]),
    "semicolons": (
        lambda f: f.update({BOXES: f[BOXES].replace(",", ";")}),
        [f"{BOXES}, line 1: .* is not x,y,w,h separated by commas"],
    ),
    "hostile names": (
        lambda f: f.update({"../up.txt": "", "\x1b[31mred\n.txt": ""}),
        [r"2 files that do not belong in the zip, first \\x1b\[31mred\\n\.txt, \.\./up"],
    ),
    "files of the system": (lambda f: f.update({"__MACOSX/x.txt": "1"}), ["1 files that do not belong.*__MACOSX"]),
    "a folder above": (
        lambda f: [f.update({f"ours/{name}": f.pop(name)}) for name in list(f)],
        [f"ours/{BOXES}: the folder {A}/ must be at the root", f"the folder {B}/ must be at the root"],
    ),
}


@pytest.mark.parametrize(("spoil", "problems"), GOT10K_FAULTS.values(), ids=GOT10K_FAULTS.keys())
def test_faults_of_a_got10k_zip(folder: Path, spoil, problems: list[str]):
    files = unzip(build_submission("got10k", folder, videos("got10k")))
    spoil(files)
    expect(check_submission("got10k", rezip(files), videos("got10k")), problems)


TRACKINGNET_FAULTS = {
    "missing": (lambda f: f.pop("D0jRA5TKT-o_0.txt"), ["D0jRA5TKT-o_0.txt: missing; the server counts zeros"]),
    "two that match": (lambda f: f.update({"old/D0jRA5TKT-o_0.txt": "1"}), ["D0jRA5TKT-o_0.txt: 2 files match"]),
    "blanks": (lambda f: f.update({"buRfiT3Mq6Q_0.txt": "1 2 3 4\n"}), ["buRfiT3Mq6Q_0.txt, line 1"]),
    "five columns": (lambda f: f.update({"buRfiT3Mq6Q_0.txt": "1,2,3,4,5\n" * 4}), ["buRfiT3Mq6Q_0.txt: 5 columns"]),
}


@pytest.mark.parametrize(("spoil", "problems"), TRACKINGNET_FAULTS.values(), ids=TRACKINGNET_FAULTS.keys())
def test_faults_of_a_trackingnet_zip(folder: Path, spoil, problems: list[str]):
    files = unzip(build_submission("trackingnet", folder, videos("trackingnet")))
    spoil(files)
    expect(check_submission("trackingnet", rezip(files), videos("trackingnet")), problems)


def expect(found: list[str], patterns: list[str]) -> None:
    assert len(found) == len(patterns), found
    for text, pattern in zip(found, patterns, strict=True):
        assert re.search(pattern, text), (text, pattern)


def test_nested_trackingnet_folders_are_found_as_the_server_does(folder: Path):
    files = unzip(build_submission("trackingnet", folder, videos("trackingnet")))
    content = rezip({f"ours/{name}": text for name, text in files.items()})
    assert check_submission("trackingnet", content, videos("trackingnet")) == []


def encrypted(content: bytes) -> bytes:
    """The same zip with the flag of encryption set in its directory and before each file."""
    data = bytearray(content)
    for mark, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        for match in re.finditer(re.escape(mark), content):
            data[match.start() + offset] |= 1
    return bytes(data)


def test_damaged_and_hostile_zips_are_words(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever the bytes, the answer is a list of problems, never an exception."""
    content, known = build_submission("got10k", folder, videos("got10k")), videos("got10k")
    expect(check_submission("got10k", content[: len(content) // 2], known), ["only a part of one"])
    expect(check_submission("got10k", encrypted(content), known), [r"001\.txt: cannot be unpacked .* encrypted"])
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(len(content), size=3):
            damaged[place] = rng.integers(256)
        assert all(problem.isprintable() for problem in check_submission("got10k", bytes(damaged), known))
    monkeypatch.setattr("seqtrack_lit.evaluation.servers.LARGEST", 100)
    expect(check_submission("got10k", content, known), ["unpacks to 0 MB"])


def test_not_a_zip_and_twice():
    expect(check_submission("got10k", b"no zip", {}), [r"not a zip file, or only a part of one \(File is not a zip"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.txt", "1,2,3,4\n")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.txt", "1,2,3,4\n")
    found = check_submission("trackingnet", out.getvalue(), {"a": Expected(1, np.array([1.0, 2, 3, 4]))})
    assert found == ["a.txt: twice in the zip"]
