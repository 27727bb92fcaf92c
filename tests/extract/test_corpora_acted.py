"""RAVDESS and EmoDB: what their file names say, on small trees of the real layout and on the real corpora."""

import struct
import wave
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import emocache
from emocache.cache import EmocacheError, Manifest
from emocache.extract import corpora
from emocache.extract.corpora import MediaHasher, emodb, ravdess
from emocache.extract.media.audio import decode_audio

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


def test_ravdess_has_stereo_files_and_headers_with_more_chunks(tmp_path: Path) -> None:
    stereo, padded = (
        tmp_path / "Actor_05" / "03-01-02-01-02-02-05.wav",
        tmp_path / "Actor_05" / "03-01-02-01-02-01-05.wav",
    )
    write_wav(stereo)
    with wave.open(str(stereo), "wb") as file:
        file.setparams((2, 2, 16000, 0, "NONE", ""))
        file.writeframes(struct.pack("<2h", 1000, 3000) * 160)
    filler = b"FLLR" + struct.pack("<I", 4044) + bytes(4044)
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + filler
    body += b"data" + struct.pack("<I", 320) + struct.pack("<h", 2000) * 160
    padded.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    for utterance in load("ravdess", tmp_path):
        assert utterance.duration == 0.01
        np.testing.assert_allclose(decode_audio(tmp_path / utterance.media[0].path), 2000 / 32768, rtol=1e-6)


def test_ravdess_keeps_two_recordings_of_equal_content(tmp_path: Path) -> None:
    for repetition in ("01", "02"):
        write_wav(tmp_path / "Actor_07" / f"03-01-03-01-02-{repetition}-07.wav")
    first, second = load("ravdess", tmp_path)
    assert first.media[0].sha256 == second.media[0].sha256
    assert [u.labels["repetition"] for u in (first, second)] == ["01", "02"]


def test_ravdess_complete_gives_the_published_counts(tmp_path: Path) -> None:
    for actor in range(1, 25):
        for emotion in range(1, 9):
            for rest in range(4 if emotion == 1 else 8):
                strength, statement, repetition = (1 + (rest >> bit & 1) for bit in (2, 1, 0))
                numbers = (3, 1, emotion, strength, statement, repetition, actor)
                (tmp_path / ("-".join(f"{n:02d}" for n in numbers) + ".wav")).touch()
    manifest = load("ravdess", tmp_path)
    assert len(manifest) == ravdess.PUBLISHED.utterances
    assert len(set(manifest.column("speaker"))) == ravdess.PUBLISHED.speakers
    assert Counter(manifest.column("emotion")) == ravdess.PUBLISHED.classes["emotion"]


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


def test_emodb_says_what_is_said(tmp_path: Path) -> None:
    for sentence in ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10", "b11"):
        write_wav(tmp_path / f"03{sentence}Na.wav")
    assert load("emodb", tmp_path).column("text") == [
        "Der Lappen liegt auf dem Eisschrank.",
        "Das will sie am Mittwoch abgeben.",
        "Heute abend könnte ich es ihm sagen.",
        "Das schwarze Blatt Papier befindet sich da oben neben dem Holzstück.",
        "In sieben Stunden wird es soweit sein.",
        "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
        "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
        "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
        "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
        "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
        None,
    ]


def test_emodb_publishes_as_many_classes_as_recordings() -> None:
    assert sum(emodb.PUBLISHED.classes["emotion"].values()) == emodb.PUBLISHED.utterances


# Rows of the real files: a pause, syllables that were swallowed, and two said as one at the end.
SILB = {
    "03a01Fa": "0.080080 der|0.244195 la|0.427094 pen|0.643428 liegt|0.865570 auf|0.981748 dem|1.146357 eis"
    "|1.404778 schrank|1.841390 .",
    "11b10Td": "0.087940 die|0.422516 wird|0.901637 auf|1.078525 dem|1.241265 platz|1.534398 sein|1.833596 ("
    "|2.536067 wo|2.714588 wir|2.863567 sie|3.002047 im|3.093019 mer|3.236553 hin|3.408422 le|3.578237 gen|3.740976 .",
    "10b02Na": "0.047226 sie|0.166941 haben|0.220612 bm|0.282951 es|0.398965 ge|0.444395 gera|0.645107 de|0.744168 hoch"
    "|0.969117 ge|1.061077 tra|1.356758 gen|1.420423 und|1.544923 jetzt|1.771286 gehen|1.907053 hn|1.955203 sie"
    "|2.048563 wie|2.123560 der|2.240986 run|2.419247 ter|2.713398 .",
    "03b09Nc": "0.098307 ich|0.216639 will|0.350081 das|0.492202 e|0.595267 ben|0.710266 weg|0.865405 bring|1.026830 gn"
    "|1.100827 und|1.207147 dann|1.353610 mit|1.493562 karl|1.710540 was|1.883038 trin|2.080489 ken|2.204167 gehn"
    "|2.534658 .",
    "03a04Nc": "0.059771 heu|0.200000 te|0.289909 A|0.450916 bend|0.604612 könn|0.770055 te|0.788388 ich|0.888150 es"
    "|0.945744 ihm|1.046571 sa|1.284427 gen|1.449508 .",
}


def write_silb(root: Path, stem: str, rows: str, tab: str = "\t") -> None:
    (root / "silb").mkdir(exist_ok=True)
    text = "".join(f"{row.replace(' ', tab)}\n" for row in rows.split("|"))
    (root / "silb" / f"{stem}.silb").write_text(text, encoding="latin-1")


@pytest.mark.parametrize("tab", ["\t", "    "])
def test_emodb_words_are_timed_by_their_syllables(tmp_path: Path, tab: str) -> None:
    for stem, rows in SILB.items():
        write_wav(tmp_path / "wav" / f"{stem}.wav")
        write_silb(tmp_path, stem, rows, tab)
    write_wav(tmp_path / "wav" / "08a01Na.wav")
    manifest = load("emodb", tmp_path)
    for stem in SILB:
        utterance = manifest[stem]
        assert utterance.text is not None
        assert [w.word for w in utterance.words] == utterance.text.replace(",", "").rstrip(".?").split(" ")
        assert utterance.words_source == "corpus"
    timed = {stem: {w.word: (w.start, w.end) for w in manifest[stem].words} for stem in SILB}
    assert timed["03a01Fa"]["Der"] == (0.08008, 0.244195)
    assert timed["03a01Fa"]["Eisschrank"] == (1.146357, 1.84139)
    assert timed["11b10Td"]["sein"] == (1.534398, 1.833596)  # a pause follows
    assert timed["11b10Td"]["wo"] == (2.536067, 2.714588)
    assert timed["10b02Na"]["gerade"] == (0.398965, 0.744168)
    assert timed["03b09Nc"]["gehen"] == (2.204167, 2.534658)
    assert (manifest["08a01Na"].words, manifest["08a01Na"].words_source) == ((), None)


@pytest.mark.parametrize(
    "rows",
    [
        SILB["03a01Fa"].removesuffix("|1.841390 ."),  # when does the last syllable end?
        SILB["03a01Fa"].replace("der", "das").replace("la|", "la|0.3 la|"),  # too many
        SILB["03a01Fa"].replace("|0.643428 liegt", ""),  # too few
        SILB["03a01Fa"].replace("auf", "unter"),  # another word
        SILB["03a01Fa"].replace("0.865570", "0.5"),  # backwards
        SILB["03a01Fa"].replace("0.865570", "soon"),
        SILB["03a01Fa"].replace("1.841390", "nan"),
        "0.1 .",
        "",
    ],
)
def test_emodb_syllables_that_do_not_fit_give_no_words(tmp_path: Path, rows: str) -> None:
    write_wav(tmp_path / "wav" / "03a01Fa.wav")
    write_silb(tmp_path, "03a01Fa", rows)
    (utterance,) = load("emodb", tmp_path)
    assert (utterance.words, utterance.words_source) == ((), None)


def test_emodb_judgements(tmp_path: Path) -> None:
    for stem in ("03a01Fa", "03b03Aa", "16b10Wb"):
        write_wav(tmp_path / "wav" / f"{stem}.wav")
    table = (
        "Nr.\tSatz\terkannt\tnatuerlich\n"
        "3  \t03a01Fa.wav\t90,00     \t75,00     \n"
        "571  \t03b03Aa.wav\t61,90     \t19,05     \n\n"
    )
    (tmp_path / "erkennung.txt").write_text(table, encoding="latin-1")
    manifest = load("emodb", tmp_path)
    assert manifest.column("recognised") == [90.0, 61.9, None]
    assert manifest.column("natural") == [75.0, 19.05, None]
    (tmp_path / "erkennung.txt").write_text(table + "9\t03a01Nc.wav\tviel\t1,0\n", encoding="latin-1")
    with pytest.raises(EmocacheError, match=r"erkennung\.txt, line 5: .*viel.* is not a number, a file and two perc"):
        load("emodb", tmp_path)


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
    assert set(manifest.label_names) == {"emotion", "sentence"}


def test_real_emodb_times_are_those_of_starts(shared: Callable[[str], Path], tmp_path: Path) -> None:
    """What the corpus's own times call a pause, and what lies outside of all words, is quiet in its sound."""
    for stem, rows in SILB.items():
        if (source := shared("data/emodb/wav") / f"{stem}.flac").is_file():
            (tmp_path / source.name).symlink_to(source)
            write_silb(tmp_path, stem, rows)
    manifest = load("emodb", tmp_path)
    assert "11b10Td" in manifest
    for utterance in manifest:
        samples = decode_audio(tmp_path / utterance.media[0].path)
        speech = np.zeros(samples.size, bool)
        for word in utterance.words:
            speech[round(16000 * word.start) : round(16000 * word.end)] = True
        assert np.mean(samples[~speech] ** 2) < 0.03 * np.mean(samples[speech] ** 2)
