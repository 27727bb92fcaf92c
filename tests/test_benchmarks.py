"""The benchmarks that need what is not here still start, and say so."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from emocache.benchmarks import (
    clip_lengths,
    cuts,
    face_rates,
    gpu,
    peers,
    precision,
    random_weights,
    ratios,
    ravdess_clips,
    remote_epoch,
    sound_hours,
    storage_cost,
    writers,
)
from emocache.benchmarks.figures import Figure
from emocache.cache import Cache


def test_bench_s3_compares_what_is_gathered() -> None:
    seconds = remote_epoch.compare({"a": lambda: [1, 2], "b": lambda: [1, 2]}, 0)
    assert set(seconds) == {"a", "b"} and min(seconds.values()) >= 0
    with pytest.raises(SystemExit, match="the batches differ"):
        remote_epoch.compare({"a": lambda: [1, 2], "b": lambda: [1, 3]}, 1)


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


def test_only_a_whole_interval_below_its_bound_is_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missed = Figure("writing", 0.5, [0.49, 0.48, 0.47, 0.49])
    figures = [Figure("reading", 0.5, [0.9, 0.8]), Figure("epoch", 0.5, [0.4, 0.6, 0.5, 0.45, 0.55])]
    monkeypatch.setattr(ratios, "BENCHES", (lambda *_: [missed, *figures],))
    with pytest.raises(SystemExit, match="1 of the bounds missed"):
        ratios.main(["--utterances", "2"])
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines()[2:]] == ["missed", "ok", "open"]
    monkeypatch.setattr(ratios, "BENCHES", (lambda *_: figures,))
    with pytest.raises(SystemExit) as ended:
        ratios.main(["--utterances", "2"])
    assert ended.value.code == 0


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


def test_the_rates_of_faces_become_hours(capsys: pytest.CaptureFixture[str]) -> None:
    """3.6 million pictures, 16 cores: 20 ms each on 2 of them take 10 h, 20 on 16 take 75 minutes."""
    each = {"decode": 0.002, "detect, dlib": 0.018, "crop": 0.001, "to 320 x 240": 0.001,
            "crop, before": 0.002, "decode again": 0.002}  # fmt: skip
    face_rates.estimate(each, 2000.0, face_rates.Card())
    rows = {line[:38].strip(): line[38:].split() for line in capsys.readouterr().out.splitlines()[2:]}
    assert rows["before, 2 decode threads"][0] == "10.00" and rows["before, 16 decode threads"][0] == "1.25"
    assert rows["before, 2 decode threads"][1] == "2.00" and rows["now, boxes known from face-boxes"][0] == "0.19"
    assert rows["now, dlib"][0] == "1.31" and rows["now, dlib, --detect-every 5"][0] == "0.41"
    assert float(rows["now, centerface"][3]) > 0.5 > float(rows["now, centerface, --detect-every 5"][3])


def test_the_rates_of_faces_are_measured(capsys: pytest.CaptureFixture[str], shared: Callable[[str], Path]) -> None:
    pytest.importorskip("dlib")
    file = str(shared("data/cremad/VideoFlash/1001_DFA_ANG_XX.flv"))
    face_rates.main([file, "--pictures", "4", "--rounds", "1"])
    out = capsys.readouterr().out
    assert "4 pictures of 480 x 360" in out and "SEWA, 40 h at 25 pictures a second" in out
    assert all(
        f"  {part} " in out for part in ("decode", "detect, dlib", "crop", "decode again", "now: one pass, dlib")
    )


def test_the_slowest_stage_of_sound_counts(capsys: pytest.CaptureFixture[str]) -> None:
    sound_hours.main(["--rounds", "1", "--store", "100", "400"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[3:]]
    assert [(name, when) for name, when, *_ in rows] == [
        (name, when) for name in ("hubert-large", "wavlm-large", "whisper-large-v3") for when in ("before", "now")
    ]
    for _, _, *stages, slowest in rows:
        assert max(map(float, stages)) == float(slowest)
    assert float(rows[0][4]) == pytest.approx(4 * float(rows[1][4]), abs=0.03)  # two digits
    # HuBERT-large takes some 38 billion operations for a second of sound.
    assert 35e9 < sound_hours.operations()["hubert-large"][0] < 42e9


def write_ravdess(folder: Path, actors: int) -> Path:
    """Noise of three lengths from each actor, of three emotions."""
    random = np.random.default_rng(0)
    for actor in range(1, actors + 1):
        (folder / f"Actor_{actor:02d}").mkdir(parents=True)
        for emotion in (3, 4, 5):
            noise = 0.1 * random.standard_normal(3200 * emotion)
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.flac"
            soundfile.write(folder / f"Actor_{actor:02d}" / name, noise, 16_000)
    return folder


def test_clip_lengths_of_small_shapes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_ravdess(tmp_path / "ravdess", 6)
    random_weights.write_whisper(tmp_path / "small", small=True)
    clip_lengths.main([
        str(tmp_path / "small"), str(tmp_path / "ravdess"), "--clips", "4", "--rounds", "1", "--tails", "0", "30",
        "--layers", "1", "--precision", "float32", "--probe",
    ])  # fmt: skip
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    combinations = [(tail, layer) for tail in ("faithful", "0", "30") for layer in ("1", "last")]
    assert [(row[1], row[2]) for row in rows[2:7]] == combinations[1:]  # all layers run for the faithful first
    assert [float(row[-1]) > 1e-6 for row in rows[2:7]] == [False, True, True, False, False]
    assert [(row[0], row[1]) for row in rows[9:]] == combinations
    assert [row[-3:] for row in rows[9:] if row[0] == "30"] == 2 * [["[", "+0.0,", "+0.0]"]]  # the same frames


def test_precision_of_small_shapes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = write_ravdess(tmp_path / "ravdess", 6)
    random_weights.write_whisper(tmp_path / "small", small=True)
    precision.main([str(tmp_path / "small"), "--ravdess", str(data), "--clips", "2", "--rounds", "2", "--no-random"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[1] for row in rows[2:4]] == [row[1] for row in rows[-2:]] == ["float32", "bf16"]
    assert abs(float(rows[2][-1])) < 1e-9 < float(rows[3][-1]) < 0.01  # the cosine distance
    assert rows[-2][-3:] == ["[", "+0.0,", "+0.0]"]


def test_peers_of_small_shapes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = write_ravdess(tmp_path / "ravdess", 12)
    checkpoint, out = tmp_path / "checkpoints" / "whisper-base", tmp_path / "out"
    random_weights.write_whisper(checkpoint, small=True)
    cache = out / "whisper-base-float32"
    encode = peers.extraction_rows(data, checkpoint, out, bf16=True)
    peers.print_rows([*encode, *peers.head_rows(out / "npy", cache, "whisper-base", out, epochs=1)])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert len(rows) >= 9 and all(float(row[-1]) <= 1 for row in rows[-5:])
    saved = {path.stem: np.load(path) for path in (out / "npy").glob("*.npy")}
    stream = Cache(cache).stream("ravdess", "whisper-base")
    assert sorted(saved) == stream.ids
    for utterance in stream.ids:  # the loop and the extraction do the same work
        np.testing.assert_allclose(stream.read(utterance), saved[utterance], rtol=2e-3, atol=2e-3)
    peers.write_npy(cache, "whisper-base", tmp_path / "npy")
    assert {path.stem for path in (tmp_path / "npy").iterdir()} == saved.keys()


def test_other_stores_give_the_frames_back(tmp_path: Path) -> None:
    pytest.importorskip("lance")
    pytest.importorskip("vortex")
    figures = peers.bench_stores(tmp_path, ratios.make_frames(3), 1)
    assert [figure.name.split(", ")[1] for figure in figures][-3:] == [
        "Lance : np.memmap", "Vortex : np.memmap", "emocache zarr : Lance"
    ]  # fmt: skip


def test_a_probe_learns_what_there_is_and_tells_how_sure_it_is() -> None:
    random = np.random.default_rng(0)
    labels, speakers = np.tile(["a", "b"], 60), np.repeat([f"{k:02d}" for k in range(12)], 10)
    vectors = random.standard_normal((120, 4)) + 3.0 * (labels == "a")[:, None]
    right, validated = ravdess_clips.probe(vectors, labels, speakers)
    assert right.mean() > 0.95 and validated > 0.95
    guessed, _ = ravdess_clips.probe(random.standard_normal((120, 4)), labels, speakers)
    assert 0.3 < guessed.mean() < 0.7
    low, high = ravdess_clips.difference(guessed, right, speakers)
    assert low < guessed.mean() - right.mean() < high < -0.2
    assert ravdess_clips.difference(right, right, speakers) == (0.0, 0.0)


def test_cost_follows_from_what_is_stored(capsys: pytest.CaptureFixture[str]) -> None:
    """Small objects, whose overhead is no more than a tenth; twice the price is twice the cost."""
    one = storage_cost.measure(512, 4 << 20, "hdf5")
    assert 1 < one.bytes / (one.hours * 3600 * 50 * 512 * 2) < 1.1 and one.puts >= 3 and one.gets >= 2
    rows = []
    for price in ("1", "2"):
        storage_cost.main(["--object-mib", "4", "--backend", "hdf5", "--gb-month", price])
        rows.append(capsys.readouterr().out.splitlines()[2].split())
    assert rows[0][:-2] == rows[1][:-2] and float(rows[1][-2]) == pytest.approx(2 * float(rows[0][-2]), abs=0.02)
    assert float(rows[0][-2]) == pytest.approx(one.bytes / one.hours * 1000 / 1e9, rel=0.01)
