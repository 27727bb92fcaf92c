"""What is read otherwise than before has another item key, and nothing else has."""

import hashlib
import importlib
import sqlite3
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from emocache.cache import Manifest
from emocache.extract import corpora
from emocache.extract.corpora import MediaHasher
from emocache.extract.media.readings import readings_of

av: Any = importlib.import_module("av")  # its types know too little of what it takes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Media of each kind, by the name of the kind."""
    root = tmp_path_factory.mktemp("media")
    noise = (0.1 * np.random.default_rng(0).standard_normal(20 * 16000)).astype(np.float32)
    for name, seconds in {"short.mp3": 2, "long.mp3": 20}.items():
        soundfile.write(root / name, noise[: seconds * 16000], 16000)
    whole = (root / "short.mp3").read_bytes()
    at = next(i for i in (whole.find(b"Info"), whole.find(b"Xing")) if i > 0)
    (root / "headless.mp3").write_bytes(whole[:at] + b"    " + whole[at + 4 :])
    (root / "joined.mp3").write_bytes(whole * 2)
    for name in ("a.wav", "a.flac", "vorbis.ogg", "opus.opus"):
        options: dict[str, Any] = {"format": "OGG", "subtype": name[:-4].rstrip(".").upper()} if "." in name[4:] else {}
        soundfile.write(root / name, noise[:16000], 16000, **options)
    (root / "joined.ogg").write_bytes((root / "vorbis.ogg").read_bytes() * 2)
    (root / "opus.mka").write_bytes((root / "opus.opus").read_bytes())
    (root / "text.wav").write_text("this is no sound")
    (root / "text.mp4").write_text("these are no pictures")
    for name, (rotation, mirrored, shape) in {
        "plain.mp4": (0, False, Fraction(1)),
        "turned.mp4": (90, False, Fraction(1)),
        "nearly.mp4": (0, False, Fraction(300, 301)),
        "mirrored.mp4": (90, True, Fraction(1)),
        "wide.mp4": (0, False, Fraction(64, 45)),
    }.items():
        with av.open(str(root / name), "w") as container:
            track = container.add_stream("libx264", rate=25)
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            track.codec_context.sample_aspect_ratio = shape
            track.set_display_rotation(rotation, hflip=mirrored)
            for index in range(3):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 90, np.uint8), format="rgb24")
                frame.pts = index
                container.mux(track.encode(frame))
            container.mux(track.encode())
    return root


EXPECTED = {
    "short.mp3": {"segment"}, "long.mp3": {"segment", "audio"}, "headless.mp3": {"segment", "audio"},
    "joined.mp3": {"segment", "audio"}, "vorbis.ogg": {"segment"}, "opus.opus": {"segment"},
    "joined.ogg": {"segment", "audio"}, "opus.mka": {"segment", "audio"}, "mirrored.mp4": {"video"},
    "wide.mp4": {"video"},
}  # fmt: skip


def test_only_what_is_read_otherwise_is_told(folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        assert readings_of(path).keys() == EXPECTED.get(path.name, set()), path.name
    assert readings_of(folder / "wide.mp4") == {"video": "pixels 64/45"}
    assert readings_of(folder / "gone.wav") == {}


def load(root: Path, hasher: MediaHasher) -> Manifest:
    return corpora.load("table", root, mapping={}, hasher=hasher)


def test_items_of_these_media_have_other_keys_and_no_others(folder: Path) -> None:
    rows = ["id,file,start,end"]
    for name in [*EXPECTED, "a.wav", "a.flac", "plain.mp4", "turned.mp4"]:
        rows += [f"{name}-whole,{name},,", f"{name}-start,{name},0,0.5", f"{name}-part,{name},0.5,1"]
    (folder / "t.csv").write_text("\n".join(rows))
    manifest = load(folder, MediaHasher())
    plain = Manifest.from_utterances(
        "table", [replace(u, media=tuple(replace(m, reading=None) for m in u.media)) for u in manifest]
    )
    for role in ("audio", "video"):
        now, before = (m.item_keys("f" * 64, [role]) for m in (manifest, plain))
        told = {name for name in now if now[name] != before[name]}
        expected = {
            f"{name}-{part}" for name, kinds in EXPECTED.items() for part in ("whole", "start", "part")
            if (role in kinds) or (role == "audio" and part == "part" and "segment" in kinds)
        }  # fmt: skip
        assert told == expected


def test_a_corpus_without_such_media_keeps_its_manifest(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes((folder / "a.wav").read_bytes())
    (tmp_path / "t.csv").write_text("id,file,start\none,a.wav,\ntwo,a.wav,0.5\n")
    manifest = load(tmp_path, MediaHasher())
    media = manifest.table.column("media").type.value_type
    assert [field.name for field in media] == ["role", "path", "sha256", "start", "end", "region"]
    assert Manifest.from_bytes("table", manifest.to_bytes()) == manifest


def test_a_memory_of_before_is_not_hashed_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, memory = folder / "wide.mp4", tmp_path / "media.sqlite"
    status = path.stat()
    with sqlite3.connect(memory) as database:
        database.execute(
            "CREATE TABLE media (path TEXT PRIMARY KEY, size INT, mtime_ns INT, inode INT, sha256 TEXT, duration REAL)"
        )
        row = (str(path), status.st_size, status.st_mtime_ns, status.st_ino, "1" * 64, 1.0)
        database.execute("INSERT INTO media VALUES (?, ?, ?, ?, ?, ?)", row)
    database.close()

    def refuse(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(hashlib, "file_digest", refuse)
    monkeypatch.setattr("emocache.extract.corpora.files._SETTLED", -60.0)
    for _ in range(2):
        hasher = MediaHasher(memory)
        assert hasher.probe([path])[path].readings == {"video": "pixels 64/45"}
        assert hasher.readings == {path: {"video": "pixels 64/45"}}
        monkeypatch.setattr("emocache.extract.corpora.files.readings_of", refuse)  # remembered, too
