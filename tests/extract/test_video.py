"""Pictures at their presentation times, against what was written; and broken files told apart from broken machines."""

import errno
import importlib
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import EmocacheError, InputFailure
from emocache.extract.media import decoders, lengths, reel, video
from emocache.extract.media.audio import decode_audio
from emocache.extract.media.reel import Reel
from emocache.extract.media.video import Frame, decode_video, video_recipe

av: Any = importlib.import_module("av")  # its types know too little of what it takes

CODECS = {
    ".mp4": "libx264",  # pictures are stored in another order than shown
    ".mkv": "libx264",
    ".ts": "libx264",
    ".flv": "flv1",
    ".asf": "wmv2",
    ".webm": "libvpx",
    ".mov": "mpeg4",
}
STEADY = [40 * i for i in range(60)]
UNEVEN = [0, 40, 50, 130, 700, 740, 781, 1500, 1533, 1566, 1600, 2000, 2200, 2201, 2350]
MILLISECONDS = Fraction(1, 1000)


def grey(index: int, size: tuple[int, int] = (64, 48)) -> npt.NDArray[np.uint8]:
    """The picture of that number, told by its brightness."""
    return np.full((size[1], size[0], 3), 30 + 10 * (index % 20), np.uint8)


def write_video(
    path: Path,
    stamps: Sequence[int],
    *,
    codec: str | None = None,
    draw: Callable[[int], npt.NDArray[np.uint8]] = grey,
    base: Fraction = MILLISECONDS,
    sound: float = 0.0,
    keys: int = 10,
    rotation: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """One picture a stamp, in units of `base`, a key frame every `keys`; and so many seconds of sound."""
    height, width = draw(0).shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        track = container.add_stream(codec or CODECS[path.suffix], rate=round(1 / base) if base > MILLISECONDS else 25)
        track.width, track.height, track.pix_fmt = width, height, "yuv420p"
        track.codec_context.time_base = base
        track.codec_context.gop_size = keys
        if rotation is not None:
            track.set_display_rotation(rotation)
        voice: Any = container.add_stream("mp3" if path.suffix == ".flv" else "aac", rate=44100) if sound else None
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(draw(index), format="rgb24")
            frame.pts, frame.time_base = stamp, base
            container.mux(track.encode(frame))
        container.mux(track.encode())
        for first in range(0, round(sound * 44100), 1024):
            block = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
            block.sample_rate, block.pts = 44100, first
            container.mux(voice.encode(block))
        if voice is not None:
            container.mux(voice.encode())
    return path


def times(frames: Sequence[Frame]) -> list[tuple[float, float]]:
    return [(round(frame.start, 3), round(frame.end, 3)) for frame in frames]


def expected_times(stamps: Sequence[int], last: float) -> list[tuple[float, float]]:
    """Of pictures stamped in milliseconds; the last is shown for `last` seconds."""
    starts = [stamp / 1000 for stamp in stamps]
    return [(a, round(b, 3)) for a, b in zip(starts, [*starts[1:], starts[-1] + last], strict=True)]


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize("stamps", [STEADY, UNEVEN], ids=["steady", "uneven"])
def test_pictures_are_shown_at_their_time_stamps(tmp_path: Path, suffix: str, stamps: list[int]) -> None:
    frames = list(decode_video(write_video(tmp_path / f"a{suffix}", stamps)))
    got = times(frames)
    assert got[:-1] == expected_times(stamps, 0.04)[:-1]
    assert got[-1][0] == stamps[-1] / 1000
    assert got[-1][1] > got[-1][0]
    for index, frame in enumerate(frames):
        assert frame.image.shape == (48, 64, 3)
        assert frame.image.dtype == np.uint8
        assert frame.image.flags.c_contiguous
        assert abs(float(frame.image.mean()) - float(grey(index).mean())) < 6, index


def test_a_picture_without_duration_is_shown_as_long_as_most(tmp_path: Path) -> None:
    frames = list(decode_video(write_video(tmp_path / "a.flv", [0, 33, 67, 100, 500, 533])))
    assert times(frames)[-1] == (0.533, 0.566)  # of 33, 34, 33, 400 and 33 ms
    (only,) = decode_video(write_video(tmp_path / "b.flv", [0]))
    assert times([only]) == [(0.0, 0.04)]  # nothing but the track's rate is left


def test_the_time_line_is_that_of_the_sound(tmp_path: Path) -> None:
    late = [stamp + 500 for stamp in STEADY]
    both = write_video(tmp_path / "a.mkv", late, sound=3.0)
    assert times(list(decode_video(both))) == expected_times(late, 0.04)
    assert decode_audio(both).size == pytest.approx(3.0 * 16000, abs=1000)
    alone = write_video(tmp_path / "b.mkv", late)  # the container itself starts at 0.5 s
    assert times(list(decode_video(alone))) == expected_times(STEADY, 0.04)
    assert times(list(decode_video(alone, 1.0, 1.08))) == [(0.0, 0.04), (0.04, 0.08)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv", ".ts"])
@pytest.mark.parametrize("stamps", [STEADY, UNEVEN], ids=["steady", "uneven"])
def test_a_segment_is_what_is_shown_in_it(tmp_path: Path, suffix: str, stamps: list[int]) -> None:
    path = write_video(tmp_path / f"a{suffix}", stamps)
    whole = list(decode_video(path))
    for start, end in [(None, 0.05), (0.04, 0.08), (0.1, None), (0.75, 1.51), (1.2, 1.25), (2.2, 2.3), (2.34, 2.5)]:
        low, high = start or 0.0, np.inf if end is None else end
        expected = [f for f in whole if f.end > low + 1e-6 and f.start < high - 1e-6]
        got = list(decode_video(path, start, end))
        assert [f.start + low for f in got] == pytest.approx([f.start for f in expected])
        assert all(a.end == b.start for a, b in pairwise(got))
        # Without a duration, the end of the file's last picture goes by the intervals that were read.
        last = slice(None) if suffix in (".mp4", ".mkv") else slice(-1)
        assert [f.end + low for f in got[last]] == pytest.approx([f.end for f in expected[last]])
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_array_equal(one.image, other.image)


def test_a_segment_is_not_decoded_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", [40 * i for i in range(250)])
    monkeypatch.setattr(reel, "MAX_PICTURES", 60)
    assert len(list(decode_video(path, 9.0, 9.2))) == 5
    with pytest.raises(InputFailure, match=r"undecodable: a\.mp4 holds more than 60 pictures"):
        list(decode_video(path))


def test_seeking_that_misleads_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mp4", STEADY)
    expected = times(list(decode_video(path, 1.0, 1.5)))
    monkeypatch.setattr(reel, "_LEAD", -0.9)  # too far on
    assert times(list(decode_video(path, 1.0, 1.5))) == expected
    monkeypatch.setattr(reel, "_LEAD", -1e300)  # refused
    assert times(list(decode_video(path, 1.0, 1.5))) == expected


@pytest.mark.parametrize("stamps", [STEADY, UNEVEN, [stamp + 27 for stamp in STEADY]], ids=["steady", "uneven", "late"])
@pytest.mark.parametrize("fps", [0.7, 4.0, 10.0, 25.0, 60.0])
@pytest.mark.parametrize(("start", "end"), [(None, None), (0.3, 1.7)])
def test_sampling_takes_what_is_shown_at_points_of_the_grid(
    tmp_path: Path, stamps: list[int], fps: float, start: float | None, end: float | None
) -> None:
    path = write_video(tmp_path / "a.mkv", stamps, sound=0.1)
    all_frames = list(decode_video(path, start, end))
    length = all_frames[-1].end if end is None or start is None else end - start
    expected: list[tuple[float, float]] = []
    for k in range(1000):
        if k / fps >= length - 1e-6:
            break
        shown = [f for f in all_frames if f.start <= k / fps + 1e-6 < f.end] or all_frames[:1]
        if times(shown)[0] not in expected:
            expected += times(shown)
    got = list(decode_video(path, start, end, fps=fps))
    assert times(got) == expected
    assert len(got) <= fps * length + 1


def test_a_region_is_cut_out(tmp_path: Path) -> None:
    def draw(_: int) -> npt.NDArray[np.uint8]:
        image = np.zeros((48, 64, 3), np.uint8)
        image[:24, 32:] = 200
        return image

    path = write_video(tmp_path / "a.mkv", STEADY[:3], draw=draw)
    frames = list(decode_video(path, region=(0.5, 0.0, 1.0, 0.5)))
    assert [frame.image.shape for frame in frames] == [(24, 32, 3)] * 3
    assert all(frame.image.min() > 180 and frame.image.flags.c_contiguous for frame in frames)
    (thin, *_) = decode_video(path, region=(1.0, 1.0, 1.0, 1.0))
    assert thin.image.shape == (1, 1, 3)


@pytest.mark.parametrize(("rotation", "corner"), [(-90, (0, -1)), (90, (-1, 0)), (180, (-1, -1))])
def test_pictures_stand_upright(tmp_path: Path, rotation: int, corner: tuple[int, int]) -> None:
    """The top left corner, turned counter-clockwise by that many degrees, as the file asks for."""

    def draw(_: int) -> npt.NDArray[np.uint8]:
        image = np.zeros((48, 64, 3), np.uint8)
        image[:24, :32] = 200
        return image

    path = write_video(tmp_path / "a.mp4", STEADY[:2], draw=draw, rotation=rotation)
    for frame in decode_video(path):
        assert frame.image.shape == ((48, 64, 3) if rotation == 180 else (64, 48, 3))
        assert frame.image[corner].min() > 180
        assert frame.image[::-1, ::-1][corner].max() < 20


class Tape:
    """As much of a PyAV container as a reel needs: one picture a packet, with these stamps in milliseconds."""

    def __init__(self, stamps: Sequence[int | None], duration: int = 0, rate: int | None = 20) -> None:
        codec = SimpleNamespace(width=8, height=8)
        self.track = SimpleNamespace(
            codec_context=codec, disposition=0, duration=None, start_time=0, time_base=MILLISECONDS,
            average_rate=rate, guessed_rate=None, sample_aspect_ratio=None,
        )  # fmt: skip
        self.streams = SimpleNamespace(video=[self.track])
        self.start_time, self.duration = 0, 0
        self._pictures = [SimpleNamespace(pts=s, duration=duration, time_base=MILLISECONDS) for s in stamps]

    def demux(self) -> Any:
        for picture in self._pictures:
            yield SimpleNamespace(
                pts=picture.pts, duration=picture.duration, time_base=MILLISECONDS, stream=self.track,
                is_corrupt=False, decode=lambda picture=picture: [picture],
            )  # fmt: skip


@pytest.mark.parametrize(
    ("stamps", "duration", "starts"),
    [
        ([0, 40, 40, 80], 0, [0.0, 0.04, 0.08]),  # twice the same
        ([0, 80, 40, 120], 0, [0.0, 0.08, 0.12]),  # back
        ([0, None, 90, None], 30, [0.0, 0.03, 0.09, 0.12]),  # none: after the one before
        ([None, None, None], 0, [0.0, 0.05, 0.1]),  # none at all: at the track's rate
    ],
)
def test_stamps_are_put_right(stamps: list[int | None], duration: int, starts: list[float]) -> None:
    pictures = list(Reel(Tape(stamps, duration), "a.avi", 0.0, np.inf).pictures(seek=False))
    assert [begins for _, begins, _ in pictures] == pytest.approx(starts)
    assert [ends for *_, ends in pictures[:-1]] == pytest.approx(starts[1:])
    assert pictures[-1][2] > starts[-1]


def test_stamps_out_of_bounds() -> None:
    with pytest.raises(InputFailure, match=r"undecodable: a\.avi claims 9000 s of pictures; at most 7200 s"):
        list(Reel(Tape([0, 9_000_000]), "a.avi", 0.0, np.inf).pictures(seek=False))
    assert len(list(Reel(Tape([0, 9_000_000]), "a.avi", 0.0, 1.0).pictures(seek=False))) == 2
    with pytest.raises(InputFailure, match="claims 8000 s of pictures"):
        Reel(Tape([]), "a.avi", 0.0, 8000.0)


def test_other_tracks_may_be_longer(tmp_path: Path) -> None:
    for suffix in (".mp4", ".mkv", ".flv"):
        path = write_video(tmp_path / f"a{suffix}", STEADY[:25], sound=3.0)
        assert len(list(decode_video(path))) == 25
        assert len(list(decode_video(path, 0.5, 1.4))) in (13, 14)
        with pytest.raises(InputFailure, match=r"truncated: the pictures of a\..* end at 1\.\d* s; .* says 2\.000 s"):
            list(decode_video(path, 0.5, 2.0))
        with pytest.raises(InputFailure, match="truncated"):
            list(decode_video(path, 2.0))


def broken_files(folder: Path) -> dict[str, tuple[str, str]]:
    """{name: (reason, part of the detail)}, written into `folder`."""
    parts = {".mp4": {"movflags": "faststart"}, ".mkv": {}, ".flv": {}}
    for suffix, options in parts.items():
        noise = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8)
        path = write_video(folder / f"whole{suffix}", STEADY, sound=2.4, draw=lambda i: noise[i], options=options)  # noqa: B023
        (folder / f"cut{suffix}").write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (folder / "headless.mp4").write_bytes(write_video(folder / "plain.mp4", STEADY).read_bytes().split(b"moov")[0])
    with av.open(str(folder / "sound.m4a"), "w") as container:
        track = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux([*track.encode(frame), *track.encode()])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 50)
    (folder / "list.mp4").write_text("ffconcat version 1.0\nfile whole.mkv\n")
    return {
        "cut.mp4": ("truncated", "its header or the segment says 2.4"),
        "cut.mkv": ("truncated", "the pictures of cut.mkv end at 1."),
        "cut.flv": ("truncated", "its header or the segment says 2.4"),
        "headless.mp4": ("undecodable", "Invalid data"),
        "sound.m4a": ("no_video", "no video track"),
        "empty.mp4": ("empty", "0 bytes"),
        "text.mp4": ("undecodable", "Invalid"),
        "list.mp4": ("undecodable", "Invalid"),
    }


def test_what_lies_in_the_input_is_a_failure_that_says_so(tmp_path: Path) -> None:
    for name, (reason, part) in broken_files(tmp_path).items():
        with pytest.raises(InputFailure) as caught:
            list(decode_video(tmp_path / name))
        assert caught.value.reason == reason, (name, caught.value)
        assert part in caught.value.detail, (name, caught.value)
        assert name in caught.value.detail
        assert "\n" not in caught.value.detail
    for name in ("whole.mp4", "whole.mkv", "whole.flv"):
        assert len(list(decode_video(tmp_path / name))) == 60
        with pytest.raises(InputFailure, match=r"empty: .* from 0\.5 s to 0\.5 s holds no pictures"):
            list(decode_video(tmp_path / name, 0.5, 0.5))


def test_a_cover_is_no_video(tmp_path: Path) -> None:
    container = Tape([0])
    container.track.disposition = importlib.import_module("av.stream").Disposition.attached_pic
    with pytest.raises(InputFailure, match=r"no_video: a\.m4a has no video track"):
        Reel(container, "a.m4a", 0.0, np.inf)


def test_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = write_video(tmp_path / "a.ts", STEADY[:20])
    large = write_video(tmp_path / "b.ts", [stamp + 800 for stamp in STEADY[:20]], draw=lambda i: grey(i, (128, 96)))
    mixed = tmp_path / "c.ts"
    mixed.write_bytes(small.read_bytes() + large.read_bytes())
    assert {frame.image.shape for frame in decode_video(mixed)} == {(48, 64, 3), (96, 128, 3)}
    monkeypatch.setattr(reel, "MAX_PIXELS", 64 * 64)
    assert len(list(decode_video(small))) == 20
    with pytest.raises(InputFailure, match=r"undecodable: b\.ts claims 128 x 96 pixels; at most"):
        list(decode_video(large))
    with pytest.raises(InputFailure, match=r"undecodable: c\.ts cannot be decoded"):
        list(decode_video(mixed))


def test_trouble_of_the_machine_is_never_a_failure_of_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError):
        list(decode_video(tmp_path / "missing.mp4"))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(OSError, match="folder"):
        list(decode_video(tmp_path / "folder.mp4"))
    broken_files(tmp_path)

    def bad_disk(self: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", bad_disk)
        for name in ("cut.mkv", "cut.mp4", "text.mp4"):
            with pytest.raises(OSError, match="Input/output error"):
                list(decode_video(tmp_path / name))

    def exhausted(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(video, "_image", exhausted)
        with pytest.raises(MemoryError):
            list(decode_video(tmp_path / "whole.mkv"))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EmocacheError, match=r"decoding media needs av.*pip install 'emocache\[extract\]'"):
        list(decode_video(tmp_path / "whole.mkv"))


def test_a_passing_read_error_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_video(tmp_path / "a.mkv", STEADY)
    expected = times(list(decode_video(path)))
    decode = video._decode
    sources: list[lengths.Source] = []

    def flaky(source: lengths.Source, *rest: Any) -> Any:
        sources.append(source)
        for index, frame in enumerate(decode(source, *rest)):
            if index == 10 and len(sources) == 1:
                raise decoders.Doubtful("undecodable", "bad block")
            yield frame

    monkeypatch.setattr(video, "_decode", flaky)
    assert times(list(decode_video(path))) == expected
    assert len(sources) == 2


def test_damage_anywhere_gives_pictures_or_a_failure(tmp_path: Path) -> None:
    """Whatever bytes are overwritten or cut off: pictures in order of time, or an InputFailure."""
    for suffix in (".mkv", ".mp4", ".flv", ".ts"):
        write_video(tmp_path / f"good{suffix}", STEADY[:12], sound=0.5)
    rng = np.random.default_rng(1)
    outcomes = set()
    for whole in sorted(tmp_path.glob("good.*")):
        for _ in range(40):
            data = bytearray(whole.read_bytes())
            at = int(rng.integers(len(data) if rng.random() < 0.5 else 600))
            data[at : at + 4] = rng.bytes(int(rng.integers(0, 5)))
            path = tmp_path / f"bad{whole.suffix}"
            path.write_bytes(data[: int(rng.integers(1, len(data)))] if rng.random() < 0.3 else data)
            try:
                frames = list(decode_video(path, *((0.1, None) if rng.random() < 0.5 else (None, None))))
            except InputFailure as failure:
                outcomes.add(failure.reason)
            except decoders.MissingCodecError:
                outcomes.add("unknown codec")  # the bytes that name it were hit
            else:
                assert frames
                assert all(a.end == b.start for a, b in pairwise(frames))
                outcomes.add("pictures")
    assert {"pictures", "undecodable"} <= outcomes


def test_the_recipe_tells_the_sampling() -> None:
    assert video_recipe(5) == video_recipe(5.0) != video_recipe(None)
    assert video_recipe(5)["fps"] == 5.0
    assert "presentation" in video_recipe(None)["picture_times"]


REAL = [
    *(f"data/cremad/VideoFlash/1001_DFA_{emotion}_XX.flv" for emotion in ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")),
    "data/video/ravdess_Actor_01/01-01-01-01-01-01-01.mp4",
    *(f"data/video/pyfeat_MIT/{name}" for name in ("face_noface.mov", "no_face.mp4")),
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_begin_and_end_by_their_stamps(shared: Callable[[str], Path], name: str) -> None:
    path = shared(name)
    frames = list(decode_video(path))
    with av.open(str(path)) as container:
        (track,) = container.streams.video
        packets = [p for p in container.demux(track) if p.pts is not None and not p.is_discard]  # by the edit list
        seconds = sorted(float(p.pts * track.time_base) - container.start_time / 1e6 for p in packets)
    step = float(np.median(np.diff(seconds)))
    assert frames[0].start == pytest.approx(seconds[0], abs=step)
    assert frames[-1].start == pytest.approx(seconds[-1], abs=step)
    assert frames[-1].end == pytest.approx(seconds[-1] + step, abs=3 * step)
    assert np.all(np.diff([frame.start for frame in frames]) > 0)
    middle = frames[len(frames) // 2].start
    part = list(decode_video(path, middle, middle + 0.3, fps=10))
    assert len(part) == 3
    assert part[0].start == pytest.approx(0.0, abs=1e-6)
