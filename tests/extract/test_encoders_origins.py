"""The origin of weights, as streams and runs record it; and the papers' pins, which are the table of encoders'."""

from pathlib import Path

import pytest

from emocache.cache import EmocacheError
from emocache.cache.hashing import file_sha256
from emocache.extract.encoders.provenance import origin, pinned
from emocache.extract.encoders.registry import REGISTRY
from emocache.extract.weights.download import keep_file
from emocache.train.records.published import Paper, read_papers


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of this test alone."""
    monkeypatch.setenv("EMOCACHE_CHECKPOINTS", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize("paper", read_papers(), ids=lambda paper: paper.place)
def test_the_papers_pin_what_the_table_of_encoders_pins(paper: Paper) -> None:
    assert paper.weights == {name: pinned(name) for name in paper.weights}


def test_every_name_stands_for_weights() -> None:
    none = {name for name in REGISTRY if not pinned(name)}
    assert {"logmel", "mfcc", "face-dlib"} <= none and not {"hubert-base", "vgg-face", "alexnet-random"} & none
    with pytest.raises(EmocacheError, match="stands for no weights"):
        pinned("no-such-encoder")


def test_weights_of_the_hub_are_told_with_their_commit() -> None:
    entry = REGISTRY["whisper-base"]
    assert origin("whisper-base") == origin("whisper-base-padded") == f"{entry.hub}@{entry.revision}"
    assert origin("facebook/other") == "facebook/other"
    assert origin("mine", origins={"mine": f"lab/model@{'a' * 40}"}) == f"lab/model@{'a' * 40}"


def test_a_folder_of_the_users_own_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / "hubert-base").mkdir()
    assert origin("hubert-base", tmp_path) == "folder hubert-base"
    assert origin("hubert-base") == pinned("hubert-base")


def test_a_single_file_is_pinned_if_it_was_fetched(tmp_path: Path, home: Path) -> None:
    (home / "vgg-face").mkdir(parents=True)
    for address, told in ((REGISTRY["vgg-face"].addresses[0], pinned("vgg-face")), ("/my/copy.h5", "file x.h5")):
        (tmp_path / "x").write_bytes(b"weights")
        keep_file(tmp_path / "x", home / "vgg-face" / "x.h5", file_sha256, address)
        assert origin("vgg-face") == told
