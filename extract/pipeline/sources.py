"""Texts and words that come from another stream (a transcript, an alignment) instead of from the corpus."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...cache import Cache, EmocacheError, InputFailure, Stream, Utterance, Word
from ...cache.recipe import Input

_COLUMNS = ("text", "translation")


@dataclass(frozen=True)
class Sources:
    """The sources of texts and words.

    Attributes:
        text: table stream with the column `column`, or None for the corpus's own text.
        column: "text" or "translation".
        words: table stream with a column `words`, or None for the corpus's own, or those of `text`.
    """

    text: Stream | None = None
    column: str = "text"
    words: Stream | None = None

    @classmethod
    def open(
        cls,
        cache: Cache,
        corpus: str,
        text_from: str | None,
        words_from: str | None,
        inputs: Collection[str] = ("text", "words"),
    ) -> "Sources":
        """Open the streams named, as far as they are needed: the command that fills one may name it already.

        Args:
            cache: the cache.
            corpus: its corpus.
            text_from: `STREAM` or `STREAM:translation`.
            words_from: `STREAM`.
            inputs: of all encoders.

        Returns:
            The sources; without a name the corpus itself is the source.

        Raises:
            EmocacheError: no such stream, or one without texts or words.
        """
        name, _, column = (text_from or "").partition(":")
        if (column or "text") not in _COLUMNS:
            raise EmocacheError(f"--text-from {text_from}: {column!r} is neither of {', '.join(_COLUMNS)}")
        text = words = None
        if name and not {"text", "words"}.isdisjoint(inputs):
            text = _table(cache, corpus, name, "--text-from", column or "text")
        if words_from and column == "translation":
            raise EmocacheError(
                f"--words-from {words_from}: its words are those that were spoken, not those of --text-from"
                f" {text_from}; leave one of them out"
            )
        if words_from and "words" in inputs:
            words = _table(cache, corpus, words_from, "--words-from", "words")
        if text is not None and words is None and (column or "text") == "text":
            words = text
        return cls(text, column or "text", words)

    def tag(self, inputs: Sequence[str]) -> str:
        """Return what the name of a stream tells of its text: "" for the corpus's own."""
        if self.text is None or "text" not in inputs:
            return ""
        source = str(self.text.recipe["encoder"]).removeprefix("transcript-")
        return f".from-{source}" + ("-translation" if self.column == "translation" else "")

    def recipe(self, inputs: Sequence[str]) -> dict[str, Any]:
        """The parts of the recipe that differ for an encoder with these inputs; empty if all is the corpus's own."""
        found: list[Input] = []
        told: dict[str, Any] = {}
        for name in inputs:
            stream = {"text": self.text, "words": self.words}.get(name)
            if stream is not None:
                one: Input = {"stream": stream.fingerprint, "inputs": stream.recipe["inputs"]}
                told[f"{name}_from"] = {"encoder": stream.recipe["encoder"]}
                if name == "text":
                    told["text_from"]["column"] = self.column
            elif name == "words" and self.text is not None:
                continue  # the words are not those of this text
            else:
                one = name
            if one not in found:
                found.append(one)
        return {"inputs": found, **told} if told else {}

    def check(self, ids: Sequence[str]) -> None:
        """Refuse utterances of the manifest that a source lacks, though it has not failed; EmocacheError."""
        for stream in (self.text, self.words):
            if stream is None:
                continue
            absent = [i for i in ids if i not in stream and i not in stream.failures]
            if absent:
                raise EmocacheError(
                    f"{stream.corpus}/{stream.name} lacks {len(absent)} of the {len(ids)} utterances, such as"
                    f" {absent[0]!r}; first run the same command with --encoder {stream.recipe['encoder']} alone"
                )

    def fill(self, utterances: Iterable[Utterance]) -> list[Utterance]:
        """Return utterances with text and words from the sources; None and empty where a source has failed."""
        return [self._filled(utterance) for utterance in utterances]

    def faults(self, utterance_id: str) -> dict[str, InputFailure]:
        """{input: why a source has nothing for it} of one utterance."""
        found = {}
        for name, stream, reason in (("text", self.text, "no_text"), ("words", self.words, "no_words")):
            if stream is not None and utterance_id in stream.failures:
                why = ": ".join(stream.failures[utterance_id])
                found[name] = InputFailure(reason, f"{stream.name} has failed ({why})")
        return found

    def _filled(self, utterance: Utterance) -> Utterance:
        i = utterance.id
        if self.text is not None:
            row = self.text.row(i) if i in self.text else {}
            utterance = replace(utterance, text=row.get(self.column), words=(), words_source=None)
        if self.words is not None:
            rows = self.words.row(i).get("words", []) if i in self.words else []
            words = tuple(Word(w["word"], w["start"], w["end"]) for w in rows)
            utterance = replace(utterance, words=words, words_source=str(self.words.recipe["encoder"]))
        return utterance


def _table(cache: Cache, corpus: str, name: str, option: str, column: str) -> Stream:
    if name.partition("@")[0] not in {info.name for info in cache.streams(corpus)}:
        raise EmocacheError(f"{option} {name}: there is no such stream; first run extract with --encoder {name} alone")
    stream = cache.stream(corpus, name)
    if stream.recipe["kind"] != "table":
        raise EmocacheError(f"{option} {name}: that is a stream of frames; name a transcript or an alignment")
    # Rows come without their null values.
    if stream.ids and not any(column in stream.row(i) for i in stream.ids):
        raise EmocacheError(
            f"{option} {name}: no row of it has a {column!r}; a transcript has text and words, and a translation where"
            " its model was made to translate, an alignment has words alone"
        )
    return stream
