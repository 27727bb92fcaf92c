import json
import shutil
from collections.abc import Callable, Sequence
from itertools import groupby, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import EmocacheError, InputFailure, Utterance
from emocache.extract.encoders import Clip, ctc_align
from emocache.extract.encoders.checkpoints import read
from emocache.extract.encoders.ctc_align import CtcAlign, align, spell
from emocache.extract.encoders.inference import Runtime

Samples = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float64]
LETTERS = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
VOCABULARY = {letter: label for label, letter in enumerate(LETTERS)}
BLANK, DELIMITER = 0, 4


def log_softmax(logits: Scores) -> Scores:
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


def best_of_all(
    log_probs: Scores, spelled: Sequence[Sequence[int]], delimiter: int | None
) -> list[tuple[int, int, float]]:
    """Spans of the best of all label sequences whose runs, without blanks, spell the words; label 0 is the blank."""
    target: list[tuple[int, int]] = []  # (label, word)
    for number, letters in enumerate(spelled):
        target += [(delimiter, -1)] if target and delimiter is not None else []
        target += [(letter, number) for letter in letters]
    best, found = -np.inf, None
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        total = sum(log_probs[t, label] for t, label in enumerate(path))
        if total > best and [label for label, _ in groupby(path) if label] == [label for label, _ in target]:
            best, found = total, path
    assert found is not None
    frames: dict[int, list[int]] = {}
    position, t = 0, 0
    for label, run in groupby(found):
        length = len(list(run))
        if label:
            frames.setdefault(target[position][1], []).extend(range(t, t + length))
            position += 1
        t += length
    scores = {word: float(np.mean([np.exp(log_probs[t, found[t]]) for t in some])) for word, some in frames.items()}
    return [(min(frames[n]), max(frames[n]) + 1, scores[n]) for n in range(len(spelled))]


@pytest.mark.parametrize("delimiter", [None, 3])
@pytest.mark.parametrize("spelled", [[[1]], [[1, 1]], [[1, 2], [2]], [[2], [1, 1]], [[1], [2], [1]]])
def test_alignment_against_all_paths(spelled: list[list[int]], delimiter: int | None) -> None:
    generator = np.random.default_rng(len(spelled))
    for _ in range(3):
        log_probs = log_softmax(2 * generator.standard_normal((6, 4)))
        for ours, expected in zip(
            align(log_probs, spelled, 0, delimiter), best_of_all(log_probs, spelled, delimiter), strict=True
        ):
            assert ours == pytest.approx(expected)


def frames_of(labels: str) -> Scores:
    """(T, V) log probabilities in which each frame is sure of one letter of a string; "-" is the blank."""
    logits = np.zeros((len(labels), len(LETTERS)))
    for t, letter in enumerate(labels):
        logits[t, BLANK if letter == "-" else VOCABULARY[letter]] = 9.0
    return log_softmax(logits)


def test_alignment_of_a_known_matrix() -> None:
    heard = "---HE-LL-LOO-||-YOUU----"
    spans = align(frames_of(heard), [spell("Hello,", VOCABULARY), spell("you", VOCABULARY)], BLANK, DELIMITER)
    assert [span[:2] for span in spans] == [(3, 12), (16, 20)]
    assert all(span[2] is not None and span[2] > 0.99 for span in spans)
    # What is not said gets a poor score, and does not move what is.
    words = [spell(word, VOCABULARY) for word in ("hello", "x", "you")]
    hello, unsaid, you = align(frames_of("---HE-LL-LOO-|-|-YOUU---"), words, BLANK, DELIMITER)
    assert (hello[:2], unsaid[:2], you[:2]) == ((3, 12), (14, 15), (17, 21))
    assert unsaid[2] is not None and unsaid[2] < 0.01


def test_more_letters_than_a_byte_counts() -> None:
    words = ["he", "-"] * 120
    spans = align(frames_of("-H-E-|" * 120), [spell(word, VOCABULARY) for word in words], BLANK, DELIMITER)
    assert [span[:2] for span in spans[::2]] == [(6 * i + 1, 6 * i + 4) for i in range(120)]
    assert [span[:2] for span in spans[1::2]] == [*((6 * i + 4, 6 * i + 7) for i in range(119)), (718, 720)]


def test_words_without_letters_get_the_gaps() -> None:
    words = ["42", "he", "-", "7", "lo", "!"]
    spans = align(frames_of("----HE----|---LO--"), [spell(word, VOCABULARY) for word in words], BLANK, DELIMITER)
    assert [span[:2] for span in spans] == [(0, 4), (4, 6), (6, 10), (10, 14), (14, 16), (16, 18)]
    assert [span[2] is None for span in spans] == [True, False, True, True, False, True]


def test_texts_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputFailure, match="no_words: the text needs 5 frames of 20 ms, the audio has 4"):
        align(frames_of("ABBA"), [spell("abba", VOCABULARY)], BLANK, DELIMITER)
    assert align(frames_of("AB-BA"), [spell("abba", VOCABULARY)], BLANK, DELIMITER)[0][:2] == (0, 5)
    with pytest.raises(InputFailure, match="no_words: not one letter of the text is in the model's vocabulary"):
        align(frames_of("ABBA"), [spell("42", VOCABULARY)], BLANK, DELIMITER)
    monkeypatch.setattr(ctc_align, "_MAX_CELLS", 40)
    with pytest.raises(InputFailure, match="4 letters in 5 frames are too many; cut the clip"):
        align(frames_of("AB-BA"), [spell("abba", VOCABULARY)], BLANK, DELIMITER)


def test_spelling() -> None:
    def spelled(word: str, *letters: str) -> str:
        vocabulary = {letter: i for i, letter in enumerate(letters)}
        return "".join(letters[label] for label in spell(word, vocabulary))

    assert spelled("Don't!", *"DONT'") == "DON'T" and spelled("Don't!", *"dont") == "dont"
    assert spelled("Don\u2019t", *"DONT'") == "DON'T" and spelled("Don\u2019t", *"dont\u2019'") == "don\u2019t"
    assert spelled("é", *"eé") == "é" and spelled("e\u0301", *"eé") == "é" and spelled("É", *"E") == "E"
    assert spelled("Straße", *"STRAE") == "STRASSE" and spelled("Straße", *"ß") == "ß"
    assert spelled("你好", "好") == "好" and spelled("...", *"ABC") == ""


# --- a small random model


@pytest.fixture(scope="module")
def make_recogniser(
    make_speech_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """Write a small random Wav2Vec2ForCTC or HubertForCTC with a vocabulary, and give its folder."""
    from transformers import AutoModelForCTC

    def make(kind: str = "wav2vec2", norm: str = "group") -> Path:
        folder = tmp_path_factory.mktemp("recognisers") / "tiny-ctc"
        backbone = make_speech_model(kind, norm)
        model = AutoModelForCTC.from_pretrained(backbone, vocab_size=len(LETTERS), pad_token_id=0)
        torch.nn.init.normal_(model.lm_head.weight, std=0.5, generator=torch.Generator().manual_seed(0))
        model.save_pretrained(folder)
        (folder / "vocab.json").write_text(json.dumps(VOCABULARY))
        shutil.copy(backbone / "preprocessor_config.json", folder)
        return folder

    return make


def load(folder: Path, precision: str = "float32") -> CtcAlign:
    return CtcAlign(f"align-{folder.name}", read(folder), Runtime.create("cpu", precision))


@pytest.fixture(scope="module")
def folder(make_recogniser: Callable[..., Path]) -> Path:
    return make_recogniser()


@pytest.fixture(scope="module")
def encoder(folder: Path) -> CtcAlign:
    return load(folder)


def row(result: Any) -> dict[str, Any]:
    assert isinstance(result, dict), result
    return dict(result[None])


@pytest.mark.parametrize(("kind", "norm"), [("wav2vec2", "group"), ("hubert", "layer")])
def test_aligns_the_models_own_logits(
    kind: str, norm: str, make_recogniser: Callable[..., Path], voice: Callable[..., Samples]
) -> None:
    from transformers import AutoModelForCTC

    folder = make_recogniser(kind, norm)
    audio, text = voice(1.5), "Kids are talking, by the door."
    found = row(load(folder).encode([Clip("a", audio, text)], [None])[0])
    normal = (audio - audio.mean()) / np.sqrt(audio.var() + 1e-7)
    with torch.no_grad():
        model: Any = AutoModelForCTC.from_pretrained(folder).eval()
        log_probs = model(torch.from_numpy(normal)[None]).logits[0].log_softmax(-1).numpy()
    spans = align(log_probs, [spell(word, VOCABULARY) for word in text.split()], BLANK, DELIMITER)
    assert found["source"] == "ctc-tiny-ctc" and [word["word"] for word in found["words"]] == text.split()
    for word, (first, stop, score) in zip(found["words"], spans, strict=True):
        assert set(word) == {"word", "start", "end", "score"}
        assert (word["start"], word["end"]) == pytest.approx((first * 0.02, stop * 0.02))
        assert word["score"] == pytest.approx(score, rel=1e-4)


def test_batched_equals_alone(encoder: CtcAlign, voice: Callable[..., Samples]) -> None:
    texts = ["Dogs are sitting", "Hm", "By the door", "Kids"]
    clips = [
        Clip(str(i), voice(s, i), text) for i, (s, text) in enumerate(zip((2.0, 0.3, 31.0, 0.9), texts, strict=True))
    ]
    for clip, together in zip(clips, encoder.encode(clips, [None]), strict=True):
        alone = row(encoder.encode([clip], [None])[0])
        assert clip.audio is not None
        times = [time for word in alone["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times) and times[0] >= 0 and times[-1] <= len(clip.audio) / 16_000
        for a, b in zip(row(together)["words"], alone["words"], strict=True):
            assert (a["word"], a["start"], a["end"]) == (b["word"], b["start"], b["end"])
            assert a["score"] == pytest.approx(b["score"], rel=1e-4)


def test_faults(encoder: CtcAlign, voice: Callable[..., Samples]) -> None:
    audio = voice(1.0)
    clips = [
        Clip("a", audio), Clip("b", audio, " \n"), Clip("c", None, "Kids"), Clip("d", audio[:0], "Kids"),
        Clip("e", audio[:8000], "Kids are talking by the door" * 2), Clip("f", audio, "42"), Clip("g", audio, "Kids"),
    ]  # fmt: skip
    *bad, good = encoder.encode(clips, [None])
    reasons = [result.reason for result in bad if isinstance(result, InputFailure)]
    assert reasons == ["no_text", "no_text", "no_audio", "empty", "no_words", "no_words"]
    assert row(good)["words"][0]["word"] == "Kids"
    assert encoder.encode([], [None]) == []


def test_recipe_and_planning(encoder: CtcAlign, folder: Path, tmp_path: Path) -> None:
    recipe = encoder.recipe(None)
    assert (recipe["kind"], recipe["encoder"], recipe["inputs"]) == ("table", "align-tiny-ctc", ["audio", "text"])
    assert recipe["preprocessing"]["normalize"] is True and recipe["windowing"]["seconds"] == 30
    assert str(folder) not in json.dumps(recipe) and load(folder, "bf16").recipe(None) != recipe
    other = shutil.copytree(folder, tmp_path / "tiny-ctc")
    (other / "vocab.json").write_text(json.dumps(VOCABULARY | {"E": 6, "T": 5}))
    assert load(other).recipe(None)["config_sha256"] != recipe["config_sha256"]
    assert encoder.cost(Utterance("a", duration=20.0)) == 20 and encoder.expected_frames(Utterance("a")) == 1
    with pytest.raises(EmocacheError, match="'align-tiny-ctc' has no layers"):
        encoder.recipe(0)


def test_the_word_delimiter_is_found_however_it_was_saved(folder: Path, tmp_path: Path) -> None:
    other = shutil.copytree(folder, tmp_path / "tiny-ctc")
    (other / "vocab.json").write_text(json.dumps({k if k != "|" else "_": v for k, v in VOCABULARY.items()}))
    for saved in ("_", {"__type": "AddedToken", "content": "_", "lstrip": False}):
        (other / "tokenizer_config.json").write_text(json.dumps({"word_delimiter_token": saved}))
        assert ctc_align._vocabulary(read(other), len(LETTERS))[1] == DELIMITER


def test_a_model_without_a_recognition_head(make_speech_model: Callable[..., Path]) -> None:
    with pytest.raises(EmocacheError, match="no lm_head in the weights; alignment needs a checkpoint fine-tuned"):
        load(make_speech_model("wav2vec2", "group"))


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [
        (None, "vocab.json is missing; copy it"),
        ({"eng": {"A": 1}}, "'eng' is {'A': 1}; expected one label below 32 for each letter"),
        (VOCABULARY | {"Ä": 32}, "'Ä' is 32; expected one label below 32"),
    ],
)
def test_unusable_vocabularies(vocabulary: Any, message: str, folder: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(folder, tmp_path / "odd")
    (odd / "vocab.json").unlink()
    if vocabulary is not None:
        (odd / "vocab.json").write_text(json.dumps(vocabulary))
    with pytest.raises(EmocacheError, match=message):
        load(odd)
