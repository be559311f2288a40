"""Which precision a training chooses."""

from pathlib import Path

import pytest
import torch

from seqtrack_lit.training.precision import choose_precision, cpu_flags, same_for_sweep, tf32

PROCESSORS = {
    # flags of the CPU; or, of a GPU, its capability and whether it has bf16 -> what auto chooses
    "a CPU with AVX512_BF16": (("avx512_bf16",), None, "bf16"),
    "a CPU with AMX_BF16": (("amx_bf16",), None, "bf16"),
    "another CPU": ((), None, "fp32"),
    "an H100": ((), ((9, 0), True), "bf16"),
    "a V100": (("avx512_bf16",), ((7, 0), False), "fp16"),
    "a P100": (("avx512_bf16",), ((6, 0), False), "fp32"),
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_precision_is_a_property_of_the_processor(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags, gpu, wanted = PROCESSORS[name]
    known = dict.fromkeys(("avx512_bf16", "amx_bf16"), False) | dict.fromkeys(flags, True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    if gpu is not None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: gpu[0])
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: gpu[1])
    assert choose_precision("auto", gpu=gpu is not None)[0] == wanted
    assert choose_precision("fp32", gpu=gpu is not None) == ("fp32", "as asked")


def test_precision_without_torchs_list_of_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    found = {"flags\t\t: fpu vme avx512_bf16 sse": ["avx512_bf16"], "flags : fpu": [], "Features : bf16": []}
    for text, flags in found.items():
        monkeypatch.setattr(Path, "read_text", lambda path, text=text: f"processor : 0\n{text}\n")
        assert cpu_flags() == flags


def test_precision_of_a_sweep_is_that_of_its_first_job(tmp_path: Path) -> None:
    assert same_for_sweep("fp32", tmp_path / "sweep", gpu=False) == "fp32"
    assert same_for_sweep("bf16", tmp_path / "sweep", gpu=False) == "fp32"
    assert same_for_sweep("bf16", tmp_path / "sweep", gpu=True) == "bf16"


def test_wrong_precisions() -> None:
    with pytest.raises(ValueError, match=r"train\.precision must be one of fp32, bf16, fp16, auto, got 'fp8'"):
        choose_precision("fp8", gpu=False)
    with pytest.raises(ValueError, match="precision=fp16 needs a GPU"):
        choose_precision("fp16", gpu=False)


def test_tf32_is_given_back() -> None:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    for allowed in (True, False):
        with tf32(allowed):
            assert torch.backends.cuda.matmul.allow_tf32 is torch.backends.cudnn.allow_tf32 is allowed
        assert before == (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
