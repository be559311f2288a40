"""Files of weights are read; what is written in them is not run."""

import contextlib
import io
import os
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from seqtrack_lit.models.checkpoint import load_model, read_checkpoint
from seqtrack_lit.models.safe_read import Inert, StoredTensor, read_contents

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "s2" / "SEQTRACK_ep0007.pth.tar"


class Creates:
    """Creates a file when it is unpickled the usual way."""

    def __init__(self, path: Path, way: str) -> None:
        self.path, self.way = str(path), way

    def __reduce__(self):
        code = f"open({self.path!r}, 'w').close()"
        return {
            "os.system": (os.system, (f"touch {self.path}",)),
            "eval": (eval, (code,)),
            "exec": (exec, (code,)),
            "open": (open, (self.path, "w")),
            "Path.touch": (Path.touch, (Path(self.path),)),
            "state": (Creates, (self.path, "open"), {"path": OrderedDict()}),
        }[self.way]


WAYS = ["os.system", "eval", "exec", "open", "Path.touch", "state"]
PLACES = ["settings", "stats", "optimizer", "net_info", "constructor"]


def official(**more: object) -> dict[str, object]:
    """A small official checkpoint, with foreign objects where asked for."""
    contents = read_contents(GOLDEN)
    net = OrderedDict(contents.tensors(contents.root["net"], "net"))
    return {"epoch": 7, "net_type": "SEQTRACK", "net": net, "stats": None, "settings": None, **more}


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain"])
@pytest.mark.parametrize("way", WAYS)
def test_foreign_objects_do_nothing(tmp_path, way, zipped):
    marker, path = tmp_path / "created", tmp_path / "evil.pth.tar"
    evil = Creates(marker, way)
    content = official(**{place: {"deep": [evil, (evil,)], evil: evil} for place in PLACES})
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    checkpoint = read_checkpoint(path)
    assert not marker.exists()
    assert len(checkpoint.state) == len(content["net"])
    assert all(torch.equal(checkpoint.state[key], tensor) for key, tensor in content["net"].items())
    assert load_model(path, official_config=GOLDEN.with_name("cfg.yaml")).model.templates == 1
    assert not marker.exists()
    # the same file, read as it was meant to be read, does create the marker: the test tests something
    if way != "state":
        torch.load(path, weights_only=False)
        assert marker.exists()


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain"])
@pytest.mark.parametrize("way", WAYS)
def test_a_foreign_object_as_weights_is_refused(tmp_path, way, zipped):
    marker, path = tmp_path / "created", tmp_path / "evil.pth.tar"
    evil = Creates(marker, way)
    content = official()
    for net in (evil, {**content["net"], "bottleneck.bias": evil}):
        torch.save({**content, "net": net}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match="class that is not read"):
            read_checkpoint(path)
    torch.save(evil, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match="named values"):
        read_checkpoint(path)
    assert not marker.exists()


def zipped(path: Path, pickled: bytes, **storages: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"x/data/{key.removeprefix('_')}", data)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


# Hand-written pickles: every opcode that can name, make, call or change something.
TRICKS = {
    "stack_global": b"\x80\x04" + text("os") + text("system") + b"\x93" + text("touch M") + b"\x85R.",
    "stack_global with a path of names": b"\x80\x04"
    + text("builtins")
    + text("eval.__call__")
    + b"\x93"
    + text("1")
    + b"\x85R.",
    "inst": b"\x80\x02(" + text("touch M") + b"ios\nsystem\n.",
    "obj": b"\x80\x02(cos\nsystem\n" + text("touch M") + b"o.",
    "newobj": b"\x80\x02csubprocess\nPopen\n" + text("touch M") + b"\x85\x81.",
    "newobj_ex": b"\x80\x04"
    + text("subprocess")
    + text("Popen")
    + b"\x93"
    + text("touch M")
    + b"\x85}"
    + text("shell")
    + b"\x88s\x92.",
    "a call of a call": b"\x80\x02cbuiltins\ngetattr\ncos\nsystem\n"
    + text("x")
    + b"\x86R"
    + text("touch M")
    + b"\x85R.",
    "a module of ours": b"\x80\x02cseqtrack_lit.models.safe_read\nread_contents\n" + text("M") + b"\x85R.",
    "torch.load from within": b"\x80\x02ctorch\nload\n" + text("M") + b"\x85R.",
    "torch's other rebuilders": b"\x80\x02ctorch._utils\n_rebuild_wrapper_subclass\ncos\nsystem\n\x85R.",
    "state of a stub class": b"\x80\x02cos\nsystem\n}" + text("a") + text("b") + b"sb.",
    "attributes of a stub class": b"\x80\x02cos\nsystem\nN}" + text("append") + b"cos\nsystem\ns\x86b.",
    "attributes of a rebuilder": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}"
    + text("__class__")
    + b"cos\nsystem\ns\x86b.",
    "attributes of a container": b"\x80\x02ccollections\nOrderedDict\nN}" + text("get") + b"cos\nsystem\ns\x86b.",
    "attributes of a dtype": b"\x80\x02ctorch\nFloatStorage\nN}" + text("itemsize") + b"K\x00s\x86b.",
    "a foreign persistent id": b"\x80\x02(" + text("module") + b"cos\nsystem\n" + text("a") + text("b") + b"tQ.",
    "a storage of a foreign type": b"\x80\x02("
    + text("storage")
    + b"cos\nsystem\n"
    + text("0")
    + text("cpu")
    + b"K\x01tQ.",
    "extension code": b"\x80\x02\x82\xf0.",
    "no end": b"\x80\x02}",
    "nothing on the stack": b"\x80\x020.",
    "protocol of the future": b"\x80\xff}.",
    "a million nested lists": b"\x80\x02" + b"]" * 1000 + b"a" * 999 + b".",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_pickle_tricks(tmp_path, monkeypatch, trick):
    monkeypatch.chdir(tmp_path)
    pickled = TRICKS[trick]
    before = {name: getattr(Inert, name) for name in dir(Inert) if not name.startswith("__")}
    path = zipped(Path("evil.pth"), pickled)
    made = None
    with contextlib.suppress(ValueError):  # refused is as good as inert
        made = read_contents(path).root
    assert isinstance(made, Inert | type | torch.dtype | dict | list | None) or type(made).__name__ == "_Rebuild"
    assert [name.name for name in Path().iterdir()] == ["evil.pth"]
    assert {name: getattr(Inert, name) for name in dir(Inert) if not name.startswith("__")} == before
    assert OrderedDict.get is dict.get
    assert torch.float32.itemsize == 4


def tensor_pickle(
    *, offset: int = 0, size: tuple[int, ...] = (2,), stride: tuple[int, ...] = (1,), count: int = 2
) -> bytes:
    """A dict with one float32 tensor of the given layout."""

    class Layout:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", count) if value is storage else None

    storage, out = object(), io.BytesIO()
    Pickler(out, protocol=2).dump({"a": Layout()})
    return out.getvalue()


def test_layouts_within_the_storage(tmp_path):
    numbers = torch.arange(6.0)
    path = zipped(
        tmp_path / "a.pth", tensor_pickle(offset=1, size=(2, 2), stride=(1, 3), count=6), _0=numbers.numpy().tobytes()
    )
    contents = read_contents(path)
    assert isinstance(contents.root["a"], StoredTensor)
    assert contents.tensors(contents.root, "it")["a"].tolist() == [[1, 4], [2, 5]]


@pytest.mark.parametrize(
    "layout",
    [
        {"size": (2**70, 2), "stride": (0, 0)},
        {"size": (3,)},
        {"offset": 1},
        {"stride": (2,)},
        {"size": (2, 2), "stride": (1, 1), "offset": 1},
        {"count": 3},
    ],
)
def test_layouts_outside_the_storage_are_refused(tmp_path, layout):
    contents = read_contents(zipped(tmp_path / "a.pth", tensor_pickle(**layout), _0=bytes(8)))
    with pytest.raises(ValueError, match="not in the file"):
        contents.tensors(contents.root, "it")


@pytest.mark.parametrize(
    "layout", [{"size": (-1,)}, {"stride": (-1,)}, {"offset": -1}, {"size": (2, 2)}, {"count": -1}]
)
def test_impossible_layouts_are_refused(tmp_path, layout):
    with pytest.raises(ValueError, match="cannot be read"):
        read_contents(zipped(tmp_path / "a.pth", tensor_pickle(**layout), _0=bytes(8)))


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain"])
def test_every_kind_of_tensor(tmp_path, zipped):
    saved = {
        "strided": torch.randn(3, 4).t(),
        "slice": torch.arange(9)[4:],
        "scalar": torch.tensor(2.5, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(5).bfloat16(),
        "bool": torch.tensor([True, False]),
        "bytes": torch.arange(7, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }
    path = tmp_path / "all.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    contents = read_contents(path)
    read = contents.tensors(contents.root, "it")
    for name, tensor in saved.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor.detach()), name


@pytest.mark.parametrize("cut", [0.2, 0.9, 0.999])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "plain"])
def test_a_file_cut_off_says_so(tmp_path, zipped, cut):
    path = tmp_path / "cut.pth.tar"
    torch.save(official(), path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    with pytest.raises(ValueError, match="whole"):
        read_checkpoint(path)


# Few bytes that ask for much: gigabytes of memory, or a hash that takes years. Each is refused or read at once.
BOMBS = {
    "a memo of 2^31 places": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a number of a million digits": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b".",
    "tuples within tuples as a key": b"\x80\x02})" + b"2\x86" * 60 + b"Ns.",
    "tuples within tuples in a set": b"\x80\x04\x8f()" + b"2\x86" * 60 + b"\x90.",
    "tuples within tuples in a frozen set": b"\x80\x04()" + b"2\x86" * 60 + b"\x91.",
    "tuples within tuples in an ordered dict": b"\x80\x02ccollections\nOrderedDict\n)"
    + b"2\x86" * 60
    + b"N\x86\x85\x85R.",
    "tuples within tuples in a set that is called": b"\x80\x02cbuiltins\nset\n)" + b"2\x86" * 60 + b"\x85\x85R.",
    "a text longer than the file": b"\x80\x02X\xff\xff\xff\xff.",
    "bytes longer than the file": b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["zip", "plain"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs(tmp_path, bomb, kind, limited_memory):
    path = tmp_path / "bomb.pth"
    if kind == "zip":
        zipped(path, BOMBS[bomb])
    else:
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})) + BOMBS[bomb])
    with pytest.raises(ValueError, match=r"bomb\.pth") as error:
        read_checkpoint(path)
    assert len(str(error.value)) < 1000


@pytest.fixture
def limited_memory():
    """A GiB more than what is in use."""
    resource = pytest.importorskip("resource")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_compressed_archives_are_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    for small, bomb in (("x/data/0", "x/data.pkl"), ("x/data.pkl", "x/data/0")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(small, tensor_pickle(count=10**7))
            archive.writestr(bomb, bytes(4 * 10**7), zipfile.ZIP_DEFLATED)
        with pytest.raises(ValueError, match=r"compressed; torch\.save does not compress"):
            read_checkpoint(path)


def test_a_description_larger_than_any_is_refused(tmp_path):
    path = zipped(tmp_path / "a.pth", b"\x80\x02" + b"N0" * 2**23 + b"}.")
    with pytest.raises(ValueError, match=r"data\.pkl of 16777220 bytes, at most 16777216 are read"):
        read_checkpoint(path)


def test_one_storage_for_many_tensors_is_no_way_to_more_memory(tmp_path, limited_memory):
    shared, path = torch.zeros(10**5), tmp_path / "many.pth"
    torch.save({f"a{k}": shared for k in range(10**4)}, path)
    with pytest.raises(ValueError, match=r"numbers of the file are not in the file \(bytes needed 4000000000, there"):
        read_checkpoint(path)
    torch.save({"a": torch.zeros(1).expand(10**9)}, path)
    with pytest.raises(ValueError, match="not in the file"):
        read_checkpoint(path)


@pytest.mark.parametrize("saved", ["zip", "plain", "safetensors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path, value, saved):
    path, net = tmp_path / "a.pth", official()["net"]
    net["bottleneck.weight"] = net["bottleneck.weight"].clone()
    net["bottleneck.weight"][3, 2] = value
    if saved == "safetensors":
        save_file(net, path)
    else:
        torch.save({"net": net}, path, _use_new_zipfile_serialization=saved == "zip")
    with pytest.raises(ValueError, match=r"a\.pth: .*'bottleneck\.weight' holds numbers that are NaN or infinite"):
        read_checkpoint(path)


def read_or_refused(path: Path) -> tuple[dict[str, torch.Tensor] | None, str]:
    try:
        return read_checkpoint(path).state, ""
    except ValueError as error:
        return None, str(error)


def test_every_flipped_bit_is_refused_or_changes_no_weight(tmp_path):
    path, rng, refused = tmp_path / "a.pth.tar", random.Random(5), 0
    torch.save(official(optimizer={"state": torch.zeros(2000)}), path)
    good, state = path.read_bytes(), read_checkpoint(path).state
    for _ in range(150):
        place, bad = rng.randrange(len(good)), bytearray(good)
        bad[place] ^= 1 << rng.randrange(8)
        path.write_bytes(bad)
        found, said = read_or_refused(path)
        refused += found is None
        assert found is not None or ("a.pth.tar" in said and "\n" not in said)
        assert found is None or (found.keys() == state.keys() and all(torch.equal(found[k], state[k]) for k in state))
    assert refused > 100  # nine tenths of the file are weights and their names
