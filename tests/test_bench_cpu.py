"""experiments/tab1_profile/bench_cpu.py: a run at its smallest, and that a loss of speed is found."""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "experiments" / "tab1_profile"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # of other tests
    import bench_cpu

    return bench_cpu


def test_rows_are_written_and_compared(bench, monkeypatch, tmp_path, capsys):
    net = bench.model_of("seqtrack_b256", width=24, depth=1, heads=2, search_size=32, template_size=32)
    monkeypatch.setattr(bench, "model_of", lambda name, **_: net)
    out = tmp_path / "now.json"
    assert bench.main(["--only", "decoder", "b256", "--turns", "0.1", "--out", str(out), "--compare", "no.json"]) == 0
    written = json.loads(out.read_text())
    assert {"processor", "torch", "threads", "date", "rows"} <= set(written)
    frame = written["rows"]["seqtrack_b256, a frame, fp32"]
    assert min(frame["ours_ms"], frame["plain_ms"]) > 0
    median, low, high = frame["plain/ours"]
    assert 0 < low <= median <= high
    for row in written["rows"].values():  # a run of before that was much faster
        row["plain/ours"] = [100.0, 99.0, 101.0]
    earlier = tmp_path / "before.json"
    earlier.write_text(json.dumps(written))
    assert bench.main(["--only", "b256", "--turns", "0.1", "--out", str(out), "--compare", str(earlier)]) == 1
    assert "slower: seqtrack_b256, a frame, fp32: plain / ours was 100.00" in capsys.readouterr().out
    earlier.write_text(json.dumps({**written, "processor": "another"}))
    assert bench.main(["--only", "b256", "--turns", "0.1", "--out", str(out), "--compare", str(earlier)]) == 0
    assert "another processor or version of torch" in capsys.readouterr().out


def test_the_plain_path_finds_the_same_tokens(bench):
    net = bench.model_of("seqtrack_b256", width=24, depth=2, heads=2, search_size=32, template_size=32).eval()
    tracker = bench.SeqTrackTracker(net)
    image = torch.randint(0, 256, (60, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    tracker.init(image, bench.np.array([20.0, 20.0, 20.0, 16.0]))
    found = tracker.predict(image)[1]
    plain = bench.plain_frame(tracker, image)
    assert torch.equal(found.tokens, plain.tokens)
    torch.testing.assert_close(found.likelihoods, plain.likelihoods, atol=1e-6, rtol=1e-4)


def test_what_counts_as_slower(bench):
    before = {"a": {"plain/ours": [1.5, 1.4, 1.6]}, "b": {"official/ours": [2.0, 1.9, 2.1]}}
    assert bench.compare({"a": {"plain/ours": [1.4, 1.3, 1.5]}}, before) == []  # within a tenth
    assert bench.compare({"a": {"plain/ours": [1.3, 1.0, 1.45]}}, before) == []  # within the spreads
    assert len(bench.compare({"a": {"plain/ours": [1.2, 1.1, 1.3]}}, before)) == 1
    assert bench.compare({"b": {"official/ours": [1.0, 0.9, 1.1]}, "c": {"plain/ours": [1, 1, 1]}}, before) == []
