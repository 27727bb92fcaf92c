"""Corpora: one registry entry and one module each, which turn a corpus folder into a manifest."""

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from ...cache import EmocacheError, Manifest
from ...cache.hints import nearest
from ...cache.outside import is_outside, load_outside
from ..media.readings import with_readings
from .files import MediaHasher

__all__ = ["REGISTRY", "CorpusEntry", "FolderMissing", "MediaHasher", "check", "check_known", "load", "packaged"]


class FolderMissing(EmocacheError):
    """A corpus is known, and its folder is not there."""


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """One name that `emocache extract` knows.

    Attributes:
        description: one line.
        module: module of this package; it has `load(root, mapping, hasher) -> Manifest`, `PUBLISHED` where counts are
            published, and `NOT_KNOWN` where something of the layout is not. "module:function" names another loader of
            it.
        mapped: whether it takes `--map`.
        packaging: another name of this registry, of the corpus as it is given out in another way; its module has
            `holds(root) -> bool`.
    """

    description: str
    module: str
    mapped: bool = False
    packaging: str | None = None


REGISTRY: dict[str, CorpusEntry] = {
    "audformat": CorpusEntry(
        "an audformat database: db.yaml and its tables (--map table=NAME)", "audformat_table", mapped=True
    ),
    "bhavvani": CorpusEntry(
        "BhavVani, Hindi television comedy, on request: 8734 clips, 8 emotions (--map)", "bhavvani", mapped=True
    ),
    "cafe": CorpusEntry("CaFE, acted Canadian French: 936 clips, 12 speakers, 7 emotions", "cafe"),
    "cremad": CorpusEntry(
        "CREMA-D, acted English, sound and video: 7442 clips, 91 speakers, 6 emotions and raters' votes", "cremad"
    ),
    "demo": CorpusEntry(
        "synthetic speech by eSpeak NG, nothing to download: 360 clips, 30 speakers, 6 languages, 4 emotions", "demo"
    ),
    "emodb": CorpusEntry("EmoDB, acted German: 535 clips, 10 speakers, 7 emotions", "emodb"),
    "emotionshare": CorpusEntry("Emotion Share (ComParE 2023): 51,813 clips, shares of 9 emotions", "emotion_share"),
    "huggingface": CorpusEntry(
        "a folder of Hugging Face datasets' save_to_disk (--map export=yes)", "huggingface", mapped=True
    ),
    "iemocap": CorpusEntry(
        "IEMOCAP, dyadic English dialogues: 10,039 turns, 10 speakers, 10 emotions (--map)", "iemocap", mapped=True
    ),
    "iemocap-segments": CorpusEntry(
        "IEMOCAP in pieces of 3 s, as CAMuLeNet's code cut it (--map)", "iemocap:load_segments", mapped=True
    ),
    "lhotse": CorpusEntry("a Lhotse cut manifest, cuts.jsonl or cuts.jsonl.gz (--map)", "lhotse", mapped=True),
    "meld": CorpusEntry(
        "MELD, scenes of Friends, sound and video: 13,708 utterances, 7 emotions, sentiment, dialogues", "meld"
    ),
    "msp-podcast": CorpusEntry(
        "MSP-Podcast, podcasts in English, on request: 8 emotions, arousal, valence, dominance, 5 partitions",
        "msp_podcast",
    ),
    "ravdess": CorpusEntry(
        "RAVDESS speech, acted English, sound and video: 1440 clips, 24 speakers, 8 emotions", "ravdess"
    ),
    "sewa": CorpusEntry(
        "SEWA as packaged for AVEC 2018/2019: 200 persons, 3 cultures, arousal, valence, liking at 10 Hz (--map);"
        " of a folder with the database itself, sewa-basic",
        "sewa",
        mapped=True,
        packaging="sewa-basic",
    ),
    "sewa-basic": CorpusEntry(
        "the SEWA database itself, as its sewa.toml describes it (or --map file=PATH)", "sewa_basic", mapped=True
    ),
    "table": CorpusEntry("any folder of media with a CSV, TSV or Parquet table (--map)", "table", mapped=True),
}


def packaged(name: str, root: Path) -> str:
    """Look into a corpus folder, and name the corpus as it is packaged there.

    Args:
        name: of a corpus.
        root: its folder.

    Returns:
        The name; or that of its other packaging, where the folder holds that one.
    """
    other = REGISTRY[name].packaging if name in REGISTRY else None
    holds = other is not None and import_module(f".{REGISTRY[other].module}", __name__).holds
    return other if other is not None and holds and holds(root) else name


def load(name: str, root: Path, *, mapping: Mapping[str, str], hasher: MediaHasher) -> Manifest:
    """The manifest of a corpus folder.

    Args:
        name: a key of `REGISTRY`, or `module:function` for a loader of the user's own.
        root: the corpus folder; media paths in the manifest are relative to it. The demo corpus is rendered into it.
        mapping: what `--map` gave, {our field: their column}; empty for corpora that take none.
        hasher: hashes the media files.

    Returns:
        The manifest, with its media hashed.

    Raises:
        EmocacheError: an unknown corpus, a folder that is missing or is not this corpus, a mapping where there is
            nothing to map, or anything wrong with the corpus.
    """
    check(name, root)
    if name in REGISTRY and mapping and not REGISTRY[name].mapped:
        raise EmocacheError(f"corpus {name} takes no --map; leave it out, its columns are known")
    manifest = _loader(name)(root, mapping, hasher)
    if not isinstance(manifest, Manifest):
        raise EmocacheError(
            f"corpus {name}: it gave {type(manifest).__name__}, not a Manifest; see docs/adding-a-corpus.md"
        )
    return with_readings(manifest, root, hasher.readings)


def check(name: str, root: Path) -> None:
    """Refuse a corpus that nobody knows, and a folder that is not there.

    Args:
        name: as for `load`.
        root: the corpus folder.

    Raises:
        FolderMissing: the corpus is known, and its folder is not there.
        EmocacheError: the corpus is unknown.
    """
    check_known(name)
    if name != "demo" and not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        what = f" ({REGISTRY[name].description}; docs/corpora.md says where it is from)" if name in REGISTRY else ""
        raise FolderMissing(
            f"corpus {name}{what}: the folder {root} {found}; give the corpus's folder with --data, or as {name} below"
            " $EMOCACHE_DATA"
        )


def check_known(name: str) -> None:
    """Refuse a corpus that nobody knows, with an EmocacheError that names the likest and all there are."""
    if name not in REGISTRY and not is_outside(name):
        close = nearest(name, REGISTRY)
        hint = f"did you mean {close}? " if close else ""
        raise EmocacheError(f"unknown corpus {name!r}; {hint}there are: {', '.join(REGISTRY)}")


def _loader(name: str) -> Callable[[Path, Mapping[str, str], MediaHasher], Manifest]:
    if is_outside(name):
        outside: Callable[[Path, Mapping[str, str], MediaHasher], Manifest] = load_outside(name, "corpus")
        with contextlib.suppress(ValueError):  # a signature that Python does not know is tried
            try:
                inspect.signature(outside).bind(None, None, None)
            except TypeError as error:
                raise EmocacheError(
                    f"corpus {name}: it must take folder, columns and hasher ({error}); see docs/adding-a-corpus.md"
                ) from error
        return outside
    module, _, function = REGISTRY[name].module.partition(":")
    loader: Callable[[Path, Mapping[str, str], MediaHasher], Manifest]
    loader = getattr(import_module(f".{module}", __name__), function or "load")
    return loader
