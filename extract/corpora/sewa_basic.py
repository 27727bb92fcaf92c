"""Basic SEWA, the database itself (db.sewaproject.eu): folders with a metadata.ini, read as a mapping file says.

How its folders, keys and annotation files are called is not published, so nothing of it stands here. The mapping file,
`sewa.toml` in the corpus folder or `--map file=PATH`, says it, in TOML (all names on the right are examples):

    episodes = ["Advert1", "Chat"]  # where one folder holds several recordings: what stands for {episode}

    [fields]                        # "Section/Key" of metadata.ini
    subject = "Subject/Number"      # needed
    session = "Session/Number"      # needed
    culture = "Session/Culture"     # not needed: culture, language, gender, episode
    gender = "Subject/Sex"

    [values.gender]                 # their value = ours; other values stay as they are
    f = "female"

    [media]                         # globs relative to the corpus folder
    audio = "{folder}/*{episode}*.wav"
    video = "{folder}/*{episode}*.avi"

    [tracks.valence]                # one table for each dimension, or for each rater of one
    file = "annotations/{session}_{subject}_{episode}_V.csv"
    time = "Time"                   # a column's name, or its position from 0 in a file without header
    value = "Valence"
    seconds = 0.001                 # of one unit of `time`; 1 if left out
    delimiter = ";"                 # "," if left out

{folder} is the folder of the metadata.ini; {session}, {subject}, {culture} and {episode} are as in the fields, before
[values] changes them.
"""

import configparser
import glob
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...cache import EmocacheError, Manifest, Track, Utterance
from .files import MediaHasher, Probe, media
from .sewa import clean_track, means, number_in, packaged_by_avec, read_rows
from .walking import find_files, match_files

_Column = str | Annotated[int, Field(ge=0)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _FieldKeys(_Table):
    subject: str
    session: str
    culture: str | None = None
    language: str | None = None
    gender: str | None = None
    episode: str | None = None


class _TrackFile(_Table):
    file: str
    time: _Column
    value: _Column
    seconds: Annotated[float, Field(gt=0)] = 1.0
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","


class _Patterns(_Table):
    audio: str | None = None
    video: str | None = None


class _Plan(_Table):
    """The mapping file."""

    fields: _FieldKeys
    media: _Patterns
    episodes: tuple[str, ...] = ()
    values: dict[Literal["culture", "language", "gender", "episode"], dict[str, str]] = {}
    tracks: dict[str, _TrackFile] = {}


@dataclass(frozen=True, slots=True)
class _Recording:
    """One utterance before its media are hashed."""

    id: str
    media: Mapping[str, Path]
    fields: Mapping[str, str]
    tracks: Mapping[str, Track]


MAPPING = "sewa.toml"
"""The mapping file's name in the corpus folder."""


def holds(root: Path) -> bool:
    """Tell whether a folder holds the database, and not the AVEC package."""
    return not packaged_by_avec(root) and bool(find_files(root, lambda name: name == "metadata.ini"))


def load(root: Path, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """One utterance for each folder (and episode) with media; its id is the folder's path (and the episode).

    Speakers are named culture-session-subject and sessions culture-session, as metadata.ini has them (their own dashes
    as underscores), so that numbers which begin anew in each culture or session stay apart, even where [values] gives
    two cultures one name. Folders where no pattern of [media] finds a file are no recordings. Annotations keep their
    own stamps; the label of a track's name is its mean.

    Args:
        root: the corpus folder.
        mapping: `file` is the path of the mapping file, see the module's text; that in the folder if not given.
        hasher: hashes the media.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: no mapping file or one that cannot be read, no metadata.ini, a key that is not in it, a pattern
            that finds several files, or archives that are not unpacked.
    """
    path = _mapping_file(root, mapping)
    plan = _plan(path)
    folders = [path.parent for path in find_files(root, lambda name: name == "metadata.ini", hasher.notes)]
    if not folders:
        raise EmocacheError(
            f"corpus sewa-basic: no metadata.ini below {root}; give the folder that holds SEWA's folders"
        )
    recordings = [recording for folder in folders for recording in _recordings(root, folder, plan)]
    if not recordings:
        raise EmocacheError(
            f"corpus sewa-basic: {len(folders)} folders below {root}, but [media] of {path} finds no file in"
            f" any; the first is {folders[0].relative_to(root).as_posix()}"
        )
    probes = hasher.probe(path for recording in recordings for path in recording.media.values())
    return Manifest.from_utterances("sewa-basic", [_utterance(root, one, plan, probes) for one in recordings])


def _mapping_file(root: Path, mapping: Mapping[str, str]) -> Path:
    if not mapping and (root / MAPPING).is_file():
        return root / MAPPING
    if set(mapping) != {"file"}:
        raise EmocacheError(
            f"corpus sewa-basic: its names are not published, so say them in a TOML file, {root / MAPPING}, or give"
            f" another with --map file=PATH; found {', '.join(mapping) or 'neither'}; docs/corpora.md shows such a file"
        )
    return Path(mapping["file"])


def _plan(path: Path) -> _Plan:
    try:
        return _Plan.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:  # a ValueError, too
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise EmocacheError(
            f"mapping file {path}: {place}: {first['msg']}; docs/corpora.md shows such a file"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise EmocacheError(f"mapping file {path} cannot be read: {error}") from error


def _recordings(root: Path, folder: Path, plan: _Plan) -> list[_Recording]:
    place = folder.relative_to(root).as_posix()
    metadata = _metadata(folder / "metadata.ini")
    keys = plan.fields.model_dump(exclude_none=True)
    fields = {name: metadata[key.lower()] for name, key in keys.items() if key.lower() in metadata}
    patterns = plan.media.model_dump(exclude_none=True)
    recordings = []
    for episode in plan.episodes or (None,):
        named = fields if episode is None else {**fields, "episode": episode}
        names = {"folder": place, **named}
        found = {role: _only_match(root, pattern, names) for role, pattern in patterns.items()}
        files = {role: path for role, path in found.items() if path is not None}
        if not files:
            continue
        missing = next((name for name in ("subject", "session") if name not in fields), None)
        if missing is not None:
            raise EmocacheError(
                f"{folder / 'metadata.ini'} has no {keys[missing]!r}, which is the {missing} according to [fields];"
                f" it has: {', '.join(metadata)}"
            )
        tracks = {name: _track(root, track, names) for name, track in plan.tracks.items()}
        id_ = place if episode is None else f"{place}/{episode}"
        recordings.append(_Recording(id_, files, named, {n: t for n, t in tracks.items() if t is not None}))
    # Half unpacked, a session would lose a medium without a word.
    archive = next(iter(sorted(folder.glob("*.zip"))), None)
    if archive is not None and {role for one in recordings for role in one.media} != set(patterns):
        raise EmocacheError(f"{archive}: [media] finds nothing unpacked beside it; unzip SEWA's archives first")
    return recordings


def _metadata(path: Path) -> dict[str, str]:
    """{"section/key": value} of an INI file, in lower case."""
    parser = configparser.ConfigParser(interpolation=None, strict=False, allow_no_value=True)
    try:
        parser.read_string(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise EmocacheError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return {
        f"{name}/{key}".lower(): value for name in parser.sections() for key, value in parser[name].items() if value
    }


def _only_match(root: Path, pattern: str, names: Mapping[str, str]) -> Path | None:
    """The file that a pattern finds; None if none, or if it asks for a field that this folder does not have."""
    asked = set(re.findall(r"\{(\w*)\}", pattern))
    unknown = asked - {"folder", *_FieldKeys.model_fields}
    path = PurePosixPath(pattern)
    if unknown or not path.parts or path.is_absolute() or ".." in path.parts:
        raise EmocacheError(
            f"pattern {pattern!r} is not a glob relative to the corpus folder with placeholders among {{folder}},"
            f" {', '.join(f'{{{name}}}' for name in _FieldKeys.model_fields)}"
        )
    if not asked <= set(names):
        return None
    filled = re.sub(r"\{(\w*)\}", lambda match: glob.escape(names[match[1]]), pattern)
    try:
        if ".." in PurePosixPath(filled).parts:  # from a value in metadata.ini
            raise ValueError("it leaves the corpus folder")
        found = match_files(root, filled)
    except (ValueError, NotImplementedError) as error:
        raise EmocacheError(f"pattern {pattern!r} becomes {filled!r}, which is no relative glob: {error}") from error
    if len(found) > 1:
        raise EmocacheError(
            f"pattern {pattern!r} finds {found[0].name} and {found[1].name} for {names['folder']}; make it more exact,"
            " or list what tells them apart in `episodes`"
        )
    return found[0] if found else None


def _track(root: Path, track: _TrackFile, names: Mapping[str, str]) -> Track | None:
    path = _only_match(root, track.file, names)
    if path is None:
        return None
    rows = read_rows(path, track.delimiter)
    header = any(isinstance(column, str) for column in (track.time, track.value))
    first = rows[0][1] if rows else []
    # Columns go by name where the mapping names one, and then the first row is the header; else by number.
    columns = first if header else [str(position) for position in range(len(first))]
    for column in (str(track.time), str(track.value)):
        if column not in columns:
            raise EmocacheError(f"annotation {path} has no column {column!r}; it has: {', '.join(columns)}")
    time, value = columns.index(str(track.time)), columns.index(str(track.value))
    stamps = []
    for line, row in rows[header:]:
        if len(row) != len(columns):
            raise EmocacheError(f"annotation {path}, line {line}: {len(row)} cells, but {len(columns)} columns")
        stamps.append((number_in(path, line, row[time]) * track.seconds, number_in(path, line, row[value])))
    table = np.array(stamps, np.float64).reshape(-1, 2)
    cleaned = clean_track(table[:, 0], table[:, 1])
    return cleaned if cleaned.times.size else None


def _utterance(root: Path, one: _Recording, plan: _Plan, probes: Mapping[Path, Probe]) -> Utterance:
    fields = dict(one.fields)
    for name, values in plan.values.items():
        if name in fields:
            fields[name] = values.get(fields[name], fields[name])
    names = {name: value.replace("-", "_") for name, value in one.fields.items()}  # so that the joined ones differ
    session = "-".join(names[name] for name in ("culture", "session") if name in names)
    first = next(iter(one.media.values()))
    return Utterance(
        id=one.id,
        media=tuple(media(root, path, role, probes) for role, path in one.media.items()),
        duration=probes[first].duration,
        speaker=f"{session}-{names['subject']}",
        session=session,
        culture=fields.get("culture"),
        language=fields.get("language"),
        gender=fields.get("gender"),
        labels={**({"episode": fields["episode"]} if "episode" in fields else {}), **means(one.tracks)},
        tracks=one.tracks,
    )
