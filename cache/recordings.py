"""The utterances of a corpus that are of one recording: files with the same bytes, whatever they are called."""

from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .manifest import Manifest

_NOTHING = sha256(b"").hexdigest()  # files that were never written are no recording of anybody


def shared_recordings(manifest: Manifest) -> list[tuple[str, ...]]:
    """Of each utterance, in the order of `manifest.ids`, those of its recordings that another utterance has as well.

    A recording is the bytes of a media file, and of a file that several utterances are cut from the segment: the turns
    of two speakers in one file are two recordings, even where they overlap. So are two parts of one picture. A file
    without bytes or without a second of sound is none.
    """
    spans = zip(*(manifest.column(name) for name in ("start", "end", "duration")), strict=True)
    held = [
        tuple(dict.fromkeys(name for medium in media or () if (name := _name(medium, *span))))
        for media, span in zip(manifest.column("media"), spans, strict=True)
    ]
    counts = Counter(name for own in held for name in own)
    return [tuple(name for name in own if counts[name] > 1) for own in held]


def components(held: Sequence[Sequence[object]]) -> list[int]:
    """A number for each row, equal for rows that are connected by what they hold, directly or by way of others."""
    number: dict[object, int] = {}
    pairs = [(row, number.setdefault(one, len(number))) for row, own in enumerate(held) for one in own]
    if not pairs:
        return list(range(len(held)))
    rows, things = np.array(pairs).T
    size = len(held) + len(number)
    links = coo_array((np.ones(len(pairs), bool), (rows, len(held) + things)), shape=(size, size))
    return connected_components(links, directed=False)[1][: len(held)].tolist()  # type: ignore[no-any-return]


def _name(medium: dict[str, Any], start: float | None, end: float | None, duration: float | None) -> str | None:
    """The bytes and the segment, in milliseconds; None where there is nothing in it."""
    if medium["sha256"] == _NOTHING or duration == 0:
        return None
    own = medium.get("start"), medium.get("end")  # which manifests of the first version lack, as they do regions
    if own != (None, None):
        start, end, duration = *own, None
    start = start or 0.0
    if end is None and duration is not None:
        end = start + duration
    segment = [round(start * 1000), None if end is None else round(end * 1000), medium.get("region")]
    return f"{medium['sha256']} {segment}"
