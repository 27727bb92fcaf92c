"""Links to folders in a corpus: what is behind them is found by the names that lead there, and a loop ends."""

import json
import shutil
import wave
from collections.abc import Callable
from pathlib import Path

import pytest

from emocache.cache import EmocacheError, Manifest
from emocache.extract import corpora
from emocache.extract.corpora import MediaHasher, walking
from emocache.extract.corpora.census import take_census

PLAN = """\
[fields]
subject = "Who/Subject"
session = "Who/Session"
[media]
audio = "**/{subject}.wav"
"""
TURN = "[1.0000 - 2.0000]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\n"
TREES: dict[str, dict[str, str | None]] = {  # None: a sound
    "ravdess": {"Actor_07/03-01-02-01-01-02-07.wav": None, "Actor_12/03-01-06-02-02-01-12.wav": None},
    "emodb": {"wav/03a01Fa.wav": None, "wav/08a01Na.wav": None},
    "cremad": {
        "AudioWAV/1001_DFA_ANG_XX.wav": None,
        "tables/VideoDemographics.csv": "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not Hispanic\n",
    },
    "iemocap": {
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt": TURN,
        "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav": None,
    },
    "sewa": {
        "labels/Devel_DE_01.csv": "'Devel_DE_01';0.0;0.5;0.5;0.5\n",
        "audio/Devel_DE_01.wav": None,
        "video/deep/Devel_DE_01.avi": None,
    },
    "sewa-basic": {
        "one/metadata.ini": "[Who]\nSubject=S1\nSession=1\n",
        "one/S1.wav": None,
        "two/metadata.ini": "[Who]\nSubject=S2\nSession=1\n",
        "sound/more/S2.wav": None,
    },
    "table": {"list.csv": "file,emotion\nwav/in/a.wav,sad\n", "wav/in/a.wav": None},
}


def grow(root: Path, tree: dict[str, str | None]) -> Path:
    for number, (name, text) in enumerate(tree.items(), 1):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)
            continue
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16000, 0, "NONE", ""))
            file.writeframes(bytes(320 * number))
    return root


def whole(root: Path) -> Path:
    """The corpus folder itself is a link."""
    moved = root.rename(root.with_name("elsewhere"))
    root.symlink_to(moved)
    return root


def outer(root: Path) -> Path:
    """Each folder in it is a link to another disk."""
    (root.parent / "disk").mkdir()
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        shutil.move(folder, root.parent / "disk" / folder.name)
        folder.symlink_to(root.parent / "disk" / folder.name)
    return root


def innermost(root: Path) -> Path:
    """Each folder with files is a link."""
    for number, folder in enumerate(sorted({path.parent for path in root.rglob("*.*")} - {root})):
        folder.rename(root.parent / f"disk{number}")
        folder.symlink_to(root.parent / f"disk{number}")
    return root


def looped(root: Path) -> Path:
    """Links lead back, to the corpus, to the folder they are in, to themselves, and by way of another disk."""
    inside = next(path for path in sorted(root.iterdir()) if path.is_dir())
    (root.parent / "disk").mkdir()
    (root.parent / "disk" / "again").symlink_to(root)
    for name, target in (("up", root), ("here", inside), ("self", inside / "self"), ("by", root.parent / "disk")):
        (inside / name).symlink_to(target)
    return root


def load(corpus: str, root: Path, hasher: MediaHasher | None = None) -> Manifest:
    mapping = {}
    if corpus == "sewa-basic":
        mapping = {"file": str(root.parent / "plan.toml")}
        (root.parent / "plan.toml").write_text(PLAN)
    return corpora.load(corpus, root, mapping=mapping, hasher=hasher or MediaHasher())


@pytest.mark.parametrize("change", [whole, outer, innermost, looped])
@pytest.mark.parametrize("corpus", TREES)
def test_the_manifest_is_that_of_the_plain_copy(tmp_path: Path, corpus: str, change: Callable[[Path], Path]) -> None:
    (tmp_path / "plain").mkdir()
    plain = load(corpus, grow(tmp_path / "plain" / corpus, TREES[corpus]))
    linked = load(corpus, change(grow(tmp_path / "linked" / corpus, TREES[corpus])))
    assert linked == plain and len(plain) >= 1
    assert all(not medium.path.startswith(("/", "..")) for row in linked for medium in row.media)


def test_a_folder_that_two_links_lead_to_is_found_twice(tmp_path: Path) -> None:
    grow(tmp_path / "disk", {"in/a.wav": None})
    (tmp_path / "corpus").mkdir()
    for name in ("one", "two"):
        (tmp_path / "corpus" / name).symlink_to(tmp_path / "disk")
    found = walking.find_files(tmp_path / "corpus", lambda name: name.endswith(".wav"))
    assert [path.relative_to(tmp_path / "corpus").as_posix() for path in found] == ["one/in/a.wav", "two/in/a.wav"]
    assert len(walking.find_folders(tmp_path / "corpus")) == 5


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    root = grow(tmp_path / "ravdess", TREES["ravdess"])
    (root / "Actor_13").symlink_to(tmp_path / "unmounted" / "Actor_13")
    (root / "Actor_14").symlink_to(root / "Actor_14")
    hasher = MediaHasher()
    assert len(load("ravdess", root, hasher)) == 2
    (note,) = hasher.notes
    assert note.startswith(f"2 links below {root} lead nowhere, such as {root}/Actor_13 to {tmp_path}/unmounted/")
    assert take_census("ravdess", root, {}, MediaHasher()).unused == []
    # A recording that is wanted and not there is an error, as ever.
    (root / "Actor_07" / "03-01-02-01-02-02-07.wav").symlink_to(tmp_path / "unmounted" / "x.wav")
    with pytest.raises(EmocacheError, match=r"media file .*02-02-07\.wav cannot be read: No such file"):
        load("ravdess", root)


def test_a_cut_manifest_may_name_the_folder_behind_the_link(tmp_path: Path) -> None:
    real = grow(tmp_path / "real", {"in/a.wav": None})
    (tmp_path / "linked").symlink_to(real)
    source = {"type": "file", "channels": [0], "source": str(real.resolve() / "in" / "a.wav")}
    cut = {"type": "MonoCut", "id": "a", "start": 0, "duration": 0.01, "recording": {"sources": [source]}}
    (real / "cuts.jsonl").write_text(json.dumps(cut) + "\n")
    (row,) = load("lhotse", tmp_path / "linked")
    assert [medium.path for medium in row.media] == ["in/a.wav"]
