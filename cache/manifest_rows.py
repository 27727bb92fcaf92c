"""Utterances as rows of the manifest's table, there and back."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .errors import EmocacheError
from .utterance import Media, Track, Utterance, Word

TEXT_COLUMNS = ("speaker", "session", "culture", "language", "gender", "split", "text", "words_source")
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
    *(pa.field(name, pa.string()) for name in TEXT_COLUMNS),
    pa.field("words", pa.list_(pa.struct({"word": pa.string(), "start": pa.float64(), "end": pa.float64()}))),
]
_TRACK = pa.struct({"times": pa.list_(pa.float64()), "values": pa.list_(pa.float64())})


def to_parquet(table: pa.Table) -> bytes:
    """Parquet with page checksums."""
    sink = io.BytesIO()
    # Without the Arrow schema, whose names of list elements change when a file is read: equal tables give equal bytes.
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=False)
    return sink.getvalue()


def pack(corpus: str, rows: Sequence[Utterance]) -> pa.Table:
    """The table of utterances, in the order given.

    Raises:
        EmocacheError: a label that is text here and a number there.
    """
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


def unpack(row: dict[str, Any]) -> Utterance:
    """The utterance of a row, {column: cell}."""
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
