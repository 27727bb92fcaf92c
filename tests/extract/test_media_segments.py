"""Any segment is the slice of the whole decode, whatever the codec remembers, the header guesses or the name says."""

import importlib
import io
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from emocache.cache import InputFailure
from emocache.extract.media import audio, decoders
from emocache.extract.media.audio import decode_audio, media_duration

Samples = npt.NDArray[np.float32]
av: Any = importlib.import_module("av")  # its types know too little of what it takes

CASES = "cases/audio/"
RATE = 48000
SECONDS = 8.0


@pytest.fixture(scope="module")
def speech() -> Samples:
    """Gliding tones in syllables with silence between: frames of every size, and a full bit reservoir."""
    t = np.arange(round(RATE * SECONDS)) / RATE
    pitch = 2 * np.pi * np.cumsum(130 + 50 * np.sin(3 * t)) / RATE
    tone = sum(np.sin(k * pitch) / k for k in range(1, 30))
    noise = np.random.default_rng(0).standard_normal(t.size)
    loud = np.clip(np.sin(2 * np.pi * 1.3 * t), 0, 1) ** 2
    return np.asarray((0.1 * tone + 0.05 * noise * (np.sin(17 * t) > 0.5)) * loud, np.float32)


def write_sound(
    path: Path, samples: Samples, codec: str, *, rate: int = RATE, bits: int = 0, quality: int | None = None,
    container: dict[str, str] | None = None, format_: str | None = None, late: float = 0.0,
) -> Path:  # fmt: skip
    """Encoded by FFmpeg: at so many bits a second, or at a quality, which makes frames of all sizes."""
    with av.open(str(path), "w", format=format_, options=container or {}) as output:
        track = output.add_stream(codec, rate=rate, layout="mono", options={"application": "voip"})
        wanted = track.codec_context.codec.audio_formats[0].name
        if bits:
            track.codec_context.bit_rate = bits
        if quality is not None:
            track.codec_context.qscale, track.codec_context.global_quality = True, quality * 118
        resampler = av.AudioResampler(format=wanted, layout="mono", rate=rate, frame_size=None)
        for first in range(0, samples.size, 1000):
            block = np.ascontiguousarray(samples[None, first : first + 1000])
            frame = av.AudioFrame.from_ndarray(block, format="flt", layout="mono")
            frame.sample_rate, frame.pts = RATE, first + round(late * RATE)
            for out in resampler.resample(frame):
                output.mux(track.encode(out))
        for out in resampler.resample(None):
            output.mux(track.encode(out))
        output.mux(track.encode())
    return path


NO_HEADER = {"write_xing": "0"}
KINDS: dict[str, dict[str, Any]] = {
    "vbr.mp3": {"codec": "libmp3lame", "quality": 9},
    "vbr16.mp3": {"codec": "libmp3lame", "quality": 5, "rate": 16000},
    "no-header.mp3": {"codec": "libmp3lame", "quality": 9, "container": NO_HEADER},
    "cbr.mp3": {"codec": "libmp3lame", "bits": 32000},
    "mp3.mp4": {"codec": "libmp3lame", "quality": 9},
    "mp3.mkv": {"codec": "libmp3lame", "quality": 9},
    "aac.m4a": {"codec": "aac", "bits": 40000},
    "aac.mkv": {"codec": "aac", "bits": 40000, "late": 0.7},
    "adts.aac": {"codec": "aac", "bits": 40000, "format_": "adts"},
    "opus.opus": {"codec": "libopus", "bits": 16000},
    "opus.webm": {"codec": "libopus", "bits": 16000},
    "opus.mp4": {"codec": "libopus", "bits": 24000, "late": 0.7},
    "flac.ogg": {"codec": "flac"},
    "flac.mkv": {"codec": "flac"},
    "flac.flac": {"codec": "flac"},
    "alac.m4a": {"codec": "alac"},
    "pcm.mkv": {"codec": "pcm_s16le", "late": 0.7},
    "ima.wav": {"codec": "adpcm_ima_wav"},
    "wma.wma": {"codec": "wmav2", "bits": 48000},
}


def native(path: Path, start: float | None = None, end: float | None = None) -> tuple[Samples, int]:
    """Before resampling."""
    parts, rates = zip(*audio._decode(str(path), path.name, start, end), strict=True)
    assert len(set(rates)) == 1
    return np.concatenate(parts), rates[0]


def check_segments(path: Path, tolerance: float = 0.0, count: int = 26) -> None:
    whole, rate = native(path)
    seconds = whole.size / rate
    level = float(np.sqrt(np.mean(whole**2)))
    starts = np.linspace(0.01, seconds - 0.3, count) + np.random.default_rng(1).uniform(-0.009, 0.009, count)
    for index, start in enumerate(starts):
        end = min(float(start) + (0.02, 0.5, 2.0)[index % 3], seconds)
        segment, _ = native(path, float(start), end)
        expected = whole[round(float(start) * rate) : round(end * rate)]
        assert segment.shape == expected.shape, (path.name, start)
        assert float(np.abs(segment - expected).max()) <= tolerance * level, (path.name, start)


@pytest.mark.parametrize("name", KINDS)
def test_any_segment_is_the_slice_of_the_whole(tmp_path: Path, speech: Samples, name: str) -> None:
    path = write_sound(tmp_path / name, speech, **KINDS[name])
    check_segments(path, 1e-4 if name.startswith("opus") else 0.0)


def test_a_segment_in_the_last_page_of_ogg_vorbis(tmp_path: Path, speech: Samples) -> None:
    """libsndfile counts wrong from where that page begins, which here holds some seconds."""
    soft = np.tile(speech[::3], 3)[:-77] / 4
    soundfile.write(tmp_path / "a.ogg", soft, 16000, format="OGG", subtype="VORBIS", compression_level=0.9)
    check_segments(tmp_path / "a.ogg", count=60)


@pytest.mark.parametrize("rate", [16000, 48000])
def test_real_speech_in_opus_forgets_where_the_decoder_was_set_to(
    tmp_path: Path, shared: Callable[[str], Path], rate: int
) -> None:
    """The part of Opus that is for speech remembers for a second and more."""
    folder = "data/ravdess/Actor_01/"
    files = [shared(folder + name) for name in ("03-01-05-02-01-01-01.flac", "03-01-01-01-01-01-01.flac")]
    voice = np.concatenate([decode_audio(path, sample_rate=RATE) for path in files])
    path = write_sound(tmp_path / "a.opus", voice, "libopus", bits=12000 if rate == 16000 else 24000, rate=rate)
    check_segments(path, 1e-4, count=60)


def mpg123(data: bytes) -> Samples:
    """What another decoder makes of a whole MP3, read at once, since libsndfile seeks after every read."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return np.asarray(file.read(dtype="float32"))


def test_a_long_mp3_is_right_to_its_end(tmp_path: Path, speech: Samples) -> None:
    path = write_sound(tmp_path / "a.mp3", speech, "libmp3lame", quality=9)
    expected = mpg123(path.read_bytes())
    whole, _ = native(path)
    assert whole.shape == expected.shape == speech.shape
    np.testing.assert_allclose(whole, expected, atol=1e-5)


@pytest.mark.parametrize("loud", [slice(0, 2 * RATE), slice(5 * RATE, None)], ids=["loud-start", "quiet-start"])
def test_no_guess_of_the_length_cuts_an_mp3_or_calls_it_truncated(tmp_path: Path, speech: Samples, loud: slice) -> None:
    samples = np.zeros_like(speech)
    samples[loud] = speech[loud]
    options: Any = {"codec": "libmp3lame", "quality": 2}
    plain = write_sound(tmp_path / "plain.mp3", samples, **options, container=NO_HEADER)
    told, _ = native(write_sound(tmp_path / "told.mp3", samples, **options))
    whole, rate = native(plain)
    assert media_duration(plain) == pytest.approx(whole.size / rate, abs=0.1)
    assert 0 <= whole.size - told.size < 4 * 1152  # without the header, what the encoder added stays
    np.testing.assert_array_equal(whole[1105 : 1105 + told.size], told)
    check_segments(plain, count=8)


def test_joined_recordings_are_heard_to_the_last(tmp_path: Path, speech: Samples) -> None:
    one = write_sound(tmp_path / "one.mp3", speech[: 4 * RATE], "libmp3lame", quality=9)
    (tmp_path / "two.mp3").write_bytes(one.read_bytes() * 2)
    soundfile.write(tmp_path / "one.ogg", speech[: 4 * RATE], RATE, format="OGG", subtype="VORBIS")
    (tmp_path / "two.ogg").write_bytes((tmp_path / "one.ogg").read_bytes() * 2)
    for name in ("two.mp3", "two.ogg"):
        whole, _ = native(tmp_path / name)
        assert abs(whole.size - 8 * RATE) < 5000, name
        check_segments(tmp_path / name, count=10)


def test_what_was_cut_off_is_still_told(tmp_path: Path, speech: Samples) -> None:
    for name in ("a.mp3", "a.wav"):
        path = write_sound(tmp_path / name, speech, "libmp3lame", quality=9)
        whole, rate = native(path)
        (tmp_path / f"cut-{name}").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(InputFailure, match="truncated: cut-"):
            decode_audio(tmp_path / f"cut-{name}")
        with pytest.raises(InputFailure, match="truncated: a"):
            native(path, 1.0, whole.size / rate + 0.2)


@pytest.mark.parametrize("name", ["vbr.mp3", "aac.m4a", "adts.aac", "opus.webm", "opus.opus", "flac.ogg", "flac.flac"])
def test_the_content_tells_how_to_read_a_file_not_its_name(tmp_path: Path, speech: Samples, name: str) -> None:
    path = write_sound(tmp_path / name, speech[: 2 * RATE], **KINDS[name])
    expected, duration = decode_audio(path), media_duration(path)
    for suffix in (".wav", ".mp3", ".flac", ".ogg", ".mp4", ".gsm", ".vox", ".au", ""):
        other = tmp_path / f"other{suffix}"
        shutil.copy(path, other)
        np.testing.assert_array_equal(decode_audio(other), expected)
        assert media_duration(other) == duration
    soundfile.write(tmp_path / "plain.wav", speech[:RATE], RATE)
    for suffix in (".mp3", ".mp4", ".gsm", ".sd2"):
        shutil.copy(tmp_path / "plain.wav", tmp_path / f"plain{suffix}")
        np.testing.assert_array_equal(decode_audio(tmp_path / f"plain{suffix}"), decode_audio(tmp_path / "plain.wav"))


@pytest.mark.parametrize("name", ["vbr.mp3", "no-header.mp3", "mp3.mp4", "opus.webm", "flac.ogg"])
def test_what_lies_before_a_segment_is_passed_over(
    tmp_path: Path, speech: Samples, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = write_sound(tmp_path / name, np.tile(speech, 5), **KINDS[name])
    frames = 0
    decode = decoders._Hands.decode

    def counting(hands: Any, packet: Any) -> Any:
        nonlocal frames
        found = decode(hands, packet)
        frames += sum(frame.samples for frame in found)
        return found

    monkeypatch.setattr(decoders._Hands, "decode", counting)
    native(path, 38.0, 38.5)
    assert frames < 13 * RATE
    check_segments(path, 1e-4 if "opus" in name else 0.0, count=6)


LENGTHS = {
    "vbr-no-xing.mp3": 3.744, "adts.aac": 7.523, "vbr-xing.mp3": 3.303, "gsm.wav": 3.32, "webm-named.wav": 3.303,
    "flac-in.ogg": 3.303,
}  # fmt: skip


@pytest.mark.parametrize("name", LENGTHS)
def test_cases_are_as_long_as_ffmpeg_says(shared: Callable[[str], Path], name: str) -> None:
    path = shared(CASES + name)
    assert decode_audio(path).size / 16000 == pytest.approx(LENGTHS[name], abs=0.001)
    assert media_duration(path) == pytest.approx(LENGTHS[name], abs=0.02)
    check_segments(path, 1e-4 if name.startswith("webm") else 0.0)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs the ffmpeg program")
@pytest.mark.parametrize(
    "name", ["vbr.mp3", "no-header.mp3", "aac.m4a", "adts.aac", "opus.opus", "opus.webm", "flac.ogg"]
)
def test_the_whole_is_what_the_ffmpeg_program_gives(tmp_path: Path, speech: Samples, name: str) -> None:
    path = write_sound(tmp_path / name, speech, **KINDS[name])
    # libsndfile decodes Ogg Opus by libopus, at the rate it was recorded with
    decoder = ["-c:a", "libopus"] if name == "opus.opus" else []
    command = ["ffmpeg", "-v", "error", *decoder, "-i", str(path), "-f", "f32le", "-ac", "1", "-"]
    expected = np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, np.float32)
    whole, _ = native(path)
    assert whole.shape == expected.shape
    np.testing.assert_allclose(whole, expected, atol=5e-5)
