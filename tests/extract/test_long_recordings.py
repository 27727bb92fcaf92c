"""Recordings too long for memory: the same numbers as of those that are not, decoded, encoded, projected and stored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from emocache.cache import Cache, spill
from emocache.cli import app
from emocache.extract.encoders import Clip, load
from emocache.extract.encoders.windows import moments
from emocache.extract.media.audio import decode_audio

Samples = npt.NDArray[np.float32]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes 20 kB large, and blocks of 6 kB; or puts that right."""
    before = (spill.LARGE, spill.BLOCK)

    def make(is_small: bool) -> None:
        for name, value in zip(("LARGE", "BLOCK"), (20_000, 6_000) if is_small else before, strict=True):
            monkeypatch.setattr(spill, name, value)

    return make


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_sound_is_resampled_in_blocks_as_it_is_at_once(
    rate: int, tmp_path: Path, small: Callable[[bool], None], voice: Callable[..., Samples]
) -> None:
    small(True)
    sound = np.stack([voice(9.0, 0), voice(9.0, 1)], axis=1)[: 9 * rate]
    soundfile.write(tmp_path / "a.flac", np.resize(sound, (23 * rate + 7, 2)), rate)
    whole = soundfile.read(tmp_path / "a.flac", dtype="float32")[0].mean(axis=1, dtype=np.float32)
    for start, end in ((None, None), (1.3, 20.2), (22.0, None)):
        part = whole[round((start or 0) * rate) : None if end is None else round(end * rate)]
        expected = part if rate == 16_000 else soxr.resample(part, rate, 16_000, quality="VHQ")
        assert np.array_equal(decode_audio(tmp_path / "a.flac", start, end), expected)


@pytest.mark.parametrize("n", [1, 7, 8, 129, 40_001, 9_000_003])
def test_moments_are_those_of_numpy(n: int) -> None:
    values = np.random.default_rng(n).standard_normal(n, np.float32) / np.float32(10)
    values += np.float32(0.01)
    assert moments(values) == (values.mean(), values.var())


@pytest.mark.parametrize("name", ["logmel", "mfcc", "mfcc39", "mfcc-code", "spectrogram", "hubert", "tiny-whisper"])
def test_frames_are_the_same_to_the_last_bit(
    name: str,
    small: Callable[[bool], None],
    voice: Callable[..., Samples],
    tiny_whisper: Path,
    make_speech_model: Callable[..., Path],
) -> None:
    own = {"hubert": lambda: make_speech_model("hubert", "group"), "tiny-whisper": lambda: tiny_whisper}
    encoder = load(str(own[name]()) if name in own else name, device="cpu")
    clips = [Clip("long", voice(95.0)), Clip("short", voice(0.7)), Clip("middle", voice(31.0))]
    layers: list[int | None] = [None, 1] if name in own else [None]
    found = []
    for is_small in (False, True):
        small(is_small)
        found.append(encoder.encode(clips, layers))
    for usual, spilled in zip(*found, strict=True):
        assert isinstance(usual, dict) and isinstance(spilled, dict)
        for layer in layers:
            assert np.array_equal(usual[layer].frames, spilled[layer].frames)
            assert usual[layer].frames.dtype == spilled[layer].frames.dtype == np.float32


@pytest.mark.parametrize("backend", ["zarr", "hdf5"])
def test_a_store_is_the_same(
    backend: str,
    tmp_path: Path,
    small: Callable[[bool], None],
    voice: Callable[..., Samples],
    make_speech_model: Callable[..., Path],
) -> None:
    """Through the whole command, with the PCA, whose frames are read back from the store block by block."""
    (tmp_path / "corpus").mkdir()
    for n, length in enumerate((64.0, 2.0, 33.3)):
        soundfile.write(tmp_path / "corpus" / f"{n}.wav", voice(length, n), 22_050)
    (tmp_path / "corpus" / "table.csv").write_text("id,file\n" + "".join(f"c{n},{n}.wav\n" for n in range(3)))
    model = make_speech_model("hubert", "group")
    stores: list[dict[str, Any]] = []
    for is_small in (False, True):
        small(is_small)
        store = tmp_path / f"store{is_small}"
        words = ["extract", "table", "--data", tmp_path / "corpus", "--cache", store, "--backend", backend, "--device",
                 "cpu", "--encoder", model, "--layers", "1,last", "--pca", "4", "--fit-on", "all"]  # fmt: skip
        done = CliRunner().invoke(app, list(map(str, words)))
        assert done.exit_code == 0, done.output
        streams = {info.name: Cache(store).open_info(info) for info in Cache(store).streams("table")}
        stores.append({name: (s.fingerprint, s.digest(s.ids), s.array()[0].tobytes()) for name, s in streams.items()})
    assert stores[0] == stores[1] and len(stores[0]) == 4
