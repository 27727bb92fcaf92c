"""RAVDESS and EmoDB: what their file names say, on small trees of the real layout and on the real corpora."""

import wave
from collections import Counter
from pathlib import Path

import pytest

import emocache
from emocache.cache import EmocacheError, Manifest
from emocache.extract import corpora
from emocache.extract.corpora import MediaHasher
from emocache.extract.media import decode_audio

SHARED = Path(emocache.__file__).parent.parent / "shared"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real corpora in ../shared")


def write_wav(path: Path, frames: int = 160) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(len(path.name).to_bytes(2, "little") * frames)


def load(name: str, root: Path) -> Manifest:
    return corpora.load(name, root, mapping={}, hasher=MediaHasher())


def test_ravdess_names(tmp_path: Path) -> None:
    write_wav(tmp_path / "Actor_12" / "03-01-06-02-02-01-12.wav")
    write_wav(tmp_path / "Actor_07" / "03-01-02-01-01-02-07.wav", frames=320)
    manifest = load("ravdess", tmp_path)
    assert manifest.ids == ["03-01-02-01-01-02-07", "03-01-06-02-02-01-12"]
    calm, fearful = manifest
    assert (calm.speaker, calm.gender, fearful.speaker, fearful.gender) == ("07", "male", "12", "female")
    assert calm.labels == {"emotion": "calm", "intensity": "normal", "statement": "01", "repetition": "02"}
    assert fearful.labels == {"emotion": "fearful", "intensity": "strong", "statement": "02", "repetition": "01"}
    assert calm.text == "Kids are talking by the door"
    assert fearful.text == "Dogs are sitting by the door"
    assert calm.language == "en"
    assert (calm.duration, fearful.duration) == (0.02, 0.01)
    assert [m.path for m in calm.media] == ["Actor_07/03-01-02-01-01-02-07.wav"]


def test_ravdess_takes_one_of_two_copies_and_leaves_out_what_is_not_speech(tmp_path: Path) -> None:
    name = "Actor_01/03-01-01-01-01-01-01.wav"
    write_wav(tmp_path / name)
    write_wav(tmp_path / "audio_speech_actors_01-24" / name)
    write_wav(tmp_path / "audio_speech_actors_01-24" / "Actor_01" / "03-01-01-01-01-02-01.wav")
    write_wav(tmp_path / "Actor_01" / "._03-01-01-01-02-01-01.wav")
    write_wav(tmp_path / "Actor_01" / "03-02-01-01-01-01-01.wav")  # a song
    write_wav(tmp_path / "Actor_01" / "notes.wav")
    write_wav(tmp_path / "Actor_01" / "03-01-09-01-01-01-01.wav")  # no such emotion
    manifest = load("ravdess", tmp_path)
    assert [u.media[0].path for u in manifest] == [
        name,
        "audio_speech_actors_01-24/Actor_01/03-01-01-01-01-02-01.wav",
    ]


def test_ravdess_joins_sound_and_picture_of_one_performance(tmp_path: Path) -> None:
    rest = "-01-05-01-01-01-03"
    for stem in ("03" + rest, "01" + rest, "02" + rest, "01" + rest[:-2] + "04", "02" + rest[:-2] + "05"):
        write_wav(tmp_path / "Actor" / f"{stem}.mp4")
    joined = {u.id: {m.role: Path(m.path).stem[:2] for m in u.media} for u in load("ravdess", tmp_path)}
    assert joined == {
        "03-01-05-01-01-01-03": {"audio": "03", "video": "01"},
        "01-01-05-01-01-01-04": {"audio": "01", "video": "01"},
        "02-01-05-01-01-01-05": {"video": "02"},
    }


@pytest.mark.parametrize("folder", ["wav", "wav_corpus", "."])
def test_emodb_names(tmp_path: Path, folder: str) -> None:
    for name in ("03a01Fa.wav", "08b10Wb.wav", "16a05Lc.wav", "erkennung.wav"):
        write_wav(tmp_path / folder / name)
    manifest = load("emodb", tmp_path)
    assert manifest.ids == ["03a01Fa", "08b10Wb", "16a05Lc"]
    assert manifest.column("emotion") == ["happy", "angry", "boredom"]
    assert manifest.column("speaker") == ["03", "08", "16"]
    assert manifest.column("gender") == ["male", "female", "female"]
    assert manifest.column("text")[0] == "Der Lappen liegt auf dem Eisschrank."
    assert manifest.column("sentence") == ["a01", "b10", "a05"]
    assert set(manifest.column("language")) == {"de"}


@pytest.mark.parametrize(("name", "example"), [("ravdess", "03-01-06-01-02-01-12"), ("emodb", "03a01Fa")])
def test_the_wrong_folder_says_what_was_expected(tmp_path: Path, name: str, example: str) -> None:
    write_wav(tmp_path / "other.wav")
    with pytest.raises(EmocacheError, match=rf"corpus {name}: no file named like .*{example}\.wav below"):
        load(name, tmp_path)


def test_a_broken_file_stays_in_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "03a01Fa.wav").write_bytes(b"")
    (utterance,) = load("emodb", tmp_path)
    assert utterance.duration is None
    assert len(utterance.media[0].sha256) == 64


@needs_shared
def test_real_ravdess() -> None:
    manifest = load("ravdess", SHARED / "data" / "ravdess")
    assert len(manifest) == 720
    assert len(set(manifest.column("speaker"))) == 12
    assert Counter(manifest.column("emotion")) == {
        "neutral": 48,
        **dict.fromkeys(("calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"), 96),
    }
    durations = manifest.column("duration")
    assert min(durations) > 2.9
    assert max(durations) < 5.3
    # the two recordings that the corpus holds twice
    twins = [manifest[f"03-01-03-01-02-0{n}-07"].media[0].sha256 for n in (1, 2)]
    assert twins[0] == twins[1]
    utterance = manifest[manifest.ids[0]]
    audio = decode_audio(SHARED / "data" / "ravdess" / utterance.media[0].path)
    assert audio.size / 16000 == pytest.approx(utterance.duration, abs=1e-3)


@needs_shared
def test_real_emodb() -> None:
    manifest = load("emodb", SHARED / "data" / "emodb")
    assert len(manifest) == 289
    assert Counter(manifest.column("emotion")) == {
        "angry": 100, "neutral": 63, "happy": 54, "sad": 49, "boredom": 9, "disgust": 9, "fearful": 5,
    }  # fmt: skip
    assert None not in manifest.column("text")
    assert None not in manifest.column("gender")
    assert None not in manifest.column("duration")
