"""The benchmarks that need what is not here still start, and say so."""

import pytest
import torch

from emocache.benchmarks import gpu


def test_bench_gpu_stands_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """Tiny shapes on the CPU go all the way: extraction, the loop, the batches alone, both precisions."""
    gpu.main(["--device", "cpu", "--small", "--encoder", "hubert-large"])
    header, columns, row, _ = capsys.readouterr().out.splitlines()
    assert header.startswith("CPU; torch") and columns.split()[:3] == ["encoder", "emocache", "loop"]
    name, ours, loop, device, unit, *_ = row.split()
    assert (name, unit) == ("hubert-large", "h/s") and min(float(ours), float(loop), float(device)) > 0


def test_bench_gpu_without_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        gpu.main([])
    assert "torch sees no CUDA device, so there is nothing to measure" in capsys.readouterr().err
