"""Texts of clips, links to their media, and the failures of streams: what a cache and a corpus folder know."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from ...cache import Cache, EmocacheError, Manifest, Media, Utterance
from ...train.records.run_record import StreamRecord

KINDS = {
    **dict.fromkeys((".wav", ".mp3", ".flac", ".ogg", ".oga", ".opus", ".m4a", ".aac"), "audio"),
    **dict.fromkeys((".mp4", ".webm", ".mkv", ".mov", ".m4v", ".ogv"), "video"),
}
"""{ending: the element that plays it}."""


@dataclass(frozen=True)
class Source:
    """A cache and folders to look for texts and media in.

    Attributes:
        page: the file that links are relative to.
        cache: with the corpora's manifests; None: there are no texts and links.
        folders: of corpora, the ones that were named.
    """

    page: Path
    cache: Cache | None = None
    folders: Sequence[Path] = ()
    _manifests: dict[str, Manifest | None] = field(default_factory=dict)

    def utterance(self, corpus: str, name: str) -> Utterance | None:
        """Return what the manifest says of an utterance; None where there is no manifest, or it is not in it."""
        manifest = self._manifest(corpus)
        return manifest[name] if manifest is not None and name in manifest else None

    def link(self, corpus: str, utterance: Utterance) -> tuple[str, str] | None:
        """Return the element that plays an utterance and its relative address; None where no medium is at hand."""
        by_role = sorted(utterance.media, key=lambda medium: medium.role == "audio")  # a picture has its sound too
        for medium in by_role:
            kind = KINDS.get(Path(medium.path).suffix.lower())
            for folder in self._places(corpus) if kind else ():
                if (path := folder / medium.path).is_file():
                    relative = Path(os.path.relpath(path.resolve(), self.page.resolve().parent)).as_posix()
                    return str(kind), quote(relative, safe="/.") + _span(medium, utterance)
        return None

    def folders_of(self, corpus: str) -> list[Path]:
        """Return the named folders that hold a corpus: those in which its first medium lies."""
        media = [medium.path for one in self._manifest(corpus) or () for medium in one.media][:1]
        return [place for place in self._named(corpus) for path in media if (place / path).is_file()]

    def _named(self, corpus: str) -> list[Path]:
        return [*self.folders, *(folder / corpus for folder in self.folders)]

    def _places(self, corpus: str) -> list[Path]:
        return [*self._named(corpus), Path(os.environ.get("EMOCACHE_DATA", "data")) / corpus]

    def failures(self, stream: StreamRecord) -> dict[str, tuple[str, str]] | None:
        """Return {id: (reason, detail)} of what could not be encoded; None where the stream is not in the cache."""
        if self.cache is None:
            return None
        try:
            return self.cache.stream(stream.corpus, f"{stream.name}@{stream.fingerprint}").failures
        except EmocacheError:
            return None

    def _manifest(self, corpus: str) -> Manifest | None:
        if corpus not in self._manifests:
            there = self.cache is not None and corpus in self.cache.corpora()
            self._manifests[corpus] = self.cache.manifest(corpus) if self.cache is not None and there else None
        return self._manifests[corpus]


def _span(medium: Media, utterance: Utterance) -> str:
    """The part of the medium that is played, as a media fragment."""
    start = medium.start if medium.start is not None else utterance.start
    end = medium.end if medium.end is not None else utterance.end
    if start is None and end is None:
        return ""
    return f"#t={start or 0:.3f}" + (f",{end:.3f}" if end is not None else "")
