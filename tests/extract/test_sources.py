"""Texts and words from other streams: whose they are, what the item keys say, and what happens where a source fails."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emocache.cache import Cache, EmocacheError, InputFailure, Manifest, Media, Utterance, Word
from emocache.extract.pipeline.clips import Decoder
from emocache.extract.pipeline.sources import Sources

TRANSCRIPT = {"kind": "table", "encoder": "transcript-tiny", "layer": None, "inputs": ["audio"]}
ALIGNMENT = {"kind": "table", "encoder": "align-tiny", "layer": None, "inputs": ["audio", "text"]}
SPOKEN = {"text": "Guten Tag", "translation": "Good day", "words": [{"word": "Guten", "start": 0.1, "end": 0.4}]}
UTTERANCES = [
    Utterance(i, (Media("audio", f"{i}.wav", f"{n:064x}"),), text="corpus text", words=(Word("corpus", 0.0, 0.2),))
    for n, i in enumerate(("a", "b", "c"))
]


def fill(root: Path, recipe: dict[str, Any], rows: Mapping[str, Any], failed: tuple[str, ...] = ()) -> Cache:
    cache = Cache(root)
    if "toy" not in cache.corpora():
        cache.put_manifest(Manifest.from_utterances("toy", UTTERANCES))
    writer = cache.create_stream("toy", recipe["encoder"], recipe)
    writer.commit("00", rows, {i: InputFailure("undecodable", "noise") for i in failed})
    writer.finish()
    return cache


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    fill(tmp_path, ALIGNMENT, {i: {"words": [{"word": "corpus", "start": 0.5, "end": 0.9}]} for i in "abc"})
    return fill(tmp_path, TRANSCRIPT, {"a": SPOKEN, "b": {**SPOKEN, "text": "", "words": []}}, failed=("c",))


def test_without_sources_all_is_the_corpus_own(cache: Cache) -> None:
    own = Sources.open(cache, "toy", None, None)
    assert own.fill(UTTERANCES) == UTTERANCES and own.tag(("text", "words")) == "" and own.recipe(("text",)) == {}


def test_the_text_and_words_of_a_transcript(cache: Cache) -> None:
    heard = Sources.open(cache, "toy", "transcript-tiny", None)
    a, b, c = heard.fill(UTTERANCES)
    assert (a.text, [w.word for w in a.words], a.words_source) == ("Guten Tag", ["Guten"], "transcript-tiny")
    assert (b.text, b.words) == ("", ()) and (c.text, c.words) == (None, ())
    assert heard.tag(("text",)) == ".from-tiny" and heard.tag(("audio",)) == ""


def test_a_source_that_failed_is_a_fault_of_the_input(cache: Cache, tmp_path: Path) -> None:
    heard = Sources.open(cache, "toy", "transcript-tiny", None)
    assert {i: {n: f.reason for n, f in heard.faults(i).items()} for i in "abc"} == {
        "a": {}, "b": {}, "c": {"text": "no_text", "words": "no_words"}
    }  # fmt: skip
    assert heard.faults("c")["text"].detail == "transcript-tiny has failed (undecodable: noise)"
    clip = Decoder(tmp_path, frozenset(), sources=heard)(heard.fill(UTTERANCES)[2])
    assert list(clip.faults) == ["text", "words"] and clip.text is None


def test_a_translation_has_no_words_of_its_own(cache: Cache) -> None:
    english = Sources.open(cache, "toy", "transcript-tiny:translation", None)
    (a, *_) = english.fill(UTTERANCES)
    assert (a.text, a.words) == ("Good day", ()) and english.tag(("text", "words")) == ".from-tiny-translation"
    assert len(english.recipe(("text", "words"))["inputs"]) == 1


def test_words_of_an_alignment_with_the_text_of_the_corpus(cache: Cache) -> None:
    aligned = Sources.open(cache, "toy", None, "align-tiny")
    (a, *_) = aligned.fill(UTTERANCES)
    assert (a.text, a.words) == ("corpus text", (Word("corpus", 0.5, 0.9),))
    text, words = aligned.recipe(("text", "words"))["inputs"]
    assert text == "text" and words["inputs"] == ["audio", "text"] and aligned.tag(("text", "words")) == ""


def keys(cache: Cache, changed: Utterance, recipe: dict[str, Any]) -> dict[str, str]:
    utterances = [changed if u.id == changed.id else u for u in UTTERANCES]
    return Manifest.from_utterances("toy", utterances).item_keys("f" * 64, recipe["inputs"])


def test_item_keys_follow_what_the_source_depends_on(cache: Cache) -> None:
    a, stranger = UTTERANCES[0], Media("audio", "a.wav", "9" * 64)
    heard = Sources.open(cache, "toy", "transcript-tiny", None).recipe(("text", "words"))
    before = keys(cache, a, heard)
    assert keys(cache, replace(a, text="another", words=()), heard) == before
    other = keys(cache, replace(a, media=(stranger,)), heard)
    assert other["a"] != before["a"] and other["b"] == before["b"]
    aligned = Sources.open(cache, "toy", None, "align-tiny").recipe(("text", "words"))
    assert keys(cache, replace(a, text="another"), aligned)["a"] != keys(cache, a, aligned)["a"]
    assert keys(cache, replace(a, words=()), aligned) == keys(cache, a, aligned)


def test_a_stream_over_a_transcript_is_served_and_goes_stale(cache: Cache) -> None:
    recipe = {"kind": "table", "encoder": "reader", "layer": None, "inputs": ["text"]}
    recipe |= Sources.open(cache, "toy", "transcript-tiny", None).recipe(("text",))
    writer = cache.create_stream("toy", "reader.from-tiny", recipe)
    writer.commit("00", {i: {"length": n} for n, i in enumerate("abc")})
    writer.finish()
    assert cache.stream("toy", "reader.from-tiny").ids == ["a", "b", "c"]
    changed = replace(UTTERANCES[0], media=(Media("audio", "a.wav", "9" * 64),))
    cache.put_manifest(Manifest.from_utterances("toy", [changed, *UTTERANCES[1:]]))
    assert cache.stream("toy", "reader.from-tiny").ids == ["b", "c"]


def test_a_source_must_have_what_is_wanted_of_it(tmp_path: Path) -> None:
    """Else every utterance would fail for want of a text."""
    fill(tmp_path, ALIGNMENT, {i: {"words": []} for i in "abc"})
    cache = fill(tmp_path, TRANSCRIPT, {i: {**SPOKEN, "translation": None} for i in "abc"})
    for text, words, complaint in (
        ("align-tiny", None, r"--text-from align-tiny: no row of it has a 'text'; .* an alignment has words alone"),
        ("transcript-tiny:translation", None, r"no row of it has a 'translation'; .* made to translate"),
    ):
        with pytest.raises(EmocacheError, match=complaint):
            Sources.open(cache, "toy", text, words)
    fill(tmp_path, {**TRANSCRIPT, "encoder": "numbers"}, {"a": {"length": 3}})
    with pytest.raises(EmocacheError, match="--words-from numbers: no row of it has a 'words'"):
        Sources.open(cache, "toy", None, "numbers")
    assert Sources.open(cache, "toy", None, "align-tiny").words is not None


def test_the_command_that_fills_a_source_may_name_it(cache: Cache) -> None:
    assert Sources.open(cache, "toy", "not-there-yet", "nor-this", ("audio",)) == Sources()
    aligning = Sources.open(cache, "toy", "transcript-tiny", "not-there-yet", ("audio", "text"))
    assert aligning.text is not None and aligning.recipe(("audio", "text"))["inputs"][0] == "audio"


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    cache = fill(tmp_path, TRANSCRIPT, {"a": SPOKEN})
    frames: dict[str, Any] = {
        "kind": "frames", "encoder": "e", "layer": None, "inputs": ["audio"], "dim": 3, "dtype": "float16",
        "times": None, "aux": {},
    }  # fmt: skip
    cache.create_stream("toy", "e", frames)
    heard = Sources.open(cache, "toy", "transcript-tiny", None)
    with pytest.raises(EmocacheError, match=r"lacks 2 of the 3 utterances, such as 'b'; .*--encoder transcript-tiny"):
        heard.check([utterance.id for utterance in UTTERANCES])
    heard.check(["a"])
    assert heard.fill(UTTERANCES[:1])[0].text == "Guten Tag"
    with pytest.raises(EmocacheError, match="--words-from e: that is a stream of frames; name a transcript or"):
        Sources.open(cache, "toy", None, "e")
    with pytest.raises(EmocacheError, match="--text-from transcript-tiny:french: 'french' is neither of text, transl"):
        Sources.open(cache, "toy", "transcript-tiny:french", None)
    with pytest.raises(EmocacheError, match="--words-from e: its words are those that were spoken, not those of --te"):
        Sources.open(cache, "toy", "transcript-tiny:translation", "e")
    with pytest.raises(EmocacheError, match=r"--text-from nothing: there is no such stream; first .* nothing alone"):
        Sources.open(cache, "toy", "nothing", None)
