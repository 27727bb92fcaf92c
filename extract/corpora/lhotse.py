"""Lhotse cut manifests, cuts.jsonl or cuts.jsonl.gz: one JSON object a line, read without Lhotse.

The fields are those of Lhotse's MonoCut, Recording and SupervisionSegment, https://lhotse.readthedocs.io, "Cuts".
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import IO, Any, cast

from ...cache import EmocacheError, Manifest, Word
from .files import MediaHasher
from .table import utterances

MAX_LINE = 1 << 24
"""Bytes of one cut; feature matrices inside the manifest would be longer."""

_LONGEST = 1e9  # seconds
_SUPERVISION = ("speaker", "gender", "language", "text")


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each cut.

    Columns are `id`, `file`, `start`, `end`, `speaker`, `gender`, `language` and `text`, and the custom fields of the
    cut and of its supervision (which wins over the cut's). The words are the supervision's alignment "word".

    Args:
        root: the folder with the manifest; the recordings' paths are relative to it, or absolute and below it.
        mapping: as for `table.load`; a manifest is found by `table=FILE` or as the only one named
            *cuts*.jsonl or *cuts*.jsonl.gz. `corpus=NAME` defaults to "lhotse".
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no manifest or several; a line that is no MonoCut of one file with one channel and at most one
            supervision; a recording that Lhotse would change, fetch, or have a command write; a word outside its
            cut; and whatever `table.load` raises.
    """
    source = _find(root, mapping.get("table"))
    rows, words = [], []
    for number, line in _lines(source):
        where = f"{source.name}, line {number}"
        cut = _parse(where, line)
        row, supervision = _row(where, root, cut)
        rows.append(row)
        words.append(_words(where, supervision, row["start"], row["end"]))
    if not rows:
        raise EmocacheError(f"corpus lhotse: {source} has no cuts")
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(name for row in rows for name in row)}
    found = utterances(source, root, columns, mapping, hasher)
    timed = [replace(u, words=w, words_source="corpus") if w else u for u, w in zip(found, words, strict=True)]
    return Manifest.from_utterances(mapping.get("corpus", "lhotse"), timed)


def _find(root: Path, name: str | None) -> Path:
    found = sorted(p for p in root.glob("[!.]*") if "cuts" in p.name and p.name.endswith((".jsonl", ".jsonl.gz")))
    listed = ", ".join(p.name for p in found) or "none"
    if name is not None:
        if not (root / name).is_file():
            raise EmocacheError(f"--map table={name}: no such file in {root}; cut manifests there: {listed}")
        return root / name
    if len(found) != 1:
        raise EmocacheError(
            f"corpus lhotse: not one *cuts*.jsonl or *cuts*.jsonl.gz in {root} (there: {listed});"
            " choose with --map table=FILE"
        )
    return found[0]


def _lines(source: Path) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        with cast(IO[bytes], gzip.open(source) if source.suffix == ".gz" else source.open("rb")) as file:
            while line := file.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise EmocacheError(
                        f"{source.name}, line {number}: longer than {MAX_LINE} bytes; drop features and arrays"
                    )
                yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise EmocacheError(f"{source} cannot be read after line {number}: {error}; write or copy it again") from error


def _parse(where: str, line: bytes) -> dict[str, Any]:
    try:
        cut = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EmocacheError(f"{where}: not a JSON object ({error}); a manifest has one cut a line") from error
    if not isinstance(cut, dict):
        raise EmocacheError(f"{where}: {type(cut).__name__} instead of a JSON object")
    if cut.get("type") != "MonoCut":
        raise EmocacheError(
            f"{where}: {_shown(cut.get('type'))} instead of MonoCut; mixed, padded and multi-channel cuts are no single"
            " piece of a file: save their audio with Lhotse's save_audios and take the cuts that it returns"
        )
    return cut


def _row(where: str, root: Path, cut: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """({column: cell}, the supervision)."""
    supervisions = _field(where, cut, "supervisions", list, [])
    if len(supervisions) > 1 or not all(isinstance(s, dict) for s in supervisions):
        raise EmocacheError(
            f"{where}: {len(supervisions)} supervisions instead of at most one; cut at them with trim_to_supervisions"
        )
    supervision: dict[str, Any] = supervisions[0] if supervisions else {}
    custom = {**_field(where, cut, "custom", dict, {}), **_field(where, supervision, "custom", dict, {})}
    said = {name: _field(where, supervision, name, str, None) for name in _SUPERVISION}
    start = _number(where, "start", cut.get("start"))
    duration = _number(where, "duration", cut.get("duration"))
    return {
        **custom,
        **{name: text for name, text in said.items() if text is not None},
        "id": _field(where, cut, "id", str),
        "file": _file(where, root, cut),
        "start": start,
        "end": round(start + duration, 8),
    }, supervision


def _file(where: str, root: Path, cut: dict[str, Any]) -> str:
    recording = _field(where, cut, "recording", dict)
    sources = _field(where, recording, "sources", list)
    if len(sources) != 1 or not isinstance(sources[0], dict):
        raise EmocacheError(f"{where}: the recording has {len(sources)} sources instead of one file")
    kind = sources[0].get("type")
    if kind != "file":
        raise EmocacheError(
            f"{where}: the recording is a {_shown(kind)}, not a file; commands are never run and nothing is fetched,"
            " so save the audio with Lhotse's save_audios"
        )
    channels = _field(where, sources[0], "channels", list)
    if len(channels) != 1:
        raise EmocacheError(
            f"{where}: one of {len(channels)} channels, but emocache hears the mean of a file's channels;"
            " save the audio with Lhotse's save_audios"
        )
    for transform in _field(where, recording, "transforms", list, []):
        name = transform.get("name") if isinstance(transform, dict) else transform
        if name != "Resample":  # emocache resamples on its own
            raise EmocacheError(
                f"{where}: Lhotse would apply {_shown(name)} to the recording; save the audio with its save_audios"
            )
    path = PurePath(_field(where, sources[0], "source", str))
    tops = (root.absolute(), root.resolve())  # a manifest may have been written before the folder was linked to
    top = next((top for top in tops if path.is_absolute() and path.is_relative_to(top)), None)
    return str(path) if top is None else path.relative_to(top).as_posix()


def _words(where: str, supervision: dict[str, Any], start: float, end: float) -> tuple[Word, ...]:
    """The alignment, whose times count from the recording's start, in seconds from the cut's start, cut at its ends."""
    words = []
    for item in _field(where, _field(where, supervision, "alignment", dict, {}), "word", list, []):
        # Before Lhotse 1.8, items were objects.
        parts = [item.get(name) for name in ("symbol", "start", "duration")] if isinstance(item, dict) else item
        if not isinstance(parts, list) or len(parts) < 3 or not isinstance(parts[0], str):
            raise EmocacheError(f"{where}: aligned word {_shown(item)} is not [symbol, start, duration]")
        symbol, starts, lasts = parts[:3]
        if not symbol.strip():  # silence
            continue
        begins = _number(where, f"start of {symbol!r}", starts)
        ends = begins + _number(where, f"duration of {symbol!r}", lasts)
        if ends < start or begins > end:
            raise EmocacheError(
                f"{where}: the word {symbol!r} at {begins:g} s lies outside its cut, {start:g} to {end:g} s;"
                " alignments count from the start of the recording, so align again or drop the alignment"
            )
        words.append(Word(symbol, round(max(begins, start) - start, 8), round(min(ends, end) - start, 8)))
    return tuple(words)


_REQUIRED: Any = object()


def _field(where: str, found: Mapping[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    value = found.get(name)
    if value is None and default is not _REQUIRED:
        return default
    if not isinstance(value, kind):
        raise EmocacheError(f"{where}: {name} is {_shown(value)}, not {_NAMES[kind]}")
    return value


_NAMES: dict[type, str] = {dict: "an object", list: "a list", str: "text"}


def _number(where: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _LONGEST:
        raise EmocacheError(f"{where}: {name} is {_shown(value)}, not a number of seconds")
    return float(value)


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
