"""The manifest: one table that says what a corpus holds, and nothing about features."""

import hashlib
import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from . import parquet
from .errors import EmocacheError
from .expression import chosen, parse_expression
from .hints import did_you_mean
from .recipe import Input, base_inputs, check_corpus_name, item_key
from .utterance import Media, Track, Utterance, Word, check

_TEXT_COLUMNS = ("speaker", "session", "culture", "language", "gender", "split", "text", "words_source")
_MEDIA = {
    **dict.fromkeys(("role", "path", "sha256"), pa.string()),
    **dict.fromkeys(("start", "end"), pa.float64()),
    "region": pa.list_(pa.float64()),
}
_READING = {"reading": pa.string()}  # absent where no medium has one, so that these manifests keep their bytes
_BASE = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("media", pa.list_(pa.struct(_MEDIA))),
    *(pa.field(name, pa.float64()) for name in ("start", "end", "duration")),
    *(pa.field(name, pa.string()) for name in _TEXT_COLUMNS),
    pa.field("words", pa.list_(pa.struct({"word": pa.string(), "start": pa.float64(), "end": pa.float64()}))),
]
_TRACK = pa.struct({"times": pa.list_(pa.float64()), "values": pa.list_(pa.float64())})


class Manifest:
    """The utterances of one corpus, sorted by id.

    Build it with `from_utterances`; it is immutable. Columns are those of `Utterance`, labels as `label.<name>`
    (string or float64) and tracks as `track.<name>`.
    """

    def __init__(self, corpus: str, table: pa.Table, sha256: str) -> None:
        self.corpus = corpus
        self.table = table
        self.sha256 = sha256  # of the Parquet bytes
        self.ids: list[str] = table.column("id").to_pylist()

    @classmethod
    def from_utterances(cls, corpus: str, utterances: Sequence[Utterance]) -> "Manifest":
        """Check, sort and pack utterances.

        Args:
            corpus: its name.
            utterances: in any order; at least one.

        Returns:
            the manifest, its utterances sorted by id.

        Raises:
            EmocacheError: no utterance, an id twice, an id that cannot be one, a label that is a string here and a
                number there, NaN in a label or track, or times that do not increase.
        """
        check_corpus_name(corpus)
        if not utterances:
            raise EmocacheError(f"corpus {corpus!r}: no utterance found; is this the right folder?")
        rows = sorted(utterances, key=lambda u: u.id)
        for before, after in pairwise(rows):
            if before.id == after.id:
                paths = [m.path for u in (before, after) for m in u.media] or ["no media"]
                raise EmocacheError(
                    f"corpus {corpus!r}: id {after.id!r} occurs twice ({', '.join(paths)}); ids must be unique"
                )
        for row in rows:
            check(corpus, row)
        try:
            return cls.from_bytes(corpus, _to_bytes(_pack(corpus, rows)))
        except UnicodeEncodeError as error:
            raise EmocacheError(f"corpus {corpus!r}: {error.object!r} is not valid Unicode; rename it") from error

    @classmethod
    def from_bytes(cls, corpus: str, data: bytes) -> "Manifest":
        """Read what `to_bytes` wrote."""
        return cls(corpus, parquet.read(data), hashlib.sha256(data).hexdigest())

    def to_bytes(self) -> bytes:
        """Parquet with page checksums."""
        return _to_bytes(self.table)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, utterance_id: object) -> bool:
        return isinstance(utterance_id, str) and position(self.ids, utterance_id) is not None

    def __iter__(self) -> Iterator[Utterance]:
        for start in range(0, len(self), 4096):
            for row in self.table.slice(start, 4096).to_pylist():
                yield _unpack(row)

    def __getitem__(self, utterance_id: str) -> Utterance:
        row = position(self.ids, utterance_id)
        if row is None:
            raise KeyError(utterance_id)
        return _unpack(self.table.slice(row, 1).to_pylist()[0])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.corpus == other.corpus and self.table.equals(other.table)

    __hash__ = None  # type: ignore[assignment]

    @property
    def label_names(self) -> list[str]:
        """Names of the utterance labels."""
        return [name[6:] for name in self.table.column_names if name.startswith("label.")]

    @property
    def track_names(self) -> list[str]:
        """Names of the time-stamped labels."""
        return [name[6:] for name in self.table.column_names if name.startswith("track.")]

    def column(self, name: str) -> list[Any]:
        """Return one column.

        Args:
            name: a field of `Utterance`, or a label by its bare name.

        Returns:
            one cell an utterance, in the order of `ids`; None where there is no value.

        Raises:
            EmocacheError: there is no such column; the message lists those there are.
        """
        for candidate in (name, f"label.{name}"):
            if candidate in self.table.column_names:
                return self.table.column(candidate).to_pylist()  # type: ignore[no-any-return]
        known = [*_TEXT_COLUMNS, *self.label_names]
        raise EmocacheError(f"corpus {self.corpus!r} has no column {name!r}; {did_you_mean(name, known)}it has:"
                            f" {', '.join(known)}")  # fmt: skip

    def item_keys(self, stream_fingerprint: str, inputs: Sequence[Input]) -> dict[str, str]:
        """{utterance id: item key} of every utterance, for a stream that declares these inputs."""
        wanted = {"audio": ("media", "start", "end"), "video": ("media", "start", "end")}
        columns = {"id", *(c for name in base_inputs(inputs) for c in wanted.get(name, (name,)))}
        keys = {}
        for batch in self.table.select(sorted(columns)).to_batches(max_chunksize=4096):
            for row in batch.to_pylist():
                utterance = _unpack({"media": None, "words": None, **row})
                keys[utterance.id] = item_key(stream_fingerprint, utterance.id, utterance.inputs_sha256(inputs))
        return keys

    def select(self, expression: str) -> list[str]:
        """Choose utterances by their columns.

        "corpus" is a column too. A number is compared as a number, a text as it stands: see `expression.matches`.

        Args:
            expression: `all`, or `column=value[|value]` terms joined by commas, all of which must hold.

        Returns:
            the ids of the utterances chosen, sorted.

        Raises:
            EmocacheError: a malformed term, an unknown column, or a value that selects nothing.
        """
        terms = [
            (column, {value: {value} for value in sorted(values)}) for column, values in parse_expression(expression)
        ]
        try:
            kept = chosen(terms, self._cells, f"utterance of corpus {self.corpus!r}")
        except EmocacheError as error:
            raise EmocacheError(f"expression {expression!r}: {error}") from None
        return self.ids if kept is None else [id_ for id_, fits in zip(self.ids, kept, strict=True) if fits]

    def _cells(self, column: str) -> list[Any]:
        return [self.corpus] * len(self) if column == "corpus" else self.column(column)


def position(ids: Sequence[str], utterance_id: str) -> int | None:
    """Return the place of an id in a sorted list of ids; None if it has none."""
    # By bisection: a dict of a million ids would take 255 MB.
    row = bisect_left(ids, utterance_id)
    return row if row < len(ids) and ids[row] == utterance_id else None


def _to_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    # Without the Arrow schema, whose names of list elements change when a file is read: equal tables give equal bytes.
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=False)
    return sink.getvalue()


def _pack(corpus: str, rows: Sequence[Utterance]) -> pa.Table:
    columns: dict[str, list[Any]] = {f.name: [] for f in _BASE}
    labels = sorted({name for row in rows for name in row.labels})
    tracks = sorted({name for row in rows for name in row.tracks})
    media = _MEDIA | (_READING if any(m.reading is not None for row in rows for m in row.media) else {})
    for row in rows:
        for name in columns:
            value = getattr(row, name)
            if name == "media":
                value = [{name: getattr(m, name) for name in media} for m in row.media]
            elif name == "words":
                value = [{"word": w.word, "start": w.start, "end": w.end} for w in row.words]
            columns[name].append(value)
    fields = [f.with_type(pa.list_(pa.struct(media))) if f.name == "media" else f for f in _BASE]
    arrays = [pa.array(columns[f.name], f.type) for f in fields]
    for name in labels:
        values = [row.labels.get(name) for row in rows]
        # A Parquet column has one type, so a label that is text anywhere must be text everywhere.
        kinds = {str if isinstance(v, str) else float for v in values if v is not None}
        if len(kinds) > 1:
            raise EmocacheError(f"corpus {corpus!r}: label {name!r} holds both text and numbers; make it one of them")
        type_ = pa.float64() if kinds == {float} else pa.string()
        arrays.append(pa.array([v if v is None or kinds == {str} else float(v) for v in values], type_))
        fields.append(pa.field(f"label.{name}", type_))
    for name in tracks:
        found = [row.tracks.get(name) for row in rows]
        cells = [t and {"times": t.times.tolist(), "values": t.values.tolist()} for t in found]
        arrays.append(pa.array(cells, _TRACK))
        fields.append(pa.field(f"track.{name}", _TRACK))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def _unpack(row: dict[str, Any]) -> Utterance:
    labels = {k[6:]: v for k, v in row.items() if k.startswith("label.") and v is not None}
    tracks = {
        k[6:]: Track(np.asarray(v["times"], np.float64), np.asarray(v["values"], np.float64))
        for k, v in row.items()
        if k.startswith("track.") and v is not None
    }
    plain = {k: v for k, v in row.items() if "." not in k and k not in ("media", "words")}
    media = tuple(_media(**m) for m in row["media"] or ())
    words = tuple(Word(**w) for w in row["words"] or ())
    return Utterance(**plain, media=media, words=words, labels=labels, tracks=tracks)


def _media(region: Sequence[float] | None = None, **fields: Any) -> Media:
    x = tuple(region) if region is not None else None
    return Media(**fields, region=x)  # type: ignore[arg-type]
