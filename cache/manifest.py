"""The manifest: one table that says what a corpus holds, and nothing about features."""

import hashlib
import io
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from . import parquet
from .errors import EmocacheError
from .recipe import Input, base_inputs, canonical_json, check_corpus_name, item_key

Label = str | float | None
_MAX_ID = 512


@dataclass(frozen=True, slots=True)
class Media:
    """One media file of an utterance."""

    role: str  # "audio" or "video"; what the encoders ask for
    path: str  # POSIX path below the corpus folder; found again by the extractor only
    sha256: str  # of the file's bytes; goes into the item key, the path does not
    start: float | None = None  # seconds into this file, where start and end differ from the utterance's own
    end: float | None = None
    region: tuple[float, float, float, float] | None = None  # left, top, right, bottom of the picture, each 0 to 1


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its time span in seconds from the utterance's start."""

    word: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A time-stamped continuous label.

    Attributes:
        times: (N,) float64, seconds from the utterance's start, increasing.
        values: (N,) float64.
    """

    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Utterance:
    """One row of the manifest. Fields a corpus does not know stay None or empty."""

    id: str  # unique in the corpus; an arbitrary string, never used as a path
    media: tuple[Media, ...] = ()
    start: float | None = None  # seconds into the media; None: from its beginning
    end: float | None = None  # seconds into the media; None: to its end
    duration: float | None = None  # seconds, from the header; None where unreadable. Used to plan, never to cut
    speaker: str | None = None
    session: str | None = None  # session or dialogue: the group that shares a recording
    culture: str | None = None
    language: str | None = None
    gender: str | None = None
    split: str | None = None  # the owner's split: "train", "valid" or "test"
    text: str | None = None
    words: tuple[Word, ...] = ()
    words_source: str | None = None  # "corpus", "whisper-..." or "ctc-..."
    labels: Mapping[str, Label] = field(default_factory=dict)
    tracks: Mapping[str, Track] = field(default_factory=dict)

    def media_of(self, role: str) -> Media | None:
        """The media file with this role, or None."""
        return next((m for m in self.media if m.role == role), None)

    def span_of(self, role: str) -> tuple[float | None, float | None]:
        """Start and end of the utterance in the media file with this role, in seconds; None: the file's own."""
        media = self.media_of(role)
        if media is not None and (media.start is not None or media.end is not None):
            return media.start, media.end
        return self.start, self.end

    def inputs_sha256(self, inputs: Sequence[Input]) -> str:
        """Hash of what an encoder declares as its inputs, see `recipe.Input`."""
        parts: list[Any] = []
        for name in inputs:
            if isinstance(name, Mapping):
                parts.append(["item", item_key(name["stream"], self.id, self.inputs_sha256(name["inputs"]))])
            elif name in ("audio", "video"):
                media = self.media_of(name)
                parts.append([name, media and media.sha256, *self.span_of(name)])
                if media is not None and media.region is not None:
                    parts.append(["region", *media.region])
            elif name == "text":
                parts.append([name, self.text])
            elif name == "words":
                parts.append([name, [[w.word, w.start, w.end] for w in self.words]])
            else:
                raise ValueError(f"unknown input {name!r}")
        return hashlib.sha256(canonical_json(parts)).hexdigest()


_TEXT_COLUMNS = ("speaker", "session", "culture", "language", "gender", "split", "text", "words_source")
_MEDIA = {
    **dict.fromkeys(("role", "path", "sha256"), pa.string()),
    **dict.fromkeys(("start", "end"), pa.float64()),
    "region": pa.list_(pa.float64()),
}
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
            _check(corpus, row)
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
        """One column in the order of `ids`: a field of `Utterance`, or a label by its bare name.

        Raises:
            EmocacheError: there is no such column; the message lists those there are.
        """
        for candidate in (name, f"label.{name}"):
            if candidate in self.table.column_names:
                return self.table.column(candidate).to_pylist()  # type: ignore[no-any-return]
        known = ", ".join([*_TEXT_COLUMNS, *self.label_names])
        raise EmocacheError(f"corpus {self.corpus!r} has no column {name!r}; it has: {known}")

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
        """Ids that match `all`, or `column=value[|value]` terms joined by commas (all must hold).

        Raises:
            EmocacheError: a malformed term, an unknown column, or nothing selected.
        """
        chosen = set(self.ids)
        for term in [] if expression.strip() == "all" else expression.split(","):
            column, equals, values = term.partition("=")
            if not equals or not column.strip():
                raise EmocacheError(f"expression {expression!r}: {term!r} is not column=value[|value]; or say 'all'")
            wanted = {value.strip() for value in values.split("|")}
            cells = self.column(column.strip())
            chosen &= {i for i, cell in zip(self.ids, cells, strict=True) if cell is not None and str(cell) in wanted}
        if not chosen:
            raise EmocacheError(f"expression {expression!r} selects no utterance of corpus {self.corpus!r}")
        return sorted(chosen)


def position(ids: Sequence[str], utterance_id: str) -> int | None:
    """Where an id stands in a sorted list of ids; None if it does not. A dict of a million ids would take 255 MB."""
    row = bisect_left(ids, utterance_id)
    return row if row < len(ids) and ids[row] == utterance_id else None


def _to_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    # Without the Arrow schema, whose names of list elements change when a file is read: equal tables give equal bytes.
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True, store_schema=False)
    return sink.getvalue()


def _check(corpus: str, utterance: Utterance) -> None:
    where = f"corpus {corpus!r}: utterance {utterance.id!r}"
    if not 0 < len(utterance.id) <= _MAX_ID or not utterance.id.isprintable():
        raise EmocacheError(f"{where}: an id is 1 to {_MAX_ID} printable characters")
    for path in [utterance.id, *(m.path for m in utterance.media)]:
        parts = PurePosixPath(path.replace("\\", "/"))
        if ".." in parts.parts or (path is not utterance.id and parts.is_absolute()):
            raise EmocacheError(f"{where}: {path!r} leaves the corpus folder; ids and paths may not hold '..'")
    spans = [seconds for m in utterance.media for seconds in (m.start, m.end)]
    for seconds in (utterance.start, utterance.end, utterance.duration, *spans):
        if seconds is not None and not math.isfinite(seconds):
            raise EmocacheError(f"{where}: start, end or duration is {seconds}; leave it empty if unknown")
    for region in (m.region for m in utterance.media if m.region is not None):
        if len(region) != 4 or not (0 <= region[0] < region[2] <= 1 and 0 <= region[1] < region[3] <= 1):
            raise EmocacheError(f"{where}: region {region} is not left, top, right, bottom, each 0 to 1")
    for word in utterance.words:
        if not (math.isfinite(word.start) and math.isfinite(word.end)):
            raise EmocacheError(f"{where}: word {word.word!r} has times {word.start} to {word.end}; drop it")
    for name, value in utterance.labels.items():
        if value is not None and not isinstance(value, str) and not math.isfinite(value):
            raise EmocacheError(f"{where}: label {name!r} is {value}; leave missing labels empty")
    for name, track in utterance.tracks.items():
        if track.times.shape != track.values.shape or track.times.ndim != 1:
            raise EmocacheError(f"{where}: track {name!r} has {track.times.shape} times, {track.values.shape} values")
        if not (np.isfinite(track.times).all() and np.isfinite(track.values).all()):
            raise EmocacheError(f"{where}: track {name!r} holds NaN or infinity; drop those stamps")
        if (np.diff(track.times) <= 0).any():
            raise EmocacheError(f"{where}: the times of track {name!r} do not increase")


def _pack(corpus: str, rows: Sequence[Utterance]) -> pa.Table:
    columns: dict[str, list[Any]] = {f.name: [] for f in _BASE}
    labels = sorted({name for row in rows for name in row.labels})
    tracks = sorted({name for row in rows for name in row.tracks})
    for row in rows:
        for name in columns:
            value = getattr(row, name)
            if name == "media":
                value = [{name: getattr(m, name) for name in _MEDIA} for m in row.media]
            elif name == "words":
                value = [{"word": w.word, "start": w.start, "end": w.end} for w in row.words]
            columns[name].append(value)
    arrays = [pa.array(columns[f.name], f.type) for f in _BASE]
    fields = list(_BASE)
    for name in labels:
        values = [row.labels.get(name) for row in rows]
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
