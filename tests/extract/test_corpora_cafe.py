"""CaFE: what its file names say, however the archive was unpacked."""

import wave
from collections import Counter
from pathlib import Path

import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract.corpora import MediaHasher, cafe

FOLDERS = {
    "C": "Colère", "D": "Dégoût", "J": "Joie", "P": "Peur", "S": "Surprise", "T": "Tristesse",
}  # fmt: skip


def write_wav(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 48000, 0, "NONE", ""))
        file.writeframes(b"\1\0" * 480)


def load(root: Path) -> Manifest:
    return cafe.load(root, {}, MediaHasher())


def test_the_published_tree_gives_the_published_counts(tmp_path: Path) -> None:
    for actor in range(1, 13):
        for sentence in range(1, 7):
            names = {
                f"{letter}-{n}": f"{FOLDERS[letter]}/{('Faible', 'Fort')[n - 1]}" for letter in FOLDERS for n in (1, 2)
            }
            for code, folder in (names | {"N-1": "Neutre"}).items():
                path = tmp_path / "CaFE_48k" / folder / f"{actor:02d}-{code}-{sentence}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    manifest = load(tmp_path)
    assert len(manifest) == cafe.PUBLISHED.utterances
    assert len(set(manifest.column("speaker"))) == cafe.PUBLISHED.speakers
    for label, counts in cafe.PUBLISHED.classes.items():
        assert Counter(x for x in manifest.column(label) if x is not None) == counts


@pytest.mark.parametrize("folder", ["Peur/Fort", "Col\u015are/Fort", "D\u201ago\u2013t/Faible", "."])
def test_names_alone_count(tmp_path: Path, folder: str) -> None:
    for stem in ("12-P-2-5", "01-N-1-2", "07-C-1-4"):
        write_wav(tmp_path / folder / f"{stem}.wav")
    for stem in ("12-N-2-5", "13-P-2-5", "12-P-3-5", "12-P-2-7", "._12-P-2-6"):  # no such recordings
        write_wav(tmp_path / folder / f"{stem}.wav")
    neutral, angry, fearful = load(tmp_path)
    assert (neutral.id, angry.id, fearful.id) == ("01-N-1-2", "07-C-1-4", "12-P-2-5")
    assert fearful.labels == {"emotion": "fearful", "strength": "strong", "sentence": "5"}
    assert angry.labels == {"emotion": "angry", "strength": "weak", "sentence": "4"}
    assert neutral.labels == {"emotion": "neutral", "sentence": "2"}
    assert (fearful.gender, neutral.gender, angry.speaker) == ("female", "male", "07")
    assert fearful.text == "Cinq pumas fiers et passionnés"
    assert (fearful.language, fearful.duration) == ("fr", 0.01)


def test_of_two_editions_one_is_taken(tmp_path: Path) -> None:
    for name in (
        "CaFE_192k/Joie/Fort/02-J-2-1.aiff",
        "CaFE_48k/Joie/Fort/02-J-2-1.wav",
        "CaFE_192k/Neutre/02-N-1-1.aiff",
    ):
        write_wav(tmp_path / name)
    assert [u.media[0].path for u in load(tmp_path)] == [
        "CaFE_48k/Joie/Fort/02-J-2-1.wav",
        "CaFE_192k/Neutre/02-N-1-1.aiff",
    ]


def test_the_wrong_folder_says_what_was_expected(tmp_path: Path) -> None:
    write_wav(tmp_path / "other.wav")
    with pytest.raises(EmocacheError, match=r"corpus cafe: no file named like CaFE_48k/Peur/Fort/12-P-2-5\.wav below"):
        load(tmp_path)
