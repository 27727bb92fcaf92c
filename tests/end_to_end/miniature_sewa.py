"""SEWA in miniature, in both packagings: clips of two seconds, real speech, a real face, labels in their own formats.

And checkpoints of the real classes with random weights, as small as the papers' streams allow.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import h5py
import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.extract import fixed_models

SECONDS = 2.0
PICTURES = 4  # a second: VGG-Face is as large here as it is
CULTURES = {"C1": ("Chinese", 3), "C2": ("Hungarian", 1), "C3": ("German", 1), "C4": ("British", 3),
            "C5": ("Serbian", 1), "C6": ("Greek", 1)}  # fmt: skip
"""{code: (name, conversations of two)}."""
MAPPING = """\
[fields]
subject = "Subject/Number"
session = "Session/Number"
culture = "Session/Culture"

[values.culture]
C1 = "Chinese"
C2 = "Hungarian"
C3 = "German"
C4 = "British"
C5 = "Serbian"
C6 = "Greek"

[media]
audio = "{folder}/*.wav"
video = "{folder}/*.avi"
"""
TRACK = """
[tracks.NAME]
file = "{folder}/NAME.csv"
time = "Time"
value = "Value"
seconds = 0.001
"""


class Media:
    """Sound and pictures of the shared material, cut into clips that differ."""

    def __init__(self, shared: Callable[[str], Path]) -> None:
        self._voices = sorted(shared("data/ravdess").glob("Actor_*/*.flac"))
        with av.open(str(shared("data/video/ravdess_Actor_01/01-01-01-01-01-01-01.mp4"))) as file:
            frames = [Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
        self._pictures = [image.resize((480, 270)) for image in frames[::6]]

    def write(self, number: int, wav: Path, avi: Path) -> None:
        """One person's clip."""
        sound, rate = soundfile.read(self._voices[number], dtype="float32")
        start = int(0.5 * rate)
        soundfile.write(wav, sound[start : start + int(SECONDS * rate)], rate)
        with av.open(str(avi), "w") as file:
            stream = file.add_stream("mpeg4", rate=PICTURES)
            stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 320, 240, "yuv420p", 2_000_000
            for k in range(int(SECONDS * PICTURES)):
                # The face on a 4:3 picture, as small as in a video chat, and nowhere the same.
                picture = self._pictures[(k + number) % len(self._pictures)].crop((70 + number, 10, 390 + number, 250))
                frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
                frame.pts, frame.time_base = k, Fraction(1, PICTURES)
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))


def value(name: str, number: int, seconds: float) -> float:
    """The label of a person at a time: another level for everyone, and a slow wave."""
    phase = {"arousal": 0.0, "valence": 1.0, "liking": 2.0}[name]
    return round(0.5 * math.sin(1.7 * number + phase) + 0.2 * math.sin(2 * seconds + phase), 6)


def stamps(step: float) -> list[float]:
    return [round(step * k, 6) for k in range(int(SECONDS / step) + 1)]


def write_database(root: Path, media: Media) -> int:
    """The database itself: folders with a metadata.ini, and the file that says what their names mean."""
    number = 0
    for code, (_, conversations) in CULTURES.items():
        for conversation in range(conversations):
            for subject in (1, 2):
                folder = root / f"{code}_S{conversation + 1:03}_P{subject}"
                folder.mkdir(parents=True)
                (folder / "metadata.ini").write_text(
                    f"[Session]\nNumber = {conversation + 1:03}\nCulture = {code}\n[Subject]\nNumber = {subject}\n"
                )
                media.write(number, folder / "chat.wav", folder / "chat.avi")
                for name in ("arousal", "valence", "liking"):
                    rows = [f"{1000 * t:g},{value(name, number, t):.6f}" for t in stamps(0.02)]
                    (folder / f"{name}.csv").write_text("\n".join(["Time,Value", *rows]) + "\n")
                number += 1
    tracks = "".join(TRACK.replace("NAME", name) for name in ("arousal", "valence", "liking"))
    (root / "sewa.toml").write_text(MAPPING + tracks)
    return number


def write_avec(root: Path, media: Media) -> int:
    """The AVEC package: labels, audio and video by person; the test part without labels."""
    for kind in ("labels", "audio", "video"):
        (root / kind).mkdir(parents=True)
    parts = [("Train", "DE", 4), ("Train", "HU", 4), ("Devel", "DE", 2), ("Devel", "HU", 2), ("Test", "DE", 1),
             ("Test", "CN", 1)]  # fmt: skip
    names = [f"{part}_{culture}_{k:02}" for part, culture, count in parts for k in range(1, count + 1)]
    for number, name in enumerate(names):
        media.write(number, root / f"audio/{name}.wav", root / f"video/{name}.avi")
        if not name.startswith("Test"):
            rows = [
                ";".join(
                    [f"'{name}'", f"{t:.6f}", *(f"{value(n, number, t):.6f}" for n in ("arousal", "valence", "liking"))]
                )
                for t in stamps(0.1)
            ]
            (root / f"labels/{name}.csv").write_text("name;timestamp;arousal;valence;liking\n" + "\n".join(rows) + "\n")
    return len(names)


def write_checkpoints(shelf: Path) -> None:
    """Everything that paper 1's streams need, of random weights."""
    shelf.mkdir()
    fixed_models.weight_files(shelf)
    for file in ("alexnet.safetensors", "glove-840b.txt", "marlin-small.safetensors", "marlin-large.safetensors"):
        (shelf / file).unlink()
    generator = torch.Generator().manual_seed(0)
    marlin = load_file(shelf / "marlin-base.safetensors")
    save_file(
        {key: 0.05 * torch.randn(one.shape, generator=generator) for key, one in marlin.items()},
        shelf / "marlin-base.safetensors",
    )
    with h5py.File(shelf / "vgg-face.h5", "r+") as file:
        random = np.random.default_rng(0)
        for name in file:
            kernel = file[name]["kernel:0"]
            kernel[...] = random.normal(0, math.sqrt(2 / np.prod(kernel.shape[:3])), kernel.shape)
    # 128 components cannot be had of fewer channels.
    fixed_models.speech(shelf / "hubert-large", "hubert", "layer", True, hidden_size=128)
    fixed_models.whisper(shelf / "whisper-large-v3", 128)
    fixed_models.text(shelf / "bert-base", "bert")
    fixed_models.text(shelf / "distilbert-base", "distilbert")
