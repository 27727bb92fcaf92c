"""The benchmarks that need what is not here still start, and say so."""

from itertools import count
from pathlib import Path

import pytest
import torch

from emocache.benchmarks import cuts, gpu, ratios, writers


def test_bench_gpu_stands_ready(capsys: pytest.CaptureFixture[str]) -> None:
    """Tiny shapes on the CPU go all the way: extraction, the loop, the batches alone, both precisions."""
    gpu.main(["--device", "cpu", "--small", "--encoder", "wavlm-large"])
    header, columns, row, _ = capsys.readouterr().out.splitlines()
    assert header.startswith("on the CPU") and columns.split()[:3] == ["encoder", "emocache", "loop"]
    name, ours, loop, reduced, device, unit, *_ = row.split()
    assert (name, unit) == ("wavlm-large", "h/s") and min(map(float, (ours, loop, reduced, device))) > 0
    busy = float(row.split(" x ")[-1].split()[0])
    assert 0 < busy < 100


def test_bench_gpu_without_a_gpu(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="2"):
        gpu.main([])
    assert "torch sees no CUDA device, so there is nothing to measure" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "status"), [([], 0), (["--strict"], 1)])
def test_a_missed_bound_is_told_and_an_error_only_where_asked(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = [ratios.Figure("writing", 0.5, [0.5, 0.49, 0.51]), ratios.Figure("reading", 0.5, [0.9, 0.9])]
    monkeypatch.setattr(ratios, "BENCHES", (lambda *_: figures,))
    with pytest.raises(SystemExit) as ended:
        ratios.main(["--utterances", "2", *arguments])
    assert ended.value.code == status
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines()[2:4]] == ["missed", "ok"] and "1 of the bounds missed" in out
    monkeypatch.setattr(ratios, "BENCHES", (lambda *_: figures[1:],))
    with pytest.raises(SystemExit) as ended:
        ratios.main(["--utterances", "2", *arguments])
    assert ended.value.code == 0 and "missed" not in capsys.readouterr().out


def test_other_bytes_than_were_written_are_always_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = count()
    monkeypatch.setattr(ratios, "checksum", lambda _: next(numbers))
    with pytest.raises(SystemExit, match="the frames read are not those written"):
        ratios.bench_reading(tmp_path, ratios.make_frames(2), 1)


def test_writers_and_cuts_of_small_shapes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    writers.main(["--clips", "4", "--dim", "8", "--rounds", "1", "--folder", str(tmp_path)])
    told = capsys.readouterr().out
    assert "4 writers" in told and not list(tmp_path.iterdir())
    cuts.main(["--models", "tiny", "--clips", "2", "--device", "cpu"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[1] for row in rows] == ["float32", "bf16", "fp16"] and float(rows[0][2]) < 1e-5
