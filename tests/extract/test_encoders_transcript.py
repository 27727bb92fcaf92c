import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from emocache.cache import EmocacheError, InputFailure, Utterance
from emocache.extract.encoders import Clip, inference, transcript, transcript_checks, whisper_decoder
from emocache.extract.encoders.checkpoints import read
from emocache.extract.encoders.inference import Runtime
from emocache.extract.encoders.transcript import FifteenSecondTranscript, Transcript, cut
from emocache.extract.encoders.transcript_checks import Passage, clip_flag, is_digital_silence, repeats
from emocache.extract.encoders.word_times import best_path, group_words, loud_frames, token_starts, trim
from emocache.extract.media.audio import decode_audio

from ..pretend_cuda import pretend_cuda

Samples = npt.NDArray[np.float32]
SENTENCES = {"01": "kids are talking by the door", "02": "dogs are sitting by the door"}  # by part of the file name
COLUMNS = {
    "text": str, "raw_text": str, "translation": str, "language": str, "language_probability": float,
    "avg_logprob": float, "no_speech_prob": float, "flag": str, "words": list,
}  # fmt: skip


def load(folder: Path, precision: str = "float32") -> Transcript:
    return Transcript(f"transcript-{folder.name}", read(folder), Runtime.create("cpu", precision))


def rows(encoder: Transcript, *audios: Samples) -> list[dict[str, Any]]:
    """The rows of one batch, after checking what holds for all rows."""
    out = []
    for audio, result in zip(
        audios, encoder.encode([Clip(str(i), a) for i, a in enumerate(audios)], [None]), strict=True
    ):
        assert isinstance(result, dict), result
        row = dict(result[None])
        assert set(row) == set(COLUMNS)
        assert all(value is None or type(value) is COLUMNS[key] for key, value in row.items())
        times = [time for word in row["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times) and all(0 <= time <= len(audio) / 16_000 for time in times)
        if row["language"] not in ("zh", "ja"):
            assert [word["word"] for word in row["words"]] == row["text"].split()
        out.append(row)
    return out


def assert_close(a: dict[str, Any], b: dict[str, Any]) -> None:
    for key, value in a.items():
        if isinstance(value, float):
            assert value == pytest.approx(b[key], abs=1e-4), key
        else:
            assert value == b[key], key


@pytest.fixture(scope="module")
def make_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a small random Whisper with a tokenizer and all settings, and give its folder."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperTokenizer

    def make(languages: tuple[str, ...] = ("en", "fr", "zh"), decoder_layers: int = 2) -> Path:
        folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
        folder.mkdir()
        bpe = ByteLevelBPETokenizer()
        bpe.train_from_iterator([" Kids are talking by the door. Dogs are sitting."] * 4, vocab_size=290)
        bpe.save_model(str(folder))
        names = [
            "<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in languages), "<|translate|>",
            "<|transcribe|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
        ]  # fmt: skip
        tokenizer = WhisperTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
        tokenizer.add_special_tokens({"additional_special_tokens": names[1:]})
        tokenizer.save_pretrained(folder)
        token: dict[str, Any] = {name: tokenizer.convert_tokens_to_ids(name) for name in names}
        assert min(token.values()) == token["<|endoftext|>"]
        torch.manual_seed(5)
        end, start = token["<|endoftext|>"], token["<|startoftranscript|>"]
        config = WhisperConfig(
            d_model=32, encoder_layers=2, decoder_layers=decoder_layers, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=len(tokenizer),
            num_mel_bins=80, max_target_positions=40, pad_token_id=end, bos_token_id=end, eos_token_id=end,
            decoder_start_token_id=start, suppress_tokens=None, begin_suppress_tokens=None, init_std=0.3,
        )  # fmt: skip
        WhisperForConditionalGeneration(config).save_pretrained(folder)
        settings: dict[str, Any] = {
            "decoder_start_token_id": start, "eos_token_id": end, "no_timestamps_token_id": token["<|notimestamps|>"],
            "is_multilingual": bool(languages), "suppress_tokens": [1, *range(start, len(tokenizer))],
            "begin_suppress_tokens": [end], "alignment_heads": [[decoder_layers - 1, head] for head in (0, 1)],
            "num_beams": 3, "no_speech_threshold": 0.0, "repetition_penalty": 2.0,
        }  # fmt: skip
        if languages:
            settings["lang_to_id"] = {f"<|{code}|>": token[f"<|{code}|>"] for code in languages}
            settings["task_to_id"] = {task: token[f"<|{task}|>"] for task in ("translate", "transcribe")}
        (folder / "generation_config.json").write_text(json.dumps(settings))
        return folder

    return make


@pytest.fixture(scope="module")
def tiny_folder(make_tiny: Callable[..., Path]) -> Path:
    return make_tiny()


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Transcript:
    return load(tiny_folder)


@pytest.fixture(scope="module")
def real(shared: Callable[[str], Path]) -> Transcript:
    return load(shared("checkpoints/whisper-base"))


@pytest.fixture(scope="module")
def speech(shared: Callable[[str], Path]) -> dict[str, Samples]:
    """{name: samples} of some clips of RAVDESS: both sentences, several emotions and speakers."""
    found = sorted(shared("data/ravdess").glob("Actor_0[1-4]/03-01-0[1345]-01-0[12]-01-*.flac"))
    return {path.stem: decode_audio(path) for path in found[::3]}


def plain(text: str) -> list[str]:
    """The words in lower case, without punctuation."""
    return re.sub(r"[^\w\s]", "", text.lower()).split()


def change(folder: Path, target: Path, **settings: Any) -> Path:
    """A copy of a checkpoint with other generation settings; None takes one out."""
    shutil.copytree(folder, target)
    file = target / "generation_config.json"
    kept = {k: v for k, v in (json.loads(file.read_text()) | settings).items() if v is not None}
    file.write_text(json.dumps(kept))
    return target


# --- rules


def passage(text: str = "Kids are talking.", **changes: Any) -> Passage:
    usual: dict[str, Any] = {"no_speech_prob": 0.1, "logprob": -1.0, "tokens": 5, "complete": True}
    return Passage(text, **(usual | changes))


@pytest.mark.parametrize(
    ("found", "flag", "valid"),
    [
        (passage(), None, True),
        (passage(no_speech_prob=0.7, logprob=-5.1), "silence", False),
        (passage(no_speech_prob=0.7, logprob=-4.9), None, True),
        (passage(no_speech_prob=0.6, logprob=-9.0), None, True),
        (passage(""), "silence", False),
        (passage("Thank you. " * 20), "repetition", False),
        (passage(complete=False), "truncated", True),
    ],
)
def test_rules_for_a_window(found: Passage, flag: str | None, valid: bool) -> None:
    assert (found.flag, found.valid) == (flag, valid)


def test_rules_for_a_clip() -> None:
    assert clip_flag([]) == clip_flag(["silence"]) == "silence"
    assert clip_flag(["silence", None]) is None
    assert clip_flag(["truncated", "silence", "repetition"]) == "repetition"
    assert clip_flag(["truncated", None]) == "truncated"


def test_repetition_is_told_from_speech() -> None:
    assert not repeats("") and not repeats("no no no no no no")
    assert not repeats("He said that he had said that she had said so, and so on and so forth, again and again.")
    assert repeats("and again " * 30) and repeats("あ" * 100)


def test_digital_silence() -> None:
    dither = np.random.default_rng(0).integers(-1, 2, 16_000).astype(np.float32) * np.float32(2**-15)
    assert is_digital_silence(np.zeros(10, np.float32)) and is_digital_silence(dither + np.float32(0.25))
    assert not is_digital_silence(np.float32(2) * dither)


# --- word times


def test_best_path_against_all_paths() -> None:
    from itertools import product

    generator = np.random.default_rng(1)
    for ends in (1, 2):
        for _ in range(20):
            frames, states = int(generator.integers(4, 7)), int(generator.integers(2, 5))
            scores, skip = generator.standard_normal((frames, states)), generator.random(states) < 0.5
            allowed = [
                path
                for path in product(range(states), repeat=frames)
                if path[0] < ends
                and path[-1] >= states - ends
                and all(b - a in (0, 1) or (b - a == 2 and skip[b]) for a, b in pairwise(path))
            ]
            best = max(allowed, key=lambda path: sum(scores[t, s] for t, s in enumerate(path)))
            assert best_path(scores, skip, ends).tolist() == list(best)
    with pytest.raises(ValueError, match="2 frames are too few for 4 states"):
        best_path(np.zeros((2, 4)), np.zeros(4, bool), 1)


def test_best_path_through_more_states_than_a_byte_counts() -> None:
    scores = np.full((600, 300), -1.0)
    scores[np.arange(600), np.arange(600) // 2] = 0
    assert best_path(scores, np.zeros(300, bool), 1).tolist() == [t // 2 for t in range(600)]


def test_tokens_start_where_attention_goes() -> None:
    attention = np.full((3, 6, 50), 0.01)
    for row, (start, stop) in enumerate([(0, 2), (0, 2), (0, 12), (12, 25), (25, 40), (40, 50)]):
        attention[:, row, start:stop] = 0.5
    attention[1:, 4, 3] = 0.9  # a click that the median filter takes out
    assert token_starts(attention, 2).tolist() == [0, 12, 25, 40]
    assert token_starts(attention[..., :3], 2).tolist() == [0, 0, 1, 2]
    assert token_starts(np.ones((1, 3, 9)), 0).tolist()[0] == 0


def test_words_are_put_together_from_tokens() -> None:
    pieces = [" Don", "'t", ' "', "stop", '"', ",", " caf", "é", " -", " 42", ".", "\ufffd", " "]
    tokens = list(range(len(pieces)))
    words = group_words(tokens, lambda some: "".join(pieces[t] for t in some), False)
    assert words == [("Don't", 0, 2), ('"stop",', 3, 4), ("café", 6, 8), ("-", 8, 9), ("42.\ufffd", 9, 10)]
    assert group_words([], str, False) == []


def test_words_of_languages_without_blanks() -> None:
    raw = ["你", "好", "，", "世", "界", "。"]
    encoded = [part for sign in raw for part in (sign.encode()[:2], sign.encode()[2:])]

    def decode(tokens: list[int]) -> str:
        return b"".join(encoded[t] for t in tokens).decode(errors="replace")

    words = group_words(range(12), decode, True)
    assert [word for word, _, _ in words] == ["你", "好，", "世", "界。"]
    assert [span for _, *span in words] == [[0, 2], [2, 4], [6, 8], [8, 10]]


def test_quiet_frames_at_the_ends_of_a_word_are_taken_off() -> None:
    audio = np.full(320 * 10 - 7, 1e-4, np.float32)
    audio[320 * 3 : 320 * 5] = audio[320 * 7 : 320 * 8] = 0.5
    loud = loud_frames(audio)
    assert loud.tolist() == [False] * 3 + [True] * 2 + [False] * 2 + [True] + [False] * 2
    assert trim(0, 10, loud) == (3, 8) and trim(4, 7, loud) == (4, 5) and trim(0, 2, loud) == (0, 2)
    assert trim(4, 4, loud) == (4, 4)


def test_long_clips_are_cut_where_it_is_quiet(voice: Callable[..., Samples]) -> None:
    audio = np.random.default_rng(0).standard_normal(70 * 16_000).astype(np.float32)
    audio[27 * 16_000 : 28 * 16_000] *= 0.1
    audio[int(27.3 * 16_000) : int(27.6 * 16_000)] = 0
    starts, parts = zip(*cut(audio), strict=True)
    assert starts[0] == 0 and 27.4 <= starts[1] <= 27.5 and 52.4 <= starts[2] <= 57.5
    np.testing.assert_array_equal(np.concatenate(parts), audio)
    assert max(map(len, parts)) <= 480_000 and len(cut(audio[:480_000])) == 1 and len(cut(audio[:480_001])) == 2


# --- a small random model


def test_batched_equals_alone(tiny: Transcript, voice: Callable[..., Samples]) -> None:
    audios = [voice(0.05), voice(31.0, 1), np.zeros(800, np.float32), voice(2.0, 2), voice(5.5, 3)]
    together = rows(tiny, *audios)
    for audio, row in zip(audios, together, strict=True):
        assert_close(row, rows(tiny, audio)[0])
    assert all(row["raw_text"] for row in together[:2] + together[3:])


def test_decoding_is_greedy_whatever_the_checkpoint_asks_for(tiny: Transcript, voice: Callable[..., Samples]) -> None:
    from transformers.modeling_outputs import BaseModelOutput

    decoder = tiny._decoder
    states = decoder.states([voice(1.0, seed) for seed in range(3)])
    languages = ["en", "fr", "zh"]
    for number, batched in enumerate(decoder.sample(states, languages, "translate")):
        tokens: list[int] = []
        while len(tokens) < decoder.max_tokens and decoder._end not in tokens:
            inputs = torch.tensor([decoder._prompt(languages[number], "translate") + tokens])
            with torch.no_grad():
                out = decoder._model(encoder_outputs=BaseModelOutput(states[number, None]), decoder_input_ids=inputs)
            logits = out.logits[0, -1].clone()
            logits[decoder._never + (decoder._never_first if not tokens else [])] = -torch.inf
            tokens.append(int(logits.argmax()))
        assert batched == tokens


class Casts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts casts of each of a model's weights."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.weights = {weight.data_ptr(): name for name, weight in model.named_parameters()}
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation."""
        made = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.to) and made.dtype == torch.bfloat16:
            self.found.update([self.weights[args[0].data_ptr()]] if args[0].data_ptr() in self.weights else [])
        return made


def test_weights_are_cast_once_for_all_tokens(
    tiny_folder: Path, voice: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the numbers of weights that autocast casts for every token."""
    found = []
    for once in (False, True):
        if not once:
            monkeypatch.setattr(whisper_decoder, "_cast_once", lambda *_: None)
        decoder = load(tiny_folder, "bf16")._decoder
        monkeypatch.undo()
        with Casts(decoder._model) as casts:
            states = decoder.states([voice(1.0, seed) for seed in range(3)])
            sampled = decoder.sample(states, ["en", "fr", "zh"], "transcribe")
            scores = decoder.score(states, ["en", "fr", "zh"], sampled)
        found.append((sampled, [(score.logprobs.tolist(), score.attention.tolist()) for score in scores]))
        tokens = max(map(len, sampled))
        print("cast once:" if once else "autocast:", sum(casts.found.values()), "casts of weights,", tokens, "tokens")
        assert tokens > 10 and max(casts.found.values(), default=0) == (0 if once else tokens + 1)
    assert found[0] == found[1]


def test_texts_are_scored_together_as_each_alone(tiny: Transcript, voice: Callable[..., Samples]) -> None:
    """Against one pass over one text that gives all attention, of texts of several lengths, some without an end."""
    from transformers.modeling_outputs import BaseModelOutput

    decoder = tiny._decoder
    states = decoder.states([voice(1.0, seed) for seed in range(10)])
    languages = ["en", "fr", "zh", "en", "fr"] * 2
    sampled = decoder.sample(states, languages, "transcribe")
    sampled = [[*tokens[: 3 + i], *([decoder._end] if i % 2 else [])] for i, tokens in enumerate(sampled)]
    passes: list[int] = []
    handle = decoder._model.register_forward_hook(lambda *_: passes.append(1))
    scores = decoder.score(states, languages, sampled)
    handle.remove()
    assert len(passes) == 2  # of 8 texts and of 2
    decoder._model.set_attn_implementation("eager")
    for state, language, tokens, score in zip(states, languages, sampled, scores, strict=True):
        prompt = decoder._prompt(language, "transcribe")
        inputs = torch.tensor([[*prompt, *(tokens[:-1] if decoder.complete(tokens) else tokens)]])
        with torch.no_grad():
            out = decoder._model(encoder_outputs=BaseModelOutput(state[None]), decoder_input_ids=inputs,
                                 output_attentions=True, use_cache=False)  # fmt: skip
        logits = out.logits[0, len(prompt) - 1 :][: len(tokens)]
        logits[:, decoder._never] = -torch.inf
        logits[0, decoder._never_first] = -torch.inf
        logprobs = logits.log_softmax(-1)[torch.arange(len(tokens)), tokens].numpy()
        attention = torch.stack([out.cross_attentions[layer][0, head] for layer, head in decoder._heads]).numpy()
        assert score.first == len(prompt) - 1 and score.logprobs.shape == (len(tokens),)
        assert np.array_equal(np.isinf(score.logprobs), np.isinf(logprobs))
        np.testing.assert_allclose(score.logprobs, logprobs, atol=2e-6, rtol=1e-6)
        np.testing.assert_allclose(score.attention, attention, atol=1e-6)
    decoder._model.set_attn_implementation("sdpa")


def test_only_the_search_waits_for_the_device_in_the_lock(tiny_folder: Path, voice: Callable[..., Samples]) -> None:
    """It has to know after each token if all texts have ended."""
    audios = [voice(1.0 + seed, seed) for seed in range(3)]
    here = rows(load(tiny_folder), *audios)
    with pretend_cuda() as device:
        device.lock = inference._LAUNCHING
        encoder = Transcript("transcript-tiny", read(tiny_folder), Runtime.create("cuda", "float32"))
        waits: dict[str, int] = {}
        for name in ("states", "open", "sample", "score"):
            work = getattr(encoder._decoder, name)

            def counted(*given: Any, name: str = name, work: Callable[..., Any] = work) -> Any:
                before = device.counts["waits in the lock"]
                out = work(*given)
                waits[name] = waits.get(name, 0) + device.counts["waits in the lock"] - before
                return out

            setattr(encoder._decoder, name, counted)
        there = rows(encoder, *audios)
    for a, b in zip(here, there, strict=True):
        assert_close(a, b)
    assert waits.pop("sample") > 0 and set(waits.values()) == {0}


def test_languages_and_translation(tiny: Transcript, voice: Callable[..., Samples]) -> None:
    for row in rows(tiny, *(voice(1.0, seed) for seed in range(6))):
        assert row["language"] in ("en", "fr", "zh") and 1 / 3 < row["language_probability"] < 1
        if row["language"] == "en":
            assert row["translation"] == row["text"]


def test_silence_gives_an_empty_row(tiny: Transcript) -> None:
    (row,) = rows(tiny, np.zeros(500_000, np.float32))
    assert row == dict.fromkeys(COLUMNS) | {
        "text": "", "raw_text": "", "translation": "", "flag": "silence", "words": [],
    }  # fmt: skip


def test_faults_do_not_disturb_the_others(tiny: Transcript, voice: Callable[..., Samples]) -> None:
    good, nan = voice(1.0), voice(1.0)
    nan[3] = np.nan
    clips = [Clip("none"), Clip("empty", good[:0]), Clip("nan", nan), Clip("good", good)]
    results = tiny.encode(clips, [None])
    assert [r.reason for r in results if isinstance(r, InputFailure)] == ["no_audio", "empty", "not_finite"]
    assert isinstance(results[3], dict)
    assert_close(dict(results[3][None]), rows(tiny, good)[0])
    assert tiny.encode(clips[:1], [None])[0] is not None and tiny.encode([], [None]) == []


def test_english_only_models(make_tiny: Callable[..., Path], voice: Callable[..., Samples]) -> None:
    encoder = load(make_tiny(languages=()))
    (row,) = rows(encoder, voice(1.0))
    assert (row["language"], row["language_probability"]) == ("en", 1.0) and row["translation"] == row["text"]
    assert encoder.recipe(None)["language"] == "en" and encoder.recipe(None)["tasks"] == ["transcribe"]


def test_models_with_a_pruned_decoder_do_not_translate(
    make_tiny: Callable[..., Path], voice: Callable[..., Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    for checks in (transcript, transcript_checks):  # what random weights say is full of repetitions
        monkeypatch.setattr(checks, "repeats", lambda text: False)
    for layers, tasks in ((2, ["transcribe", "translate"]), (1, ["transcribe"])):
        encoder = load(make_tiny(("fr",), layers))
        (row,) = rows(encoder, voice(1.0))
        assert row["language"] == "fr" and row["text"] and encoder.recipe(None)["tasks"] == tasks
        assert (row["translation"] is None) == (layers == 1)


def test_recipe_and_planning(tiny: Transcript, tiny_folder: Path, tmp_path: Path) -> None:
    recipe = tiny.recipe(None)
    assert (recipe["kind"], recipe["encoder"], recipe["inputs"]) == ("table", "transcript-tiny", ["audio"])
    assert recipe["checks"]["compression_ratio_above"] == 2.4 and recipe["decoding"]["max_tokens"] == 20
    assert str(tiny_folder) not in json.dumps(recipe)
    assert load(tiny_folder, "bf16").recipe(None) == recipe | {"precision": "bf16"}
    other = load(change(tiny_folder, tmp_path / "tiny", suppress_tokens=[2]))
    assert other.recipe(None) == recipe | {"config_sha256": other.recipe(None)["config_sha256"]} != recipe
    assert tiny.cost(Utterance("a", duration=30.1)) == 60 and tiny.expected_frames(Utterance("a")) == 1
    with pytest.raises(EmocacheError, match="'transcript-tiny' has no layers"):
        tiny.recipe(1)


def test_the_first_seconds_are_transcribed_as_if_there_were_no_others(
    tiny: Transcript, tiny_folder: Path, voice: Callable[..., Samples]
) -> None:
    first = FifteenSecondTranscript("transcript-tiny-15s", read(tiny_folder), Runtime.create("cpu", "float32"))
    long, short = voice(31.0), voice(3.0)
    assert rows(first, long, short) == rows(tiny, long[: 15 * 16_000], short)
    changed = {"encoder": "transcript-tiny-15s", "clips": {"samples": 240_000}}
    assert first.recipe(None) == tiny.recipe(None) | changed
    assert first.cost(Utterance("a", duration=30.1)) == 30 < tiny.cost(Utterance("a", duration=30.1))


def test_lower_precision_runs(tiny_folder: Path, voice: Callable[..., Samples]) -> None:
    (row,) = rows(load(tiny_folder, "bf16"), voice(1.0))
    assert row["raw_text"] and row["language"]


def test_without_alignment_heads_the_upper_half_is_used(
    tiny: Transcript, tiny_folder: Path, tmp_path: Path, voice: Callable[..., Samples]
) -> None:
    other = load(change(tiny_folder, tmp_path / "tiny", alignment_heads=None))
    assert_close(rows(other, voice(1.0))[0], rows(tiny, voice(1.0))[0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eos_token_id": None}, "generation_config.json lacks eos_token_id; copy generation_config.json from"),
        ({"task_to_id": None, "lang_to_id": None}, "lacks lang_to_id, task_to_id"),
        ({"alignment_heads": [[2, 0]]}, "do not fit a decoder of 2 layers with 2 heads"),
    ],
)
def test_unusable_settings(settings: dict[str, Any], message: str, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EmocacheError, match=message):
        load(change(tiny_folder, tmp_path / "odd", **settings))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["generation_config.json"], "there is no generation_config.json; copy generation_config.json"),
        (
            ["tokenizer.json", "vocab.json", "merges.txt"],
            "there is no tokenizer.json or vocab.json, without which no word is known",
        ),
    ],
)
def test_missing_files(files: list[str], message: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "tiny")
    for name in files:
        (folder / name).unlink(missing_ok=True)
    with pytest.raises(EmocacheError, match=message):
        load(folder)


# --- the real model


@pytest.mark.slow
def test_real_speech(real: Transcript, speech: dict[str, Samples]) -> None:
    names, audios = list(speech)[:3], list(speech.values())[:3]
    noise = np.random.default_rng(0).normal(0, 0.1, 80_000).astype(np.float32)
    *together, hiss = rows(real, *audios, noise)
    assert hiss["flag"] == "silence" and hiss["text"] == hiss["translation"] == "" != hiss["raw_text"]
    for name, row in zip(names, together, strict=True):
        assert plain(row["text"]) == SENTENCES[name.split("-")[4]].split()
        assert row["language"] == "en" and row["translation"] == row["text"] == row["raw_text"]
        assert row["flag"] is None and row["avg_logprob"] > -0.5 and row["no_speech_prob"] < 0.6
        # About a second is silent before, and another after.
        assert 0.6 < row["words"][0]["start"] < 1.3 and row["words"][-1]["end"] < len(speech[name]) / 16_000 - 0.5
    assert_close(rows(real, audios[0])[0], together[0])


def test_scores_are_those_of_the_search(real: Transcript, speech: dict[str, Samples]) -> None:
    from transformers.modeling_outputs import BaseModelOutput

    decoder = real._decoder
    model = decoder._model
    with torch.no_grad():
        states = decoder.states([next(iter(speech.values()))])
        (sampled,) = decoder.sample(states, ["en"], "transcribe")
        prompt = torch.tensor([[50258, 50259, 50359, 50363]])  # start, English, transcribe, no time stamps
        out = model.generate(
            encoder_outputs=BaseModelOutput(states), decoder_input_ids=prompt, force_unique_generate_call=True,
            return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        start = model(encoder_outputs=BaseModelOutput(states), decoder_input_ids=prompt).logits[0, 0].softmax(-1)
    assert out.sequences[0, 4:].tolist() == sampled and decoder.complete(sampled)
    expected = [scores[0].log_softmax(-1)[token].item() for scores, token in zip(out.scores, sampled, strict=True)]
    np.testing.assert_allclose(decoder.score(states, ["en"], [sampled])[0].logprobs, expected, atol=1e-4)
    assert decoder.open(states)[0].no_speech_prob == pytest.approx(start[50362].item(), abs=1e-5)


@pytest.mark.slow
def test_a_long_clip_is_joined_from_windows(
    real: Transcript, speech: dict[str, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    names, audios = list(speech)[:11], list(speech.values())[:11]
    long = np.concatenate(audios)
    assert 38 * 16_000 < len(long) < 42 * 16_000
    # Two sentences said in turn are as repetitive as a decoder that runs in circles.
    monkeypatch.setattr(transcript_checks, "COMPRESSION_RATIO", 9.0)
    (row,) = rows(real, long)
    assert plain(row["text"]) == " ".join(SENTENCES[name.split("-")[4]] for name in names).split()
    bounds = np.cumsum([0, *map(len, audios)]) / 16_000
    for number, (start, end) in enumerate(pairwise(bounds)):
        words = row["words"][6 * number : 6 * number + 6]
        assert words[0]["start"] > start and words[-1]["end"] < end
    monkeypatch.undo()
    assert repeats(row["text"])
