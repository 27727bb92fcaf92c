"""Corpora: one registry entry and one module each, which turn a corpus folder into a manifest."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ...cache import EmocacheError, Manifest
from .files import MediaHasher

__all__ = ["REGISTRY", "CorpusEntry", "MediaHasher", "load"]


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """One name that `emocache extract` knows.

    Attributes:
        description: one line.
        module: module of this package; it has `load(root, mapping, hasher) -> Manifest`.
        mapped: whether it takes `--map`.
    """

    description: str
    module: str
    mapped: bool = False


REGISTRY: dict[str, CorpusEntry] = {
    "demo": CorpusEntry(
        "synthetic speech by eSpeak NG, nothing to download: 360 clips, 30 speakers, 6 languages, 4 emotions", "demo"
    ),
    "emodb": CorpusEntry("EmoDB, acted German: 535 clips, 10 speakers, 7 emotions", "emodb"),
    "ravdess": CorpusEntry("RAVDESS speech, acted English: 1440 clips, 24 speakers, 8 emotions", "ravdess"),
    "table": CorpusEntry("any folder of media with a CSV, TSV or Parquet table (--map)", "table", mapped=True),
}


def load(name: str, root: Path, *, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """The manifest of a corpus folder.

    Args:
        name: a key of `REGISTRY`.
        root: the corpus folder; media paths in the manifest are relative to it. The demo corpus is rendered into it.
        mapping: what `--map` gave, {our field: their column}; empty for corpora that take none.
        hasher: hashes the media files.

    Raises:
        EmocacheError: an unknown corpus, a folder that is missing or is not this corpus, a mapping where there is
            nothing to map, or anything wrong with the corpus.
    """
    if name not in REGISTRY:
        raise EmocacheError(f"unknown corpus {name!r}; there are: {', '.join(REGISTRY)}")
    entry = REGISTRY[name]
    if mapping and not entry.mapped:
        raise EmocacheError(f"corpus {name} takes no --map; its loader knows its columns")
    if name != "demo" and not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise EmocacheError(f"corpus {name}: the folder {root} {found}; give the corpus's folder with --data")
    manifest: Manifest = import_module(f".{entry.module}", __name__).load(root, mapping, hasher)
    return manifest
