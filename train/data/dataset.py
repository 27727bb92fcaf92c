"""Everything that one experiment reads: its utterances, their labels, and the frames of its streams."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .example import Example
from .lists.placing import Listing
from .memory import Memory
from .stored_frames import StoredFrames


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Features:
    """Frames of all U utterances, one after the other; an utterance without features has none.

    Attributes:
        frames: (N, D), storage dtype; (0, D) where `stored` has them. offsets: (U + 1,) int64.
        times: (N, 2) float64 seconds, start and end; NaN for frames without a place in time.
        used: (N,) bool, the stored mask that `features.where` names; None where the stream has none.
        stored: reads the frames of a stream for which memory has no room; None where they are held.
    """

    frames: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    used: npt.NDArray[np.bool_] | None = None
    stored: StoredFrames | None = field(default=None, kw_only=True)

    @property
    def on_disk(self) -> bool:
        """True where frames are read when they are asked for, from the cache or from a file of our own."""
        return self.stored is not None or isinstance(self.frames, np.memmap)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames, held or not."""
        return self.frames.nbytes if self.stored is None else self.stored.nbytes

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(U,) number of frames."""
        return np.diff(self.offsets)

    def of(self, row: int | np.integer[Any]) -> npt.NDArray[Any]:
        """Return the (T, D) frames of one utterance."""
        own = slice(self.offsets[row], self.offsets[row + 1])
        return self.frames[own] if self.stored is None else self.stored.of(row)

    def each(self, rows: Iterable[int | np.integer[Any]]) -> Iterator[npt.NDArray[Any]]:
        """Yield the (T, D) frames of some utterances in turn; those of a remote cache are requested ahead."""
        return map(self.of, rows) if self.stored is None else self.stored.each(rows)

    def in_blocks(self, size: int) -> Iterator[npt.NDArray[Any]]:
        """Yield all frames in their order, `size` at a time."""
        if self.stored is None:
            yield from (self.frames[start : start + size] for start in range(0, len(self.frames), size))
            return
        held, count = [self.frames], 0
        for clip in self.each(np.flatnonzero(self.lengths)):
            while count + len(clip) >= size:
                yield np.concatenate([*held, clip[: size - count]])
                held, clip, count = [self.frames], clip[size - count :], 0
            held.append(clip)
            count += len(clip)
        if count:
            yield np.concatenate(held)

    def times_of(self, row: int | np.integer[Any]) -> npt.NDArray[np.float64]:
        """Return the (T, 2) seconds of one utterance."""
        return self.times[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of one corpus."""

    corpus: str
    name: str
    fingerprint: str
    projection: dict[str, Any] | None  # of its recipe: what a stored PCA was fitted on
    weights: str | None = None  # where those of its encoder are from; None where nobody recorded it
    recipe: Mapping[str, Any] = field(default_factory=dict)
    matrix: bytes | None = None  # of a stored PCA, see `cache.frames.projection`


@dataclass(frozen=True, eq=False)
class Dataset:
    """The utterances and features that training reads.

    Attributes:
        examples: U utterances, in the order of corpora and ids. classes: of the target, sorted; empty for a
            regression. auxiliary: classes of the second target.
        features: {stream: Features}, each read when it is first asked for. memory: the room for them.
        present: (U,) bool, has the features it needs: of all streams, or of any where `modalities` says so.
        incomplete: some utterances are not extracted yet, and that was allowed.
        dropped: {label: utterances} left out by the label map. unlabelled: utterances without a label.
        recordings: {sha256 of a media file: keys of the utterances in it}, of every corpus as a whole.
        longest: seconds of the longest utterance of the corpora; None where no length is known.
        sizes: {stream: bytes of its frames}. frames: {stream: their number}; of both, read or not.
        listing: of the protocol's fold file; None where it has none.
    """

    examples: list[Example]
    classes: tuple[str, ...]
    features: Mapping[str, Features]
    present: npt.NDArray[np.bool_]
    sources: list[Source] = field(default_factory=list)
    manifests: dict[str, str] = field(default_factory=dict)
    item_digest: str = ""
    incomplete: bool = False
    dropped: dict[str, int] = field(default_factory=dict)
    unlabelled: int = 0
    auxiliary: tuple[str, ...] = ()
    recordings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    longest: float | None = None
    memory: Memory = field(default_factory=Memory)
    sizes: Mapping[str, int] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    listing: Listing | None = None

    @property
    def finds_room(self) -> bool:
        """True where memory has room for the frames beside all that it holds already."""
        return sum(self.sizes.values()) <= self.memory.free
