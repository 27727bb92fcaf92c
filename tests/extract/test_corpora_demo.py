"""The demo corpus: the same bytes wherever it is rendered, complete or absent, and hard enough to be of use."""

import os
import shutil
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from emocache.cache import EmocacheError, Manifest
from emocache.extract import corpora, encoders
from emocache.extract.corpora import MediaHasher, demo_render, espeak
from emocache.extract.encoders import Clip
from emocache.extract.media.audio import decode_audio

pytest.importorskip("espeakng_loader", reason="needs the demo extra")


def load(root: Path) -> Manifest:
    return corpora.load("demo", root, mapping={}, hasher=MediaHasher())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    load(folder)
    return folder


@pytest.fixture(scope="module")
def manifest(root: Path) -> Manifest:
    return load(root)


@pytest.fixture(scope="module")
def frames(root: Path, manifest: Manifest) -> Callable[[str], list[npt.NDArray[np.float32]]]:
    """Gives the frames of every clip by one of the signal transforms, in the order of the ids."""
    clips = [Clip(u.id, decode_audio(root / u.media[0].path)) for u in manifest]

    def encode(name: str) -> list[npt.NDArray[np.float32]]:
        encoder = encoders.load(name, checkpoints=None, device="cpu", precision="float32", offline=True)
        items: list[Any] = encoder.encode(clips, [None])
        return [np.asarray(item[None].frames) for item in items]

    return encode


def test_six_cultures_with_speakers_of_their_own(manifest: Manifest) -> None:
    assert len(manifest) == 360
    assert Counter(manifest.column("language")) == dict.fromkeys(("en", "de", "hu", "el", "sr", "cmn"), 60)
    assert len(set(manifest.column("culture"))) == 6
    assert Counter(manifest.column("emotion")) == dict.fromkeys(("angry", "happy", "neutral", "sad"), 90)
    assert set(Counter(manifest.column("speaker")).values()) == {12}
    assert Counter(manifest.column("gender")) == {"female": 180, "male": 180}
    assert Counter(manifest.column("split")) == {"train": 216, "valid": 72, "test": 72}
    speakers = {split: {u.speaker for u in manifest if u.split == split} for split in ("train", "valid", "test")}
    assert len(set.union(*speakers.values())) == sum(map(len, speakers.values())) == 30
    durations = np.array(manifest.column("duration"))
    assert durations.min() > 2
    assert np.percentile(durations, 95) < 5
    assert durations.max() < 7


def test_the_label_says_nothing_about_the_text(manifest: Manifest) -> None:
    pairs = {(u.speaker, u.text) for u in manifest}
    assert len(pairs) > 200
    assert len({u.text for u in manifest}) == 48


def test_words_and_tracks_lie_on_the_clips_time(manifest: Manifest) -> None:
    for u in manifest:
        assert u.text is not None and u.duration is not None
        bare = u.text.translate(str.maketrans("", "", " .,。，"))
        assert "".join(w.word for w in u.words) == bare
        times = [t for w in u.words for t in (w.start, w.end)]
        assert times == sorted(times), u.id
        assert times[0] >= 0
        assert times[-1] <= u.duration + 0.001
        assert all(w.end - w.start > 0.02 for w in u.words), u.words
        for name in ("valence", "arousal"):
            track = u.tracks[name]
            np.testing.assert_allclose(np.diff(track.times), 0.1)
            assert track.times[-1] <= u.duration < track.times[-1] + 0.2
            assert np.abs(track.values).max() <= 1
            assert u.labels[name] == pytest.approx(track.values.mean())


def test_word_times_are_where_the_sound_is(root: Path, manifest: Manifest) -> None:
    """The pauses that commas make lie between words: nothing is heard there but the room."""
    pauses = 0
    for u in manifest:
        audio = decode_audio(root / u.media[0].path)
        for word, following in pairwise(u.words):
            if following.start - word.end > 0.1:
                inside = audio[round((word.end + 0.03) * 16000) : round((following.start - 0.03) * 16000)]
                assert inside.std() < 10 ** (-46 / 20), u.id  # the loudest room is at -52 dB
                pauses += 1
    assert pauses > 100


def test_another_render_gives_the_same_bytes(root: Path, tmp_path: Path, manifest: Manifest) -> None:
    other = load(tmp_path)
    assert other == manifest
    for path in sorted(root.rglob("*.*")):
        assert (tmp_path / path.relative_to(root)).read_bytes() == path.read_bytes(), path.name


def test_a_second_load_renders_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subprocess.run", None)
    assert len(load(root)) == 360


def test_two_at_once_leave_one_corpus(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The render is replaced by a copy; what is tested is the renaming."""
    rendered = root / f"demo-v{demo_render.VERSION}"
    together = threading.Barrier(2)

    class Done:
        returncode, stderr = 0, ""

    def copy(command: list[str], **_: Any) -> Done:
        shutil.copytree(rendered, command[-1], dirs_exist_ok=True)
        together.wait(30)
        return Done()

    monkeypatch.setattr("subprocess.run", copy)
    manifests: list[Manifest] = []
    threads = [threading.Thread(target=lambda: manifests.append(load(tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(manifests) == 2
    assert manifests[0] == manifests[1]
    assert [p.name for p in tmp_path.iterdir()] == [rendered.name]


def test_without_the_library_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "espeakng_loader.py").write_text("raise ImportError('no such library here')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(EmocacheError, match=r"no such library here.*pip install 'emocache\[demo\]'") as caught:
        load(tmp_path / "data")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "data").iterdir()) == []


def test_an_unknown_voice_is_named() -> None:
    class Library:
        def espeak_SetVoiceByName(self, _: bytes) -> int:
            return 2

    engine = object.__new__(espeak.Espeak)
    engine._library = Library()  # type: ignore[assignment]
    with pytest.raises(EmocacheError, match="eSpeak NG has no voice 'xx\\+f9'"):
        engine.say("xx+f9", [espeak.SpokenWord("a", 50, 50, 175)])


def test_a_changed_clip_or_list_names_the_remedy(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / f"demo-v{demo_render.VERSION}"
    clip = folder / "de-02-happy-1.wav"
    clip.write_bytes(clip.read_bytes()[:-2])
    with pytest.raises(EmocacheError, match=r"de-02-happy-1\.wav is not what was rendered; delete that folder"):
        load(tmp_path)
    for text in ("{", "{}", "[]", '{"clips": [{}]}', '{"clips": 1}'):
        (folder / "clips.json").write_text(text)
        with pytest.raises(EmocacheError, match=r"is damaged .*; delete that folder"):
            load(tmp_path)


def test_words_that_espeak_runs_together_share_their_time() -> None:
    words = [(0, 0.1), (7, 0.7), (12, 1.0)]
    times = espeak._word_times(["on", "the", "w", "y,", "z"], words, [0.9, 1.3], 1.4)
    np.testing.assert_allclose(times, [(0.1, 0.4), (0.4, 0.7), (0.7, 0.8), (0.8, 0.9), (1.0, 1.3)])


@pytest.mark.parametrize("encoder", ["logmel", "mfcc"])
def test_a_linear_probe_is_neither_lost_nor_done(
    encoder: str, manifest: Manifest, frames: Callable[[str], list[npt.NDArray[np.float32]]]
) -> None:
    pooled = np.stack([clip.mean(axis=0) for clip in frames(encoder)])
    emotion, split = np.array(manifest.column("emotion")), np.array(manifest.column("split"))
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    guessed = cross_val_predict(probe, pooled, emotion, groups=manifest.column("speaker"), cv=GroupKFold(5))
    assert 0.7 < (guessed == emotion).mean() < 0.87
    probe.fit(pooled[split == "train"], emotion[split == "train"])
    assert 0.6 < probe.score(pooled[split == "test"], emotion[split == "test"]) < 0.9


def test_valence_and_arousal_can_be_heard_within_a_clip(
    manifest: Manifest, frames: Callable[[str], list[npt.NDArray[np.float32]]]
) -> None:
    heard, felt, speakers, ends = [], [], [], []
    for u, clip in zip(manifest, frames("logmel"), strict=True):
        for at, valence, arousal in zip(
            u.tracks["valence"].times, u.tracks["valence"].values, u.tracks["arousal"].values, strict=True
        ):
            around = clip[max(0, round(at * 100) - 40) : round(at * 100) + 40]
            heard.append(np.concatenate([around.mean(axis=0), around.std(axis=0)]))
            felt.append((valence, arousal))
            speakers.append(u.speaker)
        ends.append(len(felt))
    truth = np.array(felt)
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 5)))
    guess = cross_val_predict(ridge, np.array(heard), truth, groups=speakers, cv=GroupKFold(5))
    within = [[np.corrcoef(guess[a:b, k], truth[a:b, k])[0, 1] for k in (0, 1)] for a, b in pairwise([0, *ends])]
    assert np.corrcoef(guess[:, 0], truth[:, 0])[0, 1] > 0.6
    assert np.corrcoef(guess[:, 1], truth[:, 1])[0, 1] > 0.8
    valence, arousal = np.mean(within, axis=0)
    assert valence > 0.2
    assert arousal > 0.5
