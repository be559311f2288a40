"""Files that are no checkpoints: named, each with its reason."""

import os
import pickle
import struct

import pytest
import torch

from seqtrack_lit.models.checkpoint import read_checkpoint
from seqtrack_lit.models.safe_read import read_contents


@pytest.mark.parametrize("length", range(0, 256, 8))
def test_safetensors_are_known_whatever_the_length_of_their_header(tmp_path, length):
    path, header = tmp_path / "a.safetensors", b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    size = 256 + length  # the file begins with this number; some of its bytes begin a pickle, too
    path.write_bytes(struct.pack("<Q", size) + header.ljust(size) + struct.pack("<2f", 1, 2))
    contents = read_contents(path)
    assert contents.tensors(contents.root, "it")["a"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"", "no file of weights.*empty"),
        (b"\x1f\x8b\x08\x00", "archive: unpack"),
        (b"PK\x03\x04 no zip", "whole"),
        (pickle.dumps({"net": 1}), "whole"),
        (struct.pack("<Q", 8) + b"{not json", "whole"),
    ],
)
def test_other_files_are_named(tmp_path, content, says):
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        read_checkpoint(path)
    assert str(path) in str(error.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        read_checkpoint(tmp_path / "nowhere.pth")
    with pytest.raises(FileNotFoundError, match="folder"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31mred", "a" * 201, 5])
def test_names_of_tensors_are_printable_and_short(tmp_path, name):
    torch.save({"net": {name: torch.zeros(2)}}, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth: net .*which cannot name a tensor") as error:
        read_checkpoint(tmp_path / "a.pth")
    assert str(error.value).isprintable()


def test_pipes_and_devices_are_no_checkpoints(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(FileNotFoundError, match="is no regular file"):
            read_checkpoint(path)
