"""The manifest: what goes in comes out, what cannot be is refused, and item keys follow the declared inputs."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emocache.cache import Cache, EmocacheError, Manifest, Media, Track, Utterance, Word

FULL = Utterance(
    "Ses01/ü 語.1",
    media=(Media("audio", "a/b.wav", "0" * 64), Media("video", "a/b.avi", "1" * 64, 7.0, 8.5, (0.0, 0.25, 0.5, 1.0))),
    start=0.25, end=1.75, duration=9.5, speaker="F1", session="S1", culture="DE", language="de", gender="f",
    split="train", text="Kids, „reden“.", words=(Word("kids", 0.0, 0.5), Word("reden", 0.5, 1.0)),
    words_source="corpus", labels={"emotion": "happy", "arousal": 3.5},
    tracks={"valence": Track(np.array([0.0, 0.1, 0.25]), np.array([-0.5, 0.0, 0.5]))},
)  # fmt: skip
BARE = Utterance("0")


def plain(utterance: Utterance) -> dict[str, Any]:
    """All fields, with tracks as lists."""
    fields = {name: getattr(utterance, name) for name in Utterance.__slots__}
    return {**fields, "tracks": {n: (t.times.tolist(), t.values.tolist()) for n, t in utterance.tracks.items()}}


def corpus(*utterances: Utterance) -> Manifest:
    return Manifest.from_utterances("toy", utterances)


def test_round_trip(tmp_path: Path) -> None:
    manifest = corpus(FULL, BARE, replace(FULL, id="x", labels={"emotion": "sad"}, tracks={}))
    Cache(tmp_path).put_manifest(manifest)
    found = Cache(tmp_path).manifest("toy")
    assert found == manifest and found.sha256 == manifest.sha256
    assert found.ids == ["0", FULL.id, "x"] == [utterance.id for utterance in found]
    assert plain(found[FULL.id]) == plain(FULL) and plain(found["0"]) == plain(BARE)
    assert found["x"].labels == {"emotion": "sad"} and found["x"].tracks == {}
    assert found.label_names == ["arousal", "emotion"] and found.track_names == ["valence"]
    assert found.column("emotion") == [None, "happy", "sad"] and found.column("speaker") == [None, "F1", "F1"]
    assert "x" in found and "y" not in found and 3 not in found and len(found) == 3
    with pytest.raises(KeyError):
        found["y"]


def test_the_order_of_utterances_changes_nothing() -> None:
    assert corpus(FULL, BARE).to_bytes() == corpus(BARE, FULL).to_bytes()


def test_putting_the_same_again_changes_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(corpus(FULL))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    cache.put_manifest(corpus(FULL))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    cache.put_manifest(corpus(FULL, BARE))
    assert len(list(tmp_path.glob("toy/manifests/*.parquet"))) == 2  # the older one is kept
    assert cache.corpora() == ["toy"]


@pytest.mark.parametrize("damaged", ["manifest.json", "manifests/*.parquet"])
def test_a_damaged_manifest_is_told_and_replaced(tmp_path: Path, damaged: str) -> None:
    cache = Cache(tmp_path)
    cache.put_manifest(corpus(FULL))
    [path] = (tmp_path / "toy").glob(damaged)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    with pytest.raises(EmocacheError, match=f"{path.name}: damaged"):
        cache.manifest("toy")
    cache.put_manifest(corpus(FULL))
    assert cache.manifest("toy") == corpus(FULL)


def twice() -> Utterance:
    return replace(FULL, media=(Media("audio", "c/d.wav", "2" * 64),))


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ([], r"corpus 'toy': no utterance found; is this the right folder\?"),
        ([FULL, twice()], r"id 'Ses01/ü 語.1' occurs twice \(a/b.wav, a/b.avi, c/d.wav\); ids must be unique"),
        ([BARE, BARE], r"id '0' occurs twice \(no media\)"),
        ([replace(BARE, id="")], "an id is 1 to 512 printable characters"),
        ([replace(BARE, id="x" * 513)], "an id is 1 to 512 printable characters"),
        ([replace(BARE, id="a\nb")], "an id is 1 to 512 printable characters"),
        ([replace(BARE, id="../../etc/passwd")], r"utterance '../../etc/passwd': .* may not hold '\.\.'"),
        ([replace(BARE, id="a/../b")], r"may not hold '\.\.'"),
        ([replace(BARE, id="a\\..\\b")], r"may not hold '\.\.'"),
        ([replace(BARE, media=(Media("audio", "../x.wav", ""),))], r"'\.\./x.wav' leaves the corpus folder"),
        ([replace(BARE, media=(Media("audio", "/x.wav", ""),))], "'/x.wav' leaves the corpus folder"),
        ([replace(BARE, media=(Media("audio", "\udce9.wav", ""),))], "is not valid Unicode; rename it"),
        ([replace(BARE, labels={"arousal": math.nan})], "utterance '0': label 'arousal' is nan; leave missing labels"),
        (
            [replace(BARE, labels={"arousal": np.float32(np.inf)})],  # type: ignore[dict-item]
            "label 'arousal' is inf",
        ),
        ([replace(BARE, labels={"a": 1.0}), replace(FULL, labels={"a": "x"})], "label 'a' holds both text and numbers"),
        ([replace(BARE, start=math.nan)], "start, end or duration is nan"),
        ([replace(BARE, duration=math.inf)], "start, end or duration is inf"),
        ([replace(BARE, media=(Media("audio", "x.wav", "", math.inf),))], "start, end or duration is inf"),
        (
            [replace(BARE, media=(Media("video", "x.avi", "", region=(0.5, 0, 0.5, 1)),))],
            "is not left, top, right, bottom",
        ),
        ([replace(BARE, media=(Media("video", "x.avi", "", region=(0, 0, 320, 240)),))], "each 0 to 1"),
        ([replace(BARE, words=(Word("hm", 0.0, math.nan),))], "word 'hm' has times 0.0 to nan"),
        ([replace(BARE, tracks={"v": Track(np.arange(2.0), np.arange(3.0))})], r"track 'v' has \(2,\) times, \(3,\)"),
        ([replace(BARE, tracks={"v": Track(np.arange(2.0), np.array([0, np.nan]))})], "track 'v' holds NaN"),
        ([replace(BARE, tracks={"v": Track(np.array([0.0, 0.0]), np.zeros(2))})], "times of track 'v' do not increase"),
    ],
)
def test_what_cannot_be_is_refused(wrong: list[Utterance], complaint: str) -> None:
    with pytest.raises(EmocacheError, match=complaint) as caught:
        corpus(*wrong)
    assert "\n" not in str(caught.value)


def test_ids_are_never_paths() -> None:
    ids = ["/etc/passwd", "C:\\x", "..a", "a..b", ".", "~", "a/./b", "*", "con"]
    assert corpus(*(Utterance(i) for i in ids)).ids == sorted(ids)


SPEAKERS = corpus(
    Utterance("1", speaker="a", split="train", labels={"emotion": "sad", "level": 2.0, "batch": 1.0, "code": "01"}),
    Utterance("2", speaker="b", split="train", labels={"emotion": "happy", "batch": 1.0, "code": "1e0"}),
    Utterance("3", speaker="b", split="test", labels={"batch": 2.5, "code": "2"}),
    Utterance("4"),
)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("all", "1234"),
        (" all ", "1234"),
        ("speaker=a", "1"),
        ("speaker=a|b", "123"),
        ("speaker = a | b , split = train", "12"),
        ("emotion=sad|happy,speaker=b", "2"),
        ("level=2.0", "1"),
        ("level=2", "1"),
        ("batch=1", "12"),
        ("batch=1.0", "12"),
        ("batch=1e0|2.50", "123"),
        ("code=01", "1"),
        ("code=1e0", "2"),
        ("corpus=toy,code=2", "3"),
        ("label.emotion=sad", "1"),
    ],
)
def test_selecting(expression: str, expected: str) -> None:
    assert SPEAKERS.select(expression) == list(expected)


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        ("speaker", "'speaker' is not column=value"),
        ("speaker=a,", "'' is not column=value"),
        ("=a", "'=a' is not column=value"),
        ("mood=sad", "corpus 'toy' has no column 'mood'; it has: speaker, session, .*emotion"),
        ("mod=sad", "no column 'mod'; it has: "),
        ("emotoin=sad", "no column 'emotoin'; did you mean 'emotion'. it has: speaker, "),
        (
            "speaker=c",
            "expression 'speaker=c': no utterance of corpus 'toy' has speaker 'c'; there are: a, b; correct it$",
        ),
        ("speaker=a|c", "no utterance of corpus 'toy' has speaker 'c'; there are: a, b"),
        ("batch=3", "no utterance of corpus 'toy' has batch '3'; there are: 1, 2.5; correct it"),
        ("batch=one", "has batch 'one'; there are: 1, 2.5"),
        ("code=1", "has code '1'; did you mean '01'. there are: 01, 1e0, 2"),
        ("split=Train", "has split 'Train'; did you mean 'train'. there are: test, train"),
        ("culture=de", "has culture 'de'; there are: none; correct it"),
        ("corpus=toys", "has corpus 'toys'; did you mean 'toy'. there are: toy"),
        ("speaker=a,speaker=b", "no utterance with speaker 'a' fits the other terms; leave it out"),
    ],
)
def test_selecting_wrongly(expression: str, complaint: str) -> None:
    with pytest.raises(EmocacheError, match=complaint):
        SPEAKERS.select(expression)


def test_item_keys_follow_fingerprint_id_and_declared_inputs() -> None:
    changes = {
        "audio": replace(FULL, media=(Media("audio", "a/b.wav", "9" * 64), FULL.media[1])),
        "video": replace(FULL, media=(FULL.media[0], replace(FULL.media[1], sha256="9" * 64))),
        "later": replace(FULL, media=(FULL.media[0], replace(FULL.media[1], start=7.5))),
        "elsewhere in the picture": replace(FULL, media=(FULL.media[0], replace(FULL.media[1], region=None))),
        "text": replace(FULL, text="other"),
        "words": replace(FULL, words=FULL.words[:1]),
        "moved": replace(FULL, media=tuple(replace(m, path="elsewhere") for m in FULL.media)),
        "relabelled": replace(FULL, labels={}, tracks={}, speaker="x", split="test", duration=1.0),
        "cut": replace(FULL, end=1.5),
    }
    for inputs in (["audio"], ["video"], ["text"], ["text", "words"], ["audio", "video"]):
        key = corpus(FULL).item_keys("f" * 64, inputs)[FULL.id]
        assert corpus(FULL).item_keys("e" * 64, inputs)[FULL.id] != key
        assert corpus(replace(FULL, id="other")).item_keys("f" * 64, inputs)["other"] != key
        for name, changed in changes.items():
            matters = name in inputs or (name == "cut" and "audio" in inputs)  # the video has a span of its own
            matters |= name in ("later", "elsewhere in the picture") and "video" in inputs
            assert (corpus(changed).item_keys("f" * 64, inputs)[FULL.id] != key) == bool(matters), (inputs, name)
    with pytest.raises(ValueError, match="unknown input 'smell'"):
        FULL.inputs_sha256(["smell"])


def test_a_medium_may_have_a_span_of_its_own() -> None:
    assert FULL.span_of("audio") == (0.25, 1.75) and FULL.span_of("video") == (7.0, 8.5)
    assert BARE.span_of("audio") == (None, None)


def test_keys_through_another_stream_follow_what_that_one_depends_on() -> None:
    upstream = {"stream": "a" * 64, "inputs": ["audio"]}
    key = corpus(FULL).item_keys("f" * 64, [upstream])[FULL.id]
    heard = replace(FULL, media=(replace(FULL.media[0], sha256="9" * 64), FULL.media[1]))
    for changed, matters in ((heard, True), (replace(FULL, text="other", words=()), False)):
        assert (corpus(changed).item_keys("f" * 64, [upstream])[FULL.id] != key) == matters
    for other in ({**upstream, "stream": "b" * 64}, {**upstream, "inputs": ["audio", "text"]}, "audio"):
        assert corpus(FULL).item_keys("f" * 64, [other])[FULL.id] != key
    twice = {"stream": "c" * 64, "inputs": [upstream]}
    assert corpus(heard).item_keys("f" * 64, [twice]) != corpus(FULL).item_keys("f" * 64, [twice])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="only Linux lists a process's threads")
def test_reading_leaves_no_thread_that_could_outlive_the_interpreter(tmp_path: Path) -> None:
    """Such a thread aborts the process at exit, now and then; a table shard is read by the same function."""
    (tmp_path / "manifest").write_bytes(corpus(FULL, BARE).to_bytes())
    script = (
        "import os, pathlib, sys, pyarrow\n"
        "from emocache.cache import Manifest\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "pyarrow.array([1])\n"  # starts the allocator's own thread
        "before = os.listdir('/proc/self/task')\n"
        "Manifest.from_bytes('toy', data)\n"
        "assert os.listdir('/proc/self/task') == before"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "manifest")], check=True)
