"""The manifest: one table that says what a corpus holds, and nothing about features."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from . import parquet
from .errors import EmocacheError
from .expression import chosen, parse_expression
from .hints import did_you_mean
from .ids import Ids
from .item_keys import columns_of, item_keys
from .manifest_rows import TEXT_COLUMNS, pack, to_parquet, unpack
from .recipe import Input, check_corpus_name
from .sealed import DamagedError
from .utterance import Utterance, check

_ROWS = 4096  # that are made objects at a time


class Manifest:
    """The utterances of one corpus, sorted by id.

    Build it with `from_utterances`; it is immutable. Columns are those of `Utterance`, labels as `label.<name>`
    (string or float64) and tracks as `track.<name>`; each is read from the Parquet bytes when it is asked for, so that
    a corpus of a million utterances is opened in no time.

    Attributes:
        corpus: its name. sha256: of the Parquet bytes.
        ids: sorted ids, which are no list but read like one.
    """

    def __init__(self, corpus: str, data: bytes) -> None:
        self.corpus = corpus
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._data = data
        self._names = parquet.column_names(data)
        self._rows = parquet.row_count(data)

    @cached_property
    def ids(self) -> Ids:
        """Ids of the utterances, sorted."""
        return Ids(self._read(["id"]).column("id"))

    @cached_property
    def table(self) -> pa.Table:
        """All columns, one row an utterance."""
        return self._read(self._names)

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
            return cls.from_bytes(corpus, to_parquet(pack(corpus, rows)))
        except UnicodeEncodeError as error:
            raise EmocacheError(f"corpus {corpus!r}: {error.object!r} is not valid Unicode; rename it") from error

    @classmethod
    def from_bytes(cls, corpus: str, data: bytes) -> "Manifest":
        """Read what `to_bytes` wrote; raises `pyarrow.ArrowException` or OSError where it is no Parquet file."""
        return cls(corpus, data)

    def to_bytes(self) -> bytes:
        """Parquet with page checksums."""
        return self._data

    def __len__(self) -> int:
        return self._rows

    def __contains__(self, utterance_id: object) -> bool:
        return utterance_id in self.ids

    def __iter__(self) -> Iterator[Utterance]:
        for batch in self._batches(None, _ROWS):
            for row in batch.to_pylist():
                yield unpack(row)

    def __getitem__(self, utterance_id: str) -> Utterance:
        row = self.ids.position(utterance_id)
        if row is None:
            raise KeyError(utterance_id)
        return unpack(self.table.slice(row, 1).to_pylist()[0])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest) or self.corpus != other.corpus:
            return False
        return self.sha256 == other.sha256 or bool(self.table.equals(other.table))

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which reads the columns it needs itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("ids", "table")}

    def rows(self, wanted: Collection[str]) -> Iterator[Utterance]:
        """The utterances with these ids, in the order of `ids`; only theirs are made objects."""
        places = self.ids.positions(list(wanted))
        kept = np.zeros(len(self), bool)
        kept[places[places >= 0]] = True
        start = 0
        for batch in self._batches(None, _ROWS):
            mask = kept[start : start + len(batch)]
            start += len(batch)
            for row in batch.filter(pa.array(mask)).to_pylist() if mask.any() else ():
                yield unpack(row)

    @property
    def label_names(self) -> list[str]:
        """Names of the utterance labels."""
        return [name[6:] for name in self._names if name.startswith("label.")]

    @property
    def track_names(self) -> list[str]:
        """Names of the time-stamped labels."""
        return [name[6:] for name in self._names if name.startswith("track.")]

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
            if candidate in self._names:
                return self._read([candidate]).column(candidate).to_pylist()  # type: ignore[no-any-return]
        known = [*TEXT_COLUMNS, *self.label_names]
        raise EmocacheError(f"corpus {self.corpus!r} has no column {name!r}; {did_you_mean(name, known)}it has:"
                            f" {', '.join(known)}")  # fmt: skip

    def item_keys(
        self, stream_fingerprint: str, inputs: Sequence[Input], ids: Collection[str] | None = None
    ) -> dict[str, str]:
        """{utterance id: item key} for a stream that declares these inputs.

        Args:
            stream_fingerprint: of the stream.
            inputs: that its recipe declares.
            ids: the utterances wanted; those that the manifest lacks are left out. None: every one.
        """
        rows = np.arange(len(self)) if ids is None else np.unique(self.ids.positions(list(ids)))
        rows = rows[rows >= 0]
        keys = self.key_column(stream_fingerprint, inputs, rows)
        return {utterance: key.tobytes().hex() for utterance, key in zip(self.ids.at(rows), keys, strict=True)}

    def key_column(
        self, stream_fingerprint: str, inputs: Sequence[Input], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.void]:
        """Item keys of the utterances at these places of `ids`, which ascend: (len(rows),), 32 bytes each."""
        found, start = [b""], 0
        for batch in self._batches(columns_of(inputs), _ROWS) if len(rows) else ():
            first, last = np.searchsorted(rows, (start, start + len(batch)))
            wanted = batch.take(pa.array(rows[first:last] - start)) if last > first else None
            start += len(batch)
            if wanted is not None:
                found.append(bytes.fromhex("".join(item_keys(wanted, stream_fingerprint, inputs))))
        return np.frombuffer(b"".join(found), "V32")

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
        return list(self.ids) if kept is None else [id_ for id_, fits in zip(self.ids, kept, strict=True) if fits]

    def _cells(self, column: str) -> list[Any]:
        return [self.corpus] * len(self) if column == "corpus" else self.column(column)

    def _read(self, columns: Sequence[str]) -> pa.Table:
        try:
            return parquet.read(self._data, columns)
        except (pa.ArrowException, OSError, KeyError) as error:
            raise self._damage(error) from error

    def _batches(self, columns: Sequence[str] | None, rows: int) -> Iterator[pa.RecordBatch]:
        try:
            yield from parquet.batches(self._data, columns, rows)
        except (pa.ArrowException, OSError) as error:
            raise self._damage(error) from error

    def _damage(self, error: Exception) -> DamagedError:
        told = " ".join(str(error).split())
        return DamagedError(f"manifest of {self.corpus}: damaged ({told}); run `emocache extract {self.corpus}` again")
