"""The `sources` folder beside the runs of one setting: all that prediction needs, and no single run decides.

It says where the features come from, with the matrices of stored projections, and on which recordings was trained. It
is no part of a setting's hash: runs from before there was such a folder get theirs when training is asked for them
again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from ...cache import EmocacheError
from ...cache.opening import open_objects
from ..data.dataset import Dataset
from ..records.run_record import SOURCES

_FILE = "sources.json"
_DIGITS = 16  # of the sha256 of a recording; those of 10,000 recordings differ


@dataclass(frozen=True)
class StreamSource:
    """One stream that the runs read.

    Attributes:
        recipe: all that determines its numbers, see `cache.recipe`.
        fingerprint: of the recipe.
        weights: where those of its encoder were from; None where nobody recorded it.
    """

    recipe: Mapping[str, Any]
    fingerprint: str
    weights: str | None


@dataclass(frozen=True)
class RunSources:
    """The content of the folder.

    Attributes:
        streams: by their names; they are the same in all corpora.
        longest: seconds of the longest utterance that was trained on, or tested; None where no length is known.
        recordings: {first digits of the sha256 of a media file: keys of the utterances in it}.
        auxiliary: classes of the second target.
        matrices: {stream: the matrix of its projection, as safetensors}.
    """

    streams: Mapping[str, StreamSource]
    longest: float | None
    recordings: Mapping[str, list[str]]
    auxiliary: tuple[str, ...]
    matrices: Mapping[str, bytes]

    def utterances_of(self, recording: str) -> list[str]:
        """Return the keys of the utterances that training had of a recording, by the sha256 of its file."""
        return self.recordings.get(recording[:_DIGITS], [])


def sources_of(dataset: Dataset) -> RunSources:
    """Return what a dataset says of its sources."""
    streams = {s.name: StreamSource(dict(s.recipe), s.fingerprint, s.weights) for s in dataset.sources}
    matrices = {s.name: s.matrix for s in dataset.sources if s.matrix is not None}
    recordings = {name[:_DIGITS]: list(keys) for name, keys in dataset.recordings.items()}
    return RunSources(streams, dataset.longest, recordings, dataset.auxiliary, matrices)


def write_sources(folder: Path, sources: RunSources) -> None:
    """Write the folder where it is not there.

    Args:
        folder: of one setting.
        sources: of its dataset.

    Raises:
        EmocacheError: it cannot be written.
    """
    if (folder / SOURCES / _FILE).is_file():
        return
    document = {key: value for key, value in asdict(sources).items() if key != "matrices"}
    document["matrices"] = {name: sha256(data).hexdigest() for name, data in sources.matrices.items()}
    files = {f"{sha256(data).hexdigest()}.safetensors": [data] for data in sources.matrices.values()}
    text = json.dumps(document, indent=1, ensure_ascii=False, sort_keys=True)
    try:
        open_objects(folder).put_shard(SOURCES, {**files, _FILE: [f"{text}\n".encode()]})
    except OSError as error:
        if not (folder / SOURCES / _FILE).is_file():  # else another process has written it meanwhile
            raise EmocacheError(f"{folder / SOURCES} cannot be written: {error.strerror or error}") from error


def read_sources(folder: Path) -> RunSources:
    """Read the folder.

    Args:
        folder: of one setting.

    Returns:
        Its content.

    Raises:
        EmocacheError: it is not there, or damaged.
    """
    path = folder / SOURCES / _FILE
    try:
        document = json.loads(path.read_bytes())
        streams = {name: StreamSource(**one) for name, one in document["streams"].items()}
        matrices = {}
        for name, digest in document["matrices"].items():
            path = folder / SOURCES / f"{digest}.safetensors"
            matrices[name] = path.read_bytes()
            if sha256(matrices[name]).hexdigest() != digest:
                raise ValueError("it is not the file that was written")
        return RunSources(streams, document["longest"], document["recordings"], tuple(document["auxiliary"]), matrices)
    except FileNotFoundError as error:
        raise EmocacheError(f"{path} is not there, which says where the features of these runs come from; run the same"
                            " `emocache train` again, which keeps the runs and writes it") from error  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EmocacheError(f"{path}: damaged ({error}); remove the folder {folder / SOURCES} and run the same"
                            " `emocache train` again, which keeps the runs and writes it") from error  # fmt: skip
