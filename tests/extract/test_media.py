"""Decoding: exact positions, one mix, one resampler; and broken files told apart from broken machines."""

import errno
import importlib
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

import emocache
from emocache.cache import EmocacheError, InputFailure
from emocache.extract.media import audio, decoders, lengths, soundfiles
from emocache.extract.media.audio import decode_audio, media_duration

Samples = npt.NDArray[np.float32]
av: Any = importlib.import_module("av")  # its types know too little of what it takes

SHARED = Path(emocache.__file__).resolve().parent.parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs real media in ../shared")


def noise(seconds: float, rate: int = 16000, channels: int = 1) -> Samples:
    """Full 16-bit values, so that writing and reading 16-bit PCM loses nothing."""
    values = np.random.default_rng(0).integers(-12000, 12000, (round(seconds * rate), channels))
    return np.squeeze(values.astype(np.float32) / 32768)


def write_container(
    path: Path,
    samples: Samples | None,
    codec: str = "pcm_s16le",
    starts: Sequence[float] = (0.0,),
    video: bool = False,
) -> Path:
    """Pieces of `samples` (n,), one from each start on (seconds), in whatever container the suffix says."""
    with av.open(str(path), "w") as container:
        # every track must be there before the first packet
        pictures: Any = container.add_stream("mpeg4", rate=25) if video else None
        sound: Any = None if samples is None else container.add_stream(codec, rate=16000, layout="mono")
        if pictures is not None:
            pictures.width = pictures.height = 32
            for index in range(25):
                frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 10 * index, np.uint8), format="rgb24")
                frame.pts = index
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode())
        if samples is not None:
            for start, piece in zip(starts, np.array_split(samples, len(starts)), strict=True):
                whole = np.round(piece * 32768).astype(np.int16)
                for first in range(0, len(whole), 1024):
                    block = np.ascontiguousarray(whole[None, first : first + 1024])
                    frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
                    frame.sample_rate = 16000
                    frame.pts = round(start * 16000) + first
                    container.mux(sound.encode(frame))
            container.mux(sound.encode())
    return path


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (0.5, None), (None, 1.25), (0.1, 0.7), (0.33333, 1.77777), (1.9, 2.0)]
)
def test_a_segment_is_exactly_its_samples(tmp_path: Path, suffix: str, start: float | None, end: float | None) -> None:
    samples = noise(2.0)
    soundfile.write(tmp_path / f"a{suffix}", samples, 16000)
    first = 0 if start is None else round(start * 16000)
    last = 32000 if end is None else round(end * 16000)
    got = decode_audio(tmp_path / f"a{suffix}", start, end)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, samples[first:last])


def test_channels_are_averaged_and_resampled_once(tmp_path: Path) -> None:
    samples = noise(1.0, 44100, channels=3)
    soundfile.write(tmp_path / "a.wav", samples, 44100)
    expected = soxr.resample(samples.mean(axis=1), 44100, 16000, quality="VHQ")
    np.testing.assert_array_equal(decode_audio(tmp_path / "a.wav"), expected)
    cut = soxr.resample(samples[4410:22050].mean(axis=1), 44100, 16000, quality="VHQ")
    np.testing.assert_array_equal(decode_audio(tmp_path / "a.wav", 0.1, 0.5), cut)


def test_files_longer_than_one_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soundfiles, "_BLOCK", 1000)
    samples = noise(1.0, channels=2)
    soundfile.write(tmp_path / "a.flac", samples, 16000)
    np.testing.assert_array_equal(decode_audio(tmp_path / "a.flac", 0.01, 0.9), samples[160:14400].mean(axis=1))


@pytest.mark.parametrize("suffix", [".mkv", ".avi", ".mov"])
def test_containers_give_the_same_samples_as_files(tmp_path: Path, suffix: str) -> None:
    samples = noise(1.0)
    path = write_container(tmp_path / f"a{suffix}", samples, video=True)
    np.testing.assert_array_equal(decode_audio(path), samples)
    np.testing.assert_array_equal(decode_audio(path, 0.25, 0.5), samples[4000:8000])
    assert media_duration(path) == pytest.approx(1.0, abs=0.05)


def test_lossy_containers_keep_time(tmp_path: Path) -> None:
    tone = np.zeros(32000, np.float32)
    tone[16000:17000] = np.sin(np.arange(1000) * 0.2) / 2
    path = write_container(tmp_path / "a.m4a", tone, codec="aac")
    got = decode_audio(path)
    assert abs(int(np.argmax(np.abs(got) > 0.2)) - 16000) < 100


def test_a_late_track_and_a_gap_are_silence(tmp_path: Path) -> None:
    samples = noise(1.0)
    path = write_container(tmp_path / "a.mkv", samples, starts=(0.5, 1.5), video=True)
    got = decode_audio(path)
    assert got.size == 32000
    np.testing.assert_array_equal(got[8000:16000], samples[:8000])
    np.testing.assert_array_equal(got[24000:], samples[8000:])
    assert not got[:8000].any()
    assert not got[16000:24000].any()
    np.testing.assert_array_equal(decode_audio(path, 0.25, 0.75), got[4000:12000])
    np.testing.assert_array_equal(decode_audio(path, 1.25, 1.75), got[20000:28000])


def riff(channels: int, rate: int = 16000, frames: int = 100, data_size: int | None = None) -> bytes:
    payload = b"\0" * (2 * channels * frames)
    size = len(payload) if data_size is None else data_size
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * channels * 2, channels * 2, 16)
    return b"RIFF" + struct.pack("<I", 36 + len(payload)) + b"WAVEfmt \x10\0\0\0" + fmt + b"data" + struct.pack(
        "<I", size
    ) + payload  # fmt: skip


def broken_files(folder: Path) -> dict[str, tuple[str, str]]:
    """{name: (reason, part of the detail)}, written into `folder`."""
    samples = noise(2.0)
    soundfile.write(folder / "good.wav", samples, 16000)
    soundfile.write(folder / "good.flac", samples, 16000)
    wav, flac = (folder / "good.wav").read_bytes(), (folder / "good.flac").read_bytes()
    write_container(folder / "silent.mp4", None, video=True)
    whole = write_container(folder / "whole.mkv", samples, video=True).read_bytes()
    holed = samples.copy()
    holed[700] = np.nan
    soundfile.write(folder / "nan.wav", holed, 16000, subtype="FLOAT")
    holed[700] = np.inf
    soundfile.write(folder / "inf.wav", holed, 48000, subtype="FLOAT")
    soundfile.write(folder / "no_samples.wav", samples[:0], 16000)
    soundfile.write(folder / "no_samples.flac", samples[:0], 16000)
    unknown_length = bytearray(flac)
    unknown_length[21] &= 0xF0
    unknown_length[22:26] = bytes(4)
    endless = bytearray(flac)
    endless[21] |= 0x0F
    endless[22:26] = b"\xff" * 4
    flipped = bytearray(flac)
    flipped[len(flac) // 2] ^= 1
    for name, data in {
        "empty.wav": b"",
        "empty.mp4": b"",
        "text.wav": b"this is not audio\n" * 50,
        "text.mp4": b"this is not audio\n" * 50,
        "channels.wav": riff(1000),
        "more_channels.wav": riff(5000),
        "slow.wav": riff(1, rate=10),
        "cut.wav": wav[: len(wav) // 2],
        "cut.flac": flac[: len(flac) // 2],
        "cut.mkv": whole[: len(whole) // 2],
        "headless.flac": bytes(unknown_length),
        "endless.flac": bytes(endless),
        "flipped.flac": bytes(flipped),
    }.items():
        (folder / name).write_bytes(data)
    return {
        "empty.wav": ("empty", "0 bytes"),
        "empty.mp4": ("empty", "0 bytes"),
        "no_samples.wav": ("empty", "no samples"),
        "no_samples.flac": ("empty", "0 bytes"),
        "text.wav": ("undecodable", "Invalid data"),
        "text.mp4": ("undecodable", "Invalid data"),
        "channels.wav": ("undecodable", "1000 channels; at most 32"),
        "more_channels.wav": ("undecodable", "channels"),
        "slow.wav": ("undecodable", "rate of 10 Hz"),
        "nan.wav": ("not_finite", "NaN"),
        "inf.wav": ("not_finite", "NaN or infinite"),
        "cut.wav": ("truncated", "ends at 0.999 s"),
        "cut.flac": ("undecodable", "lost sync"),
        "cut.mkv": ("truncated", "2.000 s"),
        "headless.flac": ("undecodable", "no length"),
        "endless.flac": ("undecodable", "at most 43200 s"),
        "flipped.flac": ("undecodable", "flac"),
        "silent.mp4": ("no_audio", "no audio track"),
    }


def test_what_lies_in_the_input_is_a_failure_that_says_so(tmp_path: Path) -> None:
    for name, (reason, part) in broken_files(tmp_path).items():
        with pytest.raises(InputFailure) as caught:
            decode_audio(tmp_path / name)
        assert caught.value.reason == reason, (name, caught.value)
        assert part in caught.value.detail, (name, caught.value)
        assert name in caught.value.detail
        assert "\n" not in caught.value.detail


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".mkv"])
def test_segments_beyond_the_media(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".mkv":
        write_container(path, noise(1.0))
    else:
        soundfile.write(path, noise(1.0), 16000)
    assert decode_audio(path, 0.5, 1.09).size == 8000  # a rounded label time loses nothing
    for start, end in [(0.5, 1.2), (1.2, 1.5), (1.2, None)]:
        with pytest.raises(InputFailure, match=r"truncated: .* ends at 1\.000 s") as caught:
            decode_audio(path, start, end)
        assert caught.value.reason == "truncated"
    with pytest.raises(InputFailure, match=r"empty: .* from 0\.5 s to 0\.5 s holds no samples"):
        decode_audio(path, 0.5, 0.5)


def test_a_pipe_writers_header_is_not_a_cut_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(riff(1, frames=1600, data_size=0xFFFFFFFF))
    assert decode_audio(tmp_path / "a.wav").size == 1600


def test_a_long_recording_needs_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "MAX_SECONDS", 1.0)
    soundfile.write(tmp_path / "a.wav", noise(2.0), 16000)
    write_container(tmp_path / "a.mkv", noise(2.0))
    for name in ("a.wav", "a.mkv"):
        assert decode_audio(tmp_path / name, 0.5, 1.5).size == 16000
        with pytest.raises(InputFailure, match="at most 1 s are taken as one utterance, so give start and end"):
            decode_audio(tmp_path / name)


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "secret.wav", noise(1.0), 16000)
    (tmp_path / "a.mp4").write_text("ffconcat version 1.0\nfile secret.wav\n")
    (tmp_path / "b.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.wav\n#EXT-X-ENDLIST\n")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(InputFailure, match="undecodable"):
            decode_audio(tmp_path / name)
        assert media_duration(tmp_path / name) is None


def test_trouble_of_the_machine_is_never_a_failure_of_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        decode_audio(tmp_path / "missing.wav")
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(OSError, match="folder"):
        decode_audio(tmp_path / "folder.wav")
    broken_files(tmp_path)

    def bad_disk(self: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", bad_disk)
        for name in ("cut.flac", "cut.wav", "text.mp4"):
            with pytest.raises(OSError, match="Input/output error"):
                decode_audio(tmp_path / name)

    def exhausted(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(soundfile.SoundFile, "read", exhausted)
        with pytest.raises(MemoryError):
            decode_audio(tmp_path / "good.wav")


def test_a_passing_read_error_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.flac", noise(1.0), 16000)
    decode = soundfiles.decode_soundfile
    sources: list[lengths.Source] = []

    def flaky(source: lengths.Source, *rest: Any) -> Iterator[tuple[Samples, int]]:
        sources.append(source)
        if len(sources) == 1:
            raise decoders.Doubtful("undecodable", "lost sync")
        return decode(source, *rest)

    monkeypatch.setattr(audio, "decode_soundfile", flaky)
    np.testing.assert_array_equal(decode_audio(tmp_path / "a.flac"), noise(1.0))
    assert len(sources) == 2


@pytest.mark.parametrize("module", ["soundfile", "av"])
def test_a_missing_library_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    path = write_container(tmp_path / "a.mp4", noise(0.2), codec="aac")
    monkeypatch.setitem(sys.modules, module, None)
    for read in (decode_audio, media_duration):
        with pytest.raises(EmocacheError, match=rf"decoding media needs {module}.*pip install 'emocache\[extract\]'"):
            read(path)


def test_damage_anywhere_gives_samples_or_a_failure(tmp_path: Path) -> None:
    """Whatever bytes are overwritten or cut off: finite samples of a bounded length, or an InputFailure."""
    samples = noise(0.5)
    for suffix in (".wav", ".flac", ".ogg"):
        soundfile.write(tmp_path / f"good{suffix}", samples, 16000)
    write_container(tmp_path / "good.mkv", samples, video=True)
    write_container(tmp_path / "good.mp4", samples, codec="aac", video=True)
    write_container(tmp_path / "good.aac", samples, codec="aac")
    write_container(tmp_path / "good.mp3", samples, codec="libmp3lame")
    rng = np.random.default_rng(1)
    outcomes = set()
    for whole in sorted(tmp_path.glob("good.*")):
        for _ in range(40):
            data = bytearray(whole.read_bytes())
            at = int(rng.integers(len(data) if rng.random() < 0.5 else 120))
            data[at : at + 4] = rng.bytes(int(rng.integers(0, 5)))
            path = tmp_path / f"bad{whole.suffix}"
            path.write_bytes(data[: int(rng.integers(1, len(data)))] if rng.random() < 0.3 else data)
            try:
                got = decode_audio(path)
            except InputFailure as failure:
                outcomes.add(failure.reason)
            else:
                assert np.isfinite(got).all()
                assert 0 < got.size <= decoders.MAX_SECONDS * 16000
                outcomes.add("samples")
    assert {"samples", "undecodable"} <= outcomes


def test_durations_come_from_headers(tmp_path: Path) -> None:
    broken_files(tmp_path)
    assert media_duration(tmp_path / "good.wav") == 2.0
    assert media_duration(tmp_path / "cut.flac") == 2.0
    for name in ("empty.wav", "text.wav", "text.mp4", "headless.flac", "endless.flac", "missing.wav"):
        assert media_duration(tmp_path / name) is None, name


def similarity(a: Samples, b: Samples) -> tuple[float, int]:
    """The largest normalised cross-correlation, and the lag of `a` behind `b` in samples."""
    n = 1 << (a.size + b.size).bit_length()
    cross = np.fft.irfft(np.fft.rfft(a, n) * np.conj(np.fft.rfft(b, n)))
    lag = int(np.argmax(cross))
    return float(cross[lag] / np.sqrt((a**2).sum() * (b**2).sum())), lag if lag < n // 2 else lag - n


@needs_shared
def test_real_video_holds_the_corpus_own_audio() -> None:
    crema = SHARED / "data" / "cremad"
    flv = decode_audio(crema / "VideoFlash" / "1001_DFA_ANG_XX.flv")
    wav = decode_audio(crema / "AudioWAV_official" / "1001_DFA_ANG_XX.wav")
    assert similarity(flv, wav)[0] > 0.97
    video = decode_audio(SHARED / "data" / "video" / "ravdess_Actor_01" / "01-01-01-01-01-01-01.mp4")
    audio = decode_audio(SHARED / "data" / "ravdess" / "Actor_01" / "03-01-01-01-01-01-01.flac")
    alike, lag = similarity(video, audio)
    assert alike > 0.98
    assert abs(lag) < 800  # the two releases are 33 ms apart


@needs_shared
def test_real_video_whose_sound_starts_late() -> None:
    got = decode_audio(SHARED / "data" / "video" / "pyfeat_MIT" / "face_noface.mov")
    assert got.size / 16000 == pytest.approx(6.4, abs=0.05)
    assert not got[: round(2.4 * 16000)].any()
    assert got[round(2.5 * 16000) :].any()
