"""Pictures as their files ask for them to be shown, against pixels moved one by one and the picture that was stored."""

import importlib
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from emocache.cache import InputFailure
from emocache.extract.media.display import Display, pixel_shape, square_width
from emocache.extract.media.video import decode_video

av: Any = importlib.import_module("av")  # its types know too little of what it takes

Picture = npt.NDArray[np.uint8]
ORIENTATIONS = [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)] + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)]
SCENE = np.full((48, 64, 3), 90, np.uint8)
SCENE[:24, :32], SCENE[:24, 32:], SCENE[24:, :32] = (200, 30, 30), (30, 200, 30), (30, 30, 200)


def write(path: Path, image: Picture, matrix: bytes | None = None, shape: Fraction | None = None) -> Path:
    """Three times the same picture, with a display matrix as the film format has it, and pixels of that shape."""
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=25)
        track.height, track.width, track.pix_fmt = image.shape[0], image.shape[1], "yuv420p"
        track.codec_context.options = {"crf": "5"}
        if shape is not None:
            track.codec_context.sample_aspect_ratio = shape
        if matrix is not None:
            track.set_display_rotation(90)
        for index in range(3):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = index
            container.mux(track.encode(frame))
        container.mux(track.encode())
    if matrix is not None:
        data = path.read_bytes()
        at = data.index(b"tkhd") + 4 + 40  # in its version 0, the matrix follows 40 bytes of other fields
        path.write_bytes(data[:at] + matrix + data[at + 36 :])
    return path


def film_matrix(a: int, b: int, c: int, d: int) -> bytes:
    """The nine numbers of a track header: 16.16 fixed point, in the last column 2.30."""
    return struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)


def moved(image: Picture, a: int, b: int, c: int, d: int) -> Picture:
    """Every pixel where x' = a x + c y, y' = b x + d y puts it."""
    places = {(a * x + c * y, b * x + d * y): image[y, x] for y in range(image.shape[0]) for x in range(image.shape[1])}
    left, top = min(x for x, _ in places), min(y for _, y in places)
    shown = np.zeros((1 + max(y for _, y in places) - top, 1 + max(x for x, _ in places) - left, 3), np.uint8)
    for (x, y), pixel in places.items():
        shown[y - top, x - left] = pixel
    return shown


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_pictures_are_turned_and_mirrored_as_the_matrix_says(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    expected = moved(SCENE, *matrix)
    np.testing.assert_array_equal(Display(*matrix).applied_to(SCENE), expected)
    assert Display(*matrix).mirrored == (np.linalg.det(np.reshape(matrix, (2, 2))) < 0)
    path = write(tmp_path / "a.mp4", SCENE, film_matrix(*matrix))
    for frame in decode_video(path):
        assert frame.image.shape == expected.shape
        assert frame.image.flags.c_contiguous
        assert float(np.abs(frame.image.astype(int) - expected).mean()) < 4
    half = (0.0, 0.5, 1.0, 1.0)  # of the picture as it is shown
    (part, *_) = decode_video(path, region=half)
    np.testing.assert_array_equal(part.image, next(decode_video(path)).image[expected.shape[0] // 2 :])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(("shape", "width"), [(Fraction(64, 45), 91), (Fraction(8, 9), 57), (Fraction(1), 64)])
def test_pixels_are_made_square(tmp_path: Path, suffix: str, shape: Fraction, width: int) -> None:
    image = next(decode_video(write(tmp_path / f"a{suffix}", SCENE, shape=shape))).image
    assert image.shape == (48, width, 3)
    quarter = width // 4
    np.testing.assert_allclose(image[12, quarter], SCENE[0, 0], atol=12)
    np.testing.assert_allclose(image[12, -quarter], SCENE[0, -1], atol=12)


def test_shape_and_turn_go_together(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", SCENE, film_matrix(0, 1, -1, 0), shape=Fraction(2))
    assert next(decode_video(path)).image.shape == (128, 48, 3)


def test_what_is_nearly_square_or_senseless_is_left() -> None:
    for told in (None, Fraction(0), Fraction(-1, 2), Fraction(1), Fraction(4319, 4320), Fraction(1009, 1000)):
        track: Any = type("Track", (), {"sample_aspect_ratio": told})
        assert pixel_shape(track) == 1
    assert square_width(720, 576, Fraction(1)) == 720
    assert square_width(720, 576, Fraction(1, 5000)) == 1
    with pytest.raises(InputFailure, match="undecodable: pixels of 255 make a picture of 183600 x 576"):
        square_width(720, 576, Fraction(255))


@pytest.mark.parametrize(("name", "limit"), [("hflip", 1.0), ("vflip", 1.0), ("sar-pal-16-9", 3.0)])
def test_cases_are_shown_as_the_upright_picture(shared: Callable[[str], Path], name: str, limit: float) -> None:
    upright = list(decode_video(shared("cases/video/upright.mp4")))
    shown = list(decode_video(shared(f"cases/video/{name}.mp4")))
    assert len(shown) == len(upright) > 0
    for one, other in zip(shown, upright, strict=True):
        assert one.image.shape == other.image.shape == (360, 640, 3)
        assert float(np.abs(one.image.astype(int) - other.image).mean()) < limit  # the last one is stored at 450 x 360
