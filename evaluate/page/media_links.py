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
        if corpus not in self._manifests:
            self._manifests[corpus] = self._read(corpus)
        manifest = self._manifests[corpus]
        return manifest[name] if manifest is not None and name in manifest else None

    def link(self, corpus: str, utterance: Utterance) -> tuple[str, str] | None:
        """Return the element that plays an utterance and its relative address; None where no medium is at hand."""
        by_role = sorted(utterance.media, key=lambda medium: medium.role == "audio")  # a picture has its sound too
        folders = [*self.folders, *(folder / corpus for folder in self.folders)]
        folders.append(Path(os.environ.get("EMOCACHE_DATA", "data")) / corpus)
        for medium in by_role:
            kind = KINDS.get(Path(medium.path).suffix.lower())
            for folder in folders if kind else ():
                if (path := folder / medium.path).is_file():
                    relative = Path(os.path.relpath(path.resolve(), self.page.resolve().parent)).as_posix()
                    return str(kind), quote(relative, safe="/.") + _span(medium, utterance)
        return None

    def failures(self, stream: StreamRecord) -> dict[str, tuple[str, str]] | None:
        """Return {id: (reason, detail)} of what could not be encoded; None where the stream is not in the cache."""
        if self.cache is None:
            return None
        try:
            return self.cache.stream(stream.corpus, f"{stream.name}@{stream.fingerprint}").failures
        except EmocacheError:
            return None

    def _read(self, corpus: str) -> Manifest | None:
        there = self.cache is not None and corpus in self.cache.corpora()
        return self.cache.manifest(corpus) if self.cache is not None and there else None


def _span(medium: Media, utterance: Utterance) -> str:
    """The part of the medium that is played, as a media fragment."""
    start = medium.start if medium.start is not None else utterance.start
    end = medium.end if medium.end is not None else utterance.end
    if start is None and end is None:
        return ""
    return f"#t={start or 0:.3f}" + (f",{end:.3f}" if end is not None else "")
